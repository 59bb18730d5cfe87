"""Situations and questions of registered cards, numbers, timers and outside parties: plain data.

As in `situations.py`, the tests walk through the products of these lists.
"""

from collections.abc import Iterator
from itertools import product as every

from tests.oracle.fields import Data
from tests.oracle.situations import (
    CARD,
    CONSUMER_STATES,
    LATER,
    NOW_MS,
    OVER,
    QUESTIONS,
    REASON_CODES,
    REQUESTORS,
    SUSPENSIONS,
    Question,
    a_card,
    a_product,
    situations,
)

NUMBER: Data = {
    "pan": "4000001234567899",
    "exp": "0930",
    "psn": None,
    "auxiliaryPan": None,
    "auxiliaryExp": None,
}
COBADGED: Data = {**NUMBER, "auxiliaryPan": "6011000990139424", "auxiliaryExp": "0830"}
SHORT: Data = {**NUMBER, "pan": "79927398713"}
EARLY: Data = {**NUMBER, "exp": "0928"}
JWE = "a.b.c.d.e"
FREE: Data = {"panIsFree": True, "opened": NUMBER}

# What `encryptedData` may turn out to be, and whether its number is new.
OPENED: list[Data] = [
    FREE,
    {"panIsFree": False, "opened": NUMBER},
    {"panIsFree": True, "opened": COBADGED},
    {"panIsFree": True, "opened": SHORT},
    {"panIsFree": True, "opened": EARLY},
    {"panIsFree": True, "opened": {**COBADGED, "auxiliaryExp": "0127"}},
    {"panIsFree": True, "opened": "DECRYPTION_FAILED"},
    {"panIsFree": True, "opened": "FIELD_INVALID_FORMAT"},
    {"panIsFree": True, "opened": "PAN_LUHN_INVALID"},
    {"panIsFree": True, "opened": None},
]

_LEFT: Data = {"cardId": "card-2", "origin": "REGISTERED", "transactions": False, "incarnation": 3}
# Who may hold the new card's id.
HOLDERS: list[Data | None] = [
    None,
    a_card(**_LEFT, state="DELETED", stateReason="FRAUD"),
    a_card(**_LEFT, state="RENEWED", stateReason="USER_DECISION"),
    a_card(**_LEFT),
    a_card(**_LEFT, exp=OVER),
    a_card(**{**_LEFT, "transactions": True}, state="DELETED", stateReason="FRAUD"),
    a_card(**{**_LEFT, "origin": "ISSUED"}, state="DELETED", stateReason="FRAUD"),
]
REAL_CARDS: list[Data | None] = [
    None,
    a_card(cardId="real-1"),
    a_card(cardId="real-1", exp=OVER),
    a_card(cardId="real-1", state="SUSPENDED", stateReason="USER_DECISION"),
    a_card(cardId="real-1", state="DELETED", stateReason="FRAUD"),
]

# What of its number and product may matter to a registered card.
_VARIANTS: list[Data] = [
    {},
    {"hasAuxiliaryPan": True, "auxiliaryExp": "0828"},
    {"scheme": "AMEX"},
    {"transactions": False, "incarnation": 2},
]


def registered_situations() -> Iterator[tuple[str, Data | None, Data | None]]:
    """Every state of a registered card, with the suspensions that differ in what they allow."""
    for label, card, old in situations():
        if card is None or any(
            f" {history} " in label for history in SUSPENSIONS if history not in ("LOST", "PIN")
        ):
            continue
        for changes in _VARIANTS:
            terms = {**card["terms"], "scheme": changes.get("scheme", "VISA")}
            terms["transactions"] = changes.get("transactions", True)
            number = {name: value for name, value in changes.items() if name not in terms}
            if card["pendingExp"] is not None and number.get("auxiliaryExp") is not None:
                number["pendingAuxiliaryExp"] = "0830"
            registered: Data = {**card, "origin": "REGISTERED", "last4": "1111", **number}
            yield f"registered {label} {changes}", {**registered, "terms": terms}, old


