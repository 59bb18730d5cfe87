"""What the rule book says of one command, on plain data: slow, obvious, and apart from production.

`expected` takes the subject as a dictionary (None when there is none), the command with its wire
names, and the context, and gives the outcome as a dictionary. Cards have the names of the events
(design.md 4) plus `suspensions`, `terms`, `deleteAtMs` and `digitalCardsRelinked`.
"""

import re

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
from tests.oracle.successors import (
    drawn_last4,
    may_be_used_again,
    next_incarnation,
    opened_number,
    put_number,
)


def expected(subject: Data | None, command: Data, context: Data) -> Data:
    """The outcome: ignored, or status, errorCode, subject after it, and what it caused."""
    outcome = _before_any_check(subject, command)
    try:
        # design.md 5 "Which error": steps 1 and 2 come before this.
        if command["command"] == "PRODUCT_DEFINE":
            _decide_product(subject, command, context, outcome)
        elif command["command"].startswith("CONSUMER_"):
            _decide_consumer(subject, command, context, outcome)
        elif command["command"] in ("CREATE", "REGISTER"):
            _decide_new_card(subject, command, context, outcome)
        else:
            _decide_existing_card(subject, command, context, outcome)
    except LeftOutError:
        return {"ignored": True}
    except RefusedError as refused:
        _fail(outcome, refused.code, subject, command)
    return outcome


def expected_reply(card: Data, pending: Data, reply: Data, context: Data) -> Data:
    """The end of a PENDING operation by its reply; `pending` is the command and its incarnation."""
    command = pending["command"]
    outcome = _before_any_check(card, command)
    outcome["endsPending"] = True
    outcome["reasonCode"] = check_reason(command, _row(command))
    try:
        _end_pending(card, pending, reply, {**context, "answered": True}, outcome)
    except RefusedError as refused:
        _fail(outcome, refused.code, card, command)
    return outcome


def _end_pending(card: Data, pending: Data, reply: Data, context: Data, outcome: Data) -> None:
    if reply["result"] == "FAILED":
        raise RefusedError(_code_from_outside(reply.get("errorCode")))
    command, after = pending["command"], outcome["subject"]
    same_life = card["incarnation"] == pending["incarnation"]
    if command["command"] == "RENEW":
        if not same_life:
            raise RefusedError("CARD_DELETED")
        cell = tables.STATE_TABLE[_row(command)][column(card, context)]
        if cell.startswith("!"):
            raise RefusedError(cell[1:])
        CELLS[cell](after, command, context, outcome, outcome["reasonCode"])
    elif same_life and command["command"] == "CLICK_TO_PAY_ENROLMENT":
        after["clickToPay"] = True
    elif same_life and command["command"] == "CLICK_TO_PAY_OPTOUT":
        after["clickToPay"] = False


def expected_time_out(card: Data, pending: Data | None, context: Data) -> Data:
    if pending is None or context["startTimeMs"] < pending["deadlineMs"]:
        return {"ignored": True}
    reply = {"result": "FAILED", "errorCode": "OPERATION_TIMED_OUT"}
    return expected_reply(card, pending, reply, context)


def _before_any_check(subject: Data | None, command: Data) -> Data:
    return {
        "ignored": False,
        "kind": tables.SHOWN_AS.get(command["command"], command["command"]),
        "status": "SUCCESSFUL",
        "errorCode": None,
        "requestor": requestor_shown(command),
        "reasonCode": None,
        "reason": shown(command, "reason"),
        "correlationId": shown(command, "correlationId"),
        "subject": subject and dict(subject),
        "caused": [],
        "registersConsumer": False,
        "numbers": [],
        "cascadeReason": None,
        "request": None,
        "endsPending": False,
    }


def _code_from_outside(code: str | None) -> str:
    """Ours: the outside party's own code where it is one, and no number of a card."""
    if code is None or not re.fullmatch("[A-Z0-9_]{1,64}", code) or re.search("[0-9]{10}", code):
        return "OUTSIDE_PARTY_FAILED"
    return code


def _fail(outcome: Data, code: str, subject: Data | None, command: Data) -> None:
    outcome["status"] = "FAILED"
    outcome["errorCode"] = code
    # domain.md 8: as given, except one that broke its pattern.
    outcome["reasonCode"] = shown(command, "reasonCode")
    outcome["subject"] = subject and dict(subject)
    outcome["caused"] = []
    outcome["registersConsumer"] = False
    outcome["numbers"] = []
    outcome["cascadeReason"] = None
    outcome["request"] = None


