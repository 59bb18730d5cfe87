"""What cards, consumers and products have in common when a command is judged.

A refused command is a FAILED operation: it shows the fields as they were sent, without those that
broke their pattern, and leaves its subject as it was (domain.md 8).
"""

from lifecycle.domain.cards import Card
from lifecycle.domain.consumers import Consumer
from lifecycle.domain.errors import SENTENCE
from lifecycle.domain.fields import Judged, Refusal
from lifecycle.domain.operations import Context, Decision, OperationKind, Status
from lifecycle.domain.products import Product


def is_stale(judged: Judged, context: Context) -> bool:
    """Whether `effectiveDate` lies before the operation that made the current version."""
    return (
        judged.effective_time_ms is not None
        and context.version_time_ms is not None
        and judged.effective_time_ms < context.version_time_ms
    )


def refused(
    kind: OperationKind,
    judged: Judged,
    refusal: Refusal,
    subject: Card | Consumer | Product | None,
) -> Decision:
    """The FAILED operation. Its error names the field at fault, never the value."""
    error = refusal.sentence or SENTENCE[refusal.code]
    if refusal.field is not None:
        error += f" Field: {refusal.field}."
    if refusal.advice is not None:
        error += f" {refusal.advice}"
    return Decision(
        kind=kind,
        status=Status.FAILED,
        requestor=judged.requestor,
        reason_code=judged.reason_code,
        reason=judged.reason,
        correlation_id=judged.correlation_id,
        error_code=refusal.code,
        error=error,
        subject=subject,
    )


def succeeded(
    kind: OperationKind,
    judged: Judged,
    subject: Consumer | Product,
    *,
    reason_code: str | None = None,
    cascade_reason: str | None = None,
) -> Decision:
    """The SUCCESSFUL operation of a consumer or product."""
    return Decision(
        kind=kind,
        status=Status.SUCCESSFUL,
        requestor=judged.requestor,
        reason_code=reason_code,
        reason=judged.reason,
        correlation_id=judged.correlation_id,
        subject=subject,
        cascade_reason=cascade_reason,
    )
