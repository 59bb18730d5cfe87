"""Sends records that the database owes to topics, at least once (design.md 7.8).

What is sent again after an error is told by its id: a request by its operation's, a command by its
own.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaProducer

from lifecycle.kafka.clients import KafkaError, client_options
from lifecycle.kafka.partitioner import partition_of
from lifecycle.settings import Settings

_STOP_SECONDS_MAX = 5.0


class OwedRecord(NamedTuple):
    """A record to be sent to `topic`, on the partition of its key."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Appended(NamedTuple):
    """Where a record lies, and the time that the broker gave it, in ms since the epoch."""

    partition: int
    offset: int
    time_ms: int


class AtLeastOnceSender:
    """One idempotent producer, opened when it is first needed and again after every error."""

    def __init__(self, settings: Settings) -> None:
        """Prepare; nothing is connected before the first `send`."""
        self._settings = settings
        self._seconds_max = settings.kafka_request_timeout_ms / 1000
        self._producer: AIOKafkaProducer | None = None

    async def send(self, records: Sequence[OwedRecord]) -> list[Appended]:
        """Send `records`; all are acknowledged by every copy when this returns.

        Returns:
            What became of each, in their order.

        Raises:
            KafkaError, OSError, TimeoutError: it is unknown which were taken; send all again.
        """
        try:
            async with asyncio.timeout(self._seconds_max):
                producer = await self._opened()
            async with asyncio.timeout(self._seconds_max):
                return await self._sent(producer, records)
        except BaseException:
            # What it had in flight may come late; a new one has nothing to do with that.
            await self.close()
            raise

    async def _sent(
        self, producer: AIOKafkaProducer, records: Sequence[OwedRecord]
    ) -> list[Appended]:
        acknowledgements = [
            await producer.send(
                record.topic,
                key=record.key,
                value=record.value,
                headers=list(record.headers),
                partition=partition_of(record.key, self._settings.partitions),
            )
            for record in records
        ]
        return [
            Appended(metadata.partition, metadata.offset, metadata.timestamp)
            for metadata in await asyncio.gather(*acknowledgements)
        ]

    async def _opened(self) -> AIOKafkaProducer:
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                **client_options(self._settings), acks="all", enable_idempotence=True
            )
            await self._producer.start()
        return self._producer

    async def close(self) -> None:
        """Close; bounded, because a producer whose broker is gone would wait for it."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            async with asyncio.timeout(_STOP_SECONDS_MAX):
                await producer.stop()
        except (TimeoutError, KafkaError, OSError):
            # What it still held was never acknowledged, and so will be sent again.
            return
