"""The partition of a key is the one that every Kafka client gives it (design.md 2)."""

from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.kafka.partitioner import partition_of


@given(st.binary(max_size=200), st.integers(1, 1000))
def test_the_partition_is_that_of_aiokafka(key: bytes, partition_count: int) -> None:
    assert partition_of(key, partition_count) == (murmur2(key) & 0x7FFFFFFF) % partition_count
