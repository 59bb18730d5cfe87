"""What the rule book says of one command, on plain data: slow, obvious, and apart from production.

`expected` takes the subject as a dictionary (None when there is none), the command with its wire
names, and the context, and gives the outcome as a dictionary. Cards have the names of the events
(design.md 4) plus `suspensions`, `terms`, `deleteAtMs` and `digitalCardsRelinked`.
"""

import copy

from tests.oracle import tables
from tests.oracle.cells import CELLS
from tests.oracle.fields import (
    Data,
    LeftOutError,
    RefusedError,
    check_fields,
    check_not_stale,
    check_reason,
    column,
    milliseconds,
    month_now,
    months_after,
    requestor_shown,
    shown,
)


def expected(subject: Data | None, command: Data, context: Data) -> Data:
    """The outcome: ignored, or status, errorCode, subject after it, and what it caused."""
    outcome: Data = {
        "ignored": False,
        "kind": command["command"],
        "status": "SUCCESSFUL",
        "errorCode": None,
        "requestor": requestor_shown(command),
        "reasonCode": None,
        "reason": shown(command, "reason"),
        "correlationId": shown(command, "correlationId"),
        "subject": copy.deepcopy(subject),
        "caused": [],
        "registersConsumer": False,
    }
    try:
        # design.md 5 "Which error": steps 1 and 2 come before this.
        if command["command"] == "PRODUCT_DEFINE":
            _decide_product(subject, command, context, outcome)
        elif command["command"].startswith("CONSUMER_"):
            _decide_consumer(subject, command, context, outcome)
        elif command["command"] == "CREATE":
            _decide_create(subject, command, context, outcome)
        else:
            _decide_existing_card(subject, command, context, outcome)
    except LeftOutError:
        return {"ignored": True}
    except RefusedError as refused:
        outcome["status"] = "FAILED"
        outcome["errorCode"] = refused.code
        # domain.md 8: as given, except one that broke its pattern.
        outcome["reasonCode"] = shown(command, "reasonCode")
        outcome["subject"] = copy.deepcopy(subject)
        outcome["caused"] = []
        outcome["registersConsumer"] = False
    return outcome


def _decide_create(card: Data | None, command: Data, context: Data, outcome: Data) -> None:
    # Step 3. Every card here was ISSUED, and such an id never returns (domain.md 4).
    if card is not None:
        raise RefusedError("CARD_ID_IN_USE")
    if context["product"] is None:
        raise RefusedError("CARD_PRODUCT_NOT_FOUND")
    if context["consumerState"] not in (None, "ACTIVE"):
        raise RefusedError("CONSUMER_NOT_ACTIVE")
    # Step 4.
    check_fields(command)
    delete_at_ms = None
    if command.get("deleteAt") is not None:
        delete_at_ms = milliseconds(command["deleteAt"])
        if delete_at_ms <= context["startTimeMs"]:
            raise RefusedError("DELETE_TIME_NOT_FUTURE")
    check_reason(command, None)

    outcome["registersConsumer"] = context["consumerState"] is None
    outcome["subject"] = {
        "issuerId": command["issuerId"],
        "cardId": command["cardId"],
        "incarnation": 1,
        "state": command.get("state") or "ACTIVE",
        "stateReason": None,
        "suspensions": [],
        "locks": [],
        "ongoingOperation": "NONE",
        "exp": months_after(month_now(context), context["product"]["validityMonths"]),
        "pendingExp": None,
        "last4": None,
        "consumerId": command["consumerId"],
        "cardProductId": command["cardProductId"],
        "origin": "ISSUED",
        "terms": copy.deepcopy(context["product"]),
        "name": command.get("name") or "",
        "secondName": command.get("secondName"),
        "predecessorCardId": None,
        "successorCardId": None,
        "deleteAtMs": delete_at_ms,
        "digitalCardsRelinked": False,
    }


def _decide_existing_card(card: Data | None, command: Data, context: Data, outcome: Data) -> None:
    row = _row(command)
    # domain.md 8: a signal that does not apply is ignored even when another field is bad.
    if row == "LOCK":
        if card is None:
            raise LeftOutError
        if tables.STATE_TABLE["LOCK"][column(card, context)] == "ignored":
            raise LeftOutError
    # Step 3.
    if card is None:
        raise RefusedError("CARD_NOT_FOUND")
    # Step 4.
    check_fields(command)
    reason = check_reason(command, row)
    # Step 5.
    check_not_stale(command, context)
    # Steps 6 to 9.
    cell = tables.STATE_TABLE[row][column(card, context)]
    if cell.startswith("!"):
        raise RefusedError(cell[1:])
    after = outcome["subject"]
    CELLS[cell](after, command, context, outcome, reason)
    outcome["reasonCode"] = reason


def _decide_consumer(consumer: Data | None, command: Data, context: Data, outcome: Data) -> None:
    cell = tables.CONSUMER_TABLE[command["command"]][consumer["state"] if consumer else None]
    if cell == "!CONSUMER_NOT_FOUND":
        raise RefusedError("CONSUMER_NOT_FOUND")
    check_fields(command)
    check_reason(command, None)
    check_not_stale(command, context)
    if cell.startswith("!"):
        raise RefusedError(cell[1:])
    outcome["subject"] = {
        "issuerId": command["issuerId"],
        "consumerId": command["consumerId"],
        "state": cell,
    }


def _decide_product(product: Data | None, command: Data, context: Data, outcome: Data) -> None:
    check_fields(command)
    check_reason(command, None)
    check_not_stale(command, context)
    if product is not None:
        for name in ["form", "scheme"]:
            if product["terms"][name] != command[name]:
                raise RefusedError("FIELD_INVALID_VALUE")
    terms = {"form": command["form"], "scheme": command["scheme"]}
    for name, default in tables.PRODUCT_DEFAULTS.items():
        terms[name] = default if command.get(name) is None else command[name]
    outcome["subject"] = {
        "issuerId": command["issuerId"],
        "cardProductId": command["cardProductId"],
        "terms": terms,
    }


def _row(command: Data) -> str:
    if command["command"] != "RENEW":
        return str(command["command"])
    return "RENEW v1" if command.get("newCardId") is not None else "RENEW v2"
