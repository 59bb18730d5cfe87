"""What each cell of domain.md 2.1 does to a card, under the name it has in `tables`."""

import copy
from collections.abc import Callable

from tests.oracle import tables
from tests.oracle.fields import (
    Data,
    RefusedError,
    column,
    month,
    month_now,
    months_after,
    renewed_expiry,
)


def _becomes_active(
    after: Data, command: Data, context: Data, outcome: Data, _reason: str | None
) -> None:
    _consumer_must_be_active(context)
    _answer_must_be_right(after, command)
    after["state"] = "ACTIVE"
    _relink_predecessor(after, context, outcome)


def _takes_the_pending_expiry_or_nothing(
    after: Data, command: Data, context: Data, _outcome: Data, _reason: str | None
) -> None:
    _consumer_must_be_active(context)
    if after["ongoingOperation"] == "RENEWAL":
        _answer_must_be_right(after, command)
        _finish_renewal(after)


def _takes_the_pending_expiry_or_card_expired(
    after: Data, command: Data, context: Data, outcome: Data, _reason: str | None
) -> None:
    if after["stateReason"] in tables.NEEDS_REPLACEMENT:
        raise RefusedError("REPLACEMENT_REQUIRED")
    if after["ongoingOperation"] != "RENEWAL":
        raise RefusedError("CARD_EXPIRED")
    _consumer_must_be_active(context)
    _answer_must_be_right(after, command)
    _finish_renewal(after)
    after["state"] = _active_unless_suspended_before(after)
    _relink_predecessor(after, context, outcome)


def _becomes_suspended(
    after: Data, _command: Data, _context: Data, _outcome: Data, reason: str | None
) -> None:
    after["state"] = "SUSPENDED"
    after["stateReason"] = reason
    after["suspensions"] = [reason]


def _strictly_stronger_reason(
    after: Data, _command: Data, _context: Data, _outcome: Data, reason: str | None
) -> None:
    assert reason is not None
    if tables.STRENGTH[reason] <= tables.STRENGTH[after["stateReason"]]:
        raise RefusedError("ALREADY_SUSPENDED")
    after["stateReason"] = reason
    _remember_suspension(after, reason)


def _becomes_active_if_the_reasons_match(
    after: Data, _command: Data, context: Data, _outcome: Data, reason: str | None
) -> None:
    assert reason is not None
    _consumer_must_be_active(context)
    # domain.md 8: a suspension keeps what the weaker one before it needed, locks included. So
    # the resume must be right for each of them; what asks for a replacement comes first.
    answers = {tables.RESUME_TABLE[before][reason] for before in after["suspensions"]}
    for wrong in ["!REPLACEMENT_REQUIRED", "!INVALID_REASON"]:
        if wrong in answers:
            raise RefusedError(wrong[1:])
    after["state"] = "ACTIVE"
    after["stateReason"] = None
    after["suspensions"] = []
    after["locks"] = []


def _becomes_replaced(
    after: Data, command: Data, context: Data, outcome: Data, reason: str | None
) -> None:
    if command.get("newCardId") is not None or command.get("encryptedData") is not None:
        raise RefusedError("FIELD_INVALID_VALUE")
    if context["generatedCardIdInUse"]:
        raise RefusedError("CARD_ID_IN_USE")
    virtual = after["terms"]["form"] == "VIRTUAL"
    new_card = copy.deepcopy(after)
    new_card["cardId"] = context["generatedCardId"]
    new_card["incarnation"] = 1
    new_card["state"] = "ACTIVE" if virtual else "INACTIVE"
    new_card["stateReason"] = None
    new_card["suspensions"] = []
    new_card["locks"] = []
    new_card["ongoingOperation"] = "NONE"
    new_card["exp"] = months_after(month_now(context), after["terms"]["validityMonths"])
    new_card["pendingExp"] = None
    new_card["last4"] = None
    new_card["predecessorCardId"] = after["cardId"]
    # domain.md 8: deleteAt comes with CREATE; the command that made this card had none.
    new_card["deleteAtMs"] = None
    new_card["successorCardId"] = None
    new_card["digitalCardsRelinked"] = False
    outcome["caused"].append({"kind": "CREATE", "card": new_card})
    _end(after, "REPLACED", reason)
    after["successorCardId"] = context["generatedCardId"]
    after["digitalCardsRelinked"] = virtual


