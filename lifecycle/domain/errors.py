"""The error codes of FAILED operations, each with the sentence that `operation.error` carries.

Which code wins when several apply is decided in `decide.py` (design.md 5, "Which error").
"""

from enum import StrEnum


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
    ErrorCode.DECRYPTION_FAILED: "encryptedData does not open with any key of this service.",
    ErrorCode.PAN_LUHN_INVALID: "The card number has a wrong length or check digit.",
    ErrorCode.PAN_NOT_REUSABLE: "The card number is, or was, the number of another card.",
    ErrorCode.BIN_RANGE_EXHAUSTED: "The BIN range of the product has no free card numbers left.",
    ErrorCode.ACTIVATION_FAILED: "The answer that activates the card is wrong or missing.",
    ErrorCode.OPERATION_TIMED_OUT: "No answer came from outside in time.",
    ErrorCode.OUTSIDE_PARTY_FAILED: "The outside party could not do what it was asked.",
}
