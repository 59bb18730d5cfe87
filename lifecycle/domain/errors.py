"""The error codes of FAILED operations, each with the sentence that `operation.error` carries.

Which code wins when several apply is decided in `decide.py` (design.md 5, "Which error").
"""

from enum import StrEnum

from lifecycle.domain.commands import CommandName


class ErrorCode(StrEnum):
    """Why an operation was refused (domain.md 2.1, 8; design.md 5)."""

    CARD_NOT_FOUND = "CARD_NOT_FOUND"
    CONSUMER_NOT_FOUND = "CONSUMER_NOT_FOUND"
    CARD_PRODUCT_NOT_FOUND = "CARD_PRODUCT_NOT_FOUND"
    CARD_ID_IN_USE = "CARD_ID_IN_USE"
    CONSUMER_NOT_ACTIVE = "CONSUMER_NOT_ACTIVE"
    CONSUMER_DELETED = "CONSUMER_DELETED"
    FIELD_MISSING = "FIELD_MISSING"
    FIELD_INVALID_FORMAT = "FIELD_INVALID_FORMAT"
    FIELD_INVALID_VALUE = "FIELD_INVALID_VALUE"
    DELETE_TIME_NOT_FUTURE = "DELETE_TIME_NOT_FUTURE"
    INVALID_REASON = "INVALID_REASON"
    STALE_COMMAND = "STALE_COMMAND"
    NOT_ACTIVATED = "NOT_ACTIVATED"
    OPERATION_NOT_ALLOWED = "OPERATION_NOT_ALLOWED"
    ALREADY_SUSPENDED = "ALREADY_SUSPENDED"
    NOT_SUSPENDED = "NOT_SUSPENDED"
    REPLACEMENT_REQUIRED = "REPLACEMENT_REQUIRED"
    RENEWAL_IN_PROGRESS = "RENEWAL_IN_PROGRESS"
    CARD_EXPIRED = "CARD_EXPIRED"
    CARD_RENEWED = "CARD_RENEWED"
    CARD_REPLACED = "CARD_REPLACED"
    CARD_DELETED = "CARD_DELETED"
    CARD_NOT_ACTIVE = "CARD_NOT_ACTIVE"
    VIRTUAL_CARD_LIMIT_REACHED = "VIRTUAL_CARD_LIMIT_REACHED"
    DECRYPTION_FAILED = "DECRYPTION_FAILED"
    PAN_LUHN_INVALID = "PAN_LUHN_INVALID"
    PAN_NOT_REUSABLE = "PAN_NOT_REUSABLE"
    BIN_RANGE_EXHAUSTED = "BIN_RANGE_EXHAUSTED"
    ACTIVATION_FAILED = "ACTIVATION_FAILED"
    OPERATION_TIMED_OUT = "OPERATION_TIMED_OUT"
    OUTSIDE_PARTY_FAILED = "OUTSIDE_PARTY_FAILED"


SENTENCE: dict[ErrorCode, str] = {
    ErrorCode.CARD_NOT_FOUND: "The issuer has no card with this id.",
    ErrorCode.CONSUMER_NOT_FOUND: "The issuer has no consumer with this id.",
    ErrorCode.CARD_PRODUCT_NOT_FOUND: "The issuer has not defined this card product.",
    ErrorCode.CARD_ID_IN_USE: "The card id belongs to another card.",
    ErrorCode.CONSUMER_NOT_ACTIVE: "The card's consumer is not ACTIVE.",
    ErrorCode.CONSUMER_DELETED: "The consumer is DELETED, which cannot be undone.",
    ErrorCode.FIELD_MISSING: "A field that this command needs is missing.",
    ErrorCode.FIELD_INVALID_FORMAT: "A field does not have the format asked for.",
    ErrorCode.FIELD_INVALID_VALUE: "A field holds a value that is not allowed here.",
    ErrorCode.DELETE_TIME_NOT_FUTURE: "deleteAt must lie in the future.",
    ErrorCode.INVALID_REASON: "The reasonCode is not accepted for this command here.",
    ErrorCode.STALE_COMMAND: "effectiveDate lies before the last change.",
    ErrorCode.NOT_ACTIVATED: "The card was never activated.",
    ErrorCode.OPERATION_NOT_ALLOWED: "The card's state does not allow this operation.",
    ErrorCode.ALREADY_SUSPENDED: "The card is suspended already, for no weaker a reason.",
    ErrorCode.NOT_SUSPENDED: "The card is not suspended.",
    ErrorCode.REPLACEMENT_REQUIRED: "After this suspension the card can only be replaced.",
    ErrorCode.RENEWAL_IN_PROGRESS: "A renewal of the card waits for its activation already.",
    ErrorCode.CARD_EXPIRED: "The card has expired.",
    ErrorCode.CARD_RENEWED: "The card was renewed under another card id.",
    ErrorCode.CARD_REPLACED: "The card was replaced.",
    ErrorCode.CARD_DELETED: "The card was deleted.",
    ErrorCode.CARD_NOT_ACTIVE: "The card is not ACTIVE.",
    ErrorCode.VIRTUAL_CARD_LIMIT_REACHED: "The real card has as many virtual cards as it may have.",
    ErrorCode.DECRYPTION_FAILED: "encryptedData does not open with the key that it names.",
    ErrorCode.PAN_LUHN_INVALID: "The card number has a wrong length or check digit.",
    ErrorCode.PAN_NOT_REUSABLE: "The card number is, or was, the number of another card.",
    ErrorCode.BIN_RANGE_EXHAUSTED: "The BIN range of the product has no free card numbers left.",
    ErrorCode.ACTIVATION_FAILED: "The answer that activates the card is wrong or missing.",
    ErrorCode.OPERATION_TIMED_OUT: "No answer came from outside in time.",
    ErrorCode.OUTSIDE_PARTY_FAILED: "The outside party could not do what it was asked.",
}

