"""One card after another, and the numbers they have (domain.md 3.1, 3.2, 3.5, 4)."""

from tests.oracle import tables
from tests.oracle.fields import Data, RefusedError


def new_card_must_be_possible(card: Data, context: Data) -> None:
    if card["origin"] == "ISSUED":
        if context["generatedCardIdInUse"]:
            raise RefusedError("CARD_ID_IN_USE")
    elif context["newCard"] is not None and not may_be_used_again(context["newCard"]):
        raise RefusedError("CARD_ID_IN_USE")
    # Ours: a cascade that has listed the cards must not leave a new one behind.
    if context["consumerState"] == "DELETED":
        raise RefusedError("CONSUMER_NOT_ACTIVE")
    if card["realCardId"] is not None:
        real = context["realCard"]
        if (
            real is None
            or real["state"] in tables.TERMINAL
            or real["incarnation"] != card["realCardIncarnation"]
        ):
            raise RefusedError("CARD_NOT_ACTIVE")


def successor(card: Data, context: Data, card_id: str, state: str, incarnation: int) -> Data:
    """What a new card takes over: whose it is, of which product as it is now, and its settings."""
    new_card = dict(card)
    new_card.update(cardId=card_id, incarnation=incarnation, state=state)
    new_card.update(terms=context["product"])
    new_card.update(stateReason=None, suspensions=[], locks=[], ongoingOperation="NONE")
    new_card.update(exp=None, pendingExp=None, last4=None)
    new_card.update(hasAuxiliaryPan=False, auxiliaryExp=None, pendingAuxiliaryExp=None)
    new_card.update(predecessorCardId=card["cardId"], successorCardId=None)
    # domain.md 8: deleteAt comes with CREATE or REGISTER; the command that made this card had none.
    new_card.update(deleteAtMs=None, digitalCardsRelinked=False, clickToPay=False)
    return new_card


def succeed(  # noqa: PLR0913, PLR0917 -- all that a succession is
    card: Data, new_card: Data, state: str, reason: str | None, outcome: Data, kind: str
) -> None:
    outcome["caused"].append({"kind": kind, "card": new_card})
    end(card, state, reason, outcome)
    card["successorCardId"] = new_card["cardId"]
    card["digitalCardsRelinked"] = new_card["state"] == "ACTIVE"
    give_number(new_card, outcome)


def give_number(card: Data, outcome: Data) -> None:
    if card["last4"] is not None:
        kind = "ASSIGN_GENERATED" if card["origin"] == "ISSUED" else "ASSIGN_GIVEN"
        outcome["numbers"].append([kind, card["cardId"]])


def next_incarnation(holder: Data | None) -> int:
    return holder["incarnation"] + 1 if holder else 1


def may_be_used_again(card: Data) -> bool:
    """domain.md 4, first sentence."""
    gone = card["state"] in ("DELETED", "REPLACED", "RENEWED")
    return gone and card["origin"] != "ISSUED" and not card["terms"]["transactions"]


def put_number(card: Data, number: Data) -> None:
    card["exp"] = number["exp"]
    card["last4"] = number["pan"][-4:]
    card["hasAuxiliaryPan"] = number["auxiliaryPan"] is not None
    card["auxiliaryExp"] = number["auxiliaryExp"]


def drawn_last4(context: Data) -> str | None:
    drawn = context["generatedLast4"]
    if drawn is not None and not drawn.isdigit():
        raise RefusedError(drawn)
    return str(drawn) if drawn is not None else None


def opened_number(context: Data, form: str) -> Data:
    """design.md 5, step 8, in its order."""
    opened = context["opened"]
    if opened is None:
        raise RefusedError("DECRYPTION_FAILED")
    if isinstance(opened, str):
        raise RefusedError(opened)
    if form == "VIRTUAL" and len(opened["pan"]) < tables.VIRTUAL_PAN_DIGITS_MIN:
        raise RefusedError("PAN_LUHN_INVALID")
    if not context["panIsFree"]:
        raise RefusedError("PAN_NOT_REUSABLE")
    return dict(opened)


def end(card: Data, state: str, reason: str | None, outcome: Data) -> None:
    """domain.md 8: a terminal state clears locks, ongoingOperation and pendingExp."""
    card["state"] = state
    card["stateReason"] = reason
    card["locks"] = []
    card["ongoingOperation"] = "NONE"
    card["pendingExp"] = None
    card["pendingAuxiliaryExp"] = None
    # domain.md 4: its number never returns; 8: its virtual cards leave with it.
    outcome["numbers"].append(["RETIRE", card["cardId"]])
    outcome["cascadeReason"] = "CLOSED_CARD"


def relink_predecessor(card: Data, context: Data, outcome: Data) -> None:
    """domain.md 3.5, 8: when a successor is activated later, the old card gets a RELINK."""
    old = context["predecessor"]
    if card["state"] != "ACTIVE" or card["predecessorCardId"] is None or old is None:
        return
    if old["state"] not in ("REPLACED", "RENEWED") or old["digitalCardsRelinked"]:
        return
    if old["successorCardId"] != card["cardId"]:
        return  # the next life of that id (domain.md 4)
    relinked = dict(old)
    relinked["digitalCardsRelinked"] = True
    outcome["caused"].append({"kind": "RELINK", "card": relinked})
