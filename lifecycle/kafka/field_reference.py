"""What each field of a command means, for whoever writes one: meaning, form, unit and an example.

From here the JSON Schemas take their descriptions, and `docs/fields.md` is made. What a field may
hold is decided in `lifecycle.domain.fields` and by the parser of commands; patterns are theirs.
"""

from dataclasses import dataclass

from lifecycle.domain import patterns
from lifecycle.domain.cards import Lock
from lifecycle.domain.commands import CommandName, RequestorType
from lifecycle.domain.fields import (
    AUTO_RENEW_DAYS_MAX,
    AUTO_RENEW_DAYS_MIN,
    ENCRYPTED_DATA_CHARACTERS_MAX,
    HOLDER_NAME_CHARACTERS_MAX,
    INCARNATION_MAX,
    INCARNATION_MIN,
    VALIDITY_MONTHS_MAX,
    VALIDITY_MONTHS_MIN,
)
from lifecycle.domain.products import ActivationMethod, Form
from lifecycle.domain.settings_objects import CHARACTERS_MAX, DEPTH_MAX, INTEGER_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldEntry:
    """One field: what it means, and what it may hold.

    A `pattern` is over the whole text; `words` is a closed list; `form` says in a sentence what
    neither can say. `unit` is that of a number or a time. `example` is a JSON value that is taken.
    """

    meaning: str
    example: object
    pattern: str | None = None
    words: tuple[str, ...] = ()
    form: str | None = None
    unit: str | None = None


_TIME = "ISO 8601 in UTC, with `Z` or `+00:00`; what lies below a millisecond is dropped."
_SETTINGS = (
    f"Any JSON object of at most {CHARACTERS_MAX} characters and {DEPTH_MAX} levels; whole numbers"
    f" up to {INTEGER_MAX}."
)
_EXPIRY_UNIT = "month and year, MMYY"
_ENCRYPTED = f"A compact JWE of at most {ENCRYPTED_DATA_CHARACTERS_MAX} characters."


def _whole(minimum: int, maximum: int) -> str:
    return f"A whole number from {minimum} to {maximum}."


def _words(enumeration: type[Form | ActivationMethod | Lock | RequestorType]) -> tuple[str, ...]:
    return tuple(member.value for member in enumeration)


