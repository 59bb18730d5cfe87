"""Sends records that the database owes to topics, at least once (design.md 7.8).

What is sent again after an error is told by its id: a request by its operation's, a TIME_OUT by its
own.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import orjson
from aiokafka import AIOKafkaProducer

from lifecycle.domain.commands import CommandName, Subject, SubjectKind
from lifecycle.domain.timers import time_out_id
from lifecycle.kafka.clients import KafkaError, client_options
from lifecycle.kafka.partitioner import key_of, partition_of
from lifecycle.settings import Settings

_STOP_SECONDS_MAX = 5.0


class OwedRecord(NamedTuple):
    """A record to be sent to `topic`, on the partition of its key."""

    topic: str
    key: bytes
    value: bytes


def time_out_command(topic: str, issuer_id: str, card_id: str, operation_id: UUID) -> OwedRecord:
    """The TIME_OUT of a PENDING operation (design.md 3); sent again it has the same content."""
    body = {
        "commandId": time_out_id(operation_id),
        "command": CommandName.TIME_OUT.value,
        "issuerId": issuer_id,
        "cardId": card_id,
        "operationId": str(operation_id),
    }
    return OwedRecord(
        topic, key_of(Subject(SubjectKind.CARD, issuer_id, card_id)), orjson.dumps(body)
    )


class AtLeastOnceSender:
    """One idempotent producer, opened when it is first needed and again after every error."""

    def __init__(self, settings: Settings) -> None:
        """Prepare; nothing is connected before the first `send`."""
        self._settings = settings
        self._seconds_max = settings.kafka_request_timeout_ms / 1000
        self._producer: AIOKafkaProducer | None = None

    async def send(self, records: Sequence[OwedRecord]) -> list[int]:
        """Send `records`; all are acknowledged by every copy when this returns.

        Returns:
            The time that the broker gave each record, in milliseconds since the epoch.

        Raises:
            KafkaError, OSError, TimeoutError: it is unknown which were taken; send all again.
        """
        try:
            async with asyncio.timeout(self._seconds_max):
                producer = await self._opened()
            async with asyncio.timeout(self._seconds_max):
                acknowledgements = [
                    await producer.send(
                        record.topic,
                        key=record.key,
                        value=record.value,
                        partition=partition_of(record.key, self._settings.partitions),
                    )
                    for record in records
                ]
                taken = await asyncio.gather(*acknowledgements)
        except BaseException:
            # What it had in flight may come late; a new one has nothing to do with that.
            await self.close()
            raise
        return [metadata.timestamp for metadata in taken]

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
        except (TimeoutError, KafkaError):
            # What it still held was never acknowledged, and so will be sent again.
            return