_READ_CARD = "Read the card's state (its newest event, or `lifecycle card show`) and"

ADVICE: dict[ErrorCode, str] = {
    ErrorCode.CARD_NOT_FOUND: "Check issuerId and cardId; a command that came before its CREATE or"
    " REGISTER is sent again under a new commandId.",
    ErrorCode.CONSUMER_NOT_FOUND: "Check issuerId and consumerId, or register the consumer first.",
    ErrorCode.CARD_PRODUCT_NOT_FOUND: "Send PRODUCT_DEFINE, wait for its event, then send the"
    " command under a new commandId.",
    ErrorCode.CARD_ID_IN_USE: "Choose another card id. One is free again only when its card has"
    " left, was registered, and its product makes no transactions.",
    ErrorCode.CONSUMER_NOT_ACTIVE: "Reactivate the consumer (CONSUMER_REACTIVATE) first.",
    ErrorCode.CONSUMER_DELETED: "Register the holder under another consumerId.",
    ErrorCode.FIELD_MISSING: "Send the field that `error` names.",
    ErrorCode.FIELD_INVALID_FORMAT: "Send the field that `error` names in the form of the field"
    " reference.",
    ErrorCode.FIELD_INVALID_VALUE: "Send another value of the field that `error` names, or leave"
    " it out: this card or command does not take it.",
    ErrorCode.DELETE_TIME_NOT_FUTURE: "Send a later deleteAt.",
    ErrorCode.INVALID_REASON: "Send a reason that the command takes (see the reasons); a RESUME"
    " needs one that undoes the suspension.",
    ErrorCode.STALE_COMMAND: f"{_READ_CARD} decide whether the command is still wanted.",
    ErrorCode.NOT_ACTIVATED: "Activate the card first, or replace or delete it.",
    ErrorCode.OPERATION_NOT_ALLOWED: f"{_READ_CARD} bring it into a state that allows this.",
    ErrorCode.ALREADY_SUSPENDED: "Nothing: the card is held already. A stronger reason replaces"
    " a weaker one.",
    ErrorCode.NOT_SUSPENDED: "Nothing: the card is ACTIVE.",
    ErrorCode.REPLACEMENT_REQUIRED: "Send REPLACE; this card never pays again.",
    ErrorCode.RENEWAL_IN_PROGRESS: "Activate the renewal that waits, or replace the card.",
    ErrorCode.CARD_EXPIRED: "Renew the card.",
    ErrorCode.CARD_RENEWED: "Send the command for the card that `successorCardId` names.",
    ErrorCode.CARD_REPLACED: "Send the command for the card that `successorCardId` names.",
    ErrorCode.CARD_DELETED: "Nothing: a deletion can't be undone.",
    ErrorCode.CARD_NOT_ACTIVE: "Activate or resume the card (that of realCardId for a virtual card)"
    " first.",
    ErrorCode.VIRTUAL_CARD_LIMIT_REACHED: "Delete virtual cards of this real card that are not"
    " used.",
    ErrorCode.DECRYPTION_FAILED: "Encrypt for a key that `lifecycle keys public` prints, with its"
    " `alg` and `enc`; `error` says more closely what was wrong.",
    ErrorCode.PAN_LUHN_INVALID: "Check the number: 10 to 19 digits, 13 to 19 of a virtual card, and"
    " the last is its check digit.",
    ErrorCode.PAN_NOT_REUSABLE: "Send another number; one that has left with a card never returns.",
    ErrorCode.BIN_RANGE_EXHAUSTED: "Define the product with another bin.",
    ErrorCode.ACTIVATION_FAILED: "Let the holder answer again, as the product's activationMethod"
    " asks.",
    ErrorCode.OPERATION_TIMED_OUT: "Ask the outside party what became of the request, then send the"
    " command under a new commandId.",
    ErrorCode.OUTSIDE_PARTY_FAILED: "Ask the outside party; an errorCode of"
    " its own stands in place of this one.",
}
"""What who sent the command can do."""

