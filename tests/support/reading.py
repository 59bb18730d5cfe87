"""Reads whole topics and what the database says of them, as an outside reader would."""

import asyncio
from dataclasses import dataclass
from typing import Any, Literal

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from lifecycle.kafka.topics import topics_of
from lifecycle.settings import Settings
from tests.support.ground import connected
from tests.support.waiting import SECONDS_MAX, until

Isolation = Literal["read_committed", "read_uncommitted"]
_POLL_MS = 200


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it lies on a topic."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]

    def header(self, name: str) -> bytes | None:
        """The value of the one header with this name; there must be one."""
        values = [value for found, value in self.headers if found == name]
        assert len(values) == 1, f"{name} stands {len(values)} times in {self.headers}"
        return values[0]

    def number(self, name: str) -> int:
        """The decimal value of a header."""
        value = self.header(name)
        assert value is not None
        return int(value)


async def read_topic(
    settings: Settings, topic: str, isolation: Isolation = "read_committed"
) -> dict[int, list[Record]]:
    """Everything that lies on a topic now, by partition, in order."""
    partitions = [TopicPartition(topic, number) for number in range(settings.partitions)]
    ends = await _ends(settings, partitions)
    consumer = consumer_of(settings, isolation)
    await consumer.start()
    try:
        consumer.assign(partitions)
        for tp, first in (await consumer.beginning_offsets(partitions)).items():
            consumer.seek(tp, first)
        found: dict[int, list[Record]] = {tp.partition: [] for tp in partitions}
        async with asyncio.timeout(SECONDS_MAX):
            while any([await consumer.position(tp) < ends[tp] for tp in partitions]):
                for tp, records in (await consumer.getmany(timeout_ms=_POLL_MS)).items():
                    found[tp.partition] += [
                        _record(record) for record in records if record.offset < ends[tp]
                    ]
    finally:
        await consumer.stop()
    return found


async def _ends(settings: Settings, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
    # For a reader of committed records a partition ends before a transaction that is committed but
    # not marked so yet: a commit is acknowledged before its markers are written.
    consumer = consumer_of(settings, "read_uncommitted")
    await consumer.start()
    try:
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
    finally:
        await consumer.stop()
    return ends


def consumer_of(settings: Settings, isolation: Isolation) -> AIOKafkaConsumer:
    """A consumer without a group."""
    return AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        isolation_level=isolation,
        enable_auto_commit=False,
        max_partition_fetch_bytes=4 * 1024 * 1024,
        fetch_max_wait_ms=20,
    )


def _record(record: Any) -> Record:  # noqa: ANN401 - aiokafka ships no types
    return Record(
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        key=record.key,
        value=record.value,
        headers=tuple(record.headers),
    )


_TAKEN = "SELECT coalesce(sum(records), 0) FROM intake_batch WHERE source = 'commands'"


async def taken_count(settings: Settings) -> int:
    """How many records of the command topic were taken so far."""
    async with connected(settings) as connection:
        return int(await connection.fetchval(_TAKEN))


async def until_taken(settings: Settings, records: int) -> None:
    """Wait until at least so many records of the command topic were taken."""
    async with connected(settings) as connection:

        async def are_taken() -> bool:
            taken = await connection.fetchval(_TAKEN)
            return bool(taken >= records)

        await until(are_taken, f"{records} commands to be taken")


async def until_no_lag(settings: Settings) -> None:
    """Wait until the group's offsets are those of the ends, as an operator's tool compares them.

    Raises:
        TimeoutError: they are not.
    """
    topics = topics_of(settings)
    partitions = [
        TopicPartition(topic, number)
        for topic in (topics.commands, topics.replies)
        for number in range(settings.partitions)
    ]
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    try:

        async def is_at_the_ends() -> bool:
            # The marker of a transaction comes some time after its commit: the ends still move.
            ends = await _ends(settings, partitions)
            found = await admin.list_consumer_group_offsets(settings.consumer_group)
            return {tp: found[tp].offset for tp in partitions if tp in found} == ends

        await until(is_at_the_ends, "the group's lag to reach 0")
    finally:
        await admin.close()


async def until_settled(settings: Settings, *, seconds_max: float = SECONDS_MAX) -> None:
    """Wait until every command and reply of now is taken, and everything is published.

    Raises:
        TimeoutError: lag or the unpublished count does not return to 0 (G9).
    """
    topics = topics_of(settings)
    ends = {
        (source, partition): records[-1].offset + 1
        for source, topic in (("commands", topics.commands), ("replies", topics.replies))
        for partition, records in (await read_topic(settings, topic)).items()
        if records
    }
    async with connected(settings) as connection:

        async def is_settled() -> bool:
            lanes = await connection.fetch("SELECT source, partition, next_offset FROM lane_in")
            taken = {(row[0], row[1]): row[2] for row in lanes}
            if any(taken.get(lane, 0) < end for lane, end in ends.items()):
                return False
            unpublished = await connection.fetchval(
                """
                SELECT count(*) FROM lane_out JOIN lane_pub USING (partition)
                WHERE last_seq > published_seq OR dead_letter_offset < coalesce((
                    SELECT max(command_offset) FROM dead_letter
                    WHERE source = 'commands' AND dead_letter.partition = lane_out.partition), -1)
                OR reply_dead_letter_offset < coalesce((
                    SELECT max(command_offset) FROM dead_letter
                    WHERE source = 'replies' AND dead_letter.partition = lane_out.partition), -1)
                """
            )
            owed = await connection.fetchval("SELECT count(*) FROM dispatch")
            return bool(unpublished == 0 and owed == 0)

        await until(is_settled, "lag and unpublished rows to reach 0", seconds_max=seconds_max)
