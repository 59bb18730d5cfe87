"""Which commands an operation may come from, as far as its event tells (guarantee G3).

An event does not repeat its command. What it leaves out (whether a RENEW was asked in its first or
second form, what was in `encryptedData`) is filled in so that nothing stands in the way, in every
form that makes a difference. So the operation was legal if the rule
book gives it for one of these witnesses, and was not if it does so for none.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product as every

from tests.oracle import tables
from tests.oracle.fields import Data
from tests.oracle.rule_book import expected, expected_reply
from tests.oracle.views import time_ms

_JWE = "a.b.c.d.e"
_LAST_EXPIRY = "1299"
_ANOTHER_CARD = "another-card"

# Codes that go by what was sent, or by numbers that no event shows. The first are found before
# the state of the card is looked at, the others only when that allows the command.
OF_FIELDS = {
    "FIELD_MISSING": tables.ALL_KINDS,
    "FIELD_INVALID_FORMAT": tables.ALL_KINDS,
    "FIELD_INVALID_VALUE": tables.ALL_KINDS,
    "STALE_COMMAND": tables.ALL_KINDS,
    "DELETE_TIME_NOT_FUTURE": {"CREATE", "REGISTER"},
}
OF_NUMBERS_AND_OTHER_CARDS = {
    "DECRYPTION_FAILED": {"REGISTER", "REPLACE", "RENEW", "ACTIVATE"},
    "PAN_LUHN_INVALID": {"REGISTER", "REPLACE", "RENEW"},
    "PAN_NOT_REUSABLE": {"REGISTER", "REPLACE", "RENEW"},
    "ACTIVATION_FAILED": {"ACTIVATE"},
    "CARD_ID_IN_USE": {"REPLACE", "RENEW"},
    "BIN_RANGE_EXHAUSTED": {"CREATE", "REPLACE"},
    "CARD_NOT_ACTIVE": {"CREATE", "REGISTER", "REPLACE", "RENEW"},
    "VIRTUAL_CARD_LIMIT_REACHED": {"CREATE", "REGISTER"},
}
# design.md 5, step 3: these come before everything that OF_FIELDS names.
_OF_EXISTENCE = {
    "CARD_NOT_FOUND",
    "CARD_ID_IN_USE",
    "CARD_PRODUCT_NOT_FOUND",
    "CONSUMER_NOT_ACTIVE",
    "CONSUMER_NOT_FOUND",
}


@dataclass(frozen=True)
class Around:
    """What the log knows of everything beside the card; each a list of what may have been.

    `holders`: of the new card's id. `caused`: the `card` of the events of what it caused.
    """

    time_zone: str = "UTC"
    consumer_states: Sequence[str | None] = (None,)
    products: Sequence[Data | None] = (None,)
    predecessors: Sequence[Data | None] = (None,)
    holders: Sequence[Data | None] = (None,)
    real_cards: Sequence[Data | None] = (None,)
    caused: Sequence[Data] = ()
    enrolment_is_pending: bool = False


def outcomes(event: Data, subject: Data | None, around: Around) -> Iterator[tuple[Data, Data]]:
    """(command, outcome) of every witness of an operation that begins, or begins and ends."""
    for command in _commands(event, subject, around):
        for context in _contexts(event, subject, around, event["operation"]["startTime"]):
            yield command, expected(subject, command, context)


def outcomes_of_end(
    event: Data, card: Data, begun: Sequence[Data], around: Around
) -> Iterator[tuple[Data, Data]]:
    """The same of an operation that was PENDING; `begun` is how it may have begun."""
    operation = event["operation"]
    reply = {"result": operation["status"], "errorCode": operation.get("errorCode")}
    for one in begun:
        command = dict(one["command"])
        if operation["reasonCode"] is None:
            # A FAILED operation carries what was given, where the PENDING one had the default.
            command["reasonCode"] = None
        for context in _contexts(event, card, around, operation["endTime"]):
            pending = {**one, "command": command}
            yield command, expected_reply(card, pending, reply, context)


def may_fail(event: Data, possible: Sequence[Data]) -> bool:
    """Whether the operation may have FAILED with its code, given the outcomes of its witnesses."""
    kind, code = event["operation"]["operation"], event["operation"]["errorCode"]
    judged = [outcome for outcome in possible if not outcome["ignored"]]
    if any(outcome["errorCode"] == code for outcome in judged):
        return True
    if kind in OF_FIELDS.get(code, ()):
        return any(outcome["errorCode"] not in _OF_EXISTENCE for outcome in judged)
    if kind in OF_NUMBERS_AND_OTHER_CARDS.get(code, ()):
        return any(outcome["status"] != "FAILED" for outcome in judged)
    return False


def _contexts(event: Data, subject: Data | None, around: Around, moment: str) -> Iterator[Data]:
    shown = event["card"] or {}
    new_card = around.caused[0] if around.caused else shown
    for state, terms, predecessor, holder, real_card in every(
        around.consumer_states,
        around.products,
        around.predecessors,
        around.holders,
        around.real_cards,
    ):
        yield {
            "startTimeMs": time_ms(moment),
            "versionTimeMs": None,
            "issuerTimeZone": around.time_zone,
            "consumerState": state,
            "product": terms,
            "generatedCardId": event["operation"]["details"].get("newCardId", _ANOTHER_CARD),
            "generatedCardIdInUse": False,
            "predecessor": predecessor,
            "generatedLast4": new_card.get("last4"),
            "opened": _opened(event, subject, new_card),
            "panIsFree": True,
            "cardCvvMatches": True,
            "newCard": holder,
            "realCard": real_card,
            "realCardVirtualCards": 0,
            "pending": None,
            "enrolmentIsPending": around.enrolment_is_pending,
        }


def _opened(event: Data, subject: Data | None, new_card: Data) -> Data:
    """What `encryptedData` must have held for the card to look as it does."""
    last4 = new_card.get("last4") or "0000"
    exp = new_card.get("exp") or _LAST_EXPIRY
    if subject is not None and event["operation"]["operation"] == "RENEW":
        exp = event["operation"]["details"].get("newExp", _LAST_EXPIRY)
    auxiliary_exp = _auxiliary_exp(event, new_card)
    return {
        "pan": f"400000000000{last4}",
        "exp": exp,
        "psn": None,
        "auxiliaryPan": None if auxiliary_exp is None else "6011000990139424",
        "auxiliaryExp": auxiliary_exp,
    }


def _auxiliary_exp(event: Data, after: Data) -> str | None:
    """The expiry of its other number that the card must have got, or one that it may get."""
    if not after.get("hasAuxiliaryPan"):
        return None
    operation = event["operation"]
    if operation["operation"] == "RENEW" and operation["status"] != "SUCCESSFUL":
        return _LAST_EXPIRY
    expiry: str = after["pendingAuxiliaryExp"] or after["auxiliaryExp"]
    return expiry


def _commands(event: Data, subject: Data | None, around: Around) -> Iterator[Data]:
    operation = event["operation"]
    kind = operation["operation"]
    asked: Data = {
        "commandId": event["commandId"],
        "command": kind,
        "issuerId": event["issuerId"],
        "requestor": {"type": operation["requestorType"], "id": operation["requestorId"]},
        "reasonCode": operation["reasonCode"],
        "reason": operation["reason"],
    }
    if kind == "PRODUCT_DEFINE":
        named = {"cardProductId": event["cardProductId"], "form": "VIRTUAL", "scheme": "VISA"}
        yield {**asked, **named, **(event["product"] or {})}
    elif kind.startswith("CONSUMER_"):
        yield {**asked, "consumerId": event["consumerId"]}
    elif kind in ("CREATE", "REGISTER"):
        initial = {"consumerId": "anyone", "cardProductId": "any"}
        if operation["status"] != "FAILED":
            names = ["consumerId", "cardProductId", "state", "deleteAt", "realCardId"]
            initial = {name: event["card"][name] for name in names}
        yield {**asked, **initial, "cardId": event["cardId"], "encryptedData": _JWE}
    elif kind == "RENEW":
        yield from _renewals({**asked, "cardId": event["cardId"]}, event, subject, around)
    else:
        yield from _others({**asked, "cardId": event["cardId"]}, event, subject)


def _others(asked: Data, event: Data, card: Data | None) -> Iterator[Data]:
    details, shown = event["operation"]["details"], event["card"] or {}
    match asked["command"]:
        case "ACTIVATE":
            yield {**asked, "last4": card and card["last4"], "encryptedData": _JWE}
            yield {**asked, "command": "CARD_PRESENT"}
        case "DELETE":
            yield asked
            yield {**asked, "command": "DELETE_DUE"}
        case "REPLACE" if card is not None and card["origin"] == "REGISTERED":
            new_card_id = details.get("newCardId", _ANOTHER_CARD)
            yield {**asked, "newCardId": new_card_id, "encryptedData": _JWE}
        case "LOCK":
            yield {**asked, "lock": details.get("lock", "PIN")}
        case "PRODUCE":
            yield {**asked, "distributionChannel": details.get("distributionChannel", "ANY")}
        case "UPDATE_CONTROLS" | "UPDATE_LIMITS":
            name = asked["command"].removeprefix("UPDATE_").lower()
            yield {**asked, name: shown.get(name) or {}}
        case _:
            yield asked


def _renewals(asked: Data, event: Data, card: Data | None, around: Around) -> Iterator[Data]:
    """In its second form, by its timer, and in its first form in place and elsewhere."""
    details = event["operation"]["details"]
    is_registered = card is not None and card["origin"] == "REGISTERED"
    new_exp = details.get("newExp", _LAST_EXPIRY) if is_registered else None
    brought = _JWE if is_registered else None
    if "newCardId" not in details:
        new_auxiliary_exp = _auxiliary_exp(event, event["card"] or {}) if is_registered else None
        in_place = {"newExp": new_exp, "newAuxiliaryExp": new_auxiliary_exp}
        yield {**asked, **in_place}
        yield {**asked, "command": "AUTO_RENEW"}
        for state in ["ACTIVE", "INACTIVE"]:
            place = {"newCardId": asked["cardId"], "newCardState": state}
            yield {**asked, **place, **in_place, "encryptedData": brought}
    if "newCardId" in details or not details:
        states = [around.caused[0]["state"]] if around.caused else ["ACTIVE", "INACTIVE"]
        for state, encrypted in every(states, [brought, None]):
            place = {"newCardId": details.get("newCardId", _ANOTHER_CARD), "newCardState": state}
            yield {**asked, **place, "encryptedData": encrypted}
