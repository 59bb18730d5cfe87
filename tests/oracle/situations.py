"""Every stored situation of a card, and every way in which each command is asked: plain data.

The products of these lists are what `tests/unit/test_rule_book.py` walks through. Each situation
is one that a history of commands can lead to; the suspension histories are written out by hand.
"""

from collections.abc import Iterator
from itertools import product as every

from tests.oracle import tables
from tests.oracle.fields import Data

ISSUER = "BANK000001"
CARD = "card-1"
NOW_MS = 1_773_576_000_000  # 2026-03-15T12:00:00Z
VERSION_MS = 1_773_489_600_000  # 2026-03-14T12:00:00Z
DELETE_AT_MS = 1_830_000_000_000
BEFORE_VERSION = "2026-03-14T11:59:59.999Z"
AT_VERSION = "2026-03-14T12:00:00Z"
LATER = "2027-01-01T00:00:00.000Z"
NOT_OVER = "0928"
LAST_MONTH = "0326"  # usable through the last day of this very month
OVER = "0226"
PENDING = "0930"
LAST_EXPIRY = "1299"

NOBODY = None
BY_ISSUER = {"type": "ISSUER", "id": ISSUER}
BY_USER = {"type": "USER", "id": "consumer-1"}
BY_SYSTEM = {"type": "SYSTEM", "id": "SYSTEM"}
REQUESTORS = [NOBODY, BY_ISSUER, BY_USER, BY_SYSTEM]
CONSUMER_STATES = ["ACTIVE", "INACTIVE", "DELETED", None]

REASON_CODES: list[str | None] = [
    None,
    *sorted({code for codes in tables.REASONS.values() for code in codes}),
    *tables.LOCK_REASON.values(),
    "NO_SUCH_REASON",
    "not a code",
]

# name: (stateReason, what was ever needed to lift it, locks). The arrow is time.
SUSPENSIONS: dict[str, tuple[str, list[str], list[str]]] = {
    "USER": ("USER_DECISION", ["USER_DECISION"], []),
    "ISSUER": ("ISSUER_DECISION", ["ISSUER_DECISION"], []),
    "LOST": ("CARD_LOST", ["CARD_LOST"], []),
    "STOLEN": ("CARD_STOLEN", ["CARD_STOLEN"], []),
    "BROKEN": ("CARD_BROKEN", ["CARD_BROKEN"], []),
    "FRAUD": ("FRAUD", ["FRAUD"], []),
    "USER>ISSUER": ("ISSUER_DECISION", ["ISSUER_DECISION", "USER_DECISION"], []),
    "USER>LOST": ("CARD_LOST", ["CARD_LOST", "USER_DECISION"], []),
    "ISSUER>LOST": ("CARD_LOST", ["CARD_LOST", "ISSUER_DECISION"], []),
    "LOST>STOLEN": ("CARD_STOLEN", ["CARD_LOST", "CARD_STOLEN"], []),
    "USER>FRAUD": ("FRAUD", ["FRAUD", "USER_DECISION"], []),
    "PIN": ("PIN_LOCKED", ["PIN_LOCKED"], ["PIN"]),
    "CVV2": ("CVV2_LOCKED", ["CVV2_LOCKED"], ["CVV2"]),
    "EXPIRY": ("EXPIRY_DATE_LOCKED", ["EXPIRY_DATE_LOCKED"], ["EXPIRY_DATE"]),
    "PIN>CVV2": ("PIN_LOCKED", ["CVV2_LOCKED", "PIN_LOCKED"], ["CVV2", "PIN"]),
    "USER>PIN": ("PIN_LOCKED", ["PIN_LOCKED", "USER_DECISION"], ["PIN"]),
    "ISSUER>PIN": ("ISSUER_DECISION", ["ISSUER_DECISION", "PIN_LOCKED"], ["PIN"]),
    "PIN>LOST": ("CARD_LOST", ["CARD_LOST", "PIN_LOCKED"], ["PIN"]),
    "PIN>FRAUD": ("FRAUD", ["FRAUD", "PIN_LOCKED"], ["PIN"]),
    "LOST>CVV2": ("CARD_LOST", ["CARD_LOST", "CVV2_LOCKED"], ["CVV2"]),
    "all locks": (
        "CVV2_LOCKED",
        ["CVV2_LOCKED", "EXPIRY_DATE_LOCKED", "PIN_LOCKED"],
        ["CVV2", "EXPIRY_DATE", "PIN"],
    ),
}


