"""Commands about consumers: a table of state and command (domain.md 8).

A DELETED consumer stays so; a consumer that is already in the state asked for is left alone and
the operation is SUCCESSFUL.
"""

from lifecycle.domain.commands import CommandName, ConsumerCommand
from lifecycle.domain.consumers import Consumer, ConsumerState
from lifecycle.domain.errors import ErrorCode
from lifecycle.domain.fields import Judged, Refusal, judge
from lifecycle.domain.operations import Context, Decision, OperationKind
from lifecycle.domain.refusals import is_stale, refused, succeeded

_STATE_AFTER: dict[CommandName, ConsumerState] = {
    CommandName.CONSUMER_REGISTER: ConsumerState.ACTIVE,
    CommandName.CONSUMER_DEACTIVATE: ConsumerState.INACTIVE,
    CommandName.CONSUMER_REACTIVATE: ConsumerState.ACTIVE,
}


def decide_consumer(
    consumer: Consumer | None, command: ConsumerCommand, context: Context
) -> Decision:
    """Decide a command about a consumer; `consumer` is None when the issuer has no such one."""
    name = CommandName(command.command)
    kind = OperationKind(command.command)
    judged = judge(command, name, context.start_time_ms)
    refusal = _refusal(consumer, name, command, judged, context)
    if refusal is not None:
        return refused(kind, judged, refusal, consumer)

    state = _STATE_AFTER[name]
    if consumer is not None and consumer.state is state:
        return succeeded(kind, judged, consumer)
    after = Consumer(issuer_id=command.issuer_id, consumer_id=command.consumer_id, state=state)
    return succeeded(kind, judged, after)


def _refusal(
    consumer: Consumer | None,
    name: CommandName,
    command: ConsumerCommand,
    judged: Judged,
    context: Context,
) -> Refusal | None:
    """The first that applies, in the order of design.md 5, "Which error"."""
    if consumer is None and name is not CommandName.CONSUMER_REGISTER:
        return Refusal(ErrorCode.CONSUMER_NOT_FOUND)
    if judged.refusal is not None:
        return judged.refusal
    if command.reason_code is not None:
        return Refusal(ErrorCode.INVALID_REASON)
    if is_stale(judged, context):
        return Refusal(ErrorCode.STALE_COMMAND)
    if consumer is not None and consumer.state is ConsumerState.DELETED:
        return Refusal(ErrorCode.CONSUMER_DELETED)
    return None
