"""Dead letters: a broken record as it is published, with what was wrong (design.md 5).

Nothing that holds a card number gets this far: every dead letter is searched whole, and what holds
one is left out of it, whatever else the record was refused for.
"""

from collections.abc import Collection
from hashlib import sha256
from typing import NamedTuple

from lifecycle.kafka import sensitive
from lifecycle.kafka.records import (
    ERROR_CHARACTERS_MAX,
    DeadLetterCode,
    RawRecord,
    RefusedError,
    shown,
)
from lifecycle.kafka.strict_json import parse_object

__all__ = ["DeadLetter", "DeadLetterCode", "dead_letter"]

OWN_HEADERS = frozenset(
    {
        "dlq-error-code",
        "dlq-error",
        "dlq-topic",
        "dlq-partition",
        "dlq-offset",
        "dlq-timestamp",
        "dlq-value-sha256",
    }
)
"""The headers that the service writes; any other, whatever its name, is its sender's."""
_PLACES_NAMED_MAX = 3


class DeadLetter(NamedTuple):
    """One record of the dead-letter topic. `code` and `error` stand in its headers too.

    A tombstone keeps its null value; a value that is left out is zero bytes, a key None.
    """

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    code: DeadLetterCode
    error: str


def dead_letter(
    record: RawRecord, code: DeadLetterCode, error: str, known: Collection[str] = ()
) -> DeadLetter:
    """`record` as a dead letter: SENSITIVE_DATA when it holds a card number, otherwise `code`.

    All of it is searched as text, identifiers too, and for the `known` numbers: that of the
    command's own `encryptedData`, and what an identifier was found to be. `error` must not echo
    what was sent; it is cut to `ERROR_CHARACTERS_MAX`. Never raises. Headers by our own names, of a
    dead letter that was sent again, are replaced by ours.
    """
    key, value = record.key, record.value
    headers: list[tuple[str, bytes | None]] = [
        (name, content) for name, content in record.headers if name not in OWN_HEADERS
    ]
    in_value = _in_value(value, known)
    in_headers = [_in_header(name, content, known) for name, content in headers]
    in_key = key is not None and sensitive.in_bytes(key, known)
    places = [*in_value, *(place for place in in_headers if place)]
    if in_key:
        places.append("the key")
    if not places and code is DeadLetterCode.SENSITIVE_DATA:
        # Whoever found a card number that this search does not find may have read the record
        # otherwise: it is not published on the strength of our not finding it.
        in_value = places = ["the value"]
        in_key = True
    if places:
        if not (known and code is DeadLetterCode.SENSITIVE_DATA):
            code, error = DeadLetterCode.SENSITIVE_DATA, _sensitive_error(places)
        if in_key:
            key = None
        headers = [
            header for header, place in zip(headers, in_headers, strict=True) if place is None
        ]
    error = error[:ERROR_CHARACTERS_MAX]
    headers += _own_headers(record, code, error)
    if in_value and value is not None:
        headers.append(("dlq-value-sha256", sha256(value).hexdigest().encode()))
        value = b""
    return DeadLetter(key, value, tuple(headers), code, error)


def _own_headers(
    record: RawRecord, code: DeadLetterCode, error: str
) -> list[tuple[str, bytes | None]]:
    return [
        ("dlq-error-code", code.value.encode()),
        ("dlq-error", error.encode(errors="replace")),
        ("dlq-topic", record.topic.encode()),
        ("dlq-partition", b"%d" % record.partition),
        ("dlq-offset", b"%d" % record.offset),
        ("dlq-timestamp", b"%d" % record.timestamp),
    ]


def _in_value(value: bytes | None, known: Collection[str]) -> list[str]:
    """The places in a value that hold a card number."""
    if value is None:
        return []
    try:
        members = parse_object(value)
    except RefusedError:
        found = sensitive.in_bytes(value, known, is_readable_object=False)
        return ["the value"] if found else []
    places = list(sensitive.places_in(sensitive.pieces_of(members), known, strict=True))
    if not places and sensitive.in_bytes(value, known):
        return ["the value"]
    return places


def _in_header(name: str, content: bytes | None, known: Collection[str]) -> str | None:
    if sensitive.in_bytes(name.encode(errors="replace"), known):
        return "the name of a header"
    if content is not None and sensitive.in_bytes(content, known):
        return f"header {shown(name)}"
    return None


def _sensitive_error(places: list[str]) -> str:
    named = ", ".join(dict.fromkeys(places[:_PLACES_NAMED_MAX]))
    more = ", and in more places" if len(places) > _PLACES_NAMED_MAX else ""
    return (
        f"A card number stands in {named}{more}; what holds it is left out of this dead letter. "
        "Send card numbers only inside encryptedData."
    )[:ERROR_CHARACTERS_MAX]
