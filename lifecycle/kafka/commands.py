"""From the bytes of a record to a command, or to the reason why it is none (design.md 3, 5).

Runs once per record on the worker's only thread: pure, bounded by the record's size, and it never
raises, because a record that raises would take its neighbours in the poll with it.
"""

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from types import MappingProxyType
from typing import NamedTuple, cast
from unicodedata import is_normalized

import orjson
import rfc8785
from pydantic import TypeAdapter, ValidationError
from pydantic_core import SchemaValidator

from lifecycle.domain import patterns
from lifecycle.domain.commands import (
    COMMAND_CLASS,
    Command,
    CommandName,
    Subject,
    SubjectKind,
    subject_of,
)
from lifecycle.domain.credentials import ENCRYPTED_DATA
from lifecycle.domain.defaults import default_reason_code, default_requestor, default_state
from lifecycle.domain.fields import composed, time_ms_of
from lifecycle.kafka import cloudevents, sensitive
from lifecycle.kafka.partitioner import key_of
from lifecycle.kafka.records import DeadLetterCode, RawRecord, RefusedError, shown
from lifecycle.kafka.refusing import bounded, refuse_card_numbers, refuse_fields
from lifecycle.kafka.sensitive import Suspect
from lifecycle.kafka.strict_json import parse_object

__all__ = ["ENCRYPTED_DATA", "Broken", "Parsed", "RawRecord", "parse"]

MAX_COMMAND_BYTES_DEFAULT = 65_536
"""`LIFECYCLE_MAX_COMMAND_BYTES` when it is not set: of the value alone, headers don't count."""

CONTENT_HASH_BYTES = 16


class Parsed(NamedTuple):
    """A command that is fit to be decided.

    `content_hash` is the first half of SHA-256 over its content: equal for the same content
    (design.md 5, "Same content"). `traceparent` is a valid W3C value or None. `content` is kept of
    a command with `encryptedData` only: when that was opened, `content_hash_of` goes by what it
    holds, because encrypting the same again gives other bytes. `sent` is the command object as it
    was sent, its defaults filled in; kept of one with `encryptedData`, and of one whose content
    leaves something of it out. `suspects` may be card numbers in identifiers.
    """

    command: Command
    subject: Subject
    content_hash: bytes
    traceparent: str | None
    content: Mapping[str, object] | None = None
    sent: Mapping[str, object] | None = None
    suspects: tuple[Suspect, ...] = ()


class Broken(NamedTuple):
    """A record that becomes a dead letter. `error` echoes nothing that was sent."""

    code: DeadLetterCode
    error: str


def parse(
    record: RawRecord,
    *,
    max_command_bytes: int = MAX_COMMAND_BYTES_DEFAULT,
    strict_identifiers: bool = False,
) -> Parsed | Broken:
    """The command that `record` holds, or what is wrong with it.

    `strict_identifiers`: what looks like a card number in an identifier is one. Never raises. A
    record that is broken in several ways gets the code of the first check that it fails;
    `dead_letter` then looks for card numbers, which win over every other code.
    """
    try:
        return _parse(record, max_command_bytes, strict_identifiers=strict_identifiers)
    except RefusedError as refused:
        return Broken(refused.code, refused.error)