_CLICK_TO_PAY = frozenset(
    {
        CommandName.CLICK_TO_PAY_ENROLMENT,
        CommandName.CLICK_TO_PAY_UPDATE,
        CommandName.CLICK_TO_PAY_OPTOUT,
    }
)
_CREATION = frozenset({CommandName.CREATE, CommandName.REGISTER})
_NEW_CARD = _CREATION | {CommandName.REPLACE, CommandName.RENEW}
_SETTINGS = frozenset({CommandName.UPDATE_CONTROLS, CommandName.UPDATE_LIMITS})
_KNOWN_CARD = _SETTINGS | {
    CommandName.ACTIVATE,
    CommandName.SUSPEND,
    CommandName.RESUME,
    CommandName.REPLACE,
    CommandName.RENEW,
    CommandName.DELETE,
    CommandName.PRODUCE,
    *_CLICK_TO_PAY,
}
_KNOWN_CONSUMER = frozenset(
    {
        CommandName.CONSUMER_DEACTIVATE,
        CommandName.CONSUMER_REACTIVATE,
        CommandName.CONSUMER_DELETE,
    }
)
_LIVING_CARD = _KNOWN_CARD - {CommandName.CLICK_TO_PAY_OPTOUT}
_BRINGS_NUMBER = frozenset({CommandName.REGISTER, CommandName.REPLACE, CommandName.RENEW})
_WAITS = _CLICK_TO_PAY | {CommandName.RENEW, CommandName.PRODUCE}
_ANY = frozenset(CommandName)

RAISED_BY: dict[ErrorCode, frozenset[CommandName]] = {
    ErrorCode.CARD_NOT_FOUND: _KNOWN_CARD,
    ErrorCode.CONSUMER_NOT_FOUND: _KNOWN_CONSUMER,
    ErrorCode.CARD_PRODUCT_NOT_FOUND: _CREATION,
    ErrorCode.CARD_ID_IN_USE: _NEW_CARD,
    ErrorCode.CONSUMER_NOT_ACTIVE: _NEW_CARD | {CommandName.ACTIVATE, CommandName.RESUME},
    ErrorCode.CONSUMER_DELETED: _KNOWN_CONSUMER | {CommandName.CONSUMER_REGISTER},
    ErrorCode.FIELD_MISSING: frozenset({CommandName.REPLACE, CommandName.RENEW}),
    ErrorCode.FIELD_INVALID_FORMAT: _ANY,
    ErrorCode.FIELD_INVALID_VALUE: _ANY,
    ErrorCode.DELETE_TIME_NOT_FUTURE: _CREATION,
    ErrorCode.INVALID_REASON: _ANY,
    ErrorCode.STALE_COMMAND: _ANY,
    ErrorCode.NOT_ACTIVATED: frozenset(
        {CommandName.SUSPEND, CommandName.RESUME, CommandName.RENEW}
    ),
    ErrorCode.OPERATION_NOT_ALLOWED: _SETTINGS | {CommandName.ACTIVATE, CommandName.PRODUCE},
    ErrorCode.ALREADY_SUSPENDED: frozenset({CommandName.SUSPEND}),
    ErrorCode.NOT_SUSPENDED: frozenset({CommandName.RESUME}),
    ErrorCode.REPLACEMENT_REQUIRED: frozenset(
        {CommandName.ACTIVATE, CommandName.RESUME, CommandName.RENEW}
    ),
    ErrorCode.RENEWAL_IN_PROGRESS: frozenset({CommandName.RENEW}),
    ErrorCode.CARD_EXPIRED: frozenset(
        {CommandName.ACTIVATE, CommandName.SUSPEND, CommandName.RESUME, CommandName.REPLACE}
    ),
    ErrorCode.CARD_RENEWED: _LIVING_CARD,
    ErrorCode.CARD_REPLACED: _LIVING_CARD,
    ErrorCode.CARD_DELETED: _LIVING_CARD,
    ErrorCode.CARD_NOT_ACTIVE: _NEW_CARD
    | {CommandName.CLICK_TO_PAY_ENROLMENT, CommandName.CLICK_TO_PAY_UPDATE},
    ErrorCode.VIRTUAL_CARD_LIMIT_REACHED: _CREATION,
    ErrorCode.DECRYPTION_FAILED: _BRINGS_NUMBER | {CommandName.ACTIVATE},
    ErrorCode.PAN_LUHN_INVALID: _BRINGS_NUMBER,
    ErrorCode.PAN_NOT_REUSABLE: _BRINGS_NUMBER,
    ErrorCode.BIN_RANGE_EXHAUSTED: frozenset({CommandName.CREATE, CommandName.REPLACE}),
    ErrorCode.ACTIVATION_FAILED: frozenset({CommandName.ACTIVATE}),
    ErrorCode.OPERATION_TIMED_OUT: _WAITS,
    ErrorCode.OUTSIDE_PARTY_FAILED: _WAITS,
}
"""The commands whose operation may end with it, that of a PENDING one among them."""

assert SENTENCE.keys() == ADVICE.keys() == RAISED_BY.keys() == set(ErrorCode), "each has its entry"
