"""The operation of a command, or of a reply, that nothing refuses: its effect and what it tells."""

from collections.abc import Mapping

from lifecycle.domain.card_fields import moves
from lifecycle.domain.cards import TERMINAL, Card
from lifecycle.domain.cells import Row, Rule
from lifecycle.domain.commands import CardCommand, Create, Produce, Renew, SetLock
from lifecycle.domain.effects import Outcome
from lifecycle.domain.fields import Judged
from lifecycle.domain.guards import Case
from lifecycle.domain.numbers import number_changes
from lifecycle.domain.operations import NO_DETAILS, Decision, OperationKind, Status
from lifecycle.domain.reasons import REAL_CARD_CASCADE_REASON


def carried_out(
    rule: Rule, judged: Judged, case: Case, row: Row, *, ends_pending: bool = False
) -> Decision:
    """SUCCESSFUL, or PENDING when the effect asks an outside party."""
    outcome = row.effect(case, row.dest)
    after, caused, request = outcome
    return Decision(
        kind=rule.kind,
        status=Status.SUCCESSFUL if request is None else Status.PENDING,
        requestor=judged.requestor,
        reason_code=case.reason_code,
        reason=judged.reason,
        correlation_id=judged.correlation_id,
        details=details_of(rule.kind, case.command, outcome),
        subject=after,
        caused=caused,
        registers_consumer=isinstance(case.command, Create) and case.context.consumer_state is None,
        cascade_reason=_cascade_reason(case.card, after),
        numbers=number_changes(case.card, after, caused, is_given=_renews_number(case.command)),
        request=request,
        ends_pending=ends_pending,
    )


def _cascade_reason(before: Card | None, after: Card) -> str | None:
    """The reason with which the virtual cards of a card that has left for good are deleted."""
    if before is None or before.state in TERMINAL:
        return None
    return REAL_CARD_CASCADE_REASON if after.state in TERMINAL else None


def _renews_number(command: CardCommand) -> bool:
    return isinstance(command, Renew) and command.encrypted_data is not None


def details_of(kind: OperationKind, command: CardCommand, outcome: Outcome) -> Mapping[str, str]:
    """What the operation tells of its kind beside the card (domain.md 5, `details`)."""
    match command:
        case SetLock():
            return {"lock": command.lock}
        case Produce():
            return {"distributionChannel": command.distribution_channel}
    match kind:
        case OperationKind.REPLACE:
            return {"newCardId": outcome.caused[0].card.card_id}
        case OperationKind.RENEW:
            return _details_of_renew(command, outcome)
        case _:
            return NO_DETAILS


def _details_of_renew(command: CardCommand, outcome: Outcome) -> Mapping[str, str]:
    """The new expiry, once it is known, and the new id where there is one."""
    renewed, details = outcome.card, {}
    if isinstance(command, Renew) and moves(command):
        assert command.new_card_id is not None
        details["newCardId"] = command.new_card_id
        if outcome.request is not None:
            return details
        renewed = outcome.caused[0].card
    new_exp = renewed.pending_exp or renewed.exp
    assert new_exp is not None, "a renewal leads to an expiry"
    return details | {"newExp": new_exp}
