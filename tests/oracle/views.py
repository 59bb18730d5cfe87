"""What the event of an operation shows, worked out from the oracle's outcome (design.md 4).

The other half of `rule_book`: that one says what a command does, this one how it is told. It
imports nothing of the project either.
"""

import json
from datetime import UTC, datetime, timedelta

from tests.oracle import tables
from tests.oracle.fields import Data

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def told(before: Data | None, command: Data, outcome: Data) -> Data:
    """What the event of `command` shows, under the names of `shown_by`."""
    return {
        "operation": outcome["kind"],
        "status": outcome["status"],
        "errorCode": outcome["errorCode"],
        "requestor": outcome["requestor"],
        "reasonCode": outcome["reasonCode"],
        "reason": outcome["reason"],
        "details": _details(command, outcome),
        "previousState": before and before.get("state"),
        "subject": subject_view(outcome["subject"]),
        "moves version": comparable(before) != comparable(outcome["subject"]),
    }


def told_of_caused(before: Data | None, cause: Data, caused: Data) -> Data:
    """What the event of an operation shows that `cause` led to on another card (domain.md 8)."""
    return {
        "operation": caused["kind"],
        "status": "SUCCESSFUL",
        "errorCode": None,
        "requestor": cause["requestor"],
        "reasonCode": None,
        "reason": None,
        "details": {},
        "previousState": before and before["state"],
        "subject": subject_view(caused["card"]),
        "moves version": True,
    }


def shown_by(event: Data, version_before: int) -> Data:
    """The members of an event that the rules decide."""
    operation = event["operation"]
    assert event["version"] - version_before in {0, 1}, event
    return {
        "operation": operation["operation"],
        "status": operation["status"],
        "errorCode": operation.get("errorCode"),
        "requestor": {"type": operation["requestorType"], "id": operation["requestorId"]},
        "reasonCode": operation["reasonCode"],
        "reason": operation["reason"],
        "details": operation["details"],
        "previousState": event["previousState"],
        "subject": event["card"] or event.get("consumer") or event.get("product"),
        "moves version": event["version"] > version_before,
    }


def subject_view(subject: Data | None) -> Data | None:
    """The `card`, `consumer` or `product` of an event."""
    if subject is None:
        return None
    if "cardId" in subject:
        return card_view(subject)
    if "consumerId" in subject:
        return {"state": subject["state"]}
    return dict(subject["terms"])


def card_view(card: Data) -> Data:
    """The object `card` of design.md 4, with `usage` by domain.md 2.4 and 8."""
    may = "YES" if card["state"] == "ACTIVE" else "NO"
    names = [
        *("state", "stateReason", "ongoingOperation", "exp", "pendingExp", "last4", "consumerId"),
        *("cardProductId", "origin", "incarnation", "predecessorCardId", "successorCardId"),
        *("realCardId", "realCardIncarnation", "clickToPay", "terms", "hasAuxiliaryPan"),
        *("auxiliaryExp", "pendingAuxiliaryExp"),
    ]
    return {
        **{name: card[name] for name in names},
        "suspensions": [] if card["state"] in tables.TERMINAL else sorted(card["suspensions"]),
        "locks": [lock for lock in tables.LOCK_REASON if lock in card["locks"]],
        **{name: card[name] and json.loads(card[name]) for name in ("controls", "limits")},
        "form": card["terms"]["form"],
        "deleteAt": None if card["deleteAtMs"] is None else instant(card["deleteAtMs"]),
        "usage": {"authorisations": may, "digitise": may, "digitalCards": _digital_cards(card)},
    }


def _digital_cards(card: Data) -> str:
    if card["state"] in ("REPLACED", "RENEWED"):
        return "RELINKED" if card["digitalCardsRelinked"] else "RELINK_PENDING"
    return tables.DIGITAL_CARDS[card["state"]]


def _details(command: Data, outcome: Data) -> Data:
    """Ours: which operations tell more than the card does."""
    if outcome["status"] == "FAILED":
        return {}
    new_card = outcome["caused"][0]["card"] if outcome["caused"] else {}
    details: Data = {}
    match outcome["kind"]:
        case "LOCK":
            details["lock"] = command["lock"]
        case "PRODUCE":
            details["distributionChannel"] = command["distributionChannel"]
        case "REPLACE":
            details["newCardId"] = new_card["cardId"]
        case "RENEW" if command.get("newCardId") in (None, command["cardId"]):
            details["newExp"] = outcome["subject"]["pendingExp"] or outcome["subject"]["exp"]
        case "RENEW":
            details["newCardId"] = command["newCardId"]
            if outcome["status"] == "SUCCESSFUL":
                details["newExp"] = new_card["exp"]
    return details


def comparable(subject: Data | None) -> Data | None:
    """In a terminal state nothing depends on `suspensions`, and none are shown."""
    if subject is None or subject.get("state") not in tables.TERMINAL:
        return subject
    return {name: value for name, value in subject.items() if name != "suspensions"}


def instant(time_ms: int) -> str:
    """ISO 8601, UTC, with milliseconds."""
    moment = _EPOCH + timedelta(milliseconds=time_ms)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time_ms % 1000:03d}Z"


def time_ms(text: str) -> int:
    """Milliseconds since the epoch of what `instant` writes."""
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(milliseconds=1)
