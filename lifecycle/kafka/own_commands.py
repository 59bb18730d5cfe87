"""The commands that the service sends itself: timers, and the DELETEs of a cascade (design.md 7.8).

They take the way of every other command, over the command topic, at least once: their ids say what
they are about, so that one that is sent again is a duplicate.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from lifecycle.domain.commands import CommandName, RequestorType, Subject, SubjectKind
from lifecycle.domain.defaults import SYSTEM_ID
from lifecycle.domain.timers import cascade_id
from lifecycle.kafka.clients import client_options
from lifecycle.kafka.partitioner import key_of, partition_of
from lifecycle.kafka.topics import topics_of
from lifecycle.settings import Settings

_STOP_SECONDS_MAX = 5.0


class OwnCommand(NamedTuple):
    """A record for the command topic."""

    key: bytes
    value: bytes


def cascade_delete(issuer_id: str, card_id: str, cause: UUID, reason_code: str) -> OwnCommand:
    """The DELETE of a card whose consumer or real card has left (domain.md 8).

    It says no more than this, because whoever sends it again must send the same content.
    """
    return _card_command(
        issuer_id,
        card_id,
        CommandName.DELETE,
        cascade_id(cause),
        requestor={"type": RequestorType.SYSTEM.value, "id": SYSTEM_ID},
        reasonCode=reason_code,
    )


def timer_command(issuer_id: str, card_id: str, kind: str, command_id: str) -> OwnCommand:
    """A timer: its requestor is the system by default (design.md 3)."""
    return _card_command(issuer_id, card_id, CommandName(kind), command_id)


def _card_command(
    issuer_id: str, card_id: str, name: CommandName, command_id: str, **fields: object
) -> OwnCommand:
    body = {
        "commandId": command_id,
        "command": name.value,
        "issuerId": issuer_id,
        "cardId": card_id,
        **fields,
    }
    return OwnCommand(key_of(Subject(SubjectKind.CARD, issuer_id, card_id)), orjson.dumps(body))


class OwnCommandSender:
    """One idempotent producer, opened when it is first needed and again after every error."""

    def __init__(self, settings: Settings) -> None:
        """Prepare; nothing is connected before the first `send`."""
        self._settings = settings
        self._topic = topics_of(settings).commands
        self._seconds_max = settings.kafka_request_timeout_ms / 1000
        self._producer: AIOKafkaProducer | None = None

    async def send(self, commands: Sequence[OwnCommand]) -> list[int]:
        """Send `commands`; all are acknowledged by every copy when this returns.

        Returns:
            The time that the broker gave each record, in milliseconds since the epoch.

        Raises:
            KafkaError, OSError, TimeoutError: it is unknown which were taken; send all again.
        """
        try:
            async with asyncio.timeout(self._seconds_max):
                producer = await self._opened()
            async with asyncio.timeout(self._seconds_max):
                return await self._sent(producer, commands)
        except BaseException:
            # What it had in flight may come late; a new one has nothing to do with that.
            await self.close()
            raise

    async def _opened(self) -> AIOKafkaProducer:
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                **client_options(self._settings), acks="all", enable_idempotence=True
            )
            await self._producer.start()
        return self._producer

    async def _sent(self, producer: AIOKafkaProducer, commands: Sequence[OwnCommand]) -> list[int]:
        acknowledgements = [
            await producer.send(
                self._topic,
                key=command.key,
                value=command.value,
                partition=partition_of(command.key, self._settings.partitions),
            )
            for command in commands
        ]
        return [metadata.timestamp for metadata in await asyncio.gather(*acknowledgements)]

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
