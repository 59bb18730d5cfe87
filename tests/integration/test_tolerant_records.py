"""What the broker takes from any producer, our consumers read: on the real broker."""

import uuid

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

import lifecycle.kafka.clients  # noqa: F401 - opening any client of ours installs the reader
from lifecycle.kafka.tails import TailReader
from lifecycle.local import Servers
from lifecycle.settings import Settings
from tests.unit import evil_batches as evil


class _Bytes:
    """Stands in for aiokafka's builder of batches, with the bytes of one already built."""

    def __init__(self, batch: bytes) -> None:
        self._batch = bytearray(batch)

    def build(self) -> bytearray:
        return self._batch

    def size(self) -> int:
        return len(self._batch)


async def _send(producer: AIOKafkaProducer, topic: str, batch: bytes) -> None:
    builder = producer.create_batch()
    builder._builder = _Bytes(batch)  # noqa: SLF001 - no client of any kind would send these
    builder._relative_offset = 1  # noqa: SLF001 - one that says that it is empty is never sent
    acknowledged = await producer.send_batch(builder, topic, partition=0)
    await acknowledged


async def _create(address: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics(
            [NewTopic(topic, 1, 1, topic_configs={"message.timestamp.type": "LogAppendTime"})]
        )
    finally:
        await admin.close()


@pytest.mark.parametrize("wrong", [*evil.READABLE, *evil.UNREADABLE])
async def test_an_evil_batch_stops_and_skips_nothing(wrong: str, servers: Servers) -> None:
    payload, count, codec = {**evil.READABLE, **evil.UNREADABLE}[wrong]
    address = servers.kafka_bootstrap_servers
    topic = f"evil-{uuid.uuid4()}"
    await _create(address, topic)
    good = evil.batch_to_send(evil.record(b"good"), 1, 0)
    async with AIOKafkaProducer(bootstrap_servers=address, acks="all") as producer:
        for batch in (good, evil.batch_to_send(payload, count, codec), good):
            await _send(producer, topic, batch)
    async with TailReader(Settings(kafka_bootstrap_servers=address)) as tails:
        found = await tails.newest_until(topic, 0, lambda record: record.offset == 0)
    assert [record.offset for record in found] == list(range(count + 2))
    assert [found[0].value, found[-1].value] == [b"good", b"good"]
    assert all(record.timestamp > evil.TIME_MS for record in found)