def _parse(record: RawRecord, max_command_bytes: int, *, strict_identifiers: bool) -> Parsed:
    value = bounded(record.value, max_command_bytes)
    opened = _opened(record.headers, value) if record.headers else _without_headers(value)
    body = opened.body
    name = _name_of(body, record.headers)
    try:
        # The dictionary is checked against the very dataclass that the domain uses.
        command = cast("Command", _VALIDATORS[name].validate_python(body))
    except ValidationError as problems:
        refuse_fields(problems, _CODE_OF_PROBLEM, _ADVICE, _path)
    subject = subject_of(command)
    key = _checked_key(command, subject)
    if record.key != key:
        raise RefusedError(
            DeadLetterCode.KEY_MISMATCH,
            f"The record's key is not {_KEY_FORM[subject.kind]} of the body; send that key.",
        )
    suspects: tuple[Suspect, ...] = ()
    if opened.is_suspicious:
        # The service's own commands name cards that were taken by the rule of their day.
        strict = strict_identifiers and not is_reserved_id(command.command_id)
        pieces = [*sensitive.pieces_of(body), *sensitive.pieces_of(opened.envelope)]
        refuse_card_numbers(sensitive.places_in(pieces, strict=strict))
        if name in _WITH_SETTINGS and sensitive.in_numbers(value):
            refuse_card_numbers([f"field {_WITH_SETTINGS[name]}"])
        suspects = tuple(sensitive.suspects_in(pieces))
    sent = _with_defaults(name, command, body, may_hold_nulls=b"null" in value)
    content = _content(name, sent)
    content_hash = _hash(content, with_numbers=name in _WITH_NUMBERS)
    holds_text = ENCRYPTED_DATA in content
    return Parsed(
        command,
        subject,
        content_hash,
        opened.traceparent,
        content=content if holds_text else None,
        sent=sent if holds_text or content is not sent else None,
        suspects=suspects,
    )


class _Opened(NamedTuple):
    """A command object out of its envelope; `is_suspicious`: it may hold a card number."""

    body: dict[str, object]
    envelope: Mapping[str, object]
    traceparent: str | None
    is_suspicious: bool


_NO_ENVELOPE: Mapping[str, object] = MappingProxyType({})


def _without_headers(value: bytes) -> _Opened:
    return _Opened(parse_object(value), _NO_ENVELOPE, None, sensitive.is_suspicious(value))


def _opened(headers: Sequence[tuple[str, bytes | None]], value: bytes) -> _Opened:
    counted = cloudevents.counted_headers(headers)
    is_structured = cloudevents.is_structured(counted)
    body = parse_object(value)
    envelope = _NO_ENVELOPE
    if is_structured:
        body, envelope = cloudevents.unwrap(body)
    is_suspicious = sensitive.is_suspicious(value)
    attributes = cloudevents.binary_attributes(counted)
    if attributes is not None:
        cloudevents.adopt(body, attributes, prefix=cloudevents.ATTRIBUTE_PREFIX)
        # The body may have left its id to a header, which nobody has looked at yet.
        is_suspicious = is_suspicious or sensitive.is_suspicious(counted["ce_id"].encode())
    traceparent = cloudevents.traceparent(headers)
    if traceparent is not None and sensitive.in_text(traceparent):
        # It would be published with the event, and one in some ten thousand reads like a number.
        traceparent = None
    return _Opened(body, envelope, traceparent, is_suspicious)


# --- which command, and its fields

_VALIDATORS: dict[str, SchemaValidator] = {
    name.value: cast("SchemaValidator", TypeAdapter(command_class).validator)
    for name, command_class in COMMAND_CLASS.items()
}

# Of several things that are wrong with the fields, the first in this order is told.
_CODE_OF_PROBLEM = {
    "missing": DeadLetterCode.FIELD_MISSING,
    "unexpected_keyword_argument": DeadLetterCode.FIELD_UNKNOWN,
}
_ADVICE = {
    DeadLetterCode.FIELD_MISSING: "is missing; send it",
    DeadLetterCode.FIELD_UNKNOWN: "is not one of this command; leave it out",
    DeadLetterCode.FIELD_TYPE: "has the wrong JSON type; `lifecycle schema` prints the right one",
}


def _name_of(
    body: Mapping[str, object], headers: Sequence[tuple[str, bytes | None]]
) -> CommandName:
    name = body.get("command")
    if type(name) is not str:
        code = DeadLetterCode.FIELD_TYPE if "command" in body else DeadLetterCode.FIELD_MISSING
        hint = cloudevents.hint(body, headers) if code is DeadLetterCode.FIELD_MISSING else ""
        raise RefusedError(code, f"Field command {_ADVICE[code]}.{hint}")
    known = _NAMES.get(name)
    if known is None:
        raise RefusedError(
            DeadLetterCode.UNKNOWN_COMMAND,
            "Field command names no command that this service takes; `lifecycle schema` prints "
            "those that it takes.",
        )
    return known


