"""What a row of the machine does to the card: from the card before to the card after it.

Every requirement holds and every field is valid when an effect is called; `machine.py` names it
and says which state it ends in. What a state means for the fields beside it is one rule for all
effects (`_in_state`, domain.md 8, "Operations and events").
"""

from collections.abc import Callable
from typing import NamedTuple

from lifecycle.domain import months
from lifecycle.domain.cards import TERMINAL, Card, Lock, OngoingOperation, Origin, State
from lifecycle.domain.commands import Create, SetLock
from lifecycle.domain.fields import time_ms_of
from lifecycle.domain.guards import Case
from lifecycle.domain.operations import Caused, Context, OperationKind
from lifecycle.domain.products import Form
from lifecycle.domain.reasons import LOCK_REASON, STRENGTH

_NOTHING: frozenset[str] = frozenset()
_NO_LOCKS: frozenset[Lock] = frozenset()


class Outcome(NamedTuple):
    """The card after an effect, and what the effect did to another card."""

    card: Card
    caused: tuple[Caused, ...] = ()


def _card(  # noqa: PLR0913 - the fields that change in the life of a card
    card: Card,
    *,
    state: State,
    state_reason: str | None,
    suspensions: frozenset[str],
    locks: frozenset[Lock],
    ongoing_operation: OngoingOperation,
    exp: str | None,
    pending_exp: str | None,
    successor_card_id: str | None,
    digital_cards_relinked: bool,
) -> Card:
    """`dataclasses.replace` by hand: it takes half the time, and each command pays it."""
    return Card(
        issuer_id=card.issuer_id,
        card_id=card.card_id,
        incarnation=card.incarnation,
        state=state,
        state_reason=state_reason,
        suspensions=suspensions,
        locks=locks,
        ongoing_operation=ongoing_operation,
        exp=exp,
        pending_exp=pending_exp,
        last4=card.last4,
        consumer_id=card.consumer_id,
        card_product_id=card.card_product_id,
        origin=card.origin,
        terms=card.terms,
        name=card.name,
        second_name=card.second_name,
        predecessor_card_id=card.predecessor_card_id,
        successor_card_id=successor_card_id,
        delete_at_ms=card.delete_at_ms,
        digital_cards_relinked=digital_cards_relinked,
    )


def _held(
    card: Card, reason: str | None, suspensions: frozenset[str], locks: frozenset[Lock]
) -> Card:
    """SUSPENDED for `reason`; expiry and renewal stay as they are."""
    return _card(
        card,
        state=State.SUSPENDED,
        state_reason=reason,
        suspensions=suspensions,
        locks=locks,
        ongoing_operation=card.ongoing_operation,
        exp=card.exp,
        pending_exp=card.pending_exp,
        successor_card_id=card.successor_card_id,
        digital_cards_relinked=card.digital_cards_relinked,
    )


def _alive(card: Card, state: State, exp: str | None, pending_exp: str | None) -> Card:
    """In a state that is not terminal, with these expiries.

    SUSPENDED and EXPIRED keep what the card was suspended for; INACTIVE and ACTIVE have nothing
    of the kind (domain.md 8).
    """
    assert state not in TERMINAL
    keeps = state in (State.SUSPENDED, State.EXPIRED)
    waits = pending_exp is not None
    return _card(
        card,
        state=state,
        state_reason=card.state_reason if keeps else None,
        suspensions=card.suspensions if keeps else _NOTHING,
        locks=card.locks if keeps else _NO_LOCKS,
        ongoing_operation=OngoingOperation.RENEWAL if waits else OngoingOperation.NONE,
        exp=exp,
        pending_exp=pending_exp,
        successor_card_id=card.successor_card_id,
        digital_cards_relinked=card.digital_cards_relinked,
    )


def _ended(
    card: Card,
    state: State,
    reason: str | None,
    *,
    successor_card_id: str | None = None,
    relinked: bool = False,
) -> Card:
    """In a terminal state: no locks, no renewal, and the reason that led there (domain.md 8)."""
    assert state in TERMINAL
    return _card(
        card,
        state=state,
        state_reason=reason,
        suspensions=_NOTHING,
        locks=_NO_LOCKS,
        ongoing_operation=OngoingOperation.NONE,
        exp=card.exp,
        pending_exp=None,
        successor_card_id=successor_card_id or card.successor_card_id,
        digital_cards_relinked=relinked,
    )


def _relinked(card: Card) -> Card:
    """A REPLACED or RENEWED card whose digital cards now belong to its successor."""
    return _card(
        card,
        state=card.state,
        state_reason=card.state_reason,
        suspensions=card.suspensions,
        locks=card.locks,
        ongoing_operation=card.ongoing_operation,
        exp=card.exp,
        pending_exp=card.pending_exp,
        successor_card_id=card.successor_card_id,
        digital_cards_relinked=True,
    )


def _with_relink(case: Case, after: Card) -> Outcome:
    """A successor that becomes ACTIVE takes over the digital cards (domain.md 3.5, 8).

    The predecessor's own flag says whether that has happened, so it happens once.
    """
    old = case.context.predecessor
    if (
        old is None
        or after.state is not State.ACTIVE
        or old.card_id != after.predecessor_card_id
        or old.state not in (State.REPLACED, State.RENEWED)
        or old.digital_cards_relinked
    ):
        return Outcome(after)
    return Outcome(after, (Caused(kind=OperationKind.RELINK, card=_relinked(old)),))


