"""What each cell of domain.md 2.1 does to a card, under the name it has in `tables`."""

from collections.abc import Callable

from tests.oracle import tables
from tests.oracle.fields import (
    Data,
    LeftOutError,
    RefusedError,
    month,
    month_now,
    months_after,
    settings_text,
)
from tests.oracle.renewals import (
    active_unless_suspended_before,
    finish_renewal,
    leaves_for_another_id,
    leaves_unless_lost,
    renews_active,
    renews_at_once_into_new_card_state,
    renews_by_itself,
    renews_expired,
    renews_suspended,
)
from tests.oracle.successors import (
    drawn_last4,
    end,
    new_card_must_be_possible,
    next_incarnation,
    opened_number,
    put_number,
    relink_predecessor,
    succeed,
    successor,
)


def _becomes_active(
    after: Data, command: Data, context: Data, outcome: Data, _reason: str | None
) -> None:
    _consumer_must_be_active(context)
    _answer_must_be_right(after, command, context)
    after["state"] = "ACTIVE"
    relink_predecessor(after, context, outcome)


def _takes_the_pending_expiry_or_nothing(
    after: Data, command: Data, context: Data, outcome: Data, _reason: str | None
) -> None:
    _consumer_must_be_active(context)
    if after["ongoingOperation"] == "RENEWAL":
        _answer_must_be_right(after, command, context)
        finish_renewal(after, outcome)


def _takes_the_pending_expiry_or_card_expired(
    after: Data, command: Data, context: Data, outcome: Data, _reason: str | None
) -> None:
    if after["stateReason"] in tables.NEEDS_REPLACEMENT:
        raise RefusedError("REPLACEMENT_REQUIRED")
    if after["ongoingOperation"] != "RENEWAL":
        raise RefusedError("CARD_EXPIRED")
    _consumer_must_be_active(context)
    _answer_must_be_right(after, command, context)
    finish_renewal(after, outcome)
    after["state"] = active_unless_suspended_before(after)
    relink_predecessor(after, context, outcome)


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
    """domain.md 3.1: what a registered card needs, an issued one forbids."""
    given = [command.get("newCardId"), command.get("encryptedData")]
    if after["origin"] == "ISSUED" and given != [None, None]:
        raise RefusedError("FIELD_INVALID_VALUE")
    if after["origin"] == "REGISTERED":
        if None in given:
            raise RefusedError("FIELD_MISSING")
        if command["newCardId"] == after["cardId"]:
            raise RefusedError("FIELD_INVALID_VALUE")
    new_card_must_be_possible(after, context)
    state = "ACTIVE" if after["terms"]["form"] == "VIRTUAL" else "INACTIVE"
    if after["origin"] == "ISSUED":
        last4 = drawn_last4(context)
        new_card = successor(after, context, context["generatedCardId"], state, 1)
        new_card["exp"] = months_after(month_now(context), context["product"]["validityMonths"])
        new_card["last4"] = last4
        succeed(after, new_card, "REPLACED", reason, outcome, "CREATE")
    else:
        number = opened_number(context, after["terms"]["form"])
        new_card = successor(
            after, context, command["newCardId"], state, next_incarnation(context["newCard"])
        )
        put_number(new_card, number)
        succeed(after, new_card, "REPLACED", reason, outcome, "REGISTER")


def _becomes_replaced_after_loss(
    after: Data, command: Data, context: Data, outcome: Data, reason: str | None
) -> None:
    if after["stateReason"] not in tables.NEEDS_REPLACEMENT:
        raise RefusedError("CARD_EXPIRED")
    _becomes_replaced(after, command, context, outcome, reason)


def _expires(
    after: Data, _command: Data, context: Data, _outcome: Data, _reason: str | None
) -> None:
    if after["exp"] is None or month(after["exp"]) >= month_now(context):
        raise LeftOutError
    after["state"] = "EXPIRED"


def _is_deleted_at_last(
    after: Data, _command: Data, context: Data, outcome: Data, _reason: str | None
) -> None:
    if after["deleteAtMs"] is None or context["startTimeMs"] < after["deleteAtMs"]:
        raise LeftOutError
    end(after, "DELETED", "CLOSED_CARD", outcome)


def _activated_by_its_first_use(
    after: Data, _command: Data, context: Data, outcome: Data, _reason: str | None
) -> None:
    _first_use_must_count(after, context)
    after["state"] = "ACTIVE"
    relink_predecessor(after, context, outcome)


