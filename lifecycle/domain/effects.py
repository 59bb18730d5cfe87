"""What a row of the machine does to the card: from the card before to the card after it.

Every requirement holds and every field is valid when an effect is called; `machine.py` names it
and says which state it ends in. What a state means for the fields beside it is one rule for all
effects (`_in_state`, domain.md 8, "Operations and events").
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from lifecycle.domain import months
from lifecycle.domain.cards import TERMINAL, Card, Lock, OngoingOperation, Origin, State
from lifecycle.domain.commands import (
    ClickToPay,
    Create,
    Produce,
    Renew,
    Replace,
    SetLock,
    UpdateControls,
    UpdateLimits,
)
from lifecycle.domain.credentials import Credentials
from lifecycle.domain.errors import ErrorCode
from lifecycle.domain.fields import composed, time_ms_of
from lifecycle.domain.guards import Case, renewed_month
from lifecycle.domain.operations import Caused, Context, OperationKind, Request
from lifecycle.domain.products import Form
from lifecycle.domain.reasons import LOCK_REASON, Reason, is_stronger
from lifecycle.domain.settings_objects import canonical

_NOTHING: frozenset[str] = frozenset()
_NO_LOCKS: frozenset[Lock] = frozenset()


class Outcome(NamedTuple):
    """The card after an effect, what the effect did to another card, and what it asks outside."""

    card: Card
    caused: tuple[Caused, ...] = ()
    request: Request | None = None


class Expiries(NamedTuple):
    """When a card ends, and its auxiliary number with it: now, and after a pending renewal."""

    exp: str | None
    auxiliary_exp: str | None
    pending_exp: str | None = None
    pending_auxiliary_exp: str | None = None


def _card(  # noqa: PLR0913 - the fields that change in the life of a card
    card: Card,
    *,
    state: State,
    state_reason: str | None,
    suspensions: frozenset[str],
    locks: frozenset[Lock],
    ongoing_operation: OngoingOperation,
    expiries: Expiries,
    successor_card_id: str | None,
    digital_cards_relinked: bool,
) -> Card:
    """`dataclasses.replace` by hand: it takes half the time, and each command pays it."""
    exp, auxiliary_exp, pending_exp, pending_auxiliary_exp = expiries
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
        has_auxiliary_pan=card.has_auxiliary_pan,
        auxiliary_exp=auxiliary_exp,
        pending_auxiliary_exp=pending_auxiliary_exp,
        real_card_id=card.real_card_id,
        real_card_incarnation=card.real_card_incarnation,
        controls=card.controls,
        limits=card.limits,
        click_to_pay=card.click_to_pay,
    )


def _expiries_of(card: Card) -> Expiries:
    return Expiries(card.exp, card.auxiliary_exp, card.pending_exp, card.pending_auxiliary_exp)


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
        expiries=_expiries_of(card),
        successor_card_id=card.successor_card_id,
        digital_cards_relinked=card.digital_cards_relinked,
    )


def _alive(card: Card, state: State, expiries: Expiries) -> Card:
    """In a state that is not terminal, with these expiries.

    SUSPENDED and EXPIRED keep what the card was suspended for; INACTIVE and ACTIVE have nothing
    of the kind (domain.md 8).
    """
    assert state not in TERMINAL
    keeps = state in (State.SUSPENDED, State.EXPIRED)
    waits = expiries.pending_exp is not None
    return _card(
        card,
        state=state,
        state_reason=card.state_reason if keeps else None,
        suspensions=card.suspensions if keeps else _NOTHING,
        locks=card.locks if keeps else _NO_LOCKS,
        ongoing_operation=OngoingOperation.RENEWAL if waits else OngoingOperation.NONE,
        expiries=expiries,
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
        expiries=Expiries(card.exp, card.auxiliary_exp),
        successor_card_id=successor_card_id,
        digital_cards_relinked=relinked,
    )


def _with_relink(case: Case, after: Card) -> Outcome:
    """A successor that becomes ACTIVE takes over the digital cards (domain.md 3.5, 8).

    The predecessor's own flag says whether that has happened, so it happens once.
    """
    old = case.context.predecessor
    if (
        old is None
        or after.state is not State.ACTIVE
        # The id of the predecessor may have begun a new life meanwhile.
        or old.successor_card_id != after.card_id
        or old.digital_cards_relinked
    ):
        return Outcome(after)
    return Outcome(
        after, (Caused(kind=OperationKind.RELINK, card=replace(old, digital_cards_relinked=True)),)
    )


def _first_expiry(context: Context, validity_months: int) -> str:
    """The generated expiry of a new card (domain.md 8)."""
    month = months.month_of_time(context.start_time_ms, context.issuer_time_zone)
    return months.expiry_of_month(months.generated_month(month, validity_months))


def _new_expiries(case: Case) -> Expiries:
    """What a renewal that keeps the card id leads to: generated, or given by the issuer."""
    card, command = case.existing, case.command
    if card.origin is Origin.ISSUED:
        exp = months.expiry_of_month(renewed_month(card, case.context))
        return Expiries(exp, card.auxiliary_exp)
    assert isinstance(command, Renew)
    given = _given_credentials(case)
    auxiliary_exp = None if given is None else given.auxiliary_exp
    return Expiries(command.new_exp, auxiliary_exp or command.new_auxiliary_exp)


def _given_credentials(case: Case) -> Credentials | None:
    """The number that the command, or the reply to it, brings; it was judged before."""
    opened = case.context.opened
    if getattr(case.command, "encrypted_data", None) is None:
        return None
    assert isinstance(opened, Credentials)
    return opened


def _with_given_number(case: Case, card: Card) -> Card:
    """A v1 renew may bring another number for the same card."""
    given = _given_credentials(case)
    if given is None:
        return card
    has_auxiliary_pan = card.has_auxiliary_pan or given.auxiliary_pan is not None
    return replace(card, last4=given.last4, has_auxiliary_pan=has_auxiliary_pan)


def issue(case: Case, dest: State) -> Outcome:
    """CREATE: a card of this platform, with the number that was drawn for it."""
    context = case.context
    assert context.product is not None
    first = Expiries(_first_expiry(context, context.product.validity_months), None)
    return Outcome(_first_life(case, dest, Origin.ISSUED, first, _drawn_last4(context)))


def register(case: Case, dest: State) -> Outcome:
    """REGISTER: a card of the issuer, perhaps the next life of an id (domain.md 4)."""
    given = _given_credentials(case)
    assert given is not None
    first = Expiries(given.exp, given.auxiliary_exp)
    return Outcome(_first_life(case, dest, Origin.REGISTERED, first, given.last4))


def _first_life(
    case: Case, state: State, origin: Origin, expiries: Expiries, last4: str | None
) -> Card:
    command, context = case.command, case.context
    assert isinstance(command, Create)
    assert context.product is not None
    return Card(
        issuer_id=command.issuer_id,
        card_id=command.card_id,
        incarnation=_next_incarnation(case.card),
        state=state,
        exp=expiries.exp,
        last4=last4,
        consumer_id=command.consumer_id,
        card_product_id=command.card_product_id,
        origin=origin,
        terms=context.product,
        name=command.name or "",
        second_name=command.second_name,
        delete_at_ms=None if command.delete_at is None else time_ms_of(command.delete_at),
        has_auxiliary_pan=expiries.auxiliary_exp is not None,
        auxiliary_exp=expiries.auxiliary_exp,
        real_card_id=command.real_card_id,
        real_card_incarnation=_life_stood_for(command, context),
    )


def _life_stood_for(command: Create, context: Context) -> int | None:
    if command.real_card_id is None:
        return None
    assert context.real_card is not None, "a card that is not there was refused"
    return context.real_card.incarnation


def _next_incarnation(holder: Card | None) -> int:
    return 1 if holder is None else holder.incarnation + 1


def _drawn_last4(context: Context) -> str | None:
    drawn = context.generated_last4
    assert not isinstance(drawn, ErrorCode), "a number that could not be drawn was refused"
    return drawn


def activate(case: Case, dest: State) -> Outcome:
    """For the first time, after a v1 renew, or to end a renewal: its plastic has arrived."""
    card = case.existing
    expiries = Expiries(card.exp, card.auxiliary_exp)
    if card.pending_exp is not None:
        expiries = Expiries(card.pending_exp, card.pending_auxiliary_exp)
    return _with_relink(case, _alive(card, dest, expiries))


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
    shown = reason if is_stronger(card, reason) else card.state_reason
    return Outcome(_held(card, shown, card.suspensions | {reason}, card.locks | {new}))


def resume(case: Case, dest: State) -> Outcome:
    """Every suspension and lock is lifted (domain.md 2.1); a pending renewal goes on."""
    card = case.existing
    return Outcome(_alive(card, dest, _expiries_of(card)))


def renew_at_once(case: Case, dest: State) -> Outcome:
    """The new expiry counts from now."""
    renewed = _alive(case.existing, dest, _new_expiries(case))
    return _with_relink(case, _with_given_number(case, renewed))


def start_renewal(case: Case, dest: State) -> Outcome:
    """The new expiry waits for the activation of the new plastic."""
    card, new = case.existing, _new_expiries(case)
    waiting = Expiries(card.exp, card.auxiliary_exp, new.exp, new.auxiliary_exp)
    return Outcome(_with_given_number(case, _alive(card, dest, waiting)))


def replace_card(case: Case, dest: State) -> Outcome:
    """The card is REPLACED, and its successor made in the same step (domain.md 3.2)."""
    virtual = case.existing.terms.form is Form.VIRTUAL
    return _succeeded_by(case, dest, State.ACTIVE if virtual else State.INACTIVE)


def renew_moving(case: Case, dest: State) -> Outcome:
    """RENEWED, or REPLACED after a loss, by a card in the state that was asked (domain.md 2.1)."""
    command = case.command
    assert isinstance(command, Renew)
    assert command.new_card_state is not None
    return _succeeded_by(case, dest, State(command.new_card_state))


def _succeeded_by(case: Case, dest: State, state: State) -> Outcome:
    """The card ends and its successor, in `state`, begins.

    An ACTIVE successor has the digital cards at once, within this operation; another one takes
    them over when it is activated. It is created now, with the terms that the product has now
    (design.md 3, PRODUCT_DEFINE). `deleteAt` was said of the old card only.
    """
    card, context = case.existing, case.context
    terms = context.product
    assert terms is not None, "the card's product never vanishes"
    if card.origin is Origin.ISSUED:
        kind, card_id, holder = OperationKind.CREATE, context.generated_card_id, None
        first = Expiries(_first_expiry(context, terms.validity_months), None)
        last4, has_auxiliary_pan = _drawn_last4(context), False
    else:
        command, given = case.command, context.opened
        assert isinstance(command, Replace | Renew)
        assert isinstance(given, Credentials)
        kind, card_id, holder = OperationKind.REGISTER, command.new_card_id, context.new_card
        first = Expiries(given.exp, given.auxiliary_exp)
        last4, has_auxiliary_pan = given.last4, given.auxiliary_pan is not None
    assert card_id is not None, "the caller generates an id for the REPLACE of an issued card"
    assert card_id != card.card_id
    successor = Card(
        issuer_id=card.issuer_id,
        card_id=card_id,
        incarnation=_next_incarnation(holder),
        state=state,
        exp=first.exp,
        auxiliary_exp=first.auxiliary_exp,
        last4=last4,
        has_auxiliary_pan=has_auxiliary_pan,
        consumer_id=card.consumer_id,
        card_product_id=card.card_product_id,
        origin=card.origin,
        terms=terms,
        name=card.name,
        second_name=card.second_name,
        predecessor_card_id=card.card_id,
        real_card_id=card.real_card_id,
        real_card_incarnation=card.real_card_incarnation,
        controls=card.controls,
        limits=card.limits,
    )
    relinked = state is State.ACTIVE
    return Outcome(
        _ended(card, dest, case.reason_code, successor_card_id=card_id, relinked=relinked),
        (Caused(kind=kind, card=successor),),
    )


def delete(case: Case, dest: State) -> Outcome:
    """For good (domain.md 2.1)."""
    return Outcome(_ended(case.existing, dest, case.reason_code))


def delete_when_due(case: Case, dest: State) -> Outcome:
    """`deleteAt` has come: a reason for the card, none for the operation (domain.md 8)."""
    return Outcome(_ended(case.existing, dest, Reason.CLOSED_CARD))


def expire(case: Case, dest: State) -> Outcome:
    """Locks, renewal and the reason of a suspension stay (domain.md 8)."""
    card = case.existing
    return Outcome(_alive(card, dest, _expiries_of(card)))


def set_controls(case: Case, _dest: State) -> Outcome:
    """The controls are replaced, not merged: the operation is a PUT in the seed (S2)."""
    card, command = case.existing, case.command
    assert isinstance(command, UpdateControls)
    controls = canonical(command.controls)
    return Outcome(card if controls == card.controls else replace(card, controls=controls))


def set_limits(case: Case, _dest: State) -> Outcome:
    """The limits are replaced, not merged: the operation is a PUT in the seed (S2)."""
    card, command = case.existing, case.command
    assert isinstance(command, UpdateLimits)
    limits = canonical(command.limits)
    return Outcome(card if limits == card.limits else replace(card, limits=limits))


def ask_outside(case: Case, _dest: State) -> Outcome:
    """The card stays as it is until an outside party has answered (domain.md 7, 8)."""
    card, command = case.existing, case.command
    match command:
        case Renew(new_card_id=str(new_card_id), new_card_state=str(new_card_state)):
            kind = OperationKind.RENEW
            data = {"newCardId": new_card_id, "newCardState": new_card_state}
        case Produce():
            kind = OperationKind.PRODUCE
            data = {
                "distributionChannel": command.distribution_channel,
                "name": card.name,
                "secondName": card.second_name or "",
                "exp": card.pending_exp or card.exp or "",
            }
        case _:
            kind = OperationKind(command.command)
            data = {"scheme": card.terms.scheme, "consumerId": card.consumer_id}
            if isinstance(command, ClickToPay):
                data["name"] = composed(command.name)
    return Outcome(card, request=Request(kind, data))


EFFECTS: dict[str, Callable[[Case, State], Outcome]] = {
    effect.__name__: effect
    for effect in (
        issue,
        register,
        activate,
        change_nothing,
        suspend,
        lock,
        resume,
        renew_at_once,
        start_renewal,
        replace_card,
        renew_moving,
        delete,
        delete_when_due,
        expire,
        set_controls,
        set_limits,
        ask_outside,
    )
}