def _moving() -> Iterator[Question]:
    place: Data = {"newCardId": "card-2", "newCardState": "ACTIVE"}
    for code, opened in every([None, "USER_DECISION", "CARD_LOST", "FRAUD"], OPENED):
        yield {**place, "reasonCode": code, "encryptedData": JWE}, opened
    for code in REASON_CODES:
        yield {**place, "reasonCode": code}, {}
    extras: list[Data] = [
        {"newExp": "0930"},
        {"newExp": "1030"},
        {"newExp": "0926"},
        {"newAuxiliaryExp": "0830"},
        {"newAuxiliaryExp": "0930"},
        {"newCardProductId": "product-2"},
        {"newCardState": "INACTIVE"},
        {"newCardState": None},
        {"encryptedData": None},
        {"newExp": "0926", "encryptedData": None},
        {"newExp": "0926", "encryptedData": None, "reasonCode": "CARD_LOST"},
    ]
    for extra, number in every(extras, [NUMBER, COBADGED]):
        yield {**place, "encryptedData": JWE, **extra}, {"panIsFree": True, "opened": number}
    for holder, encrypted in every(HOLDERS, [JWE, None]):
        yield {**place, "encryptedData": encrypted}, {**FREE, "newCard": holder}
    for state in CONSUMER_STATES:
        yield {**place, "encryptedData": JWE}, {**FREE, "consumerState": state}


def _in_place() -> Iterator[Question]:
    places: list[Data] = [
        {},
        {"newCardId": CARD, "newCardState": "ACTIVE"},
        {"newCardId": CARD, "newCardState": "INACTIVE"},
    ]
    for place in places:
        for exp, auxiliary, encrypted in every(
            [None, "0931", "0930", "0928", "0127"], [None, "0831", "0830", "0727"], [None, JWE]
        ):
            fields: Data = {"newExp": exp, "newAuxiliaryExp": auxiliary, "encryptedData": encrypted}
            for number in [NUMBER, COBADGED]:
                yield {**place, **fields}, {"panIsFree": True, "opened": number}
        for opened in OPENED:
            yield {**place, "newExp": "0930", "encryptedData": JWE}, opened
        for code in REASON_CODES:
            yield {**place, "newExp": "0931", "reasonCode": code}, {}


def _renew() -> Iterator[Question]:
    yield from _in_place()
    yield from _moving()


def _replace() -> Iterator[Question]:
    right: Data = {
        "reasonCode": "CARD_LOST",
        "reason": "Left in a taxi",
        "newCardId": "card-2",
        "encryptedData": JWE,
    }
    for opened in OPENED:
        yield right, opened
    for holder, number in every(HOLDERS, [NUMBER, SHORT]):
        yield right, {"panIsFree": True, "opened": number, "newCard": holder}
    wrongs: list[Data] = [{"newCardId": None}, {"newCardId": CARD}, {"encryptedData": None}]
    for wrong, holder in every(wrongs, HOLDERS):
        yield {**right, **wrong}, {**FREE, "newCard": holder}
    for state in CONSUMER_STATES:
        yield right, {**FREE, "consumerState": state}
    yield right, {**FREE, "product": a_product(autoRenew=True, implicitActivation=True)}


def _register() -> Iterator[Question]:
    named: Data = {
        "consumerId": "consumer-1",
        "cardProductId": "product-1",
        "encryptedData": JWE,
    }
    virtual, plastic = a_product(form="VIRTUAL"), a_product()
    for opened, product, initial in every(
        OPENED, [None, virtual, plastic], [None, "ACTIVE", "INACTIVE", "EXPIRED"]
    ):
        yield {**named, "state": initial}, {**opened, "product": product}
    for state, code in every(CONSUMER_STATES, [None, "ISSUER_DECISION"]):
        there = {**FREE, "product": virtual, "consumerState": state}
        yield {**named, "reasonCode": code}, there
    for product, real, count in every([virtual, plastic], REAL_CARDS, [0, 99, 100]):
        there = {**FREE, "product": product, "realCard": real, "realCardVirtualCards": count}
        yield {**named, "realCardId": "real-1"}, there
    for fields in [
        {"realCardId": "no blanks"},
        {"encryptedData": "x" * 8193},
        {"deleteAt": LATER},
        {"deleteAt": "2026-03-15T12:00:00Z"},
        {"name": "R2 D2"},
        {"effectiveDate": "2026-03-14T11:59:59.999Z"},
        {"effectiveDate": "2026-03-14T12:00:00Z"},
    ]:
        yield {**named, **fields}, {**FREE, "product": virtual}