FIELDS: dict[str, FieldEntry] = {
    "commandId": FieldEntry(
        meaning="The idempotency key: names this command for its card, consumer or product for"
        " ever. Sent again with the same content the command is a duplicate.",
        example="c1",
        pattern=patterns.COMMAND_ID,
    ),
    "command": FieldEntry(meaning="What is to be done.", example="SUSPEND"),
    "issuerId": FieldEntry(
        meaning="The bank. Nothing crosses it.", example="BANK000001", pattern=patterns.ISSUER_ID
    ),
    "cardId": FieldEntry(
        meaning="The card, unique for its issuer; never its number nor made of it.",
        example="card-1",
        pattern=patterns.CARD_ID,
    ),
    "consumerId": FieldEntry(
        meaning="The card holder.", example="consumer-1", pattern=patterns.CONSUMER_ID
    ),
    "cardProductId": FieldEntry(
        meaning="The card product, which PRODUCT_DEFINE has defined.",
        example="debit",
        pattern=patterns.CARD_PRODUCT_ID,
    ),
    "requestor": FieldEntry(
        meaning="Who asks. Left out: the issuer; the system for LOCK, signals and timers.",
        example={"type": "USER", "id": "consumer-1"},
    ),
    "requestor.type": FieldEntry(
        meaning="Which kind of party asks.", example="USER", words=_words(RequestorType)
    ),
    "requestor.id": FieldEntry(
        meaning="Who of them asks.", example="consumer-1", pattern=patterns.REQUESTOR_ID
    ),
    "reasonCode": FieldEntry(
        meaning="Why, as one of the codes that the command takes (see the reasons).",
        example="CARD_LOST",
        pattern=patterns.REASON_CODE,
    ),
    "reason": FieldEntry(
        meaning="Why, in free words; comes back in the operation.",
        example="Lost in the tram",
        pattern=patterns.REASON,
    ),
    "effectiveDate": FieldEntry(
        meaning="When it took effect at the sender's; a command older than the card's last change"
        " is STALE_COMMAND.",
        example="2027-01-31T12:00:00Z",
        form=_TIME,
        unit="milliseconds",
    ),
    "correlationId": FieldEntry(
        meaning="The sender's mark, carried through to operation and event. Not unique, and never"
        " part of the content.",
        example="order 4711",
        pattern=patterns.CORRELATION_ID,
    ),
    "state": FieldEntry(
        meaning="The state that the new card begins in. Left out: ACTIVE.",
        example="INACTIVE",
        words=("ACTIVE", "INACTIVE"),
    ),
    "name": FieldEntry(
        meaning="What is embossed as the holder's name.", example="ANNA BERG", pattern=patterns.NAME
    ),
    "secondName": FieldEntry(
        meaning="What is embossed below the name.", example="BERG LTD", pattern=patterns.NAME
    ),
    "statusReason": FieldEntry(
        meaning="The issuer's own mark for the card's state.",
        example="AB",
        pattern=patterns.STATUS_REASON,
    ),
    "deleteAt": FieldEntry(
        meaning="When the card is deleted by itself; must lie in the future.",
        example="2027-12-31T00:00:00Z",
        form=_TIME,
        unit="milliseconds",
    ),
    "realCardId": FieldEntry(
        meaning="The card that a card of a VIRTUAL product stands for.",
        example="card-1",
        pattern=patterns.CARD_ID,
    ),
    "encryptedData": FieldEntry(
        meaning="The card's number and expiry, the only place for a card number: a JWE around pan,"
        " exp, psn, auxiliaryPan, auxiliaryExp and cvv, for a key that `lifecycle keys public`"
        " prints.",
        example="eyJhbGciOiJSU0EtT0FFUC0yNTYi…",
        form=_ENCRYPTED,
    ),
    "last4": FieldEntry(
        meaning="The last four digits of the card's number, where the product's activation method"
        " is LAST4. A wrong answer of any form is ACTIVATION_FAILED.",
        example="1234",
    ),
    "newCardId": FieldEntry(
        meaning="The id of the card that follows; of a registered card only.",
        example="card-2",
        pattern=patterns.CARD_ID,
    ),
    "newCardState": FieldEntry(
        meaning="The state in which the card that follows begins (v1 renew).",
        example="ACTIVE",
        words=("ACTIVE", "INACTIVE"),
    ),
    "newCardProductId": FieldEntry(
        meaning="Reserved: only the card's present product is taken.", example="debit"
    ),
    "newExp": FieldEntry(
        meaning="The new expiry of a registered card, later than the present one.",
        example="1230",
        pattern=patterns.EXPIRY,
        unit=_EXPIRY_UNIT,
    ),
    "newAuxiliaryExp": FieldEntry(
        meaning="The new expiry of the card's auxiliary number.",
        example="1230",
        pattern=patterns.EXPIRY,
        unit=_EXPIRY_UNIT,
    ),
    "incarnation": FieldEntry(
        meaning="Which life of the card id is meant; left out: the present one.",
        example=1,
        form=_whole(INCARNATION_MIN, INCARNATION_MAX),
        unit="lives of the card id",
    ),
    "lock": FieldEntry(meaning="What was tried too often.", example="PIN", words=_words(Lock)),
    "operationId": FieldEntry(
        meaning="The PENDING operation that nobody answered in time.",
        example="0d9c29f2-7a0b-8b2f-9d0e-6f5a1c3b2a10",
    ),
    "controls": FieldEntry(
        meaning="The card's controls from now on, in place of those it had; published as they are.",
        example={"atm": False},
        form=_SETTINGS,
    ),
    "limits": FieldEntry(
        meaning="The card's limits from now on, in place of those it had; published as they are.",
        example={"daily": 50_000},
        form=_SETTINGS,
    ),
    "distributionChannel": FieldEntry(
        meaning="How the plastic reaches its holder.",
        example="POST",
        pattern=patterns.DISTRIBUTION_CHANNEL,
    ),
    "form": FieldEntry(
        meaning="A plastic or only a number. It may not change.",
        example="PHYSICAL",
        words=_words(Form),
    ),
    "scheme": FieldEntry(
        meaning="The card scheme. It may not change.", example="VISA", pattern=patterns.SCHEME
    ),
    "activationMethod": FieldEntry(
        meaning="What an ACTIVATE has to prove. Left out: NOTHING.",
        example="LAST4",
        words=_words(ActivationMethod),
    ),
    "implicitActivation": FieldEntry(
        meaning="Whether the first card-present transaction activates the card. Left out: false.",
        example=True,
    ),
    "autoRenew": FieldEntry(
        meaning="Whether ACTIVE cards are renewed by themselves. Left out: false.", example=True
    ),
    "autoRenewDays": FieldEntry(
        meaning="How long before the end of its last month a card is renewed. Left out: 30.",
        example=30,
        form=_whole(AUTO_RENEW_DAYS_MIN, AUTO_RENEW_DAYS_MAX),
        unit="days",
    ),
    "transactions": FieldEntry(
        meaning="Whether cards of the product pay; only ids of those that don't can be used again."
        " Left out: true.",
        example=True,
    ),
    "dynamicCvv2": FieldEntry(
        meaning="Whether the CVV2 is made anew for each use. Left out: false.", example=False
    ),
    "validityMonths": FieldEntry(
        meaning="How long a card of the product is valid. Left out: 36.",
        example=36,
        form=_whole(VALIDITY_MONTHS_MIN, VALIDITY_MONTHS_MAX),
        unit="months",
    ),
    "bin": FieldEntry(
        meaning="The first digits of the numbers that the platform makes. Left out: a test BIN.",
        example="40000000",
        pattern=patterns.BIN,
    ),
}
"""Every field of every command by its name on the wire, those inside `requestor` with a dot."""