def a_product(**changes: object) -> Data:
    """The terms of a product."""
    terms: Data = {
        "form": "PHYSICAL",
        "scheme": "VISA",
        "activationMethod": "NOTHING",
        "implicitActivation": False,
        "autoRenew": False,
        "autoRenewDays": 30,
        "transactions": True,
        "dynamicCvv2": False,
        "validityMonths": 36,
        "bin": "40000000",
    }
    return {**terms, **changes}


def a_card(**changes: object) -> Data:
    """A card; what `a_product` knows changes its terms."""
    of_terms = {name: changes.pop(name) for name in a_product() if name in changes}
    card: Data = {
        "issuerId": ISSUER,
        "cardId": CARD,
        "incarnation": 1,
        "state": "ACTIVE",
        "stateReason": None,
        "suspensions": [],
        "locks": [],
        "ongoingOperation": "NONE",
        "exp": NOT_OVER,
        "pendingExp": None,
        "last4": None,
        "consumerId": "consumer-1",
        "cardProductId": "product-1",
        "origin": "ISSUED",
        "terms": a_product(**of_terms),
        "name": "ANN ONYMOUS",
        "secondName": "OF BANK",
        "predecessorCardId": None,
        "successorCardId": None,
        "deleteAtMs": DELETE_AT_MS,
        "digitalCardsRelinked": False,
        "hasAuxiliaryPan": False,
        "auxiliaryExp": None,
        "pendingAuxiliaryExp": None,
        "realCardId": None,
        "realCardIncarnation": None,
        "controls": None,
        "limits": None,
        "clickToPay": False,
    }
    return {**card, **changes}


def a_context(**changes: object) -> Data:
    """What a decision may look at beside the subject."""
    context: Data = {
        "startTimeMs": NOW_MS,
        "versionTimeMs": VERSION_MS,
        "issuerTimeZone": "UTC",
        "consumerState": "ACTIVE",
        "product": None,
        "generatedCardId": "generated-1",
        "generatedCardIdInUse": False,
        "predecessor": None,
        "generatedLast4": None,
        "opened": None,
        "panIsFree": False,
        "cardCvvMatches": None,
        "newCard": None,
        "realCard": None,
        "realCardVirtualCards": 0,
        "pending": None,
        "enrolmentIsPending": False,
    }
    return {**context, **changes}


def a_command(name: str, /, **fields: object) -> Data:
    """A command about the card, its fields as on the wire; None is a field that is absent."""
    command = {"commandId": "c1", "command": name, "issuerId": ISSUER, "cardId": CARD, **fields}
    return {field: value for field, value in command.items() if value is not None}


PREDECESSOR = a_card(
    cardId="card-0", state="REPLACED", stateReason="CARD_LOST", successorCardId=CARD
)
RELINKED = {**PREDECESSOR, "digitalCardsRelinked": True}

# (form, ongoingOperation, pendingExp): only plastic waits for its activation (domain.md 2.1).
RENEWALS = [
    ("VIRTUAL", "NONE", None),
    ("PHYSICAL", "NONE", None),
    ("PHYSICAL", "RENEWAL", PENDING),
]


def situations() -> Iterator[tuple[str, Data | None, Data | None]]:
    """(name, card, predecessor): every stored state, and the card that nobody knows."""
    yield "unknown", None, None
    for form, exp in every(["VIRTUAL", "PHYSICAL"], [NOT_OVER, LAST_MONTH, OVER]):
        yield f"INACTIVE {form} {exp}", a_card(state="INACTIVE", form=form, exp=exp), None
    for exp, old in every([NOT_OVER, OVER], [PREDECESSOR, RELINKED]):
        label = f"INACTIVE successor {exp} relinked {old['digitalCardsRelinked']}"
        yield label, a_card(state="INACTIVE", exp=exp, predecessorCardId="card-0"), old
    for (form, ongoing, pending), exp in every(RENEWALS, [NOT_OVER, LAST_MONTH, OVER]):
        renewal: Data = {"form": form, "ongoingOperation": ongoing, "pendingExp": pending}
        label = f"{form} {ongoing} {exp}"
        yield f"ACTIVE {label}", a_card(exp=exp, **renewal), None
        yield (
            f"ACTIVE successor {label}",
            a_card(exp=exp, predecessorCardId="card-0", **renewal),
            RELINKED,
        )
        yield f"EXPIRED {label}", a_card(state="EXPIRED", exp=exp, **renewal), None
        yield (
            f"EXPIRED successor never activated {label}",
            a_card(state="EXPIRED", exp=exp, predecessorCardId="card-0", **renewal),
            PREDECESSOR if form == "PHYSICAL" else RELINKED,
        )
        for history, (reason, suspensions, locks) in SUSPENSIONS.items():
            if exp == LAST_MONTH and history != "USER":
                continue  # the month itself and the suspension before it do not meet in any rule
            suspended: Data = {"stateReason": reason, "suspensions": suspensions, "locks": locks}
            for state in ["SUSPENDED", "EXPIRED"]:
                card = a_card(state=state, exp=exp, **suspended, **renewal)
                yield f"{state} {history} {label}", card, None
    for made, exp in every(["VIRTUAL", "PHYSICAL"], ["1199", LAST_EXPIRY]):
        yield f"ACTIVE {made} {exp}", a_card(form=made, exp=exp), None
    for ended, made, exp in every(tables.TERMINAL, ["VIRTUAL", "PHYSICAL"], [NOT_OVER, OVER]):
        card = a_card(state=ended, stateReason="USER_DECISION", form=made, exp=exp)
        yield f"{ended} {made} {exp}", card, None


