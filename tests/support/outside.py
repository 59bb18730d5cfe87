"""Outside parties: what they are asked, read from the topic, and what they answer, by hand.

Relies on nothing of the service but the topics' names, as `bank.py` does.
"""

import json
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer

from lifecycle.kafka.topics import topics_of
from lifecycle.settings import Settings
from tests.support.reading import read_topic
from tests.support.waiting import until


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it lies on its topic."""

    key: bytes
    body: dict[str, Any]


async def requests(settings: Settings, at_least: int) -> list[Asked]:
    """The requests, each once, when there are so many."""
    found: dict[str, Asked] = {}

    async def are_there() -> bool:
        for records in (await read_topic(settings, topics_of(settings).requests)).values():
            for record in records:
                assert record.key is not None
                assert record.value is not None
                body = json.loads(record.value)
                found[body["operationId"]] = Asked(record.key, body)
        return len(found) >= at_least

    await until(are_there, f"{at_least} requests")
    return list(found.values())


def reply(asked: Asked, result: str = "SUCCESSFUL", **fields: object) -> tuple[bytes, bytes]:
    """Key and value of an answer."""
    named = {name: asked.body[name] for name in ("operationId", "issuerId", "cardId")}
    return asked.key, json.dumps({**named, "result": result, "data": {}, **fields}).encode()


async def answer(settings: Settings, *replies: tuple[bytes | None, bytes | None]) -> None:
    """Send replies in their order."""
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers, enable_idempotence=True
    )
    await producer.start()
    try:
        for key, value in replies:
            await producer.send_and_wait(topics_of(settings).replies, key=key, value=value)
    finally:
        await producer.stop()
