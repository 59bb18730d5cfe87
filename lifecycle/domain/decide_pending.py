"""The end of a PENDING operation: by the reply of an outside party, or because none came in time.

It is one mechanism for all kinds (domain.md 7). The operation keeps its id, kind, startTime,
commandId and correlationId and ends at the time of the record that ends it; a reply or time-out
for an operation that has ended is ignored (domain.md 8).
"""

import re
from collections.abc import Callable
from dataclasses import replace

from lifecycle.domain.cards import Card
from lifecycle.domain.carrying_out import carried_out, details_of
from lifecycle.domain.cells import CELLS, RULES, Rule, fitting_row, refused_by_state, trigger_of
from lifecycle.domain.defaults import default_reason_code
from lifecycle.domain.effects import Outcome
from lifecycle.domain.errors import ErrorCode
from lifecycle.domain.fields import Judged, Refusal, judge
from lifecycle.domain.guards import Case, effective_state
from lifecycle.domain.operations import (
    Context,
    Decision,
    Ignored,
    OperationKind,
    Pending,
    Reply,
    Status,
)
from lifecycle.domain.refusals import refused

# The words of error codes and the nine digits of the referential's, never a card number.
_is_error_code = re.compile(r"(?!.*[0-9]{10})[A-Z0-9_]{1,64}").fullmatch


def decide_reply(card: Card | None, reply: Reply, context: Context) -> Decision | Ignored:
    """Decide the reply to `context.pending`, which is None when that operation has ended.

    The reply to a RENEW brings a number: `context` is served as for a RENEW that carries it, and
    the card's state is judged again, because it may have changed while the operation waited. For
    other kinds the reply tells what has happened outside, whatever became of the card.
    """
    pending = context.pending
    if pending is None:
        return Ignored.IGNORED
    assert card is not None, "a card never vanishes"
    rule, judged, case = _case(card, pending, context)
    if not reply.is_successful:
        return _failed(
            rule, judged, card, Refusal(ErrorCode.OUTSIDE_PARTY_FAILED), reply.error_code
        )
    if rule.kind is OperationKind.RENEW:
        return _renewed(rule, judged, case, pending)
    told = card
    if card.incarnation == pending.incarnation:
        told = _TOLD.get(rule.kind, _nothing_changes)(card)
    return Decision(
        kind=rule.kind,
        status=Status.SUCCESSFUL,
        requestor=judged.requestor,
        reason_code=case.reason_code,
        reason=judged.reason,
        correlation_id=judged.correlation_id,
        details=details_of(rule.kind, pending.command, Outcome(told)),
        subject=told,
        ends_pending=True,
    )


def decide_time_out(card: Card | None, context: Context) -> Decision | Ignored:
    """Decide a TIME_OUT of `context.pending`; before the deadline it is ignored (domain.md 8)."""
    pending = context.pending
    if pending is None or context.start_time_ms < pending.deadline_ms:
        return Ignored.IGNORED
    assert card is not None, "a card never vanishes"
    rule, judged, _ = _case(card, pending, context)
    return _failed(rule, judged, card, Refusal(ErrorCode.OPERATION_TIMED_OUT))


def _case(card: Card, pending: Pending, context: Context) -> tuple[Rule, Judged, Case]:
    """The case as it was when the command came, but for the card and the context."""
    command = pending.command
    rule = RULES[trigger_of(command)]
    judged = judge(command, rule.name, pending.start_time_ms)
    reason_code = judged.reason_code
    if command.reason_code is None:
        reason_code = default_reason_code(rule.name, judged.requestor.type)
    return rule, judged, Case(card, command, reason_code, context, is_answered=True)


def _renewed(rule: Rule, judged: Judged, case: Case, pending: Pending) -> Decision:
    card = case.existing
    if card.incarnation != pending.incarnation:
        # The card that was to be renewed has left; its id has begun another life.
        return _failed(rule, judged, card, Refusal(ErrorCode.CARD_DELETED))
    cell = CELLS[effective_state(card, case.context), trigger_of(case.command)]
    row = fitting_row(cell, case)
    refusal = refused_by_state(cell, row, case)
    if refusal is not None:
        return _failed(rule, judged, card, refusal)
    assert row is not None, "a cell without rows has refused"
    return carried_out(rule, judged, case, row, ends_pending=True)


def _failed(
    rule: Rule, judged: Judged, card: Card, refusal: Refusal, code_outside: str | None = None
) -> Decision:
    """FAILED, both cards as they were. The outside party's own code is shown where it is one."""
    failed = refused(rule.kind, judged, refusal, card)._replace(ends_pending=True)
    if code_outside is not None and _is_error_code(code_outside):
        return failed._replace(error_code=code_outside)
    return failed


def _nothing_changes(card: Card) -> Card:
    return card


def _enrolled(card: Card) -> Card:
    return card if card.click_to_pay else replace(card, click_to_pay=True)


def _opted_out(card: Card) -> Card:
    return replace(card, click_to_pay=False) if card.click_to_pay else card


_TOLD: dict[OperationKind, Callable[[Card], Card]] = {
    OperationKind.CLICK_TO_PAY_ENROLMENT: _enrolled,
    OperationKind.CLICK_TO_PAY_OPTOUT: _opted_out,
}
