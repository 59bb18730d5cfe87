"""Records as JSON lines: key, headers and value, exactly, for files that people can read too.

`value` is a JSON object where the bytes are its compact JSON, a string where they are another text,
null where there is none; `valueBase64` holds what is no text. `expected` is for readers.
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error

import orjson

from lifecycle.kafka.sending import CommandRecord

_FIELDS = frozenset({"expected", "key", "headers", "value", "valueBase64"})


class RecordLineError(Exception):
    """A line is no record; the message says why."""


def record_line(record: CommandRecord, expected: str) -> bytes:
    """One line, its end included."""
    line: dict[str, object] = {"expected": expected}
    line["key"] = None if record.key is None else record.key.decode()
    if record.headers:
        line["headers"] = [
            [name, None if content is None else content.decode()]
            for name, content in record.headers
        ]
    value = record.value
    try:
        line["value"] = None if value is None else _readable(value)
    except UnicodeDecodeError:
        line["valueBase64"] = b64encode(value or b"").decode()
    return orjson.dumps(line) + b"\n"


def _readable(value: bytes) -> object:
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError:
        return value.decode()
    is_exact = isinstance(parsed, dict) and orjson.dumps(parsed) == value
    return parsed if is_exact else value.decode()


def read_record_line(line: bytes) -> CommandRecord:
    """The record that a line holds.

    Raises:
        RecordLineError: it holds none.
    """
    try:
        members = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise RecordLineError("is no JSON") from error
    if not isinstance(members, dict) or not members.keys() <= _FIELDS:
        raise RecordLineError("is no object with key, headers and value")
    key = members.get("key")
    if not isinstance(key, str | None):
        raise RecordLineError("has a key that is no text")
    return CommandRecord(
        key=None if key is None else key.encode(),
        value=_value_of(members),
        headers=_headers_of(members.get("headers", [])),
    )


def _value_of(members: dict[str, object]) -> bytes | None:
    if ("value" in members) == ("valueBase64" in members):
        raise RecordLineError("must have either value or valueBase64")
    if "valueBase64" in members:
        try:
            return b64decode(str(members["valueBase64"]), validate=True)
        except Base64Error as error:
            raise RecordLineError("has a valueBase64 that is no Base64") from error
    match members["value"]:
        case None:
            return None
        case str() as text:
            return text.encode()
        case dict() as members_of_value:
            return orjson.dumps(members_of_value)
        case _:
            raise RecordLineError("has a value that is neither an object, a text nor null")


def _headers_of(headers: object) -> tuple[tuple[str, bytes | None], ...]:
    if not isinstance(headers, list):
        raise RecordLineError("has headers that are no list of [name, value]")
    found: list[tuple[str, bytes | None]] = []
    for header in headers:
        match header:
            case [str() as name, None]:
                found.append((name, None))
            case [str() as name, str() as content]:
                found.append((name, content.encode()))
            case _:
                raise RecordLineError("has headers that are no list of [name, value]")
    return tuple(found)
