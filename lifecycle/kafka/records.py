"""A record as it comes from a topic, and the codes for what may be wrong with it (design.md 5).

Everything else in the wire format rests on this module; it relies on nothing.
"""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

ERROR_CHARACTERS_MAX = 256
"""Longest text that says what is wrong with a record."""

HEADER_OVERHEAD_BYTES = 128
"""What a header takes in memory beside its bytes: a tuple and two objects. A record of 1 MB may
have half a million of them."""


class RawRecord(Protocol):
    """What the wire format reads of aiokafka's ConsumerRecord. `timestamp` is in milliseconds."""

    @property
    def topic(self) -> str:
        """The name of the topic."""

    @property
    def partition(self) -> int:
        """The partition, from 0."""

    @property
    def offset(self) -> int:
        """The offset on the partition, from 0."""

    @property
    def timestamp(self) -> int:
        """Milliseconds since the epoch."""

    @property
    def key(self) -> bytes | None:
        """The key as sent."""

    @property
    def value(self) -> bytes | None:
        """The value as sent; None is a tombstone."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """The headers in the order sent."""


class DeadLetterCode(StrEnum):
    """Why a record became a dead letter (design.md 5)."""

    NOT_UTF8 = "NOT_UTF8"
    NOT_JSON = "NOT_JSON"
    NOT_AN_OBJECT = "NOT_AN_OBJECT"
    NULL_VALUE = "NULL_VALUE"
    HEADERS = "HEADERS"
    CONTENT_TYPE = "CONTENT_TYPE"
    CLOUDEVENT_INVALID = "CLOUDEVENT_INVALID"
    TOO_LARGE = "TOO_LARGE"
    FIELD_MISSING = "FIELD_MISSING"
    FIELD_UNKNOWN = "FIELD_UNKNOWN"
    FIELD_TYPE = "FIELD_TYPE"
    FIELD_INVALID_FORMAT = "FIELD_INVALID_FORMAT"
    UNKNOWN_COMMAND = "UNKNOWN_COMMAND"
    KEY_MISMATCH = "KEY_MISMATCH"
    IDEMPOTENCY_CONFLICT = "IDEMPOTENCY_CONFLICT"
    SENSITIVE_DATA = "SENSITIVE_DATA"
    INTERNAL = "INTERNAL"


class RefusedError(Exception):
    """A record is broken. `error` says where and what to do, and echoes nothing that was sent."""

    def __init__(self, code: DeadLetterCode, error: str) -> None:
        """`error` is cut to `ERROR_CHARACTERS_MAX`."""
        super().__init__(code, error)
        self.code = code
        self.error = error[:ERROR_CHARACTERS_MAX]


# Names of fields and headers come from the sender. One that is long, odd or holds a row of digits
# (a card number, part of one, a date of birth) is not repeated in an error.
_NAME_FIT_TO_SHOW = re.compile(r"(?![^\n]*[0-9][0-9-]{4})[A-Za-z][A-Za-z0-9_-]{0,63}")


def shown(name: str) -> str:
    """`name` when it is fit for an error text or a log, otherwise words that stand for it."""
    return name if _NAME_FIT_TO_SHOW.fullmatch(name) else "(name not shown)"