_NAMES: dict[str, CommandName] = {name.value: name for name in COMMAND_CLASS}


def _path(location: tuple[int | str, ...]) -> str:
    # Below a number pydantic names the members of the union that it tried.
    names = location if location[0] == "requestor" else location[:1]
    return ".".join(shown(str(name)) for name in names)


# --- identity


def _key(subject: str) -> re.Pattern[bytes]:
    # One expression over the whole key checks two fields at once: no alphabet here has a slash.
    return re.compile(f"{patterns.ISSUER_ID}/{subject}".encode())


_KEY = {
    SubjectKind.CARD: _key(patterns.CARD_ID),
    SubjectKind.CONSUMER: _key(f"consumer/{patterns.CONSUMER_ID}"),
    SubjectKind.PRODUCT: _key(f"product/{patterns.CARD_PRODUCT_ID}"),
}
_KEY_FORM = {
    SubjectKind.CARD: "<issuerId>/<cardId>",
    SubjectKind.CONSUMER: "<issuerId>/consumer/<consumerId>",
    SubjectKind.PRODUCT: "<issuerId>/product/<cardProductId>",
}
_ISSUER_ID = re.compile(patterns.ISSUER_ID)
_SUBJECT_ID_FORMAT = {
    SubjectKind.CARD: ("cardId", "1-48 of A-Z a-z 0-9 _ -"),
    SubjectKind.CONSUMER: ("consumerId", "1-64 of A-Z a-z 0-9 _ -"),
    SubjectKind.PRODUCT: ("cardProductId", "1-48 of A-Z a-z 0-9 _ -"),
}
_COMMAND_ID = re.compile(patterns.COMMAND_ID)

# design.md 3: each prefix belongs to one command.
_COMMAND_OF_RESERVED_PREFIX = {
    "EXPIRE:": "EXPIRE",
    "AUTO_RENEW:": "AUTO_RENEW",
    "DELETE_DUE:": "DELETE_DUE",
    "TIME_OUT:": "TIME_OUT",
    "CASCADE:": "DELETE",
}
_RESERVED_PREFIXES = tuple(_COMMAND_OF_RESERVED_PREFIX)


def is_reserved_id(command_id: str) -> bool:
    """Whether only the service itself gives such an id (design.md 3)."""
    return command_id.startswith(_RESERVED_PREFIXES)


def _checked_key(command: Command, subject: Subject) -> bytes:
    """The key that the record must have, made of fields that have their format."""
    key = key_of(subject)
    if _KEY[subject.kind].fullmatch(key) is None:
        if _ISSUER_ID.fullmatch(command.issuer_id) is None:
            raise _bad_format("issuerId", "exactly 10 of A-Z a-z 0-9 _ -")
        raise _bad_format(*_SUBJECT_ID_FORMAT[subject.kind])
    command_id = command.command_id
    if _COMMAND_ID.fullmatch(command_id) is None:
        raise _bad_format("commandId", "1-64 of A-Z a-z 0-9 _ . : -")
    if is_reserved_id(command_id):
        prefix = command_id.partition(":")[0] + ":"
        if command.command != _COMMAND_OF_RESERVED_PREFIX[prefix]:
            raise _bad_format("commandId", f"an id without the reserved prefix {prefix}")
    return key


def _bad_format(field: str, wanted: str) -> RefusedError:
    return RefusedError(DeadLetterCode.FIELD_INVALID_FORMAT, f"Field {field} must be {wanted}.")


# --- content