_HOLDER_NAME = FieldEntry(
    meaning="The card holder's name as the scheme shows it.",
    example="Anna Berg",
    form=f"1 to {HOLDER_NAME_CHARACTERS_MAX} letters and digits of any script, blanks and"
    " `,.'_#;:/-`; taken in its composed form (NFC).",
)
_OF_COMMAND: dict[tuple[CommandName, str], FieldEntry] = {
    (CommandName.CLICK_TO_PAY_ENROLMENT, "name"): _HOLDER_NAME,
    (CommandName.CLICK_TO_PAY_UPDATE, "name"): _HOLDER_NAME,
    (CommandName.CLICK_TO_PAY_OPTOUT, "name"): _HOLDER_NAME,
    (CommandName.ACTIVATE, "encryptedData"): FieldEntry(
        meaning="The card's CVV, where the product's activation method is CVV: a JWE around cvv.",
        example="eyJhbGciOiJSU0EtT0FFUC0yNTYi…",
        form=_ENCRYPTED,
    ),
}


def field_entry(command: CommandName, name: str) -> FieldEntry:
    """What the field `name` means in `command`.

    Raises:
        KeyError: there is no entry; every field has one.
    """
    return _OF_COMMAND.get((command, name)) or FIELDS[name]


def form_in_words(entry: FieldEntry) -> str:
    """What the field may hold, as Markdown that fits a table and a sentence; empty if anything."""
    if entry.pattern is not None:
        return f"`{entry.pattern}`"
    if entry.words:
        return ", ".join(entry.words)
    return entry.form or ""
