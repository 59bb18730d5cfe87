"""Kafka takes nothing for a while: what waits for it is bounded in bytes, and so is intake."""

import gc
from collections.abc import Iterable

import pytest
from aiokafka.errors import KafkaConnectionError

from lifecycle.kafka.producer import LaneProducer, OutgoingRecord
from lifecycle.postgres.operations import DeadLetterRow, OutboxRow
from lifecycle.worker.readiness import Readiness
from tests.support import bank
from tests.support.bank import Message, create
from tests.support.fixtures import NewGround
from tests.support.guarantees import verify_all
from tests.support.reading import taken_count, until_settled
from tests.support.waiting import until
from tests.support.worker import running_worker

_RECORDS = 120
_LETTER = "x" * 60_000
_CONTROLS = "\N{BALLOT BOX WITH CHECK}" * 4_000
_HELD_BYTES_MAX = 1_000_000
_TRANSACTION_BYTES_MAX = 300_000
_POLL_RECORDS = 5


class _Broker:
    """Stands between the publishers and Kafka; notes the size of each transaction."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_away = False
        self.transactions_bytes: list[int] = []
        send = LaneProducer.send

        async def sending(producer: LaneProducer, records: Iterable[OutgoingRecord]) -> None:
            if self.is_away:
                raise KafkaConnectionError("the broker is away")
            outgoing = list(records)
            self.transactions_bytes.append(
                sum(
                    len(part or b"")
                    for record in outgoing
                    for part in (record.key, record.value, *(value for _, value in record.headers))
                )
            )
            await send(producer, outgoing)

        monkeypatch.setattr(LaneProducer, "send", sending)


def _held_bytes() -> int:
    """The bytes of all events and dead letters that this process holds, whoever holds them."""
    found = [one for one in gc.get_objects() if isinstance(one, DeadLetterRow | OutboxRow)]
    return sum(one.bytes_held for one in found)


@pytest.mark.parametrize("content", [_LETTER, _CONTROLS], ids=["dead letters", "events"])
async def test_what_waits_for_kafka_is_bounded_in_bytes_and_then_intake_waits(
    new_ground: NewGround, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    """G11, and G1, G4 to G6 of what is read from the log when Kafka is back."""
    ground = await new_ground(
        partitions=1,
        poll_records_max=_POLL_RECORDS,
        unpublished_bytes_max=_HELD_BYTES_MAX,
        publish_bytes_max=_TRANSACTION_BYTES_MAX,
        lane_standstill_ms=1_000,
    )
    broker = _Broker(monkeypatch)
    readiness = Readiness()
    async with running_worker(ground, readiness):
        await bank.send(ground, [*bank.PRODUCTS, create("card-1")])
        await until_settled(ground)
        before = await taken_count(ground)
        broker.is_away = True
        await bank.send(ground, _large(content))
        told = "lane 0: commands wait, and for 1 s or more none was taken"

        async def waits() -> bool:
            return told in readiness.reasons

        await until(waits, "intake to wait for Kafka")
        size_bytes = len(content.encode())
        one_poll_bytes = _POLL_RECORDS * 2 * size_bytes
        taken_bytes = (await taken_count(ground) - before) * size_bytes
        assert taken_bytes <= _HELD_BYTES_MAX + one_poll_bytes
        assert _held_bytes() <= _HELD_BYTES_MAX + one_poll_bytes
        assert any("events wait" in reason for reason in readiness.reasons)
        broker.is_away = False
        evidence = await verify_all(ground)
    assert evidence.count("records") == before + _RECORDS
    # A card's state is sent beside its event.
    assert max(broker.transactions_bytes) <= _TRANSACTION_BYTES_MAX + 2 * size_bytes


def _large(content: str) -> list[Message]:
    """Broken records, or commands whose content each later event of the card shows."""
    if content == _LETTER:
        return [Message(b"key", content.encode()) for _ in range(_RECORDS)]
    return [
        bank.card("card-1", "UPDATE_CONTROLS", f"update-{number}", controls={"a": content})
        for number in range(_RECORDS)
    ]
