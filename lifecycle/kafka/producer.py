"""One lane's way into Kafka: batches in lane order, one at a time, each a Kafka transaction.

FastStream's `publish_batch` spreads the records of one key over partitions, so this is aiokafka's
own producer with batches built for one partition. A producer that failed is closed, never used on:
whoever owns the lane opens another one, which fences this one off, and looks at the topic's end.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from lifecycle.kafka.clients import client_options
from lifecycle.kafka.topics import COMMAND_MESSAGE_BYTES_MAX
from lifecycle.settings import Settings

_BATCH_BYTES_MAX = COMMAND_MESSAGE_BYTES_MAX - 64 * 1024
_STOP_SECONDS_MAX = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingRecord:
    """A record to be published on the lane's partition of `topic`."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class LaneProducer:
    """The producer of one lane. `send` must not be called again before it returned."""

    def __init__(self, settings: Settings, lane: int) -> None:
        """Prepare a producer; nothing is connected before `open`.

        Raises:
            OSError, ssl.SSLError: a TLS file can't be read, as while it is being replaced.
        """
        self._lane = lane
        self._transactional = settings.publish == "transactional"
        self._seconds_max = settings.kafka_transaction_timeout_ms / 1000
        fence = {
            "transactional_id": f"{settings.topic_prefix}.lane-{lane}",
            "transaction_timeout_ms": settings.kafka_transaction_timeout_ms,
        }
        self._producer = AIOKafkaProducer(
            **client_options(settings),
            **(fence if self._transactional else {"enable_idempotence": True}),
            acks="all",
            max_batch_size=_BATCH_BYTES_MAX,
        )

    async def open(self) -> None:
        """Connect and fence: from here on no earlier producer of the lane can commit anything."""
        async with asyncio.timeout(self._seconds_max):
            await self._producer.start()

    async def send(self, records: Iterable[OutgoingRecord]) -> None:
        """Publish `records` in their order; grouped by topic, they are visible all together.

        Raises:
            KafkaError, TimeoutError: it is unknown what was published; close this producer.
        """
        async with asyncio.timeout(self._seconds_max):
            if not self._transactional:
                await self._send_batches(records)
                return
            await self._producer.begin_transaction()
            await self._send_batches(records)
            await self._producer.commit_transaction()

    async def _send_batches(self, records: Iterable[OutgoingRecord]) -> None:
        for topic, group in groupby(records, key=lambda record: record.topic):
            batch = self._producer.create_batch()
            for record in group:
                if self._append(batch, record):
                    continue
                # One batch at the producer at a time: of two in flight the first could be refused
                # and the second be appended, and the rows of the first would never be sent.
                await self._deliver(batch, topic)
                batch = self._producer.create_batch()
                if not self._append(batch, record):
                    raise KafkaError(f"a record for {topic} does not fit an empty batch")
            await self._deliver(batch, topic)

    @staticmethod
    def _append(batch: object, record: OutgoingRecord) -> bool:
        appended = batch.append(  # type: ignore[attr-defined]  # aiokafka ships no types
            timestamp=None, key=record.key, value=record.value, headers=list(record.headers)
        )
        return appended is not None

    async def _deliver(self, batch: object, topic: str) -> None:
        acknowledged = await self._producer.send_batch(batch, topic, partition=self._lane)
        await acknowledged

    async def close(self) -> None:
        """Close; bounded, because a producer whose broker is gone would wait for it."""
        try:
            async with asyncio.timeout(_STOP_SECONDS_MAX):
                await self._producer.stop()
        except (TimeoutError, KafkaError, OSError):
            # What it still held was never acknowledged; the next owner reads the topic's end.
            return
