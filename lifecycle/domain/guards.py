"""The conditions of the machine's rows: pure questions about a card, a command and its context.

`machine.py` names them. A choice looks at nothing that a later check could refuse to mean
something: it answers for any value of the command's fields.
"""

import hmac
from collections.abc import Callable
from typing import NamedTuple

from lifecycle.domain import months, reasons
from lifecycle.domain.cards import TERMINAL, Card, OngoingOperation, Origin, State, is_reusable
from lifecycle.domain.commands import Activate, CardCommand, Create, Renew, SetLock
from lifecycle.domain.consumers import ConsumerState
from lifecycle.domain.operations import Context
from lifecycle.domain.products import ActivationMethod, Form

VIRTUAL_CARDS_PER_REAL_CARD_MAX = 100

# A card in one of these states counts as EXPIRED when its expiry month is over (domain.md 8).
MAY_EXPIRE = frozenset({State.INACTIVE, State.ACTIVE, State.SUSPENDED})


class Case(NamedTuple):
    """What a decision about a card looks at. `reason_code` has the default filled in.

    `is_answered`: the command was taken before, and an outside party has answered since.
    """

    card: Card | None
    command: CardCommand
    reason_code: str | None
    context: Context
    is_answered: bool = False

    @property
    def existing(self) -> Card:
        """The card, in the rows whose source is a state."""
        assert self.card is not None
        return self.card


def effective_state(card: Card, context: Context) -> State:
    """The state that decisions go by: EXPIRED as soon as the expiry month is over.

    Events go on showing `card.state` until a timer or a command stores another (domain.md 8).
    """
    if (
        card.exp is not None
        and card.state in MAY_EXPIRE
        and months.is_over(card.exp, context.start_time_ms, context.issuer_time_zone)
    ):
        return State.EXPIRED
    return card.state


def inactive_is_asked(case: Case) -> bool:
    """CREATE or REGISTER with state INACTIVE, or a v1 renew with newCardState INACTIVE."""
    command = case.command
    assert isinstance(command, Create | Renew)
    asked = command.state if isinstance(command, Create) else command.new_card_state
    return asked == State.INACTIVE


def card_is_physical(case: Case) -> bool:
    """A plastic is made, and activated when it has arrived."""
    return case.existing.terms.form is Form.PHYSICAL


def renewal_is_pending(case: Case) -> bool:
    """A renewed plastic waits for its activation (domain.md 2)."""
    return case.existing.ongoing_operation is OngoingOperation.RENEWAL


def suspended_before(case: Case) -> bool:
    """The card was SUSPENDED when it expired (domain.md 8, "State corners")."""
    card = case.existing
    return card.state is State.SUSPENDED or bool(reasons.suspensions_of(card))


def lock_is_new(case: Case) -> bool:
    """The lock is not set yet."""
    command = case.command
    assert isinstance(command, SetLock)
    return command.lock not in case.existing.locks


def product_is_defined(case: Case) -> bool:
    """The product that CREATE or REGISTER names."""
    return case.context.product is not None


def consumer_may_get_a_card(case: Case) -> bool:
    """An unknown consumer may: CREATE registers it as ACTIVE (domain.md 8)."""
    return case.context.consumer_state in (None, ConsumerState.ACTIVE)


def consumer_is_active(case: Case) -> bool:
    """The card's consumer (domain.md 8)."""
    return case.context.consumer_state is ConsumerState.ACTIVE


def no_renewal_waits(case: Case) -> bool:
    """One renewal at a time (domain.md 8)."""
    return not renewal_is_pending(case)


def a_renewal_waits(case: Case) -> bool:
    """An EXPIRED card is activated only to end its renewal (domain.md 2.1)."""
    return renewal_is_pending(case)


def card_can_be_renewed(case: Case) -> bool:
    """Not after CARD_LOST, CARD_STOLEN, CARD_BROKEN or FRAUD (domain.md 2.1, 8)."""
    return reasons.can_be_renewed(case.existing)


