"""The tables of domain.md, copied cell by cell as words; `rule_book` says what each word does.

A cell that starts with `!` is the error code of a FAILED operation; `ignored` leaves nothing.
To extend the oracle, add rows here and words there.
"""

# domain.md 2: the three states that nothing leaves, with the error that 2.1 calls "terminal error".
TERMINAL = {
    "RENEWED": "!CARD_RENEWED",
    "REPLACED": "!CARD_REPLACED",
    "DELETED": "!CARD_DELETED",
}
IGNORED_WHEN_TERMINAL = {"RENEWED": "ignored", "REPLACED": "ignored", "DELETED": "ignored"}

# domain.md 2.1, one dictionary per row, columns in the order of the book.
STATE_TABLE = {
    "ACTIVATE": {
        "INACTIVE": "becomes active",
        "ACTIVE": "takes the pending expiry, or nothing",
        "SUSPENDED": "!OPERATION_NOT_ALLOWED",
        "EXPIRED": "takes the pending expiry, or CARD_EXPIRED",
        **TERMINAL,
    },
    "SUSPEND": {
        "INACTIVE": "!NOT_ACTIVATED",
        "ACTIVE": "becomes suspended",
        "SUSPENDED": "strictly stronger reason, or ALREADY_SUSPENDED",
        "EXPIRED": "!CARD_EXPIRED",
        **TERMINAL,
    },
    "RESUME": {
        "INACTIVE": "!NOT_ACTIVATED",
        "ACTIVE": "!NOT_SUSPENDED",
        "SUSPENDED": "becomes active if the reasons match",
        "EXPIRED": "!CARD_EXPIRED",
        **TERMINAL,
    },
    "REPLACE": {
        "INACTIVE": "becomes replaced",
        "ACTIVE": "becomes replaced",
        "SUSPENDED": "becomes replaced",
        "EXPIRED": "becomes replaced after loss, or CARD_EXPIRED",
        **TERMINAL,
    },
    "RENEW v2": {
        "INACTIVE": "!NOT_ACTIVATED",
        "ACTIVE": "renews active",
        "SUSPENDED": "renews suspended",
        "EXPIRED": "renews expired",
        **TERMINAL,
    },
    "RENEW v1": {
        "INACTIVE": "!NOT_ACTIVATED",
        "ACTIVE": "renews at once into newCardState",
        "SUSPENDED": "renews suspended",
        "EXPIRED": "renews at once into newCardState",
        **TERMINAL,
    },
    "RENEW elsewhere": {
        "INACTIVE": "!NOT_ACTIVATED",
        "ACTIVE": "leaves for another id",
        "SUSPENDED": "leaves for another id",
        "EXPIRED": "leaves for another id unless lost",
        **TERMINAL,
    },
    "DELETE": {
        "INACTIVE": "becomes deleted",
        "ACTIVE": "becomes deleted",
        "SUSPENDED": "becomes deleted",
        "EXPIRED": "becomes deleted",
        **TERMINAL,
    },
    "LOCK": {
        "INACTIVE": "ignored",
        "ACTIVE": "becomes suspended by the lock",
        "SUSPENDED": "gets the lock, reason kept unless weaker",
        "EXPIRED": "ignored",
        **IGNORED_WHEN_TERMINAL,
    },
    "CARD_PRESENT": {
        "INACTIVE": "activated by its first use",
        "ACTIVE": "renewed by its first use",
        "SUSPENDED": "ignored",
        "EXPIRED": "ignored",
        **IGNORED_WHEN_TERMINAL,
    },
    "EXPIRE": {
        "INACTIVE": "expires",
        "ACTIVE": "expires",
        "SUSPENDED": "expires",
        "EXPIRED": "ignored",
        **IGNORED_WHEN_TERMINAL,
    },
    "AUTO_RENEW": {
        "INACTIVE": "ignored",
        "ACTIVE": "renews by itself",
        "SUSPENDED": "ignored",
        "EXPIRED": "ignored",
        **IGNORED_WHEN_TERMINAL,
    },
    "DELETE_DUE": {
        "INACTIVE": "is deleted at last",
        "ACTIVE": "is deleted at last",
        "SUSPENDED": "is deleted at last",
        "EXPIRED": "is deleted at last",
        **IGNORED_WHEN_TERMINAL,
    },
    "PRODUCE": {
        "INACTIVE": "is ordered",
        "ACTIVE": "is ordered",
        "SUSPENDED": "!OPERATION_NOT_ALLOWED",
        "EXPIRED": "!OPERATION_NOT_ALLOWED",
        **TERMINAL,
    },
    "CLICK_TO_PAY_ENROLMENT": {
        "INACTIVE": "!CARD_NOT_ACTIVE",
        "ACTIVE": "asks the scheme",
        "SUSPENDED": "!CARD_NOT_ACTIVE",
        "EXPIRED": "!CARD_NOT_ACTIVE",
        **TERMINAL,
    },
    "CLICK_TO_PAY_UPDATE": {
        "INACTIVE": "!CARD_NOT_ACTIVE",
        "ACTIVE": "asks the scheme",
        "SUSPENDED": "!CARD_NOT_ACTIVE",
        "EXPIRED": "!CARD_NOT_ACTIVE",
        **TERMINAL,
    },
    "CLICK_TO_PAY_OPTOUT": {
        "INACTIVE": "opts out",
        "ACTIVE": "opts out",
        "SUSPENDED": "opts out",
        "EXPIRED": "opts out",
        "RENEWED": "opts out",
        "REPLACED": "opts out",
        "DELETED": "opts out",
    },
    "UPDATE_CONTROLS": {
        "INACTIVE": "gets other controls",
        "ACTIVE": "gets other controls",
        "SUSPENDED": "gets other controls",
        "EXPIRED": "!OPERATION_NOT_ALLOWED",
        **TERMINAL,
    },
    "UPDATE_LIMITS": {
        "INACTIVE": "gets other limits",
        "ACTIVE": "gets other limits",
        "SUSPENDED": "gets other limits",
        "EXPIRED": "!OPERATION_NOT_ALLOWED",
        **TERMINAL,
    },
}