def _create() -> Iterator[Question]:
    named: Data = {"consumerId": "consumer-1", "cardProductId": "product-1"}
    virtual, plastic = a_product(form="VIRTUAL"), a_product()
    for drawn, product in every([None, "1234", "BIN_RANGE_EXHAUSTED"], [None, virtual, plastic]):
        yield named, {"generatedLast4": drawn, "product": product, "versionTimeMs": None}
    for product, real, count in every([virtual, plastic], REAL_CARDS, [0, 99, 100]):
        yield (
            {**named, "realCardId": "real-1"},
            {
                "product": product,
                "realCard": real,
                "realCardVirtualCards": count,
                "versionTimeMs": None,
            },
        )


def _replace_of_issued() -> Iterator[Question]:
    right: Data = {"reasonCode": "CARD_LOST", "reason": "Left in a taxi"}
    for drawn, state in every([None, "1234", "BIN_RANGE_EXHAUSTED"], CONSUMER_STATES):
        yield right, {"generatedLast4": drawn, "consumerState": state}


def _activate_by_cvv() -> Iterator[Question]:
    for opened, matches, encrypted, state in every(
        [None, "DECRYPTION_FAILED", "FIELD_INVALID_FORMAT"],
        [None, False, True],
        [None, JWE],
        ["ACTIVE", "INACTIVE"],
    ):
        there: Data = {"opened": opened, "cardCvvMatches": matches, "consumerState": state}
        yield {"encryptedData": encrypted}, there


def _signal() -> Iterator[Question]:
    for state in CONSUMER_STATES:
        yield {}, {"consumerState": state}
    for code, requestor in every(
        [None, "ISSUER_DECISION", "USER_DECISION", "CLOSED_CARD", "not a code"], REQUESTORS
    ):
        yield {"reasonCode": code, "requestor": requestor}, {}
    for fields in [
        {"correlationId": "a/b"},
        {"effectiveDate": "2026-03-14T11:59:59.999Z"},
        {"effectiveDate": "soon"},
    ]:
        yield fields, {}
    # Around the ends of months and the days before them, near and far from Greenwich.
    for zone, days in every(["UTC", "Pacific/Kiritimati", "America/New_York"], [0, 1, 16, 17, 600]):
        yield {}, {"issuerTimeZone": zone, "startTimeMs": NOW_MS + days * 86_400_000}


def _outside() -> Iterator[Question]:
    for code, requestor in every(REASON_CODES, REQUESTORS):
        yield {"reasonCode": code, "requestor": requestor}, {}
    yield {"effectiveDate": "2026-03-14T11:59:59.999Z"}, {}
    yield {}, {"consumerState": "INACTIVE"}
    yield {}, {"enrolmentIsPending": True}


def _produce() -> Iterator[Question]:
    for fields, context in _outside():
        yield {"distributionChannel": "BRANCH_7", **fields}, context
    for channel in ["", "a" * 65, "no blanks", "a\n"]:
        yield {"distributionChannel": channel}, {}


def _click_to_pay() -> Iterator[Question]:
    for fields, context in _outside():
        yield {"name": "Zoë O'Hara-7", **fields}, context
    for name in ["", "a" * 27, "a@b", "a\n", "محمد", "李雷", "a" * 26, "1.2;3/4"]:
        yield {"name": name}, {}


def _opt_out() -> Iterator[Question]:
    yield from _outside()
    yield from _click_to_pay()