def _decide_new_card(card: Data | None, command: Data, context: Data, outcome: Data) -> None:
    registered = command["command"] == "REGISTER"
    # Step 3. Only a REGISTER begins a new life of an id (domain.md 4).
    if card is not None and not (registered and may_be_used_again(card)):
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
    # Step 5.
    check_not_stale(command, context)
    # design.md 3, realCardId.
    if command.get("realCardId") is not None:
        _check_real_card(context)
    # Step 8.
    last4, exp, number = None, None, None
    if registered:
        number = opened_number(context, context["product"]["form"])
    else:
        last4 = drawn_last4(context)
        exp = months_after(month_now(context), context["product"]["validityMonths"])

    outcome["registersConsumer"] = context["consumerState"] is None
    new_card: Data = {
        "issuerId": command["issuerId"],
        "cardId": command["cardId"],
        "incarnation": next_incarnation(card),
        "state": command.get("state") or "ACTIVE",
        "stateReason": None,
        "suspensions": [],
        "locks": [],
        "ongoingOperation": "NONE",
        "exp": exp,
        "pendingExp": None,
        "last4": last4,
        "consumerId": command["consumerId"],
        "cardProductId": command["cardProductId"],
        "origin": "REGISTERED" if registered else "ISSUED",
        "terms": context["product"],
        "name": command.get("name") or "",
        "secondName": command.get("secondName"),
        "predecessorCardId": None,
        "successorCardId": None,
        "deleteAtMs": delete_at_ms,
        "digitalCardsRelinked": False,
        "hasAuxiliaryPan": False,
        "auxiliaryExp": None,
        "pendingAuxiliaryExp": None,
        "realCardId": command.get("realCardId"),
        "realCardIncarnation": command.get("realCardId") and context["realCard"]["incarnation"],
        "controls": None,
        "limits": None,
        "clickToPay": False,
    }
    if number is not None:
        put_number(new_card, number)
        outcome["numbers"].append(["ASSIGN_GIVEN", command["cardId"]])
    elif last4 is not None:
        outcome["numbers"].append(["ASSIGN_GENERATED", command["cardId"]])
    outcome["subject"] = new_card


def _check_real_card(context: Data) -> None:
    if context["product"]["form"] != "VIRTUAL":
        raise RefusedError("FIELD_INVALID_VALUE")
    real = context["realCard"]
    if real is None or column(real, context) != "ACTIVE":
        raise RefusedError("CARD_NOT_ACTIVE")
    if context["realCardVirtualCards"] >= tables.VIRTUAL_CARDS_MAX:
        raise RefusedError("VIRTUAL_CARD_LIMIT_REACHED")


def _decide_existing_card(card: Data | None, command: Data, context: Data, outcome: Data) -> None:
    row = _row(command)
    # domain.md 8: a signal that does not apply is ignored even when another field is bad.
    if row in tables.SIGNALS_AND_TIMERS:
        if card is None or tables.STATE_TABLE[row][_seen_by(row, card, context)] == "ignored":
            raise LeftOutError
        if row != "LOCK":
            cell = tables.STATE_TABLE[row][_seen_by(row, card, context)]
            rehearsed = {**outcome, "subject": dict(card), "caused": [], "numbers": []}
            CELLS[cell](rehearsed["subject"], command, context, rehearsed, None)
    # Step 3.
    if card is None:
        raise RefusedError("CARD_NOT_FOUND")
    # Step 4.
    check_fields(command)
    reason = check_reason(command, row)
    # Step 5.
    check_not_stale(command, context, card)
    # Steps 6 to 9.
    cell = tables.STATE_TABLE[row][_seen_by(row, card, context)]
    if cell.startswith("!"):
        raise RefusedError(cell[1:])
    after = outcome["subject"]
    CELLS[cell](after, command, context, outcome, reason)
    outcome["reasonCode"] = reason
    # A number that the card has not cannot change.
    outcome["numbers"] = [
        change for change in outcome["numbers"] if card["last4"] or "ASSIGN" in change[0]
    ]


def _seen_by(row: str, card: Data, context: Data) -> str:
    """domain.md 8: EXPIRE alone looks at the state as it is stored."""
    return str(card["state"]) if row == "EXPIRE" else column(card, context)


def _decide_consumer(consumer: Data | None, command: Data, context: Data, outcome: Data) -> None:
    cell = tables.CONSUMER_TABLE[command["command"]][consumer["state"] if consumer else None]
    if cell == "!CONSUMER_NOT_FOUND":
        raise RefusedError("CONSUMER_NOT_FOUND")
    check_fields(command)
    outcome["reasonCode"] = check_reason(command, command["command"])
    check_not_stale(command, context)
    if cell.startswith("!"):
        raise RefusedError(cell[1:])
    if cell == "DELETED":
        outcome["cascadeReason"] = "CLOSED_ACCOUNT"
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
    if command.get("newCardId") is None:
        return "RENEW v2"
    return "RENEW v1" if command["newCardId"] == command["cardId"] else "RENEW elsewhere"