Question = tuple[Data, Data]
"""Fields of the command, and what differs in the context."""


def _who_and_why() -> Iterator[Question]:
    for code, requestor in every(REASON_CODES, REQUESTORS):
        yield {"reasonCode": code, "requestor": requestor}, {}


def _stale() -> Iterator[Question]:
    for moment, changed_ms in every([BEFORE_VERSION, AT_VERSION, LATER], [VERSION_MS, None]):
        yield {"effectiveDate": moment}, {"versionTimeMs": changed_ms}
    yield {"effectiveDate": BEFORE_VERSION, "reasonCode": "NO_SUCH_REASON"}, {}


def _activate() -> Iterator[Question]:
    yield from _who_and_why()
    yield from _stale()
    for state, last4, encrypted in every(
        CONSUMER_STATES, [None, "1234", "9999"], [None, "aGVhZA..aXY.dGV4dA.dGFn"]
    ):
        yield {"last4": last4, "encryptedData": encrypted}, {"consumerState": state}


def _suspend() -> Iterator[Question]:
    yield from _who_and_why()
    yield from _stale()
    yield {}, {"consumerState": "INACTIVE"}


def _resume() -> Iterator[Question]:
    yield from _stale()
    for (fields, _), state in every(_who_and_why(), ["ACTIVE", "INACTIVE"]):
        yield fields, {"consumerState": state}
    for code, nobody in every(REASON_CODES, ["DELETED", None]):
        yield {"reasonCode": code}, {"consumerState": nobody}


def _replace() -> Iterator[Question]:
    for fields, context in [*_who_and_why(), *_stale()]:
        yield {"reason": "Left in a taxi", **fields}, context
    right: Data = {"reasonCode": "CARD_LOST", "reason": "Left in a taxi"}
    yield {**right, "reason": None}, {}
    for wrong in [{"newCardId": "card-2"}, {"newCardId": CARD}, {"encryptedData": "a.b.c.d.e"}]:
        yield {**right, **wrong}, {}
        yield {**right, **wrong}, {"generatedCardIdInUse": True}
    yield right, {"generatedCardIdInUse": True}
    yield right, {"consumerState": "INACTIVE"}
    yield right, {"product": a_product(validityMonths=7, activationMethod="LAST4", bin="520000")}


def _renew() -> Iterator[Question]:
    places: list[Data] = [
        {},
        {"newCardId": CARD, "newCardState": "ACTIVE"},
        {"newCardId": CARD, "newCardState": "INACTIVE"},
    ]
    for place in places:
        for fields, context in [*_who_and_why(), *_stale()]:
            yield {**place, **fields}, context
        for extra in [
            {"newExp": "0931"},
            {"newAuxiliaryExp": "0931"},
            {"encryptedData": "a.b.c.d.e"},
            {"newCardProductId": "product-1"},
            {"newCardProductId": "product-2"},
        ]:
            yield {**place, **extra}, {}
        yield place, {"consumerState": "INACTIVE"}
        # Midnight of the first has passed in Kiritimati (UTC+14) and not in Pago Pago (UTC-11).
        for zone in ["Pacific/Kiritimati", "Pacific/Pago_Pago"]:
            yield place, {"issuerTimeZone": zone, "startTimeMs": 1_774_954_800_000}
    yield {"newCardId": CARD}, {}
    yield {"newCardState": "ACTIVE"}, {}
    yield {"newCardId": "card-2", "newCardState": "ACTIVE"}, {}
    yield {"newCardId": "card-2", "newCardState": "INACTIVE", "reasonCode": "CARD_LOST"}, {}
    yield {"newCardId": CARD, "newCardState": "SUSPENDED"}, {}


def _delete() -> Iterator[Question]:
    yield from _who_and_why()
    yield from _stale()
    yield {}, {"consumerState": "DELETED"}


