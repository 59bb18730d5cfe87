"""Keys and partitions (design.md 2)."""

import pytest

from lifecycle.domain.commands import Subject, SubjectKind
from lifecycle.kafka.partitioner import key_of, partition_of


@pytest.mark.parametrize(
    ("key", "murmur2"),
    [  # from UtilsTest.testMurmur2 of Apache Kafka
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_that_of_apache_kafka(key: bytes, murmur2: int) -> None:
    assert partition_of(key, 2**31) == murmur2 & 0x7FFFFFFF


@pytest.mark.parametrize(
    ("subject", "key"),
    [
        (Subject(SubjectKind.CARD, "BANK000001", "x"), b"BANK000001/x"),
        (Subject(SubjectKind.CONSUMER, "BANK000001", "x"), b"BANK000001/consumer/x"),
        (Subject(SubjectKind.PRODUCT, "BANK000001", "x"), b"BANK000001/product/x"),
    ],
)
def test_the_key_names_issuer_and_subject(subject: Subject, key: bytes) -> None:
    assert key_of(subject) == key
