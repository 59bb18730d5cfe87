"""What happens to cards on an ordinary day, and what the rule book (domain.md 2, 8) says to it.

Tables only: a story is the commands of one card in their order, each with its outcome. What lies on
another lane than the command before it, or waits for an outside party, comes in a later part of the
day, as with a client that waits for an event.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lifecycle.domain.commands import CommandName as Do
from lifecycle.domain.products import Form

OK = "SUCCESSFUL"
PENDING = "PENDING"
IGNORED = "IGNORED"
LONG_AGO = "2020-01-31T12:00:00Z"
FAR_AHEAD = "2099-12-31T12:00:00Z"
FIRST_NUMBER, SECOND_NUMBER = range(2)
SUCCESSOR = "successor"


def failed(code: str) -> str:
    """The outcome of a command that the rules refuse."""
    return f"FAILED {code}"


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a story. `by_user`: asked by the card holder, not by the issuer."""

    command: Do
    expected: str
    fields: Mapping[str, object] = field(default_factory=dict)
    by_user: bool = False
    on: str = ""
    """SUCCESSOR: about the card that the platform made; else what its id adds to the story's."""
    cards: Mapping[str, str] = field(default_factory=dict)
    """Fields that name a card of the story, by what its id adds to the story's."""
    secret: Mapping[str, object] | None = None
    """What stands in encryptedData; `pan` is FIRST_NUMBER or SECOND_NUMBER of the story."""


@dataclass(frozen=True, slots=True)
class Story:
    """The life of one card. `times`: how many cards of each issuer live it."""

    form: Form
    times: int
    morning: tuple[Step, ...]
    product: str | None = None
    """None: the issuer's usual product of this form."""
    afternoon: tuple[Step, ...] = ()
    evening: tuple[Step, ...] = ()
    holder_leaves: Do | None = None
    """What happens to the card's consumer, and to no other one's, in the afternoon."""


