"""What a decision about a card may look at, put together from what was read under the locks.

Which command is served what is said in `lifecycle.domain.operations.Context`.
"""

from uuid import UUID

from lifecycle.domain.cards import Card
from lifecycle.domain.commands import (
    Activate,
    CardCommand,
    ClickToPayOptout,
    Create,
    Renew,
    Replace,
    Resume,
    Signal,
    TimeOut,
)
from lifecycle.domain.consumers import ConsumerState
from lifecycle.domain.credentials import Credentials
from lifecycle.domain.operations import Context
from lifecycle.domain.products import ProductTerms
from lifecycle.worker.numbers import Numbers, number_wanted
from lifecycle.worker.opening import Opening
from lifecycle.worker.pending import pending_of, waiting_for
from lifecycle.worker.subjects import Subjects
from lifecycle.worker.taken import Taken


def card_context(  # noqa: PLR0913, PLR0917 - all that it is made of
    subjects: Subjects,
    numbers: Numbers,
    taken: Taken,
    command: CardCommand,
    card: Card | None,
    identity: UUID,
    when: tuple[int, int | None, str],
) -> Context:
    """What a decision about a card may look at; `when` are the first fields of it.

    `command`: the record's own, or that of the operation that the record ends.
    """
    issuer_id = command.issuer_id
    match command:
        case Create():
            defined = subjects.products[issuer_id, command.card_product_id].entity
            real_card = _card(subjects, issuer_id, command.real_card_id)
            return Context(
                *when,
                consumer_state=_consumer_state(subjects, issuer_id, command.consumer_id),
                product=defined.terms if defined is not None else None,
                generated_last4=numbers.drawn_last4(identity, number_wanted(taken, subjects)),
                opened=taken.opening.credentials if taken.opening else None,
                pan_is_free=_pan_is_free(numbers, issuer_id, command.card_id, taken.opening),
                real_card=real_card,
                real_card_virtual_cards=0
                if real_card is None
                else subjects.virtual_cards[issuer_id, real_card.card_id, real_card.incarnation],
            )
        case Activate() | Resume() | Replace() | Renew() if card is not None:
            new_card_id = command.new_card_id if isinstance(command, Replace | Renew) else None
            generated = _card(subjects, issuer_id, taken.generated_card_id)
            return Context(
                *when,
                consumer_state=_consumer_state(subjects, issuer_id, card.consumer_id),
                product=_terms(subjects, card) if isinstance(command, Replace | Renew) else None,
                generated_card_id=taken.generated_card_id,
                generated_card_id_in_use=generated is not None,
                generated_last4=numbers.drawn_last4(identity, number_wanted(taken, subjects)),
                predecessor=_card(subjects, issuer_id, card.predecessor_card_id),
                opened=taken.opening.credentials if taken.opening else None,
                pan_is_free=_pan_is_free(
                    numbers, issuer_id, new_card_id or card.card_id, taken.opening
                ),
                card_cvv_matches=numbers.cvv_matches(card, taken.opening),
                new_card=_card(subjects, issuer_id, new_card_id),
                real_card=_card(subjects, issuer_id, card.real_card_id),
            )
        case ClickToPayOptout():
            waiting = subjects.enrolments.get((issuer_id, command.card_id), 0)
            return Context(*when, enrolment_is_pending=waiting > 0)
        case TimeOut():
            row = waiting_for(taken, subjects.pending)
            return Context(*when, pending=None if row is None else pending_of(row))
        case Signal() if card is not None:
            return Context(
                *when,
                consumer_state=_consumer_state(subjects, issuer_id, card.consumer_id),
                predecessor=_card(subjects, issuer_id, card.predecessor_card_id),
            )
        case _:
            return Context(*when)


def _card(subjects: Subjects, issuer_id: str, card_id: str | None) -> Card | None:
    """Another card that the decision looks at; None when none is named or there is none."""
    if card_id is None:
        return None
    tracked = subjects.cards.get((issuer_id, card_id))
    return tracked.entity if tracked is not None else None


def _terms(subjects: Subjects, card: Card) -> ProductTerms:
    """The terms for a successor: those that the card's product has now."""
    product = subjects.products[card.issuer_id, card.card_product_id].entity
    assert product is not None, "a product never vanishes"
    return product.terms


def _pan_is_free(numbers: Numbers, issuer_id: str, card_id: str, opening: Opening | None) -> bool:
    if opening is None or not isinstance(opening.credentials, Credentials):
        return False
    return numbers.is_free(issuer_id, card_id, opening.credentials)


def _consumer_state(subjects: Subjects, issuer_id: str, consumer_id: str) -> ConsumerState | None:
    # Of most signals no one asks for the consumer, and none was read.
    tracked = subjects.consumers.get((issuer_id, consumer_id))
    return tracked.entity.state if tracked is not None and tracked.entity is not None else None