# domain.md 8, "a signal that does not apply is ignored even when another field is bad".
SIGNALS_AND_TIMERS = ["LOCK", "CARD_PRESENT", "EXPIRE", "AUTO_RENEW", "DELETE_DUE"]

# domain.md 8, "Operations and events": under which name the operation is shown.
SHOWN_AS = {"CARD_PRESENT": "ACTIVATE", "AUTO_RENEW": "RENEW", "DELETE_DUE": "DELETE"}

# design.md 3: who asks when the command does not say.
ASKED_BY_SYSTEM = [*SIGNALS_AND_TIMERS, "TIME_OUT"]

# domain.md 2.2. A command that is not here refuses every reasonCode (domain.md 8).
REPLACE_REASONS = ["CARD_LOST", "CARD_STOLEN", "CARD_BROKEN", "CARD_NOT_RECEIVED", "FRAUD"]
REASONS = {
    "SUSPEND": [
        "CARD_LOST",
        "CARD_STOLEN",
        "CARD_BROKEN",
        "FRAUD",
        "USER_DECISION",
        "ISSUER_DECISION",
    ],
    "RESUME": ["CARD_FOUND", "USER_DECISION", "ISSUER_DECISION"],
    "REPLACE": REPLACE_REASONS,
    "RENEW v2": ["USER_DECISION", "ISSUER_DECISION"],
    "RENEW v1": ["USER_DECISION", "ISSUER_DECISION", *REPLACE_REASONS],
    "RENEW elsewhere": ["USER_DECISION", "ISSUER_DECISION", *REPLACE_REASONS],
    "AUTO_RENEW": ["ISSUER_DECISION"],
    "CONSUMER_DELETE": ["USER_DECISION", "ISSUER_DECISION"],
    "CLICK_TO_PAY_ENROLMENT": ["USER_DECISION", "ISSUER_DECISION"],
    "CLICK_TO_PAY_UPDATE": ["USER_DECISION", "ISSUER_DECISION"],
    "CLICK_TO_PAY_OPTOUT": ["USER_DECISION", "ISSUER_DECISION"],
    "DELETE": [
        "CLOSED_ACCOUNT",
        "CLOSED_CARD",
        "CARD_LOST",
        "CARD_STOLEN",
        "CARD_BROKEN",
        "CARD_NOT_RECEIVED",
        "FRAUD",
        "USER_DECISION",
        "ISSUER_DECISION",
    ],
}

