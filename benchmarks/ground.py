"""Ground of its own for each measurement: a database, topics, a backlog, and none of it afterwards.

Relies on servers that are running; whose they are is the caller's business.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from benchmarks.workload import Record
from lifecycle.kafka.clients import client_options
from lifecycle.kafka.partitioner import partition_of
from lifecycle.kafka.topics import create_topics, topics_of
from lifecycle.local import Servers
from lifecycle.postgres.migrate import migrate
from lifecycle.settings import Settings, required

# As librdkafka's and Java's producers fill them when commands come quickly.
_BATCH_BYTES = 16 * 1024
_READ_SECONDS_MAX = 120.0
_POLL_MS = 500


@asynccontextmanager
async def ground(servers: Servers) -> AsyncIterator[Settings]:
    """Settings whose database and topics are new, empty and nobody else's."""
    name = f"lifecycle_bench_{uuid4().hex[:12]}"
    await _administer(servers, f'CREATE DATABASE "{name}"')
    try:
        settings = Settings(
            environment="development",
            kafka_bootstrap_servers=servers.kafka_bootstrap_servers,
            database_url=_with_database(servers, name),
            topic_prefix=name,
            consumer_group=name,
        )
        await asyncio.to_thread(migrate, settings)
        await create_topics(settings)
        try:
            yield settings
        finally:
            await _delete_topics(settings)
    finally:
        await _administer(servers, f'DROP DATABASE "{name}" WITH (FORCE)')


def _with_database(servers: Servers, name: str) -> Any:  # noqa: ANN401 - a str that becomes a secret
    return urlunsplit(urlsplit(servers.database_url)._replace(path=f"/{name}"))


async def _administer(servers: Servers, statement: str) -> None:
    connection = await asyncpg.connect(servers.database_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _delete_topics(settings: Settings) -> None:
    topics = topics_of(settings)
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        await admin.delete_topics([topics.commands, topics.events, topics.dead_letters])
    finally:
        await admin.close()


async def fill(settings: Settings, records: Sequence[Record], *, foreign: bool) -> None:
    """Put `records` on the command topic.

    `foreign`: where librdkafka's default partitioner puts them, CRC-32 of the key, which is
    another partition than the card's own for nearly all of them.
    """
    queues: list[list[Record]] = [[] for _ in range(settings.partitions)]
    for key, value in records:
        partition = (
            zlib.crc32(key) % settings.partitions
            if foreign
            else partition_of(key, settings.partitions)
        )
        queues[partition].append((key, value))
    producer = AIOKafkaProducer(**client_options(settings), acks="all", max_batch_size=_BATCH_BYTES)
    async with producer:
        await asyncio.gather(
            *(
                _fill_partition(producer, topics_of(settings).commands, partition, queue)
                for partition, queue in enumerate(queues)
                if queue
            )
        )


async def _fill_partition(
    producer: AIOKafkaProducer, topic: str, partition: int, queue: Sequence[Record]
) -> None:
    batch = producer.create_batch()
    for key, value in queue:
        if batch.append(key=key, value=value, timestamp=None) is not None:
            continue
        await (await producer.send_batch(batch, topic, partition=partition))
        batch = producer.create_batch()
        appended = batch.append(key=key, value=value, timestamp=None)
        assert appended is not None, "a command is smaller than a batch"
    await (await producer.send_batch(batch, topic, partition=partition))


async def published_event_ids(settings: Settings) -> list[bytes]:
    """The `ce_id` of every event that readers of committed records see.

    Raises:
        TimeoutError: the topic could not be read to its end in time.
    """
    topic = topics_of(settings).events
    partitions = [TopicPartition(topic, number) for number in range(settings.partitions)]
    consumer = AIOKafkaConsumer(
        **client_options(settings),
        group_id=None,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    found: list[bytes] = []
    async with consumer, asyncio.timeout(_READ_SECONDS_MAX):
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        for tp in partitions:
            consumer.seek(tp, 0)
            if not ends[tp]:
                consumer.pause(tp)
        while any([ends[tp] and await consumer.position(tp) < ends[tp] for tp in partitions]):
            polled = await consumer.getmany(timeout_ms=_POLL_MS)
            for records in polled.values():
                found += [dict(record.headers)["ce_id"] for record in records]
    return found


async def query(settings: Settings, statement: str, *arguments: object) -> Any:  # noqa: ANN401 - any column
    """The first value of a statement, on a connection of its own."""
    connection = await asyncpg.connect(required(settings, "database_url"))
    try:
        return await connection.fetchval(statement, *arguments)
    finally:
        await connection.close()
