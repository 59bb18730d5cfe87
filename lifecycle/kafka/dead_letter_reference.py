"""What each code of a dead letter means, and what who sent the record can do.

`docs/errors.md` is made from it. `dlq-error` of a dead letter says more: which field, which header.
"""

from typing import NamedTuple

from lifecycle.kafka.records import DeadLetterCode


class DeadLetterEntry(NamedTuple):
    """Two sentences for a person."""

    meaning: str
    advice: str


DEAD_LETTERS: dict[DeadLetterCode, DeadLetterEntry] = {
    DeadLetterCode.NOT_UTF8: DeadLetterEntry(
        "The value is no UTF-8.",
        "Encode it as UTF-8; UTF-16 and Latin-1 are not read.",
    ),
    DeadLetterCode.NOT_JSON: DeadLetterEntry(
        "The value is no JSON as RFC 8259 has it, or has what readers take differently: a name"
        " twice, a byte order mark, half a character, NUL, NaN.",
        "Write it with a JSON library in its strict mode.",
    ),
    DeadLetterCode.NOT_AN_OBJECT: DeadLetterEntry(
        "The value is JSON, but no object.",
        "Send one object a record.",
    ),
    DeadLetterCode.NULL_VALUE: DeadLetterEntry(
        "The record has no value.",
        "Send no tombstones to this topic.",
    ),
    DeadLetterCode.HEADERS: DeadLetterEntry(
        "A `ce_` header or content-type is null, stands twice or is no UTF-8.",
        "Send each of them once; all other headers are free.",
    ),
    DeadLetterCode.CONTENT_TYPE: DeadLetterEntry(
        "The content-type is none of JSON.",
        "Send application/json, application/cloudevents+json, another application/…+json, or none.",
    ),
    DeadLetterCode.CLOUDEVENT_INVALID: DeadLetterEntry(
        "The record says that it is a CloudEvent, and is none of version 1.0, or its attributes and"
        " its body tell different commands.",
        "Send specversion, id, type and source as the guide shows, and nothing twice.",
    ),
    DeadLetterCode.TOO_LARGE: DeadLetterEntry(
        "The value is longer than LIFECYCLE_MAX_COMMAND_BYTES.",
        "Send a shorter one.",
    ),
    DeadLetterCode.FIELD_MISSING: DeadLetterEntry(
        "A field is missing without which there is no such command.",
        "Send the field that `dlq-error` names.",
    ),
    DeadLetterCode.FIELD_UNKNOWN: DeadLetterEntry(
        "A field is none of this command.",
        "Leave it out; `lifecycle schema` prints the fields of each command.",
    ),
    DeadLetterCode.FIELD_TYPE: DeadLetterEntry(
        "A field has another JSON type than it must have.",
        "Send a text as a text, a number as a number; `lifecycle schema` prints which is which.",
    ),
    DeadLetterCode.FIELD_INVALID_FORMAT: DeadLetterEntry(
        "A field that identifies (issuerId, the subject's id, commandId, in replies operationId and"
        " result) has not its form.",
        "Send it in the form of the field reference; a commandId must not begin with a reserved"
        " word.",
    ),
    DeadLetterCode.UNKNOWN_COMMAND: DeadLetterEntry(
        "`command` names no command.",
        "Send one that `lifecycle schema` prints.",
    ),
    DeadLetterCode.KEY_MISMATCH: DeadLetterEntry(
        "The record's key is null, or not that of the body.",
        "Send the key `<issuerId>/<cardId>`, or that of the consumer or product.",
    ),
    DeadLetterCode.IDEMPOTENCY_CONFLICT: DeadLetterEntry(
        "The commandId was taken before for this subject, with other content.",
        "Send a new commandId for a new command, and the same content for a retry.",
    ),
    DeadLetterCode.SENSITIVE_DATA: DeadLetterEntry(
        "A card number stands in clear, or an identifier is the number of a card of the issuer."
        " What holds it is left out of the dead letter.",
        "Send card numbers only inside encryptedData, and make no identifier of one; find out where"
        " else that record went.",
    ),
    DeadLetterCode.INTERNAL: DeadLetterEntry(
        "The service failed on this record, and on no other beside it.",
        "Tell the operator: the log names the partition and offset. `dead-letters resend` sends it"
        " again when it is mended.",
    ),
}
OF_COMMANDS_ALONE = frozenset(
    {
        DeadLetterCode.HEADERS,
        DeadLetterCode.CONTENT_TYPE,
        DeadLetterCode.CLOUDEVENT_INVALID,
        DeadLetterCode.UNKNOWN_COMMAND,
        DeadLetterCode.IDEMPOTENCY_CONFLICT,
    }
)
"""The replies of outside parties never end so: they have no headers that count, and no ids."""
assert DEAD_LETTERS.keys() == set(DeadLetterCode), "each code has an entry"