def reason_replaces(case: Case) -> bool:
    """Renewed under another id because it was lost, stolen or broken (domain.md 2.1)."""
    return reasons.replaces_card(case.reason_code)


def number_is_there(case: Case) -> bool:
    """A v1 renew brings the new number, or the issuer's CMS has sent it (domain.md 3.3)."""
    command = case.command
    assert isinstance(command, Renew)
    return case.is_answered or command.encrypted_data is not None


def scheme_may_know_the_card(case: Case) -> bool:
    """The card is enrolled in Click to Pay, or is about to be."""
    return case.existing.click_to_pay or case.context.enrolment_is_pending


def replacement_is_due(case: Case) -> bool:
    """An EXPIRED card is replaced only where it cannot be renewed (domain.md 8)."""
    return not reasons.can_be_renewed(case.existing)


def card_id_is_reusable(case: Case) -> bool:
    """The card that has the id left for good, and may leave the id as well (domain.md 4)."""
    return is_reusable(case.existing)


def new_card_id_is_free(case: Case) -> bool:
    """The issuer has no card under the new card's id, or one that may leave it (domain.md 4)."""
    if case.existing.origin is Origin.ISSUED:
        return not case.context.generated_card_id_in_use
    holder = case.context.new_card
    return holder is None or is_reusable(holder)


def consumer_is_not_deleted(case: Case) -> bool:
    """No new card for a consumer whose cards are all being deleted: it would be left behind."""
    return case.context.consumer_state is not ConsumerState.DELETED


def real_card_has_not_left(case: Case) -> bool:
    """No new virtual card for a card whose virtual cards are all being deleted."""
    if case.existing.real_card_id is None:
        return True
    real_card = case.context.real_card
    return (
        real_card is not None
        and real_card.state not in TERMINAL
        and real_card.incarnation == case.existing.real_card_incarnation
    )


def _real_card_id(case: Case) -> str | None:
    assert isinstance(case.command, Create)
    return case.command.real_card_id


def product_may_have_a_real_card(case: Case) -> bool:
    """Only a VIRTUAL card stands for another one (design.md 3)."""
    product = case.context.product
    assert product is not None, "whether there is one is asked first"
    return _real_card_id(case) is None or product.form is Form.VIRTUAL


def real_card_is_active(case: Case) -> bool:
    """A card that the issuer does not have is not ACTIVE either."""
    if _real_card_id(case) is None:
        return True
    real_card = case.context.real_card
    return real_card is not None and effective_state(real_card, case.context) is State.ACTIVE


def real_card_has_room(case: Case) -> bool:
    """One more virtual card is not too many (domain.md 6)."""
    return (
        _real_card_id(case) is None
        or case.context.real_card_virtual_cards < VIRTUAL_CARDS_PER_REAL_CARD_MAX
    )


def first_use_activates(case: Case) -> bool:
    """A card-present transaction with new plastic, where the product allows it (domain.md 2.1).

    As any activation it needs an ACTIVE consumer: without one the signal does not apply.
    """
    terms = case.existing.terms
    is_implicit = terms.form is Form.PHYSICAL and terms.implicit_activation
    return is_implicit and consumer_is_active(case)


def new_plastic_is_used(case: Case) -> bool:
    """A card-present transaction while a renewed plastic waits for its activation."""
    return renewal_is_pending(case) and first_use_activates(case)


def expiry_month_is_over(case: Case) -> bool:
    """Judged by date, whatever the timer's id says (domain.md 8)."""
    exp = case.existing.exp
    time_ms, time_zone = case.context.start_time_ms, case.context.issuer_time_zone
    return exp is not None and months.is_over(exp, time_ms, time_zone)


def automatic_renewal_is_due(case: Case) -> bool:
    """The product's window is open and nothing was renewed yet (domain.md 2.1, 8).

    An expiry that cannot grow any more is left alone.
    """
    card, context = case.existing, case.context
    opens_ms = renewal_window_opens_ms(card, context.issuer_time_zone)
    return (
        opens_ms is not None
        and context.start_time_ms >= opens_ms
        and generated_expiry_is_later(card, context)
    )