def _lock() -> Iterator[Question]:
    for lock in ["PIN", "CVV2", "EXPIRY_DATE", "FINGER"]:
        for fields, context in _stale():
            yield {"lock": lock, **fields}, context
        for code, requestor in every([None, "ISSUER_DECISION", "PIN_LOCKED"], REQUESTORS):
            yield {"lock": lock, "reasonCode": code, "requestor": requestor}, {}
    for fields, context in _who_and_why():
        yield {"lock": "PIN", **fields}, context


def _create() -> Iterator[Question]:
    named: Data = {"consumerId": "consumer-1", "cardProductId": "product-1"}
    products = [None, a_product(form="VIRTUAL"), a_product(validityMonths=1)]
    for terms, state, initial in every(
        products, CONSUMER_STATES, [None, "ACTIVE", "INACTIVE", "SUSPENDED"]
    ):
        there: Data = {"product": terms, "consumerState": state, "versionTimeMs": None}
        yield {**named, "state": initial}, there
        for code in ["ISSUER_DECISION", "NO_SUCH_REASON", "not a code"]:
            yield {**named, "state": initial, "reasonCode": code}, there
    there = {"product": a_product(), "versionTimeMs": None}
    for requestor in REQUESTORS:
        yield {**named, "requestor": requestor, "name": "ANN", "secondName": "ONYMOUS"}, there
    for moment in [LATER, "2026-03-15T12:00:00Z", "2026-03-15T12:00:00.001Z", AT_VERSION]:
        yield {**named, "deleteAt": moment}, there


QUESTIONS = {
    "CREATE": _create,
    "ACTIVATE": _activate,
    "SUSPEND": _suspend,
    "RESUME": _resume,
    "REPLACE": _replace,
    "RENEW": _renew,
    "DELETE": _delete,
    "LOCK": _lock,
}

# One field broken at a time, with what every command may carry (design.md 3; domain.md 2.2, 8).
BROKEN_FIELDS: list[Data] = [
    {"reasonCode": ""},
    {"reasonCode": "A" * 65},
    {"reasonCode": "CARD_LOST\n"},
    {"reason": ""},
    {"reason": "a" * 65},
    {"reason": "Left in a taxi\n"},
    {"reason": "semi;colon"},
    {"reason": "Zürich"},
    {"reasonCode": "CARD_LÖST"},
    {"correlationId": ""},
    {"correlationId": "a" * 65},
    {"correlationId": "a/b"},
    {"effectiveDate": "yesterday"},
    {"effectiveDate": "2026-13-01T00:00:00Z"},
    {"effectiveDate": "2026-02-29T00:00:00Z"},
    {"effectiveDate": ""},
    {"requestor": {"type": "ADMIN", "id": "x"}},
    {"requestor": {"type": "", "id": "x"}},
    {"requestor": {"type": "ISSUER", "id": ""}},
    {"requestor": {"type": "ISSUER", "id": "a b"}},
    {"requestor": {"type": "ISSUER", "id": "a" * 65}},
    {"requestor": {"type": "TSP", "id": "tsp-1"}, "correlationId": "A. b_c-9"},
    {"requestor": {"type": "CCI", "id": "a" * 64}, "reason": "a" * 64},
]
BROKEN_OWN_FIELDS: dict[str, list[Data]] = {
    "CREATE": [
        {"consumerId": "no blanks"},
        {"consumerId": "a" * 65},
        {"state": "active"},
        {"state": ""},
        {"name": "R2 D2"},
        {"name": "A" * 27},
        {"name": "ANN\n"},
        {"secondName": "Zoë"},
        {"statusReason": "ABC"},
        {"deleteAt": "soon"},
        {"deleteAt": "2026-04-31T00:00:00Z"},
    ],
    "ACTIVATE": [{"encryptedData": "a" * 8193}],
    "REPLACE": [
        {"reason": None},
        {"reason": None, "reasonCode": None},
        {"reason": None, "reasonCode": "NO_SUCH_REASON"},
        {"reason": None, "correlationId": "a/b"},
        {"newCardId": "no blanks"},
        {"newCardId": ""},
        {"encryptedData": "a" * 8193},
    ],
    "RENEW": [
        {"newCardId": "a" * 49, "newCardState": "ACTIVE"},
        {"newCardId": CARD, "newCardState": ""},
        {"newCardProductId": "no blanks"},
        {"newExp": "1328"},
        {"newExp": "0028"},
        {"newExp": "928"},
        {"newExp": "09/28"},
        {"newAuxiliaryExp": "0931x"},
        {"encryptedData": "a" * 8193},
    ],
    "LOCK": [{"lock": "pin"}, {"lock": ""}],
    "SUSPEND": [],
    "RESUME": [],
    "DELETE": [],
}