# Commands whose fields are only texts and truth values: orjson, which sorts ASCII names as RFC 8785
# does, writes exactly its JSON and is twenty times as fast. Numbers it may write otherwise.
_WITH_NUMBERS = frozenset(
    {CommandName.PRODUCT_DEFINE, CommandName.UPDATE_CONTROLS, CommandName.UPDATE_LIMITS}
)
_WITH_SETTINGS = {
    CommandName.UPDATE_CONTROLS: "controls",
    CommandName.UPDATE_LIMITS: "limits",
}
_WITH_HOLDER_NAME = frozenset(
    {
        CommandName.CLICK_TO_PAY_ENROLMENT,
        CommandName.CLICK_TO_PAY_UPDATE,
        CommandName.CLICK_TO_PAY_OPTOUT,
    }
)


def content_hash_of(content: Mapping[str, object], encrypted_data: str) -> bytes:
    """The content hash of a command whose `encryptedData` was opened.

    `encrypted_data` is a keyed fingerprint of what it holds, and enters in its place.
    """
    return _hash({**content, ENCRYPTED_DATA: encrypted_data}, with_numbers=False)


def is_same_content(parsed: Parsed, content_hash: bytes) -> bool:
    """Whether a command was taken before, with a content of this hash.

    Before decision 43 the content was the command as it was sent: a command that was taken then may
    come once more now.
    """
    if parsed.content_hash == content_hash:
        return True
    if parsed.sent is None:
        return False
    with_numbers = parsed.command.command in _WITH_NUMBERS
    return _hash(parsed.sent, with_numbers=with_numbers) == content_hash


def _with_defaults(
    name: CommandName, command: Command, body: dict[str, object], *, may_hold_nulls: bool
) -> dict[str, object]:
    """The command object with its defaults, and without nulls: `body`, filled in place."""
    requestor = command.requestor
    if requestor is None:
        requestor = default_requestor(name, command.issuer_id)
        body["requestor"] = {"type": requestor.type, "id": requestor.id}
    if command.reason_code is None:
        reason_code = default_reason_code(name, requestor.type)
        if reason_code is not None:
            body["reasonCode"] = reason_code
    state = default_state(name)
    if state is not None and body.get("state") is None:
        body["state"] = state
    # Only optional fields can be null here, and those have no members of their own.
    return _without_nulls(body) if may_hold_nulls else body


_CORRELATION_ID = "correlationId"
_TIMES = ("effectiveDate", "deleteAt")
_ZERO_OFFSET = "+00:00"
_HOLDER_NAME = "name"


def _content(name: CommandName, sent: dict[str, object]) -> dict[str, object]:
    """The content of a command (design.md 5, "Same content"): `sent` itself where nothing differs.

    `correlationId` is no part of it. Two ways to write the same time, or the same name for Click to
    Pay, are the same content.
    """
    same: dict[str, object] = {}
    for field in _TIMES:
        time = sent.get(field)
        if isinstance(time, str) and time.endswith(_ZERO_OFFSET) and time_ms_of(time) is not None:
            same[field] = time.removesuffix(_ZERO_OFFSET) + "Z"
    if name in _WITH_HOLDER_NAME:
        holder_name = sent.get(_HOLDER_NAME)
        if isinstance(holder_name, str) and not is_normalized("NFC", holder_name):
            same[_HOLDER_NAME] = composed(holder_name)
    if not same and _CORRELATION_ID not in sent:
        return sent
    content = {**sent, **same}
    content.pop(_CORRELATION_ID, None)
    return content


def _hash(content: Mapping[str, object], *, with_numbers: bool) -> bytes:
    """The first half of SHA-256 over the RFC 8785 JSON of a content."""
    if with_numbers:
        canonical = rfc8785.dumps(cast("dict[str, str]", content))
    else:
        canonical = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return sha256(canonical).digest()[:CONTENT_HASH_BYTES]


def _without_nulls(body: Mapping[str, object]) -> dict[str, object]:
    return {name: member for name, member in body.items() if member is not None}