def renewal_window_opens_ms(card: Card, issuer_time_zone: str) -> int | None:
    """When an AUTO_RENEW of the card applies from; None when none ever does, as it is now.

    It applies to the end of the expiry month, when the card is no longer ACTIVE.
    """
    terms = card.terms
    if (
        card.state is not State.ACTIVE
        or card.origin is not Origin.ISSUED
        or card.ongoing_operation is OngoingOperation.RENEWAL
        or card.exp is None
        or not terms.auto_renew
    ):
        return None
    return months.month_end_ms(card.exp, issuer_time_zone, days_before=terms.auto_renew_days)


def deletion_is_due(case: Case) -> bool:
    """`deleteAt` has come (domain.md 2.1)."""
    delete_at_ms = case.existing.delete_at_ms
    return delete_at_ms is not None and case.context.start_time_ms >= delete_at_ms


def renewed_month(card: Card, context: Context) -> int:
    """The month of a renewal's generated expiry (domain.md 8).

    Not later than the current one only when that is the last month there is.
    """
    month = months.month_of_time(context.start_time_ms, context.issuer_time_zone)
    if card.exp is not None:
        month = max(month, months.month_of_expiry(card.exp))
    return months.generated_month(month, card.terms.validity_months)


def generated_expiry_is_later(card: Card, context: Context) -> bool:
    """Whether a generated expiry is a later one (domain.md 3.4): not when it is 12/99 already."""
    return card.exp is None or renewed_month(card, context) > months.month_of_expiry(card.exp)


def reason_is_stronger(case: Case) -> bool:
    """Strictly stronger than the reason that the card is suspended for (domain.md 2.2)."""
    assert case.reason_code is not None, "a SUSPEND has a reason, by default or its own"
    return reasons.is_stronger(case.existing, case.reason_code)


def card_can_be_resumed(case: Case) -> bool:
    """Not REPLACEMENT_REQUIRED in the matrix of domain.md 2.3."""
    return reasons.can_be_resumed(case.existing)


def reason_resumes(case: Case) -> bool:
    """`ok` in the matrix of domain.md 2.3, for every suspension that the card has."""
    return reasons.is_resumed_by(case.existing, case.reason_code)


def answer_is_right(case: Case) -> bool:
    """What the product's activation method asks for (domain.md 8)."""
    card, command = case.existing, case.command
    assert isinstance(command, Activate)
    match card.terms.activation_method:
        case ActivationMethod.NOTHING:
            return True
        case ActivationMethod.LAST4:
            if command.last4 is None or card.last4 is None:
                return False
            # In constant time, so that no digit can be guessed alone.
            return hmac.compare_digest(command.last4.encode(), card.last4.encode())
        case ActivationMethod.CVV:
            return command.encrypted_data is not None and case.context.card_cvv_matches is True


GUARDS: dict[str, Callable[[Case], bool]] = {
    guard.__name__: guard
    for guard in (
        inactive_is_asked,
        card_is_physical,
        renewal_is_pending,
        suspended_before,
        lock_is_new,
        product_is_defined,
        consumer_may_get_a_card,
        consumer_is_active,
        no_renewal_waits,
        a_renewal_waits,
        card_can_be_renewed,
        reason_replaces,
        number_is_there,
        scheme_may_know_the_card,
        replacement_is_due,
        card_id_is_reusable,
        new_card_id_is_free,
        consumer_is_not_deleted,
        real_card_has_not_left,
        product_may_have_a_real_card,
        real_card_is_active,
        real_card_has_room,
        first_use_activates,
        new_plastic_is_used,
        expiry_month_is_over,
        automatic_renewal_is_due,
        deletion_is_due,
        reason_is_stronger,
        card_can_be_resumed,
        reason_resumes,
        answer_is_right,
    )
}