def renewed_month(card: Card, context: Context) -> int:
    """The month of a renewal's generated expiry (domain.md 8).

    Not later than the current one only when that is the last month there is.
    """
    month = months.month_of_time(context.start_time_ms, context.issuer_time_zone)
    if card.exp is not None:
        month = max(month, months.month_of_expiry(card.exp))
    return months.generated_month(month, card.terms.validity_months)


def _first_expiry(context: Context, validity_months: int) -> str:
    """The generated expiry of a new card (domain.md 8)."""
    month = months.month_of_time(context.start_time_ms, context.issuer_time_zone)
    return months.expiry_of_month(months.generated_month(month, validity_months))


def issue(case: Case, dest: State) -> Outcome:
    """CREATE: a card of this platform. Its number comes with REGISTER, so `last4` is None."""
    command, context = case.command, case.context
    assert isinstance(command, Create)
    assert context.product is not None
    return Outcome(
        Card(
            issuer_id=command.issuer_id,
            card_id=command.card_id,
            state=dest,
            exp=_first_expiry(context, context.product.validity_months),
            consumer_id=command.consumer_id,
            card_product_id=command.card_product_id,
            origin=Origin.ISSUED,
            terms=context.product,
            name=command.name or "",
            second_name=command.second_name,
            delete_at_ms=None if command.delete_at is None else time_ms_of(command.delete_at),
        )
    )


def activate(case: Case, dest: State) -> Outcome:
    """For the first time, after a v1 renew, or to end a renewal: its plastic has arrived."""
    card = case.existing
    return _with_relink(case, _alive(card, dest, card.pending_exp or card.exp, None))


def change_nothing(case: Case, _dest: State) -> Outcome:
    """SUCCESSFUL without a change: the very same card."""
    return Outcome(case.existing)


def suspend(case: Case, _dest: State) -> Outcome:
    """For a first or a stronger reason; the weaker suspensions before it stay (domain.md 8)."""
    card, reason = case.existing, case.reason_code
    assert reason is not None
    return Outcome(_held(card, reason, card.suspensions | {reason}, card.locks))


def lock(case: Case, _dest: State) -> Outcome:
    """A lock that is not set yet; the reason stays unless it is weaker (domain.md 2.1)."""
    card, command = case.existing, case.command
    assert isinstance(command, SetLock)
    new = Lock(command.lock)
    reason: str = LOCK_REASON[new]
    held = card.state_reason
    kept = held is not None and STRENGTH.get(held, 0) >= STRENGTH[reason]
    return Outcome(
        _held(card, held if kept else reason, card.suspensions | {reason}, card.locks | {new})
    )


def resume(case: Case, dest: State) -> Outcome:
    """Every suspension and lock is lifted (domain.md 2.1); a pending renewal goes on."""
    card = case.existing
    return Outcome(_alive(card, dest, card.exp, card.pending_exp))


def renew_at_once(case: Case, dest: State) -> Outcome:
    """The new expiry counts from now."""
    exp = months.expiry_of_month(renewed_month(case.existing, case.context))
    return _with_relink(case, _alive(case.existing, dest, exp, None))


def start_renewal(case: Case, dest: State) -> Outcome:
    """The new expiry waits for the activation of the new plastic."""
    card = case.existing
    pending = months.expiry_of_month(renewed_month(card, case.context))
    return Outcome(_alive(card, dest, card.exp, pending))


def replace(case: Case, dest: State) -> Outcome:
    """The card is REPLACED, and its successor made in the same step (domain.md 3.2).

    A VIRTUAL successor is ACTIVE, so the digital cards are linked to it within this operation;
    a PHYSICAL one takes them over when it is activated. `deleteAt` was said of the old card only.
    """
    card, context = case.existing, case.context
    successor_card_id = context.generated_card_id
    assert successor_card_id is not None, "the caller generates an id for a REPLACE"
    assert successor_card_id != card.card_id
    virtual = card.terms.form is Form.VIRTUAL
    successor = Card(
        issuer_id=card.issuer_id,
        card_id=successor_card_id,
        state=State.ACTIVE if virtual else State.INACTIVE,
        exp=_first_expiry(context, card.terms.validity_months),
        consumer_id=card.consumer_id,
        card_product_id=card.card_product_id,
        origin=card.origin,
        terms=card.terms,
        name=card.name,
        second_name=card.second_name,
        predecessor_card_id=card.card_id,
    )
    return Outcome(
        _ended(card, dest, case.reason_code, successor_card_id=successor_card_id, relinked=virtual),
        (Caused(kind=OperationKind.CREATE, card=successor),),
    )


def delete(case: Case, dest: State) -> Outcome:
    """For good (domain.md 2.1)."""
    return Outcome(_ended(case.existing, dest, case.reason_code))


EFFECTS: dict[str, Callable[[Case, State], Outcome]] = {
    effect.__name__: effect
    for effect in (
        issue,
        activate,
        change_nothing,
        suspend,
        lock,
        resume,
        renew_at_once,
        start_renewal,
        replace,
        delete,
    )
}
