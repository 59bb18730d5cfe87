"""On which partition a subject lies: Kafka's default partitioner, murmur2 of the key (design.md 2).

aiokafka has the same hash, but spends more than twice the time on it, once per command and read.
Tests compare the two over arbitrary keys.
"""

from functools import lru_cache
from struct import Struct

from lifecycle.domain.commands import Subject, SubjectKind

KEYS_REMEMBERED_MAX = 16_384
"""Hashes kept, of the keys seen last: some polls' worth of commands, about 3 MB."""

_SEED = 0x9747B28C
_MULTIPLIER = 0x5BD1E995
_WORD_MASK = 0xFFFFFFFF
_POSITIVE_MASK = 0x7FFFFFFF

# The keys of this service have at most 85 bytes; longer ones, from broken records, are rare.
_WORDS = tuple(Struct(f"<{words}I") for words in range(22))

_KEY_INFIX = {
    SubjectKind.CARD: "",
    SubjectKind.CONSUMER: "consumer/",
    SubjectKind.PRODUCT: "product/",
}


def key_of(subject: Subject) -> bytes:
    """The record key of everything about `subject`, on every topic (design.md 2)."""
    return f"{subject.issuer_id}/{_KEY_INFIX[subject.kind]}{subject.id}".encode()


def partition_of(key: bytes, partition_count: int) -> int:
    """The partition, from 0, where Kafka's default partitioner puts `key`."""
    return (_murmur2(key) & _POSITIVE_MASK) % partition_count


@lru_cache(maxsize=KEYS_REMEMBERED_MAX)
def _murmur2(key: bytes) -> int:
    """murmur2 as org.apache.kafka.common.utils.Utils has it, as an unsigned 32-bit integer."""
    length = len(key)
    word_count, rest = divmod(length, 4)
    unpack = _WORDS[word_count] if word_count < len(_WORDS) else Struct(f"<{word_count}I")
    result = _SEED ^ length
    for word in unpack.unpack_from(key):
        mixed = word * _MULTIPLIER & _WORD_MASK
        mixed = (mixed ^ mixed >> 24) * _MULTIPLIER & _WORD_MASK
        result = result * _MULTIPLIER & _WORD_MASK ^ mixed
    if rest:
        result ^= int.from_bytes(key[-rest:], "little")
        result = result * _MULTIPLIER & _WORD_MASK
    result = (result ^ result >> 13) * _MULTIPLIER & _WORD_MASK
    return result ^ result >> 15
