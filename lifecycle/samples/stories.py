"""What happens to cards on an ordinary day, and what the rule book (domain.md 2, 8) says to it.

Tables only: a story is the commands of one card in their order, each with its outcome.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lifecycle.domain.commands import CommandName as Do
from lifecycle.domain.products import Form

OK = "SUCCESSFUL"
IGNORED = "IGNORED"
LONG_AGO = "2020-01-31T12:00:00Z"
FAR_AHEAD = "2099-12-31T12:00:00Z"


def failed(code: str) -> str:
    """The outcome of a command that the rules refuse."""
    return f"FAILED {code}"


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a story. `by_user`: asked by the card holder, not by the issuer."""

    command: Do
    expected: str
    fields: Mapping[str, str] = field(default_factory=dict)
    by_user: bool = False
    on_successor: bool = False
    """About the card that the story's last REPLACE made."""


@dataclass(frozen=True, slots=True)
class Story:
    """The life of one card. `times`: how many cards of each issuer live it."""

    form: Form
    times: int
    steps: tuple[Step, ...]
    product: str | None = None
    """None: the issuer's usual product of this form."""
    evening: tuple[Step, ...] = ()
    """What comes after the card's consumer was deactivated."""


_MAILED = Step(Do.CREATE, OK, {"state": "INACTIVE"})
_ISSUED = Step(Do.CREATE, OK)
_ACTIVATED = Step(Do.ACTIVATE, OK, by_user=True)
_ACTIVATED_SUCCESSOR = Step(Do.ACTIVATE, OK, by_user=True, on_successor=True)

