"""What renew does to a card, in every form that it has (domain.md 2.1, 3, 8)."""

from tests.oracle import tables
from tests.oracle.fields import (
    Data,
    LeftOutError,
    RefusedError,
    first_day_of_window,
    is_later,
    month,
    renewed_expiry,
    today,
)
from tests.oracle.successors import (
    give_number,
    new_card_must_be_possible,
    next_incarnation,
    opened_number,
    put_number,
    relink_predecessor,
    succeed,
    successor,
)


def renews_active(
    after: Data, command: Data, context: Data, outcome: Data, _reason: str | None
) -> None:
    number = _renewal_must_be_possible(after, command, context)
    _set_expiry_or_pending_expiry(after, command, context, outcome, number)


def renews_suspended(
    after: Data, command: Data, context: Data, outcome: Data, _reason: str | None
) -> None:
    # v1 in place too: it is as v2, and never lifts a suspension (domain.md 8).
    number = _renewal_must_be_possible(after, command, context)
    _set_expiry_or_pending_expiry(after, command, context, outcome, number)


def renews_expired(
    after: Data, command: Data, context: Data, outcome: Data, _reason: str | None
) -> None:
    number = _renewal_must_be_possible(after, command, context)
    _set_expiry_or_pending_expiry(after, command, context, outcome, number)
    if after["terms"]["form"] == "VIRTUAL":
        after["state"] = active_unless_suspended_before(after)
        relink_predecessor(after, context, outcome)
    else:
        after["state"] = "EXPIRED"


def renews_at_once_into_new_card_state(
    after: Data, command: Data, context: Data, outcome: Data, _reason: str | None
) -> None:
    number = _renewal_must_be_possible(after, command, context)
    _set_expiry(after, command, context, outcome, number)
    after["state"] = command["newCardState"]
    if after["stateReason"] is not None:
        after["state"] = "SUSPENDED"
    relink_predecessor(after, context, outcome)


def leaves_for_another_id(
    after: Data, command: Data, context: Data, outcome: Data, reason: str | None
) -> None:
    """domain.md 2.1 renew v1 with newCardId other than cardId, 3.3, 8."""
    if after["ongoingOperation"] == "RENEWAL":
        raise RefusedError("RENEWAL_IN_PROGRESS")
    _halves_of_v1_must_be_whole(command)
    if after["terms"]["scheme"] == "AMEX" and after["origin"] == "REGISTERED":
        _must_be_there(command, "encryptedData")
    if after["origin"] == "ISSUED":
        raise RefusedError("FIELD_INVALID_VALUE")
    _product_must_stay(after, command)
    replaced = reason in tables.REPLACE_REASONS
    if not replaced:
        _given_expiries_must_be_later(after, command)
    new_card_must_be_possible(after, context)
    if command.get("encryptedData") is None and not context.get("answered"):
        outcome["status"] = "PENDING"
        outcome["request"] = "RENEW"
        return
    if context.get("answered") and context["opened"] is None:
        raise RefusedError("FIELD_MISSING")
    number = opened_number(context, after["terms"]["form"])
    _number_must_fit(after, command, number, later=not replaced)
    incarnation = next_incarnation(context["newCard"])
    new_card = successor(after, context, command["newCardId"], command["newCardState"], incarnation)
    put_number(new_card, number)
    left = "REPLACED" if replaced else "RENEWED"
    succeed(after, new_card, left, reason, outcome, "REGISTER")


def leaves_unless_lost(
    after: Data, command: Data, context: Data, outcome: Data, reason: str | None
) -> None:
    if after["ongoingOperation"] == "RENEWAL":
        raise RefusedError("RENEWAL_IN_PROGRESS")
    if after["stateReason"] in tables.NEEDS_REPLACEMENT:
        raise RefusedError("REPLACEMENT_REQUIRED")
    leaves_for_another_id(after, command, context, outcome, reason)


def renews_by_itself(
    after: Data, command: Data, context: Data, outcome: Data, _reason: str | None
) -> None:
    terms = after["terms"]
    if not terms["autoRenew"] or after["origin"] != "ISSUED" or after["exp"] is None:
        raise LeftOutError
    if after["ongoingOperation"] == "RENEWAL" or month(after["exp"]) >= tables.LAST_EXPIRY:
        raise LeftOutError
    if today(context) < first_day_of_window(after["exp"], terms["autoRenewDays"]):
        raise LeftOutError
    _set_expiry_or_pending_expiry(after, command, context, outcome, None)


def _renewal_must_be_possible(card: Data, command: Data, context: Data) -> Data | None:
    """In place (domain.md 2.1, 3, 8); the number that v1 may bring."""
    if card["ongoingOperation"] == "RENEWAL":
        raise RefusedError("RENEWAL_IN_PROGRESS")
    if card["stateReason"] in tables.NEEDS_REPLACEMENT:
        raise RefusedError("REPLACEMENT_REQUIRED")
    _halves_of_v1_must_be_whole(command)
    if card["origin"] == "ISSUED":
        _product_must_stay(card, command)
        for forbidden in ["newExp", "newAuxiliaryExp", "encryptedData"]:
            if command.get(forbidden) is not None:
                raise RefusedError("FIELD_INVALID_VALUE")
        if card["exp"] is not None and month(card["exp"]) >= tables.LAST_EXPIRY:
            raise RefusedError("FIELD_INVALID_VALUE")  # the new one would not be later
        return None
    return _registered_renewal_must_be_possible(card, command, context)


