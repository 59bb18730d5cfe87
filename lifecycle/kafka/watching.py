"""Reads topics as a subscriber without a group: what comes, or what is there up to now.

Committed records only (design.md 4). Nothing is kept: the caller sees one record at a time, so
that a topic of any length fits.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from lifecycle.kafka.clients import client_options
from lifecycle.kafka.records import RawRecord
from lifecycle.kafka.tails import TailReader
from lifecycle.kafka.topics import DEAD_LETTER_MESSAGE_BYTES_MAX, TopicsError
from lifecycle.settings import Settings

POLL_MS = 200
POLL_RECORDS_MAX = 500


@asynccontextmanager
async def followed(
    settings: Settings, topic: str, *, from_beginning: bool
) -> AsyncIterator[AsyncIterator[RawRecord]]:
    """The records of `topic` without end; from now on, `now` being when this is entered.

    Raises:
        TopicsError: the topic does not exist.
        KafkaError, OSError: the brokers can't be reached.
    """
    async with _reader(settings, topic) as (consumer, partitions):
        offsets = (
            await consumer.beginning_offsets(partitions)
            if from_beginning
            else await consumer.end_offsets(partitions)
        )
        _read_from(consumer, offsets)
        yield _endless(consumer)


async def _endless(consumer: AIOKafkaConsumer) -> AsyncIterator[RawRecord]:
    while True:
        polled = await consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS_MAX)
        for records in polled.values():
            for record in records:
                yield record


async def read_all(settings: Settings, topic: str) -> AsyncIterator[RawRecord]:
    """The records that `topic` holds now, each partition in order.

    Raises:
        TopicsError: the topic does not exist.
        TimeoutError: the brokers stopped answering.
        KafkaError, OSError: the brokers can't be reached.
    """
    async with _reader(settings, topic) as (consumer, partitions):
        offsets = await consumer.beginning_offsets(partitions)
        ends = await _ends(settings, partitions)
        unread = {tp for tp in partitions if offsets[tp] < ends[tp]}
        if not unread:
            return
        _read_from(consumer, {tp: offsets[tp] for tp in unread})
        seconds_max = settings.kafka_request_timeout_ms / 1000
        while unread:
            async with asyncio.timeout(seconds_max):  # for one step, however many there are
                before = {tp: await consumer.position(tp) for tp in unread}
                polled: dict[TopicPartition, list[RawRecord]] = {}
                # A poll may be empty and the reader move on all the same: over markers.
                while not polled and before == {tp: await consumer.position(tp) for tp in unread}:
                    polled = await consumer.getmany(
                        *unread, timeout_ms=POLL_MS, max_records=POLL_RECORDS_MAX
                    )
            for tp, records in polled.items():
                for record in records:
                    if record.offset < ends[tp]:
                        yield record
            unread = {tp for tp in unread if await consumer.position(tp) < ends[tp]}


async def _ends(settings: Settings, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
    """Where the partitions end, with records whose transaction is committed but not marked so yet.

    A producer's commit is acknowledged before its markers lie on the partitions. For a reader of
    committed records the partition ends before them until then: what was just published would be
    missing from what "the topic holds now".
    """
    consumer = AIOKafkaConsumer(
        **client_options(settings), group_id=None, isolation_level="read_uncommitted"
    )
    await consumer.start()
    try:
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
    finally:
        await consumer.stop()
    return ends


async def record_at(
    settings: Settings, topic: str, partition: int, offset: int
) -> RawRecord | None:
    """The record at `offset`; None when the topic has none there (any more).

    Raises:
        TopicsError: the topic does not exist.
        TimeoutError: the brokers stopped answering.
        KafkaError, OSError: the brokers can't be reached.
    """
    # Asking a broker for the end of a partition that does not exist waits for it to appear.
    if TopicPartition(topic, partition) not in await _partitions_of(settings, topic):
        return None
    async with TailReader(settings) as tails:
        return await tails.record_at(topic, partition, offset)


def _read_from(consumer: AIOKafkaConsumer, offsets: dict[TopicPartition, int]) -> None:
    consumer.assign(list(offsets))
    for tp, offset in offsets.items():
        consumer.seek(tp, offset)


@asynccontextmanager
async def _reader(
    settings: Settings, topic: str
) -> AsyncIterator[tuple[AIOKafkaConsumer, list[TopicPartition]]]:
    partitions = await _partitions_of(settings, topic)
    consumer = AIOKafkaConsumer(
        **client_options(settings),
        group_id=None,
        isolation_level="read_committed",
        enable_auto_commit=False,
        # What retention drops while we read is gone; the rest is still wanted.
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=DEAD_LETTER_MESSAGE_BYTES_MAX,
        fetch_max_wait_ms=POLL_MS,
    )
    await consumer.start()
    try:
        yield consumer, partitions
    finally:
        await consumer.stop()


async def _partitions_of(settings: Settings, topic: str) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        # Asked for all topics: asking for one would create it where brokers create what is asked.
        if topic not in await admin.list_topics():
            raise TopicsError(f"{topic} does not exist: run `lifecycle topics create`")
        described = await admin.describe_topics([topic])
    finally:
        await admin.close()
    return [
        TopicPartition(topic, partition["partition"]) for partition in described[0]["partitions"]
    ]
