"""What can't be read ends the worker, says where, and costs its neighbours nothing.

The broker is the real one; what it sends is changed on its way.
"""

import struct
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer import fetcher
from aiokafka.protocol.fetch import FetchRequest

from lifecycle.kafka.polling import UnreadableError
from lifecycle.kafka.tolerant import TolerantRecords
from lifecycle.kafka.topics import topics_of
from lifecycle.settings import Settings
from tests.support import bank
from tests.support.bank import Message, Place, create
from tests.support.fixtures import NewGround
from tests.support.guarantees import verify_all
from tests.support.reading import taken_count, until_settled, until_taken
from tests.support.worker import running_worker

_MARK = b"flipped on its way"
_LENGTH_AT = 8


def _flip(fetched: bytes) -> bytes:
    return fetched.replace(_MARK, _MARK.upper())


def _claim_more_than_there_is(fetched: bytes) -> bytes:
    """The length of the first batch with the mark is too large by one."""
    changed = bytearray(fetched)
    at = 0
    while at < len(changed):
        (length,) = struct.unpack_from(">i", changed, at + _LENGTH_AT)
        end = at + _LENGTH_AT + 4 + length
        if _MARK in changed[at:end]:
            struct.pack_into(">i", changed, at + _LENGTH_AT, len(changed))
            break
        at = end
    return bytes(changed)


def _change(monkeypatch: pytest.MonkeyPatch, change: Callable[[bytes], bytes]) -> None:
    def changed(fetched: bytes) -> TolerantRecords:
        return TolerantRecords(change(fetched) if _MARK in fetched else fetched)

    monkeypatch.setattr(fetcher, "MemoryRecords", changed)


async def _prepared(settings: Settings) -> None:
    async with running_worker(settings):
        await bank.send(settings, bank.PRODUCTS)
        await until_settled(settings)


@pytest.mark.parametrize(
    ("change", "why"),
    [(_flip, "Invalid CRC"), (_claim_more_than_there_is, "the batch there is not whole")],
)
async def test_a_batch_that_stays_corrupt_ends_the_worker_and_nothing_is_skipped(
    new_ground: NewGround,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[bytes], bytes],
    why: str,
) -> None:
    """What lies before it, and on the other partitions in the same polls, is taken all the same."""
    ground = await new_ground(partitions=2)
    await _prepared(ground)
    cards = [create(f"card-{number}") for number in range(40)]
    before = [message.on(0) for message in cards[:10]]
    places = await bank.send(ground, before)
    places += await bank.send(ground, [Message(b"key", _MARK, (), 0)])
    wrong = places[-1]
    places += await bank.send(ground, [message.on(0) for message in cards[10:20]])
    places += await bank.send(ground, [message.on(1) for message in cards[20:]])
    taken = len(bank.PRODUCTS) + 30
    with monkeypatch.context() as patch:
        _change(patch, change)
        with pytest.raises(UnreadableError) as told:
            async with running_worker(ground):
                await until_taken(ground, taken + 1)
    commands = topics_of(ground).commands
    assert f"{commands}, partition 0, can't be read at offset {wrong.offset}" in str(told.value)
    assert why in str(told.value)
    assert await taken_count(ground) == taken
    async with running_worker(ground):
        evidence = await verify_all(ground)
    outcomes = evidence.outcomes(places)
    assert outcomes.count("SUCCESSFUL") == len(cards)
    assert outcomes.count("NOT_JSON") == 1


async def test_bytes_that_were_flipped_once_are_fetched_again(
    new_ground: NewGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground = await new_ground(partitions=1)
    await _prepared(ground)
    left = [_flip, _flip]

    def flip_twice(fetched: bytes) -> bytes:
        return left.pop()(fetched) if left else fetched

    places = await bank.send(ground, [create("card-1"), Message(b"key", _MARK, (), 0)])
    with monkeypatch.context() as patch:
        _change(patch, flip_twice)
        async with running_worker(ground):
            await until_taken(ground, len(bank.PRODUCTS) + 2)
    assert not left
    async with running_worker(ground):
        evidence = await verify_all(ground)
    assert sorted(evidence.outcomes(places)) == ["NOT_JSON", "SUCCESSFUL"]


def _answer(
    monkeypatch: pytest.MonkeyPatch,
    topic: str,
    place: Place,
    code: int,
    *,
    times: float = float("inf"),
) -> list[int]:
    """Let the broker answer `code` to who reads on from `place`; the answers it gave so far."""
    send = AIOKafkaClient.send
    answered: list[int] = []

    async def answering(self: Any, node: Any, request: Any, **named: Any) -> Any:  # noqa: ANN401 - handed through
        response = await send(self, node, request, **named)
        if isinstance(request, FetchRequest):
            asked = {
                (name, partition): offset
                for name, partitions in request.topics
                for partition, offset, _ in partitions
            }
            wanted = asked.get((topic, place.partition), -1) >= place.offset
            for name, partitions in response.topics:
                for at, (partition, _, *rest) in enumerate(partitions):
                    is_there = (name, partition) == (topic, place.partition)
                    if wanted and is_there and len(answered) < times:
                        answered.append(code)
                        partitions[at] = (partition, code, *rest)
        return response

    monkeypatch.setattr(AIOKafkaClient, "send", answering)
    return answered


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (1, "its topic does not hold that offset"),
        (2, "CorruptRecordException"),
        (35, "UnsupportedVersionError"),
        (76, "76"),
    ],
)
async def test_what_a_broker_answers_for_ever_ends_the_worker(
    new_ground: NewGround, monkeypatch: pytest.MonkeyPatch, code: int, why: str
) -> None:
    ground = await new_ground(partitions=2)
    await _prepared(ground)
    topic = topics_of(ground).commands
    with monkeypatch.context() as patch:
        (place,) = await bank.send(ground, [create("card-1").on(0)])
        _answer(patch, topic, place, code)
        with pytest.raises(UnreadableError, match=why) as told:
            async with running_worker(ground):
                await until_taken(ground, len(bank.PRODUCTS) + 1)
    assert f"{topic}, partition 0, can't be read at offset {place.offset}" in str(told.value)
    async with running_worker(ground):
        await verify_all(ground)


async def test_an_answer_that_may_pass_ends_the_worker_after_the_retry_limit(
    new_ground: NewGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KAFKA_STORAGE_ERROR: the disk of one broker, whose leadership may move."""
    ground = await new_ground(partitions=2, retry_ms_max=1_000, kafka_request_timeout_ms=1_000)
    await _prepared(ground)
    topic = topics_of(ground).commands
    with monkeypatch.context() as patch:
        (place,) = await bank.send(ground, [create("card-1").on(0)])
        _answer(patch, topic, place, 56)
        with pytest.raises(UnreadableError, match="KafkaStorageError"):
            async with running_worker(ground):
                await until_taken(ground, len(bank.PRODUCTS) + 1)


async def test_an_answer_that_passes_is_waited_for(
    new_ground: NewGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground = await new_ground(partitions=2)
    await _prepared(ground)
    places = await bank.send(ground, [create("card-1").on(0)])
    with monkeypatch.context() as patch:
        answered = _answer(patch, topics_of(ground).commands, places[0], 56, times=8)
        async with running_worker(ground):
            await until_taken(ground, len(bank.PRODUCTS) + 1)
    assert len(answered) == 8
    async with running_worker(ground):
        evidence = await verify_all(ground)
    assert evidence.outcomes(places) == ["SUCCESSFUL"]
