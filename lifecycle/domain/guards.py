"""The conditions of the machine's rows: pure questions about a card, a command and its context.

`machine.py` names them. A choice looks at nothing that a later check could refuse to mean
something: it answers for any value of the command's fields.
"""

import hmac
from collections.abc import Callable
from typing import NamedTuple

from lifecycle.domain import reasons
from lifecycle.domain.cards import Card, OngoingOperation, State
from lifecycle.domain.commands import Activate, CardCommand, Create, Renew, SetLock
from lifecycle.domain.consumers import ConsumerState
from lifecycle.domain.operations import Context
from lifecycle.domain.products import ActivationMethod, Form


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


def inactive_is_asked(case: Case) -> bool:
    """CREATE with state INACTIVE, or a v1 renew with newCardState INACTIVE."""
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
    """The product that CREATE names."""
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


def card_can_be_renewed_in_place(case: Case) -> bool:
    """As `card_can_be_renewed`, asked only of a v1 renew that keeps the card id (domain.md 8)."""
    command = case.command
    moves = isinstance(command, Renew) and command.new_card_id != command.card_id
    return moves or reasons.can_be_renewed(case.existing)


def replacement_is_due(case: Case) -> bool:
    """An EXPIRED card is replaced only where it cannot be renewed (domain.md 8)."""
    return not reasons.can_be_renewed(case.existing)


def new_card_id_is_free(case: Case) -> bool:
    """No card of the issuer has the id that the platform generated."""
    return not case.context.generated_card_id_in_use


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
    """What the product's activation method asks for (domain.md 8).

    CVV is never right: no card number, and so no CVV, exists before REGISTER is built.
    """
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
            return False


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
        card_can_be_renewed_in_place,
        replacement_is_due,
        new_card_id_is_free,
        reason_is_stronger,
        card_can_be_resumed,
        reason_resumes,
        answer_is_right,
    )
}
