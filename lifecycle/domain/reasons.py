"""The reasons of a command: accepted, how strong, and which resume undoes which suspension.

Each table stands here as it stands in the rule book (domain.md 2.2, 2.3), to be held beside it.
"""

from enum import StrEnum

from lifecycle.domain.cards import Card, Lock, State
from lifecycle.domain.commands import CommandName, RequestorType


class Reason(StrEnum):
    """Every reason that a command or a lock can leave on a card (domain.md 2.1, 2.2)."""

    CARD_LOST = "CARD_LOST"
    CARD_STOLEN = "CARD_STOLEN"
    CARD_BROKEN = "CARD_BROKEN"
    CARD_NOT_RECEIVED = "CARD_NOT_RECEIVED"
    CARD_FOUND = "CARD_FOUND"
    FRAUD = "FRAUD"
    CLOSED_ACCOUNT = "CLOSED_ACCOUNT"
    CLOSED_CARD = "CLOSED_CARD"
    USER_DECISION = "USER_DECISION"
    ISSUER_DECISION = "ISSUER_DECISION"
    PIN_LOCKED = "PIN_LOCKED"
    CVV2_LOCKED = "CVV2_LOCKED"
    EXPIRY_DATE_LOCKED = "EXPIRY_DATE_LOCKED"


_DECISIONS = frozenset({Reason.USER_DECISION, Reason.ISSUER_DECISION})
_REPLACE_REASONS = frozenset(
    {
        Reason.CARD_LOST,
        Reason.CARD_STOLEN,
        Reason.CARD_BROKEN,
        Reason.CARD_NOT_RECEIVED,
        Reason.FRAUD,
    }
)

# domain.md 2.2. A command that is not here refuses every reasonCode (domain.md 8).
ACCEPTED: dict[CommandName, frozenset[str]] = {
    CommandName.SUSPEND: frozenset(
        {Reason.CARD_LOST, Reason.CARD_STOLEN, Reason.CARD_BROKEN, Reason.FRAUD, *_DECISIONS}
    ),
    CommandName.RESUME: frozenset({Reason.CARD_FOUND, *_DECISIONS}),
    CommandName.REPLACE: _REPLACE_REASONS,
    CommandName.RENEW: _DECISIONS,
    # domain.md 8: it carries ISSUER_DECISION, said or not.
    CommandName.AUTO_RENEW: frozenset({Reason.ISSUER_DECISION}),
    CommandName.DELETE: frozenset(
        {Reason.CLOSED_ACCOUNT, Reason.CLOSED_CARD, *_REPLACE_REASONS, *_DECISIONS}
    ),
    CommandName.CONSUMER_DELETE: _DECISIONS,
    CommandName.CLICK_TO_PAY_ENROLMENT: _DECISIONS,
    CommandName.CLICK_TO_PAY_UPDATE: _DECISIONS,
    CommandName.CLICK_TO_PAY_OPTOUT: _DECISIONS,
}
ACCEPTED_BY_RENEW_V1: frozenset[str] = _DECISIONS | _REPLACE_REASONS

CONSUMER_CASCADE_REASON = Reason.CLOSED_ACCOUNT
"""With it a consumer's cards are deleted when the consumer is (domain.md 8)."""

REAL_CARD_CASCADE_REASON = Reason.CLOSED_CARD
"""With it a card's virtual cards are deleted when the card leaves for good (domain.md 8)."""

# domain.md 2.3, last line.
_USER_RESUMES_WITH = frozenset({Reason.USER_DECISION, Reason.CARD_FOUND})

LOCK_REASON: dict[Lock, Reason] = {
    Lock.PIN: Reason.PIN_LOCKED,
    Lock.CVV2: Reason.CVV2_LOCKED,
    Lock.EXPIRY_DATE: Reason.EXPIRY_DATE_LOCKED,
}

# domain.md 2.2: which suspension is stronger. Equal numbers are equally strong.
STRENGTH: dict[str, int] = {
    Reason.USER_DECISION: 1,
    Reason.ISSUER_DECISION: 2,
    Reason.PIN_LOCKED: 2,
    Reason.CVV2_LOCKED: 2,
    Reason.EXPIRY_DATE_LOCKED: 2,
    Reason.CARD_LOST: 3,
    Reason.CARD_BROKEN: 3,
    Reason.CARD_STOLEN: 4,
    Reason.FRAUD: 5,
}