def _settings(field: str) -> Iterator[Question]:
    for fields, context in _outside():
        yield {field: {"b": [1, {"a": None}], "a": "x"}, **fields}, context
    for settings in [
        {},
        {"a": [[[[1]]]]},
        {"a": [[[[[1]]]]]},
        {"a": [[[[[]]]]]},
        {"a": "x" * 4088},
        {"a": "x" * 4089},
        {"a": '"\\[[[[[['},
        {"a": 2**53 - 1, "b": 1 - 2**53},
        {"a": [{"b": float(2**53)}]},
        {"a": -1e16},
    ]:
        yield {field: settings}, {}


def _update_controls() -> Iterator[Question]:
    yield from _settings("controls")


def _update_limits() -> Iterator[Question]:
    yield from _settings("limits")


# By name: the command, what it asks of registered cards, and of all.
OF_REGISTERED = {
    **QUESTIONS,
    "REGISTER": _register,
    "REPLACE": _replace,
    "RENEW": _renew,
}
OF_ALL = {
    "CREATE": _create,
    "REPLACE": _replace_of_issued,
    "CARD_PRESENT": _signal,
    "EXPIRE": _signal,
    "AUTO_RENEW": _signal,
    "DELETE_DUE": _signal,
    "PRODUCE": _produce,
    "CLICK_TO_PAY_ENROLMENT": _click_to_pay,
    "CLICK_TO_PAY_UPDATE": _click_to_pay,
    "CLICK_TO_PAY_OPTOUT": _opt_out,
    "UPDATE_CONTROLS": _update_controls,
    "UPDATE_LIMITS": _update_limits,
}
ANSWERS = _activate_by_cvv

# What of the card, beside its state, a signal or timer looks at.
TIMED_VARIANTS: list[Data] = [
    {"terms": {"implicitActivation": True, "autoRenew": True}, "deleteAtMs": NOW_MS},
    {"terms": {"autoRenew": True, "autoRenewDays": 365}, "deleteAtMs": NOW_MS + 1, "last4": "1111"},
    {"terms": {"autoRenew": True, "autoRenewDays": 17}, "deleteAtMs": None, "clickToPay": True},
    {"terms": {"autoRenew": True}, "origin": "REGISTERED", "last4": "1111"},
    {"terms": {"implicitActivation": True}, "exp": None, "last4": "1111"},
]


def timed_situations() -> Iterator[tuple[str, Data | None, Data | None]]:
    """The situations, each with the flags that timers, signals and outside parties look at."""
    for label, card, old in situations():
        if card is None:
            yield label, card, old
            continue
        for number, changes in enumerate(TIMED_VARIANTS):
            terms = {**card["terms"], **changes["terms"]}
            yield f"{label} variant {number}", {**card, **changes, "terms": terms}, old


# The commands that an outside party may be asked about, as they were taken.
WAITING: list[Data] = [
    *(
        {"command": "RENEW", "newCardId": "card-2", "newCardState": state, "reasonCode": code}
        for state, code in every(["ACTIVE", "INACTIVE"], [None, "CARD_LOST"])
    ),
    {"command": "RENEW", "newCardId": "card-2", "newCardState": "ACTIVE", "newExp": "0930"},
    {"command": "RENEW", "newCardId": "card-2", "newCardState": "ACTIVE", "newExp": "1030"},
    {"command": "PRODUCE", "distributionChannel": "BRANCH_7", "correlationId": "trip-7"},
    {"command": "CLICK_TO_PAY_ENROLMENT", "name": "Ann", "reasonCode": "USER_DECISION"},
    {"command": "CLICK_TO_PAY_UPDATE", "name": "Ann"},
    {"command": "CLICK_TO_PAY_OPTOUT"},
]
REPLIES: list[Data] = [
    {"result": "SUCCESSFUL"},
    {"result": "FAILED"},
    {"result": "FAILED", "errorCode": "CMS_DOWN"},
    {"result": "FAILED", "errorCode": "404030000"},
    {"result": "FAILED", "errorCode": "4000001234567899"},
    {"result": "FAILED", "errorCode": "no words"},
]