def _registered_renewal_must_be_possible(card: Data, command: Data, context: Data) -> Data | None:
    is_v1 = command.get("newCardId") is not None
    brought = command.get("encryptedData") is not None
    _must_be_there(command, "newExp")
    if card["hasAuxiliaryPan"]:
        _must_be_there(command, "newAuxiliaryExp")
    if is_v1 and card["terms"]["scheme"] == "AMEX":
        _must_be_there(command, "encryptedData")
    _product_must_stay(card, command)
    if brought and not is_v1:
        raise RefusedError("FIELD_INVALID_VALUE")
    if command.get("newAuxiliaryExp") is not None and not (card["hasAuxiliaryPan"] or brought):
        raise RefusedError("FIELD_INVALID_VALUE")
    _given_expiries_must_be_later(card, command)
    if not brought:
        return None
    number = opened_number(context, card["terms"]["form"])
    _number_must_fit(card, command, number, later=True)
    return number


def _must_be_there(command: Data, field: str) -> None:
    if command.get(field) is None:
        raise RefusedError("FIELD_MISSING")


def _halves_of_v1_must_be_whole(command: Data) -> None:
    if (command.get("newCardId") is None) != (command.get("newCardState") is None):
        raise RefusedError("FIELD_MISSING")


def _product_must_stay(card: Data, command: Data) -> None:
    if command.get("newCardProductId") not in (None, card["cardProductId"]):
        raise RefusedError("FIELD_INVALID_VALUE")


def _given_expiries_must_be_later(card: Data, command: Data) -> None:
    for given, current in [("newExp", "exp"), ("newAuxiliaryExp", "auxiliaryExp")]:
        if command.get(given) is not None and not is_later(command[given], card[current]):
            raise RefusedError("FIELD_INVALID_VALUE")


def _number_must_fit(card: Data, command: Data, number: Data, *, later: bool) -> None:
    """Ours: expiries said twice are said alike. domain.md 3.4: those of a renewal are later."""
    pairs = [("newExp", "exp", "exp"), ("newAuxiliaryExp", "auxiliaryExp", "auxiliaryExp")]
    for said, brought, current in pairs:
        if number[brought] is None:
            continue
        if command.get(said) is not None and command[said] != number[brought]:
            raise RefusedError("FIELD_INVALID_VALUE")
        if later and not is_later(number[brought], card[current]):
            raise RefusedError("FIELD_INVALID_VALUE")


def _new_expiries(
    card: Data, command: Data, context: Data, number: Data | None
) -> tuple[str, str | None]:
    if card["origin"] == "ISSUED":
        return renewed_expiry(card, context), card["auxiliaryExp"]
    auxiliary = card["auxiliaryExp"]
    if command.get("newAuxiliaryExp") is not None:
        auxiliary = command["newAuxiliaryExp"]
    if number is not None and number["auxiliaryExp"] is not None:
        auxiliary = number["auxiliaryExp"]
    return command["newExp"], auxiliary


def _set_expiry(
    card: Data, command: Data, context: Data, outcome: Data, number: Data | None
) -> None:
    card["exp"], card["auxiliaryExp"] = _new_expiries(card, command, context, number)
    if not _take_number(card, outcome, number):
        outcome["numbers"].append(["KEEP_WITH_NEW_EXPIRY", card["cardId"]])


def _set_expiry_or_pending_expiry(
    card: Data, command: Data, context: Data, outcome: Data, number: Data | None
) -> None:
    if card["terms"]["form"] == "VIRTUAL":
        _set_expiry(card, command, context, outcome, number)
        return
    exp, auxiliary = _new_expiries(card, command, context, number)
    card.update(pendingExp=exp, pendingAuxiliaryExp=auxiliary, ongoingOperation="RENEWAL")
    _take_number(card, outcome, number)


def _take_number(card: Data, outcome: Data, number: Data | None) -> bool:
    if number is None:
        return False
    card["last4"] = number["pan"][-4:]
    card["hasAuxiliaryPan"] = card["hasAuxiliaryPan"] or number["auxiliaryPan"] is not None
    give_number(card, outcome)
    return True


def finish_renewal(card: Data, outcome: Data) -> None:
    card["exp"] = card["pendingExp"]
    card["pendingExp"] = None
    card["ongoingOperation"] = "NONE"
    if card["pendingAuxiliaryExp"] is not None:
        card["auxiliaryExp"] = card["pendingAuxiliaryExp"]
        card["pendingAuxiliaryExp"] = None
    outcome["numbers"].append(["KEEP_WITH_NEW_EXPIRY", card["cardId"]])


def active_unless_suspended_before(card: Data) -> str:
    """domain.md 8: after another suspension they end in SUSPENDED, never in ACTIVE."""
    return "ACTIVE" if card["stateReason"] is None else "SUSPENDED"
