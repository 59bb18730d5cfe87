"""The card: its state and everything beside the state (domain.md 2)."""

from dataclasses import dataclass
from enum import StrEnum

from lifecycle.domain.products import ProductTerms


class State(StrEnum):
    """Lost, stolen and broken are reasons, not states (domain.md 2)."""

    INACTIVE = "INACTIVE"
    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    EXPIRED = "EXPIRED"
    RENEWED = "RENEWED"
    REPLACED = "REPLACED"
    DELETED = "DELETED"


TERMINAL = frozenset({State.RENEWED, State.REPLACED, State.DELETED})


class Lock(StrEnum):
    """What the authorisation system locks after too many wrong answers."""

    PIN = "PIN"
    CVV2 = "CVV2"
    EXPIRY_DATE = "EXPIRY_DATE"


class OngoingOperation(StrEnum):
    """RENEWAL: a new plastic is on its way, the card works on with the old one (domain.md 2)."""

    NONE = "NONE"
    RENEWAL = "RENEWAL"


class Origin(StrEnum):
    """ISSUED: created by this platform. REGISTERED: managed by the issuer (domain.md 1)."""

    ISSUED = "ISSUED"
    REGISTERED = "REGISTERED"


class DigitalCards(StrEnum):
    """What becomes of the digital cards of this card (domain.md 2.4, 8)."""

    YES = "YES"
    NO_CHANGE = "NO_CHANGE"
    RELINK_PENDING = "RELINK_PENDING"
    RELINKED = "RELINKED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One life of a card id.

    `exp` and `pending_exp` are `MMYY`; `delete_at_ms` is milliseconds since the epoch, UTC.
    `suspensions` holds the reason of every suspension and lock since the card was last ACTIVE: a
    suspension keeps what the weaker one before it needed to be lifted (domain.md 8).
    `real_card_id` is the card that a virtual card stands for, `real_card_incarnation` the life of
    it. A card never holds its number: `last4` and `has_auxiliary_pan` tell what the number vault
    keeps for it.

    `controls` and `limits` are JSON objects, as RFC 8785 text (`settings_objects.py`).
    `click_to_pay`: the scheme has said that the card is enrolled.

    Events show all of it but `name` and `second_name`, which are personal (design.md 6, G7).
    """

    issuer_id: str
    card_id: str
    incarnation: int = 1
    state: State
    state_reason: str | None = None
    suspensions: frozenset[str] = frozenset()
    locks: frozenset[Lock] = frozenset()
    ongoing_operation: OngoingOperation = OngoingOperation.NONE
    exp: str | None = None
    pending_exp: str | None = None
    last4: str | None = None
    consumer_id: str
    card_product_id: str
    origin: Origin
    terms: ProductTerms
    name: str = ""
    second_name: str | None = None
    predecessor_card_id: str | None = None
    successor_card_id: str | None = None
    delete_at_ms: int | None = None
    digital_cards_relinked: bool = False
    has_auxiliary_pan: bool = False
    auxiliary_exp: str | None = None
    pending_auxiliary_exp: str | None = None
    real_card_id: str | None = None
    real_card_incarnation: int | None = None
    controls: str | None = None
    limits: str | None = None
    click_to_pay: bool = False


def is_reusable(card: Card) -> bool:
    """Whether the card's id may begin a new life (domain.md 4)."""
    return (
        card.state in TERMINAL and card.origin is Origin.REGISTERED and not card.terms.transactions
    )


def digital_cards(card: Card) -> DigitalCards:
    """The `usage.digitalCards` of an event (domain.md 8)."""
    match card.state:
        case State.ACTIVE | State.SUSPENDED:
            return DigitalCards.YES
        case State.INACTIVE | State.EXPIRED:
            return DigitalCards.NO_CHANGE
        case State.REPLACED | State.RENEWED:
            relinked = card.digital_cards_relinked
            return DigitalCards.RELINKED if relinked else DigitalCards.RELINK_PENDING
        case State.DELETED:
            return DigitalCards.DELETED