STORIES: dict[str, Story] = {
    "arrives by mail": Story(Form.PHYSICAL, 12, (_MAILED, _ACTIVATED)),
    "bought online": Story(Form.VIRTUAL, 8, (_ISSUED,)),
    "lost and found": Story(
        Form.PHYSICAL,
        5,
        (
            _MAILED,
            _ACTIVATED,
            Step(Do.SUSPEND, OK, {"reasonCode": "CARD_LOST"}, by_user=True),
            Step(Do.RESUME, OK, {"reasonCode": "CARD_FOUND"}, by_user=True),
        ),
    ),
    "stolen": Story(
        Form.PHYSICAL,
        3,
        (
            _ISSUED,
            Step(Do.SUSPEND, OK, {"reasonCode": "CARD_STOLEN", "reason": "Handbag stolen"}),
            Step(Do.RESUME, failed("REPLACEMENT_REQUIRED")),
            Step(Do.REPLACE, OK, {"reasonCode": "CARD_STOLEN", "reason": "Handbag stolen"}),
            _ACTIVATED_SUCCESSOR,
            Step(Do.SUSPEND, failed("CARD_REPLACED"), {"reasonCode": "FRAUD"}),
        ),
    ),
    "lost in the mail": Story(
        Form.PHYSICAL,
        3,
        (
            _MAILED,
            Step(Do.REPLACE, OK, {"reasonCode": "CARD_NOT_RECEIVED", "reason": "Not in the post"}),
            _ACTIVATED_SUCCESSOR,
        ),
    ),
    "broken": Story(
        Form.PHYSICAL,
        2,
        (
            _ISSUED,
            Step(Do.SUSPEND, OK, {"reasonCode": "CARD_BROKEN"}),
            Step(Do.REPLACE, failed("FIELD_MISSING"), {"reasonCode": "CARD_BROKEN"}),
            Step(Do.REPLACE, failed("INVALID_REASON"), {"reason": "Chip broken"}),
            Step(Do.REPLACE, OK, {"reasonCode": "CARD_BROKEN", "reason": "Chip broken"}),
        ),
    ),
    "wrong PIN three times": Story(
        Form.PHYSICAL,
        3,
        (
            _ISSUED,
            Step(Do.LOCK, OK, {"lock": "PIN"}),
            Step(Do.RESUME, failed("INVALID_REASON"), by_user=True),
            Step(Do.RESUME, OK),
        ),
    ),
    "locked before it arrives": Story(
        Form.PHYSICAL, 2, (_MAILED, Step(Do.LOCK, IGNORED, {"lock": "PIN"}), _ACTIVATED)
    ),
    "used before it is activated": Story(
        Form.PHYSICAL,
        2,
        (
            _MAILED,
            Step(Do.SUSPEND, failed("NOT_ACTIVATED"), {"reasonCode": "CARD_LOST"}, by_user=True),
            _ACTIVATED,
        ),
    ),
    "renewed on plastic": Story(
        Form.PHYSICAL,
        5,
        (
            _ISSUED,
            Step(Do.RENEW, OK),
            Step(Do.RENEW, failed("RENEWAL_IN_PROGRESS"), {"reasonCode": "USER_DECISION"}),
            _ACTIVATED,
        ),
    ),
    "renewed at once": Story(
        Form.VIRTUAL, 4, (_ISSUED, Step(Do.RENEW, OK, {"reasonCode": "USER_DECISION"}))
    ),
    "off for the holidays": Story(
        Form.VIRTUAL,
        6,
        (
            _ISSUED,
            Step(Do.SUSPEND, OK, {"reasonCode": "USER_DECISION"}, by_user=True),
            Step(Do.SUSPEND, failed("ALREADY_SUSPENDED"), {"reasonCode": "USER_DECISION"}),
            Step(Do.RESUME, OK, by_user=True),
            Step(Do.RESUME, failed("NOT_SUSPENDED"), by_user=True),
        ),
    ),
    "a suspicion that grows": Story(
        Form.VIRTUAL,
        3,
        (
            _ISSUED,
            Step(Do.SUSPEND, OK),
            Step(Do.SUSPEND, OK, {"reasonCode": "FRAUD", "reason": "Two countries in one hour"}),
            Step(Do.ACTIVATE, failed("OPERATION_NOT_ALLOWED")),
            Step(Do.REPLACE, OK, {"reasonCode": "FRAUD", "reason": "Two countries in one hour"}),
        ),
    ),
    "account closed": Story(
        Form.PHYSICAL,
        4,
        (
            _ISSUED,
            Step(Do.DELETE, OK, {"reasonCode": "CLOSED_ACCOUNT"}),
            Step(Do.SUSPEND, failed("CARD_DELETED"), {"reasonCode": "CARD_LOST"}, by_user=True),
        ),
    ),
    "for one trip": Story(Form.VIRTUAL, 2, (Step(Do.CREATE, OK, {"deleteAt": FAR_AHEAD}),)),
    "activated by its last digits": Story(
        Form.PHYSICAL,
        1,
        (_MAILED, Step(Do.ACTIVATE, failed("ACTIVATION_FAILED"), {"last4": "0000"}, by_user=True)),
        product="gold-physical",
    ),
    "a clumsy client": Story(
        Form.VIRTUAL,
        2,
        (
            Step(Do.CREATE, failed("CARD_PRODUCT_NOT_FOUND"), {"cardProductId": "no-such-product"}),
            Step(Do.CREATE, failed("DELETE_TIME_NOT_FUTURE"), {"deleteAt": LONG_AGO}),
            Step(Do.CREATE, failed("FIELD_INVALID_VALUE"), {"state": "SUSPENDED"}),
            Step(Do.SUSPEND, failed("CARD_NOT_FOUND")),
            _ISSUED,
            Step(Do.CREATE, failed("CARD_ID_IN_USE")),
            Step(Do.SUSPEND, failed("INVALID_REASON"), {"reasonCode": "CARD_FOUND"}),
            Step(Do.SUSPEND, failed("FIELD_INVALID_FORMAT"), {"reason": "lost, or stolen?"}),
            Step(Do.SUSPEND, failed("STALE_COMMAND"), {"effectiveDate": LONG_AGO}),
            Step(Do.LOCK, failed("FIELD_INVALID_VALUE"), {"lock": "NFC"}),
        ),
    ),
    "its holder is deactivated": Story(
        Form.VIRTUAL,
        2,
        (_ISSUED, Step(Do.SUSPEND, OK)),
        evening=(
            Step(Do.RESUME, failed("CONSUMER_NOT_ACTIVE")),
            Step(Do.DELETE, OK, {"reasonCode": "CLOSED_CARD"}),
        ),
    ),
}

PRODUCTS: dict[str, dict[str, object]] = {
    "debit-physical": {"form": "PHYSICAL", "scheme": "VISA", "validityMonths": 48},
    "debit-virtual": {"form": "VIRTUAL", "scheme": "VISA", "validityMonths": 12},
    "gold-physical": {"form": "PHYSICAL", "scheme": "MASTERCARD", "activationMethod": "LAST4"},
}
USUAL_PRODUCT = {Form.PHYSICAL: "debit-physical", Form.VIRTUAL: "debit-virtual"}
