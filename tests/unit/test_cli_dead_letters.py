"""`dead-letters list`: which of the dead letters are the newest."""

from collections.abc import AsyncIterator

from lifecycle.cli.dead_letters import newest_of
from lifecycle.kafka.records import RawRecord
from tests.unit.wire_records import record

# As a reader gets them: partition by partition, each in order of its offsets.
TIMES = {0: (5, 9, 9), 1: (), 2: (1, 2, 7, 9, 8), 3: (3,)}


async def letters() -> AsyncIterator[RawRecord]:
    for partition, times in TIMES.items():
        for offset, time in enumerate(times):
            yield record(b"{", place=(partition, offset), timestamp=time)


async def test_the_newest_are_those_of_all_partitions_oldest_first() -> None:
    listed, count = await newest_of(letters(), 5)
    assert [one["id"] for one in listed] == ["2-2", "2-4", "0-1", "0-2", "2-3"]
    assert count == 9


async def test_a_topic_with_fewer_is_listed_whole() -> None:
    listed, count = await newest_of(letters(), 50)
    assert (len(listed), count) == (9, 9)