# domain.md 2.2, the last sentence. Only the order of the numbers means anything.
STRENGTH = {
    "USER_DECISION": 1,
    "ISSUER_DECISION": 2,
    "PIN_LOCKED": 2,
    "CVV2_LOCKED": 2,
    "EXPIRY_DATE_LOCKED": 2,
    "CARD_LOST": 3,
    "CARD_BROKEN": 3,
    "CARD_STOLEN": 4,
    "FRAUD": 5,
}

# domain.md 2.3: suspended with, then resume with.
RESUME_TABLE = {
    "USER_DECISION": {
        "CARD_FOUND": "!INVALID_REASON",
        "USER_DECISION": "ok",
        "ISSUER_DECISION": "ok",
    },
    "ISSUER_DECISION": {
        "CARD_FOUND": "!INVALID_REASON",
        "USER_DECISION": "!INVALID_REASON",
        "ISSUER_DECISION": "ok",
    },
    "CARD_LOST": {
        "CARD_FOUND": "ok",
        "USER_DECISION": "!INVALID_REASON",
        "ISSUER_DECISION": "ok",
    },
    "CARD_STOLEN": {
        "CARD_FOUND": "!REPLACEMENT_REQUIRED",
        "USER_DECISION": "!REPLACEMENT_REQUIRED",
        "ISSUER_DECISION": "!REPLACEMENT_REQUIRED",
    },
    "CARD_BROKEN": {
        "CARD_FOUND": "!REPLACEMENT_REQUIRED",
        "USER_DECISION": "!REPLACEMENT_REQUIRED",
        "ISSUER_DECISION": "!REPLACEMENT_REQUIRED",
    },
    "FRAUD": {
        "CARD_FOUND": "!REPLACEMENT_REQUIRED",
        "USER_DECISION": "!REPLACEMENT_REQUIRED",
        "ISSUER_DECISION": "!REPLACEMENT_REQUIRED",
    },
    "PIN_LOCKED": {
        "CARD_FOUND": "!INVALID_REASON",
        "USER_DECISION": "!INVALID_REASON",
        "ISSUER_DECISION": "ok",
    },
    "CVV2_LOCKED": {
        "CARD_FOUND": "!INVALID_REASON",
        "USER_DECISION": "!INVALID_REASON",
        "ISSUER_DECISION": "ok",
    },
    "EXPIRY_DATE_LOCKED": {
        "CARD_FOUND": "!INVALID_REASON",
        "USER_DECISION": "!INVALID_REASON",
        "ISSUER_DECISION": "ok",
    },
}

LOCK_REASON = {
    "PIN": "PIN_LOCKED",
    "CVV2": "CVV2_LOCKED",
    "EXPIRY_DATE": "EXPIRY_DATE_LOCKED",
}

# domain.md 2.1 renew, 8: after these only a replacement helps, also once the card has expired.
NEEDS_REPLACEMENT = ["CARD_LOST", "CARD_STOLEN", "CARD_BROKEN", "FRAUD"]

# domain.md 8 "Consumer commands": None is a consumer that the issuer does not have.
CONSUMER_TABLE = {
    "CONSUMER_REGISTER": {
        None: "ACTIVE",
        "ACTIVE": "ACTIVE",
        "INACTIVE": "ACTIVE",
        "DELETED": "!CONSUMER_DELETED",
    },
    "CONSUMER_DEACTIVATE": {
        None: "!CONSUMER_NOT_FOUND",
        "ACTIVE": "INACTIVE",
        "INACTIVE": "INACTIVE",
        "DELETED": "!CONSUMER_DELETED",
    },
    "CONSUMER_REACTIVATE": {
        None: "!CONSUMER_NOT_FOUND",
        "ACTIVE": "ACTIVE",
        "INACTIVE": "ACTIVE",
        "DELETED": "!CONSUMER_DELETED",
    },
    "CONSUMER_DELETE": {
        None: "!CONSUMER_NOT_FOUND",
        "ACTIVE": "DELETED",
        "INACTIVE": "DELETED",
        "DELETED": "!CONSUMER_DELETED",
    },
}