_MAILED = Step(Do.CREATE, OK, {"state": "INACTIVE"})
_ISSUED = Step(Do.CREATE, OK)
_ACTIVATED = Step(Do.ACTIVATE, OK, by_user=True)
_TAPPED = Step(Do.CARD_PRESENT, OK)
_ACTIVATED_SUCCESSOR = Step(Do.ACTIVATE, OK, by_user=True, on=SUCCESSOR)
_FIRST = {"pan": FIRST_NUMBER, "exp": "1249"}
_SECOND = {"pan": SECOND_NUMBER, "exp": "1250"}
_REGISTERED = Step(Do.REGISTER, OK, secret=_FIRST)
_NEW = {"newCardId": "-new"}
_STOLEN = {"reasonCode": "CARD_STOLEN", "reason": "Taken at the beach"}
_HOLDER = {"name": "Ada Nowak"}

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
    "locked before it arrives, which is ignored": Story(
        Form.PHYSICAL, 2, (_MAILED, Step(Do.LOCK, IGNORED, {"lock": "PIN"}), _ACTIVATED)
    ),
    "reported lost before it is activated": Story(
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
    "for one trip, deleted when it is over": Story(
        Form.VIRTUAL, 2, (Step(Do.CREATE, OK, {"deleteAt": FAR_AHEAD}),)
    ),
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
    "activated by its first use in a shop": Story(
        Form.PHYSICAL,
        2,
        (_MAILED, _TAPPED, replace(_TAPPED, expected=IGNORED)),
        product="contactless-physical",
    ),
    "limits and controls": Story(
        Form.VIRTUAL,
        2,
        (
            _ISSUED,
            Step(
                Do.UPDATE_LIMITS, OK, {"limits": {"daily": {"amount": 50_000, "currency": "EUR"}}}
            ),
            Step(
                Do.UPDATE_CONTROLS,
                OK,
                {"controls": {"online": False, "countries": ["DE", "FR"]}},
                by_user=True,
            ),
        ),
    ),
    "its plastic is ordered": Story(
        Form.PHYSICAL,
        2,
        (_MAILED, Step(Do.PRODUCE, PENDING, {"distributionChannel": "POST"})),
        afternoon=(_ACTIVATED,),
    ),
    "enrolled in Click to Pay": Story(
        Form.VIRTUAL,
        2,
        (_ISSUED, Step(Do.CLICK_TO_PAY_ENROLMENT, PENDING, _HOLDER, by_user=True)),
        afternoon=(Step(Do.CLICK_TO_PAY_UPDATE, PENDING, _HOLDER, by_user=True),),
        evening=(Step(Do.CLICK_TO_PAY_OPTOUT, PENDING, by_user=True),),
    ),
    "a virtual card of a plastic one": Story(
        Form.PHYSICAL,
        1,
        (_ISSUED,),
        afternoon=(
            Step(
                Do.CREATE,
                OK,
                {"cardProductId": "debit-virtual"},
                on="-virtual",
                cards={"realCardId": ""},
            ),
        ),
        evening=(Step(Do.DELETE, OK, {"reasonCode": "CLOSED_CARD"}),),
    ),
    "its holder leaves the bank": Story(
        Form.VIRTUAL,
        3,
        (_ISSUED,),
        holder_leaves=Do.CONSUMER_DELETE,
        evening=(Step(Do.SUSPEND, failed("CARD_DELETED")),),
    ),
    "a subscription that renews itself": Story(
        Form.VIRTUAL, 1, (_ISSUED,), product="subscription-virtual"
    ),
    "registered, stolen, replaced": Story(
        Form.PHYSICAL,
        2,
        (
            _REGISTERED,
            Step(Do.SUSPEND, OK, {"reasonCode": "CARD_STOLEN"}, by_user=True),
            Step(Do.REPLACE, failed("FIELD_MISSING"), _STOLEN),
            Step(Do.REPLACE, OK, _STOLEN, cards=_NEW, secret=_SECOND),
        ),
        product="managed-physical",
        afternoon=(
            Step(Do.ACTIVATE, OK, by_user=True, on="-new"),
            Step(Do.REGISTER, failed("PAN_NOT_REUSABLE"), on="-again", secret=_FIRST),
        ),
    ),
    "registered, its number comes later": Story(
        Form.PHYSICAL,
        2,
        (
            _REGISTERED,
            Step(Do.RENEW, PENDING, {"newCardState": "ACTIVE"}, cards=_NEW),
        ),
        product="managed-physical",
        afternoon=(Step(Do.SUSPEND, failed("CARD_RENEWED")), Step(Do.SUSPEND, OK, on="-new")),
    ),
    "registered, renewed under its id": Story(
        Form.PHYSICAL,
        1,
        (_REGISTERED, Step(Do.RENEW, OK, {"newExp": "1254"}), _ACTIVATED),
        product="managed-physical",
    ),
    "registered, activated by its security code": Story(
        Form.PHYSICAL,
        1,
        (
            Step(
                Do.REGISTER,
                OK,
                {"state": "INACTIVE"},
                secret={"pan": FIRST_NUMBER, "exp": "1249", "cvv": "123"},
            ),
            Step(Do.ACTIVATE, failed("ACTIVATION_FAILED"), by_user=True, secret={"cvv": "000"}),
            Step(Do.ACTIVATE, OK, by_user=True, secret={"cvv": "123"}),
        ),
        product="platinum-physical",
    ),
    "registered when its last month was over": Story(
        Form.PHYSICAL,
        1,
        (Step(Do.REGISTER, OK, secret={"pan": FIRST_NUMBER, "exp": "0120"}),),
        product="managed-physical",
        afternoon=(Step(Do.SUSPEND, failed("CARD_EXPIRED")),),
    ),
    "a client that can't encrypt": Story(
        Form.PHYSICAL,
        1,
        (
            Step(Do.REGISTER, failed("DECRYPTION_FAILED"), {"encryptedData": "not.encrypted"}),
            Step(Do.REGISTER, failed("FIELD_INVALID_FORMAT"), secret={"pan": FIRST_NUMBER}),
            _REGISTERED,
        ),
        product="managed-physical",
    ),
    "its holder is deactivated": Story(
        Form.VIRTUAL,
        2,
        (_ISSUED, Step(Do.SUSPEND, OK)),
        holder_leaves=Do.CONSUMER_DEACTIVATE,
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
    "platinum-physical": {"form": "PHYSICAL", "scheme": "MASTERCARD", "activationMethod": "CVV"},
    "contactless-physical": {"form": "PHYSICAL", "scheme": "VISA", "implicitActivation": True},
    "managed-physical": {"form": "PHYSICAL", "scheme": "VISA"},
    # A card is inside its renewal window from its first day on, a renewed one is not.
    "subscription-virtual": {
        "form": "VIRTUAL",
        "scheme": "VISA",
        "validityMonths": 6,
        "autoRenew": True,
        "autoRenewDays": 300,
    },
}
USUAL_PRODUCT = {Form.PHYSICAL: "debit-physical", Form.VIRTUAL: "debit-virtual"}
