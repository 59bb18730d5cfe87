"""A bank that sends commands: single ones, and days of them with everything that goes wrong.

Relies on nothing of the service but the topics' names: what it sends is written by hand from
design.md 3, as a client of ours would.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from lifecycle.kafka.topics import topics_of
from lifecycle.settings import Settings

ISSUER = "BANK000001"
VIRTUAL, PHYSICAL = "virtual-credit", "physical-debit"

_REQUEST_BYTES_MAX = 4 * 1024 * 1024
_LINGER_MS = 2


class Place(NamedTuple):
    """Where a record of the command topic lies."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent; without a `partition` the key decides, by murmur2."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    partition: int | None = None

    def on(self, partition: int) -> "Message":
        """The same, put on a certain partition."""
        return replace(self, partition=partition)


def _message(key: str, body: dict[str, object]) -> Message:
    return Message(key.encode(), json.dumps(body).encode())


def card(card_id: str, command: str, command_id: str, **fields: object) -> Message:
    """A command about a card; `fields` go by their names on the wire."""
    identity = {"commandId": command_id, "command": command, "issuerId": ISSUER, "cardId": card_id}
    return _message(f"{ISSUER}/{card_id}", {**identity, **fields})


def create(card_id: str, command_id: str = "create", **fields: object) -> Message:
    """CREATE of a virtual card, unless `fields` say otherwise."""
    needed = {"consumerId": "consumer-1", "cardProductId": VIRTUAL}
    return card(card_id, "CREATE", command_id, **{**needed, **fields})


def consumer(consumer_id: str, command: str, command_id: str, **fields: object) -> Message:
    """A command about a consumer."""
    identity = {"commandId": command_id, "command": command, "issuerId": ISSUER}
    return _message(
        f"{ISSUER}/consumer/{consumer_id}", {**identity, "consumerId": consumer_id, **fields}
    )


def define(card_product_id: str, form: str, command_id: str = "define") -> Message:
    """PRODUCT_DEFINE."""
    return _message(
        f"{ISSUER}/product/{card_product_id}",
        {
            "commandId": command_id,
            "command": "PRODUCT_DEFINE",
            "issuerId": ISSUER,
            "cardProductId": card_product_id,
            "form": form,
            "scheme": "VISA",
        },
    )


PRODUCTS = (define(VIRTUAL, "VIRTUAL"), define(PHYSICAL, "PHYSICAL"))
"""Every card of the tests is of one of these; they must be taken before it is created."""


@asynccontextmanager
async def _producer(settings: Settings, **options: Any) -> AsyncIterator[AIOKafkaProducer]:  # noqa: ANN401 - aiokafka's own options
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        max_request_size=_REQUEST_BYTES_MAX,
        linger_ms=_LINGER_MS,
        # Or a batch that is sent again would come behind the one after it.
        **(options if "transactional_id" in options else {"enable_idempotence": True, **options}),
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def send(
    settings: Settings, messages: Iterable[Message], *, compression: str | None = None
) -> list[Place]:
    """Send `messages` in their order; where each of them lies."""
    async with _producer(settings, compression_type=compression) as producer:
        return await _send(producer, topics_of(settings).commands, messages)


async def send_in_transaction(
    settings: Settings, messages: Iterable[Message], *, commit: bool, topic: str | None = None
) -> list[Place]:
    """Send `messages` in one Kafka transaction that is committed or aborted.

    They go to the command topic, if no other one is named.
    """
    transactional_id = f"{settings.topic_prefix}.bank"
    async with _producer(settings, transactional_id=transactional_id) as producer:
        await producer.begin_transaction()
        places = await _send(producer, topic or topics_of(settings).commands, messages)
        await (producer.commit_transaction() if commit else producer.abort_transaction())
        return places


class _Built:
    """Stands in for aiokafka's builder of batches, with the bytes of one already built."""

    def __init__(self, batch: bytes) -> None:
        self._batch = bytearray(batch)

    def build(self) -> bytearray:
        return self._batch

    def size(self) -> int:
        return len(self._batch)


async def send_batch(settings: Settings, batch: bytes, partition: int) -> None:
    """Send a record batch that is built byte by byte."""
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers) as producer:
        builder = producer.create_batch()
        builder._builder = _Built(batch)  # noqa: SLF001 - no client would send these bytes
        builder._relative_offset = 1  # noqa: SLF001 - one that says that it is empty is not sent
        topic = topics_of(settings).commands
        await (await producer.send_batch(builder, topic, partition=partition))


