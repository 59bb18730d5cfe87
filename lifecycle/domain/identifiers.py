"""Ids derived from what they name: any retry, replay or rebuild gives the same (design.md 4).

Each is a version 8 UUID from the first 16 bytes of SHA-256 over the RFC 8785 JSON of an array.
orjson writes that JSON: the arrays hold only ASCII texts and small integers, in a fixed order.
"""

from collections.abc import Iterator
from hashlib import sha256
from itertools import count
from uuid import UUID

import orjson

from lifecycle.domain.commands import Subject

_UUID_BYTES = 16
# RFC 9562: four bits of version above bit 76, two of variant above bit 62.
_VERSION_AND_VARIANT_MASK = ~((0xF << 76) | (0x3 << 62))
_VERSION_8_AND_VARIANT = (0x8 << 76) | (0x2 << 62)


def operation_id(subject: Subject, command_id: str) -> UUID:
    """The operation that `command_id` leads to on `subject`."""
    return _derived(["operation", subject.kind, subject.issuer_id, subject.id, command_id])


def caused_operation_id(causing: UUID, ordinal: int) -> UUID:
    """The `ordinal`-th operation, from 1, that the command of `causing` records beside it."""
    assert ordinal >= 1, "the caused operations of a command are counted from 1"
    return _derived(["caused", causing, ordinal])


def event_id(operation_id: UUID, status: str) -> UUID:
    """The event that tells that the operation became `status`."""
    return _derived(["event", operation_id, status])


def generated_card_ids(operation_id: UUID) -> Iterator[str]:
    """Without end: the card ids that the operation may give its new card, in order of preference.

    The caller takes the first on the home lane of the card's predecessor: one in as many as there
    are partitions fits.
    """
    return (str(_derived(["card", operation_id, counter])) for counter in count(1))


def _derived(name: list[object]) -> UUID:
    digest = sha256(orjson.dumps(name)).digest()
    number = int.from_bytes(digest[:_UUID_BYTES], "big")
    return UUID(int=number & _VERSION_AND_VARIANT_MASK | _VERSION_8_AND_VARIANT)
