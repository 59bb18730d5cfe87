"""The conditions of the machine's rows: pure questions about a card, a command and its context.

`machine.py` names them. A choice looks at nothing that a later check could refuse to mean
something: it answers for any value of the command's fields.
"""

import hmac
from collections.abc import Callable
from typing import NamedTuple

from lifecycle.domain import months, reasons
from lifecycle.domain.cards import Card, OngoingOperation, Origin, State, is_reusable
from lifecycle.domain.commands import Activate, CardCommand, Create, Renew, SetLock
from lifecycle.domain.consumers import ConsumerState
from lifecycle.domain.operations import Context
from lifecycle.domain.products import ActivationMethod, Form

VIRTUAL_CARDS_PER_REAL_CARD_MAX = 100

# A card in one of these states counts as EXPIRED when its expiry month is over (domain.md 8).
_MAY_EXPIRE = frozenset({State.INACTIVE, State.ACTIVE, State.SUSPENDED})


class Case(NamedTuple):
    """What a decision about a card looks at. `reason_code` has the default filled in."""

    card: Card | None
    command: CardCommand
    reason_code: str | None
    context: Context

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
        and card.state in _MAY_EXPIRE
        and months.is_over(card.exp, context.start_time_ms, context.issuer_time_zone)
    ):
        return State.EXPIRED
    return card.state


def inactive_is_asked(case: Case) -> bool:
    """CREATE or REGISTER with state INACTIVE, or a v1 renew with newCardState INACTIVE."""
    match case.command:
        case Create(state=asked) | Renew(new_card_state=asked):
            return asked == State.INACTIVE
    return False


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
    return isinstance(command, SetLock) and command.lock not in case.existing.locks


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


def _real_card_id(case: Case) -> str | None:
    return case.command.real_card_id if isinstance(case.command, Create) else None


def product_may_have_a_real_card(case: Case) -> bool:
    """Only a VIRTUAL card stands for another one (design.md 3)."""
    product = case.context.product
    return _real_card_id(case) is None or (product is not None and product.form is Form.VIRTUAL)


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


def reason_is_stronger(case: Case) -> bool:
    """Strictly stronger than the reason that the card is suspended for (domain.md 2.2)."""
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
    match card.terms.activation_method:
        case ActivationMethod.NOTHING:
            return True
        case ActivationMethod.LAST4:
            answer = command.last4 if isinstance(command, Activate) else None
            if answer is None or card.last4 is None:
                return False
            # In constant time, so that no digit can be guessed alone.
            return hmac.compare_digest(answer.encode(), card.last4.encode())
        case ActivationMethod.CVV:
            has_answered = isinstance(command, Activate) and command.encrypted_data is not None
            return has_answered and case.context.card_cvv_matches is True


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
        replacement_is_due,
        card_id_is_reusable,
        new_card_id_is_free,
        consumer_is_not_deleted,
        product_may_have_a_real_card,
        real_card_is_active,
        real_card_has_room,
        reason_is_stronger,
        card_can_be_resumed,
        reason_resumes,
        answer_is_right,
    )
}
