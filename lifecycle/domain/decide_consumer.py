"""Commands about consumers: a table of state and command (domain.md 8).

A DELETED consumer stays so; a consumer that is already in the state asked for is left alone and
the operation is SUCCESSFUL. Deleting one deletes its cards, each by a command of its own.
"""

from lifecycle.domain.commands import CommandName, ConsumerCommand
from lifecycle.domain.consumers import Consumer, ConsumerState
from lifecycle.domain.defaults import default_reason_code
from lifecycle.domain.errors import ErrorCode
from lifecycle.domain.fields import Judged, Refusal, judge
from lifecycle.domain.operations import Context, Decision, OperationKind
from lifecycle.domain.reasons import ACCEPTED, CONSUMER_CASCADE_REASON, is_accepted
from lifecycle.domain.refusals import is_stale, refused, succeeded

_STATE_AFTER: dict[CommandName, ConsumerState] = {
    CommandName.CONSUMER_REGISTER: ConsumerState.ACTIVE,
    CommandName.CONSUMER_DEACTIVATE: ConsumerState.INACTIVE,
    CommandName.CONSUMER_REACTIVATE: ConsumerState.ACTIVE,
    CommandName.CONSUMER_DELETE: ConsumerState.DELETED,
}


def decide_consumer(
    consumer: Consumer | None, command: ConsumerCommand, context: Context
) -> Decision:
    """Decide a command about a consumer; `consumer` is None when the issuer has no such one."""
    name = CommandName(command.command)
    kind = OperationKind(command.command)
    judged = judge(command, name, context.start_time_ms)
    reason_code = judged.reason_code
    if command.reason_code is None:
        reason_code = default_reason_code(name, judged.requestor.type)
    refusal = _refusal(consumer, name, reason_code, judged, context)
    if refusal is not None:
        return refused(kind, judged, refusal, consumer)

    state = _STATE_AFTER[name]
    if consumer is not None and consumer.state is state:
        return succeeded(kind, judged, consumer)
    after = Consumer(issuer_id=command.issuer_id, consumer_id=command.consumer_id, state=state)
    is_deleted = state is ConsumerState.DELETED
    return succeeded(
        kind,
        judged,
        after,
        reason_code=reason_code,
        cascade_reason=CONSUMER_CASCADE_REASON if is_deleted else None,
    )


def _refusal(
    consumer: Consumer | None,
    name: CommandName,
    reason_code: str | None,
    judged: Judged,
    context: Context,
) -> Refusal | None:
    """The first that applies, in the order of design.md 5, "Which error"."""
    if consumer is None and name is not CommandName.CONSUMER_REGISTER:
        return Refusal(ErrorCode.CONSUMER_NOT_FOUND)
    if judged.refusal is not None:
        return judged.refusal
    if not is_accepted(ACCEPTED.get(name), reason_code):
        return Refusal(ErrorCode.INVALID_REASON)
    if is_stale(judged, context):
        return Refusal(ErrorCode.STALE_COMMAND)
    if consumer is not None and consumer.state is ConsumerState.DELETED:
        return Refusal(ErrorCode.CONSUMER_DELETED)
    return None