def _renewed_by_its_first_use(
    after: Data, _command: Data, context: Data, outcome: Data, _reason: str | None
) -> None:
    _first_use_must_count(after, context)
    if after["ongoingOperation"] != "RENEWAL":
        raise LeftOutError
    finish_renewal(after, outcome)


def _first_use_must_count(card: Data, context: Data) -> None:
    if card["terms"]["form"] != "PHYSICAL" or not card["terms"]["implicitActivation"]:
        raise LeftOutError
    # Ours: an activation needs an ACTIVE consumer; without one this signal does not apply.
    if context["consumerState"] != "ACTIVE":
        raise LeftOutError


def _is_ordered(
    _after: Data, _command: Data, _context: Data, outcome: Data, _reason: str | None
) -> None:
    outcome["status"] = "PENDING"
    outcome["request"] = "PRODUCE"


def _asks_the_scheme(
    _after: Data, command: Data, _context: Data, outcome: Data, _reason: str | None
) -> None:
    outcome["status"] = "PENDING"
    outcome["request"] = command["command"]


def _opts_out(after: Data, command: Data, context: Data, outcome: Data, reason: str | None) -> None:
    """SUCCESSFUL when never enrolled; else the scheme is asked (S5)."""
    if after["clickToPay"] or context["enrolmentIsPending"]:
        _asks_the_scheme(after, command, context, outcome, reason)


def _gets_other_controls(
    after: Data, command: Data, _context: Data, _outcome: Data, _reason: str | None
) -> None:
    after["controls"] = settings_text(command["controls"])


def _gets_other_limits(
    after: Data, command: Data, _context: Data, _outcome: Data, _reason: str | None
) -> None:
    after["limits"] = settings_text(command["limits"])


def _becomes_deleted(
    after: Data, _command: Data, _context: Data, outcome: Data, reason: str | None
) -> None:
    end(after, "DELETED", reason, outcome)


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


def _answer_must_be_right(card: Data, command: Data, context: Data) -> None:
    """domain.md 8: LAST4 carries last4, CVV encryptedData around the cvv."""
    method = card["terms"]["activationMethod"]
    if method == "CVV":
        if command.get("encryptedData") is None:
            raise RefusedError("ACTIVATION_FAILED")
        if isinstance(context["opened"], str):
            raise RefusedError(context["opened"])
        if context["cardCvvMatches"] is not True:
            raise RefusedError("ACTIVATION_FAILED")
    if method == "LAST4":
        if command.get("last4") is None or card["last4"] is None:
            raise RefusedError("ACTIVATION_FAILED")
        if command["last4"] != card["last4"]:
            raise RefusedError("ACTIVATION_FAILED")


def _remember_suspension(card: Data, reason: str) -> None:
    card["suspensions"] = sorted({*card["suspensions"], reason})


CELLS: dict[str, Callable[[Data, Data, Data, Data, str | None], None]] = {
    "becomes active": _becomes_active,
    "takes the pending expiry, or nothing": _takes_the_pending_expiry_or_nothing,
    "takes the pending expiry, or CARD_EXPIRED": _takes_the_pending_expiry_or_card_expired,
    "becomes suspended": _becomes_suspended,
    "strictly stronger reason, or ALREADY_SUSPENDED": _strictly_stronger_reason,
    "becomes active if the reasons match": _becomes_active_if_the_reasons_match,
    "becomes replaced": _becomes_replaced,
    "becomes replaced after loss, or CARD_EXPIRED": _becomes_replaced_after_loss,
    "renews active": renews_active,
    "renews suspended": renews_suspended,
    "renews expired": renews_expired,
    "renews at once into newCardState": renews_at_once_into_new_card_state,
    "leaves for another id": leaves_for_another_id,
    "leaves for another id unless lost": leaves_unless_lost,
    "becomes deleted": _becomes_deleted,
    "becomes suspended by the lock": _becomes_suspended_by_the_lock,
    "gets the lock, reason kept unless weaker": _gets_the_lock,
    "activated by its first use": _activated_by_its_first_use,
    "renewed by its first use": _renewed_by_its_first_use,
    "expires": _expires,
    "renews by itself": renews_by_itself,
    "is deleted at last": _is_deleted_at_last,
    "is ordered": _is_ordered,
    "asks the scheme": _asks_the_scheme,
    "opts out": _opts_out,
    "gets other controls": _gets_other_controls,
    "gets other limits": _gets_other_limits,
}