# Field patterns of domain.md 1, 2.2, 8 and design.md 3, with ours where they name none; names
# as in the seed S2. newCardProductId has none: what is not the current product is a bad value.
FORMATS = {
    "reasonCode": "[A-Z0-9_]{1,64}",
    "reason": "[a-zA-Z0-9 ]{1,64}",
    "correlationId": "[A-Za-z0-9_. -]{1,64}",
    "consumerId": "[A-Za-z0-9_-]{1,64}",
    "cardProductId": "[A-Za-z0-9_-]{1,48}",
    "name": "[a-zA-Z. -]{0,26}",
    "secondName": "[a-zA-Z. -]{0,26}",
    "statusReason": "[a-zA-Z]{0,2}",
    "newCardId": "[A-Za-z0-9_-]{1,48}",
    "realCardId": "[A-Za-z0-9_-]{1,48}",
    "distributionChannel": "[A-Za-z0-9_-]{1,64}",
    "newExp": "(0[1-9]|1[0-2])[0-9]{2}",
    "newAuxiliaryExp": "(0[1-9]|1[0-2])[0-9]{2}",
    "scheme": "[A-Z][A-Z0-9_]{0,31}",
    "bin": "[0-9]{6,11}",
}
# The name that Click to Pay shows (S5): letters and digits of any script, and these.
HOLDER_NAME_SIGNS = " ,.'_#;:/-"
HOLDER_NAME_LENGTHS = range(1, 27)

REQUESTOR_ID_FORMAT = "[A-Za-z0-9_.-]{1,64}"

# Closed lists: any other word is FIELD_INVALID_VALUE.
WORDS = {
    "state": ["ACTIVE", "INACTIVE"],
    "newCardState": ["ACTIVE", "INACTIVE"],
    "lock": ["PIN", "CVV2", "EXPIRY_DATE"],
    "form": ["VIRTUAL", "PHYSICAL"],
    "activationMethod": ["CVV", "LAST4", "NOTHING"],
}
REQUESTOR_TYPES = ["ISSUER", "USER", "TSP", "CCI", "SYSTEM"]

# Whole numbers from, to (both included).
RANGES = {"validityMonths": (1, 240), "autoRenewDays": (1, 365)}

# design.md 3, PRODUCT_DEFINE: what an absent field means. "a test BIN by default".
PRODUCT_DEFAULTS = {
    "activationMethod": "NOTHING",
    "implicitActivation": False,
    "autoRenew": False,
    "autoRenewDays": 30,
    "transactions": True,
    "dynamicCvv2": False,
    "validityMonths": 36,
    "bin": "40000000",
}

ENCRYPTED_DATA_CHARACTERS_MAX = 8192

# Controls and limits: ours, the book is silent.
SETTINGS_CHARACTERS_MAX = 4096
SETTINGS_LEVELS_MAX = 5

VIRTUAL_CARDS_MAX = 100
VIRTUAL_PAN_DIGITS_MIN = 13

# `MMYY` names no later month; a generated expiry stops here. Ours, the book is silent.
LAST_EXPIRY = (2099, 12)

# domain.md 2.4, "existing digital cards"; RENEWED and REPLACED go by whether they are re-linked.
DIGITAL_CARDS = {
    "ACTIVE": "YES",
    "SUSPENDED": "YES",
    "INACTIVE": "NO_CHANGE",
    "EXPIRED": "NO_CHANGE",
    "DELETED": "DELETED",
}

# domain.md 5, the kinds that a command leads to.
ALL_KINDS = {SHOWN_AS.get(row, row) for row in STATE_TABLE if not row.startswith("RENEW ")} | {
    *("RENEW", "CREATE", "REGISTER", "PRODUCT_DEFINE"),
    *CONSUMER_TABLE,
}