def _becomes_replaced_after_loss(
    after: Data, command: Data, context: Data, outcome: Data, reason: str | None
) -> None:
    if after["stateReason"] not in tables.NEEDS_REPLACEMENT:
        raise RefusedError("CARD_EXPIRED")
    _becomes_replaced(after, command, context, outcome, reason)


def _renews_active(
    after: Data, command: Data, context: Data, _outcome: Data, _reason: str | None
) -> None:
    _renewal_must_be_possible(after, command, context)
    _set_expiry_or_pending_expiry(after, context)


def _renews_suspended(
    after: Data, command: Data, context: Data, _outcome: Data, _reason: str | None
) -> None:
    # v1 in place too: it is as v2, and never lifts a suspension (domain.md 8).
    _renewal_must_be_possible(after, command, context)
    _set_expiry_or_pending_expiry(after, context)


def _renews_expired(
    after: Data, command: Data, context: Data, outcome: Data, _reason: str | None
) -> None:
    _renewal_must_be_possible(after, command, context)
    _set_expiry_or_pending_expiry(after, context)
    if after["terms"]["form"] == "VIRTUAL":
        after["state"] = _active_unless_suspended_before(after)
        _relink_predecessor(after, context, outcome)
    else:
        after["state"] = "EXPIRED"


def _renews_at_once_into_new_card_state(
    after: Data, command: Data, context: Data, outcome: Data, _reason: str | None
) -> None:
    _renewal_must_be_possible(after, command, context)
    after["exp"] = renewed_expiry(after, context)
    after["state"] = command["newCardState"]
    if after["stateReason"] is not None:
        after["state"] = "SUSPENDED"
    _relink_predecessor(after, context, outcome)


def _becomes_deleted(
    after: Data, _command: Data, _context: Data, _outcome: Data, reason: str | None
) -> None:
    _end(after, "DELETED", reason)


def _becomes_suspended_by_the_lock(
    after: Data, command: Data, _context: Data, _outcome: Data, _reason: str | None
) -> None:
    after["state"] = "SUSPENDED"
    after["stateReason"] = tables.LOCK_REASON[command["lock"]]
    after["suspensions"] = [after["stateReason"]]
    after["locks"] = [command["lock"]]


def _gets_the_lock(
    after: Data, command: Data, _context: Data, _outcome: Data, _reason: str | None
) -> None:
    lock_reason = tables.LOCK_REASON[command["lock"]]
    if command["lock"] in after["locks"]:
        return
    after["locks"] = sorted([*after["locks"], command["lock"]])
    if tables.STRENGTH[after["stateReason"]] < tables.STRENGTH[lock_reason]:
        after["stateReason"] = lock_reason
    _remember_suspension(after, lock_reason)


def _consumer_must_be_active(context: Data) -> None:
    if context["consumerState"] != "ACTIVE":
        raise RefusedError("CONSUMER_NOT_ACTIVE")


def _answer_must_be_right(card: Data, command: Data) -> None:
    method = card["terms"]["activationMethod"]
    # There are no keys yet that could open what a CVV card sends, so no answer is right.
    if method == "CVV":
        raise RefusedError("ACTIVATION_FAILED")
    if method == "LAST4":
        if command.get("last4") is None or card["last4"] is None:
            raise RefusedError("ACTIVATION_FAILED")
        if command["last4"] != card["last4"]:
            raise RefusedError("ACTIVATION_FAILED")