async def _send(producer: AIOKafkaProducer, topic: str, messages: Iterable[Message]) -> list[Place]:
    acknowledged = [
        await producer.send(
            topic,
            key=message.key,
            value=message.value,
            headers=list(message.headers),
            partition=message.partition,
        )
        for message in messages
    ]
    return [Place(sent.partition, sent.offset) for sent in await asyncio.gather(*acknowledged)]


# --- a day of commands

_CHANGES: dict[str, tuple[dict[str, object], ...]] = {
    "ACTIVATE": ({},),
    "SUSPEND": (
        {"reasonCode": "USER_DECISION"},
        {"reasonCode": "CARD_LOST", "reason": "left in a taxi"},
        {},
    ),
    "RESUME": ({}, {"reasonCode": "CARD_FOUND"}, {"requestor": {"type": "USER", "id": "c1"}}),
    "LOCK": ({"lock": "PIN"}, {"lock": "CVV2"}),
    "RENEW": ({},),
    "REPLACE": ({"reasonCode": "CARD_LOST", "reason": "lost again"},),
    "DELETE": ({"reasonCode": "CLOSED_CARD"},),
}
_WEIGHTS = {"ACTIVATE": 4, "SUSPEND": 8, "RESUME": 8, "LOCK": 3, "RENEW": 3, "REPLACE": 1}
_REPEATED, _CONFLICTING, _BROKEN = 0.10, 0.03, 0.03
_CONSUMERS = 7


@dataclass(slots=True)
class _CardsDay:
    """What is sent about one card, in its order."""

    card_id: str
    messages: list[Message] = field(default_factory=list)


def day(seed: int, *, cards: int, commands_of_a_card: int) -> list[Message]:
    """A day of `cards` cards: every kind of command, some repeated, in conflict or broken.

    The commands of a card stay in order; those of different cards are mixed.
    """
    chance = random.Random(seed)  # noqa: S311 - a load that can be sent again, no secret
    days = [
        _CardsDay(f"card-{seed}-{number}", _one_card(chance, seed, number, commands_of_a_card))
        for number in range(cards)
    ]
    consumers = [
        consumer(f"consumer-{chance.randrange(_CONSUMERS)}", command, f"{command}-{seed}-{number}")
        for number in range(cards // 4)
        for command in ("CONSUMER_REGISTER", "CONSUMER_DEACTIVATE", "CONSUMER_REACTIVATE")
    ]
    queues = [list(reversed(cards_day.messages)) for cards_day in days]
    queues.append(list(reversed(consumers)))
    mixed = []
    while queues:
        queue = chance.choice(queues)
        mixed.append(queue.pop())
        if not queue:
            queues.remove(queue)
    return mixed


def _one_card(chance: random.Random, seed: int, number: int, commands: int) -> list[Message]:
    card_id = f"card-{seed}-{number}"
    first = create(
        card_id,
        f"{card_id}:create",
        consumerId=f"consumer-{number % _CONSUMERS}",
        cardProductId=PHYSICAL if number % 2 else VIRTUAL,
        name="A Person",
    )
    messages = [first]
    if number % 5 == 0:
        messages.insert(0, card(card_id, "SUSPEND", f"{card_id}:too-early"))
    names = list(_WEIGHTS)
    while len(messages) < commands:
        what = chance.random()
        if what < _REPEATED:
            messages.append(chance.choice(messages))
        elif what < _REPEATED + _CONFLICTING:
            messages.append(card(card_id, "DELETE", f"{card_id}:create"))
        elif what < _REPEATED + _CONFLICTING + _BROKEN:
            messages.append(replace(first, value=chance.choice((b"", b"{", None, b"\xff", b"[]"))))
        else:
            name = chance.choices(names, list(_WEIGHTS.values()))[0]
            fields = chance.choice(_CHANGES[name])
            messages.append(card(card_id, name, f"{card_id}:{len(messages)}", **fields))
    if number % 3 == 0:
        messages.append(card(card_id, "DELETE", f"{card_id}:delete", **_CHANGES["DELETE"][0]))
    return messages


def scattered(seed: int, messages: Iterable[Message], partitions: int) -> list[Message]:
    """The same on random partitions: a client whose partitioner is not murmur2."""
    chance = random.Random(seed)  # noqa: S311 - as above
    return [message.on(chance.randrange(partitions)) for message in messages]


def home(key: bytes | None, partitions: int) -> int:
    """The partition of a key by Kafka's own default partitioner."""
    assert key is not None
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)