# domain.md 2.3: suspended with -> the reasons that resume it. None of them: REPLACEMENT_REQUIRED.
RESUMED_BY: dict[str, frozenset[str]] = {
    Reason.USER_DECISION: frozenset({Reason.USER_DECISION, Reason.ISSUER_DECISION}),
    Reason.ISSUER_DECISION: frozenset({Reason.ISSUER_DECISION}),
    Reason.CARD_LOST: frozenset({Reason.CARD_FOUND, Reason.ISSUER_DECISION}),
    Reason.CARD_STOLEN: frozenset(),
    Reason.CARD_BROKEN: frozenset(),
    Reason.FRAUD: frozenset(),
    Reason.PIN_LOCKED: frozenset({Reason.ISSUER_DECISION}),
    Reason.CVV2_LOCKED: frozenset({Reason.ISSUER_DECISION}),
    Reason.EXPIRY_DATE_LOCKED: frozenset({Reason.ISSUER_DECISION}),
}
_NEVER_RESUMED = frozenset(reason for reason, by in RESUMED_BY.items() if not by)

# domain.md 2.1 (renew of a SUSPENDED card) and 8 (EXPIRED after a suspension).
_NEVER_RENEWED = frozenset({Reason.CARD_LOST, Reason.CARD_STOLEN, Reason.CARD_BROKEN, Reason.FRAUD})

_KEEPS_ITS_SUSPENSIONS = frozenset({State.SUSPENDED, State.EXPIRED})


def is_accepted(accepted: frozenset[str] | None, reason_code: str | None) -> bool:
    """Whether `reason_code`, the default filled in, is one of `accepted` (domain.md 2.2, 8).

    `accepted` is None for a command without a list: it takes no reason code at all.
    """
    return reason_code is None if accepted is None else reason_code in accepted


def replaces_card(reason_code: str | None) -> bool:
    """Whether a v1 renew under another id leaves the old card REPLACED, not RENEWED."""
    return reason_code in _REPLACE_REASONS


def may_resume(requestor_type: str, reason_code: str | None) -> bool:
    """The USER rule of domain.md 2.3; it looks at the requestor, not at the card."""
    return requestor_type != RequestorType.USER or reason_code in _USER_RESUMES_WITH


def suspensions_of(card: Card) -> frozenset[str]:
    """Every reason and lock that holds the card down; empty unless SUSPENDED or EXPIRED.

    `Card.suspensions` has them all. The state reason and the locks are added, so that a card
    that lost its suspensions on the way is held too strictly rather than too loosely.
    """
    if card.state not in _KEEPS_ITS_SUSPENSIONS:
        return frozenset()
    held = card.suspensions | {LOCK_REASON[lock] for lock in card.locks}
    return held if card.state_reason is None else held | {card.state_reason}


def is_stronger(card: Card, reason_code: str) -> bool:
    """Whether a suspension or lock is strictly stronger than what holds the card (domain.md 2.2).

    What no table knows is weaker than all of them.
    """
    held = max((STRENGTH.get(reason, 0) for reason in suspensions_of(card)), default=0)
    return STRENGTH[reason_code] > held


def can_be_resumed(card: Card) -> bool:
    """False where the row of domain.md 2.3 is REPLACEMENT_REQUIRED throughout."""
    return _NEVER_RESUMED.isdisjoint(suspensions_of(card))


def is_resumed_by(card: Card, reason_code: str | None) -> bool:
    """Whether `reason_code` undoes each of the suspensions that the card has (domain.md 2.3, 8).

    Each, because a suspension keeps what the weaker one before it needed, and a lock needs
    ISSUER_DECISION whatever came after it.
    """
    return all(
        reason_code in RESUMED_BY.get(suspension, frozenset())
        for suspension in suspensions_of(card)
    )


def can_be_renewed(card: Card) -> bool:
    """False after CARD_LOST, CARD_STOLEN, CARD_BROKEN or FRAUD (domain.md 2.1, 8)."""
    return _NEVER_RENEWED.isdisjoint(suspensions_of(card))


assert set(STRENGTH) == set(RESUMED_BY), "each suspension has a strength and a row in the matrix"
assert ACCEPTED[CommandName.SUSPEND] | set(LOCK_REASON.values()) == set(STRENGTH)