def _renewal_must_be_possible(card: Data, command: Data, context: Data) -> None:
    expired = column(card, context) == "EXPIRED"
    if card["ongoingOperation"] == "RENEWAL":
        raise RefusedError("RENEWAL_IN_PROGRESS")
    # domain.md 8: "in place it refuses what v2 refuses"; to another id only a pending renewal
    # stands in the way of a SUSPENDED card, but EXPIRED after a loss refuses "every renew".
    elsewhere = command.get("newCardId") not in (None, card["cardId"])
    if card["stateReason"] in tables.NEEDS_REPLACEMENT and not (elsewhere and not expired):
        raise RefusedError("REPLACEMENT_REQUIRED")
    if (command.get("newCardId") is None) != (command.get("newCardState") is None):
        raise RefusedError("FIELD_MISSING")
    for forbidden in ["newExp", "newAuxiliaryExp", "encryptedData"]:
        if command.get(forbidden) is not None:
            raise RefusedError("FIELD_INVALID_VALUE")
    for name, only in [("newCardId", "cardId"), ("newCardProductId", "cardProductId")]:
        if command.get(name) is not None and command[name] != card[only]:
            raise RefusedError("FIELD_INVALID_VALUE")
    if card["exp"] is not None and month(card["exp"]) >= tables.LAST_EXPIRY:
        raise RefusedError("FIELD_INVALID_VALUE")  # the new one would not be later


def _set_expiry_or_pending_expiry(card: Data, context: Data) -> None:
    if card["terms"]["form"] == "VIRTUAL":
        card["exp"] = renewed_expiry(card, context)
    else:
        card["pendingExp"] = renewed_expiry(card, context)
        card["ongoingOperation"] = "RENEWAL"


def _finish_renewal(card: Data) -> None:
    card["exp"] = card["pendingExp"]
    card["pendingExp"] = None
    card["ongoingOperation"] = "NONE"


def _active_unless_suspended_before(card: Data) -> str:
    """domain.md 8: after another suspension they end in SUSPENDED, never in ACTIVE."""
    return "ACTIVE" if card["stateReason"] is None else "SUSPENDED"


def _remember_suspension(card: Data, reason: str) -> None:
    card["suspensions"] = sorted({*card["suspensions"], reason})


def _end(card: Data, state: str, reason: str | None) -> None:
    """domain.md 8: a terminal state clears locks, ongoingOperation and pendingExp."""
    card["state"] = state
    card["stateReason"] = reason
    card["locks"] = []
    card["ongoingOperation"] = "NONE"
    card["pendingExp"] = None


def _relink_predecessor(card: Data, context: Data, outcome: Data) -> None:
    """domain.md 3.5, 8: when a successor is activated later, the old card gets a RELINK."""
    old = context["predecessor"]
    if card["state"] != "ACTIVE" or card["predecessorCardId"] is None or old is None:
        return
    if old["state"] not in ("REPLACED", "RENEWED") or old["digitalCardsRelinked"]:
        return
    relinked = copy.deepcopy(old)
    relinked["digitalCardsRelinked"] = True
    outcome["caused"].append({"kind": "RELINK", "card": relinked})


CELLS: dict[str, Callable[[Data, Data, Data, Data, str | None], None]] = {
    "becomes active": _becomes_active,
    "takes the pending expiry, or nothing": _takes_the_pending_expiry_or_nothing,
    "takes the pending expiry, or CARD_EXPIRED": _takes_the_pending_expiry_or_card_expired,
    "becomes suspended": _becomes_suspended,
    "strictly stronger reason, or ALREADY_SUSPENDED": _strictly_stronger_reason,
    "becomes active if the reasons match": _becomes_active_if_the_reasons_match,
    "becomes replaced": _becomes_replaced,
    "becomes replaced after loss, or CARD_EXPIRED": _becomes_replaced_after_loss,
    "renews active": _renews_active,
    "renews suspended": _renews_suspended,
    "renews expired": _renews_expired,
    "renews at once into newCardState": _renews_at_once_into_new_card_state,
    "becomes deleted": _becomes_deleted,
    "becomes suspended by the lock": _becomes_suspended_by_the_lock,
    "gets the lock, reason kept unless weaker": _gets_the_lock,
}
