"""Two transactions of the worker that overlap, one held open before its commit by the test.

On a real database, so that what makes the second wait is the lock that the first one holds. The
commands lie on the topic: a worker goes on from there afterwards.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal, cast

import asyncpg
import pytest
from aiokafka import ConsumerRecord

from lifecycle.domain.sources import Partition, Source
from lifecycle.kafka.commands import parse
from lifecycle.kafka.records import RawRecord
from lifecycle.kafka.topics import topics_of
from lifecycle.postgres.connection import Connection, open_pool
from lifecycle.settings import Settings
from lifecycle.worker import transaction
from lifecycle.worker.taken import take
from lifecycle.worker.transaction import commit_batch
from tests.support import bank
from tests.support.bank import ISSUER, Message, Place, consumer, create, home
from tests.support.dispatching import copy_card, last_event, until_dispatched
from tests.support.ground import PARTITIONS, connected
from tests.support.guarantees import verify_all
from tests.support.reading import read_topic, until_settled
from tests.support.waiting import until
from tests.support.worker import running_worker

_MANY = 10_000
_DELETION = consumer("consumer-1", "CONSUMER_DELETE", "leave")


def _created_in_another_lane() -> Message:
    names = (f"late-{number}" for number in range(100))
    return next(
        message
        for message in map(create, names)
        if home(message.key, PARTITIONS) != home(_DELETION.key, PARTITIONS)
    )


_CREATION = _created_in_another_lane()


async def _with_a_card(settings: Settings) -> None:
    async with running_worker(settings):
        await bank.send(settings, bank.PRODUCTS)
        await until_settled(settings)
        await bank.send(settings, [create("card")])
        await until_settled(settings)


async def _commit(settings: Settings, pool: asyncpg.Pool, place: Place) -> None:
    """Take the one record at `place` in a transaction of its own, as a worker would."""
    topic = topics_of(settings).commands
    found = (await read_topic(settings, topic))[place.partition][place.offset]
    record = ConsumerRecord(
        topic=topic,
        partition=found.partition,
        offset=found.offset,
        timestamp=found.timestamp,
        timestamp_type=1,
        key=found.key,
        value=found.value,
        checksum=None,
        serialized_key_size=-1,
        serialized_value_size=-1,
        headers=found.headers,
    )
    raw = cast("RawRecord", record)
    parsed = parse(raw, max_command_bytes=settings.max_command_bytes)
    taken = take(raw, parsed, settings.partitions)
    await commit_batch(
        pool, settings, None, [taken], {Partition(Source.COMMANDS, place.partition): place.offset}
    )


async def _is_waited_for(settings: Settings) -> None:
    """Wait until a transaction on this database waits for the lock of another one."""
    async with connected(settings) as connection:

        async def someone_waits() -> bool:
            return bool(
                await connection.fetchval(
                    "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                    " AND datname = current_database())"
                )
            )

        await until(someone_waits, "the second transaction to wait for the first")


@pytest.mark.parametrize("first", ["creation", "deletion"])
async def test_no_card_is_left_behind_that_is_created_while_its_consumer_is_deleted(
    ground: Settings, monkeypatch: pytest.MonkeyPatch, first: Literal["creation", "deletion"]
) -> None:
    """Whoever comes second waits: the deletion sees the card, or the creation is refused."""
    await _with_a_card(ground)
    messages = [_CREATION, _DELETION] if first == "creation" else [_DELETION, _CREATION]
    places = await bank.send(ground, messages)
    written, may_commit = asyncio.Event(), asyncio.Event()

    async def held(_: Connection) -> None:
        if not written.is_set():
            written.set()
            await may_commit.wait()

    _before_commit(monkeypatch, held)
    async with _pool(ground) as pool, asyncio.TaskGroup() as transactions:
        transactions.create_task(_commit(ground, pool, places[0]))
        await written.wait()
        transactions.create_task(_commit(ground, pool, places[1]))
        await _is_waited_for(ground)
        may_commit.set()
    async with running_worker(ground):
        await until_dispatched(ground)
        evidence = await verify_all(ground)
    assert {row["state"] for row in evidence.cards} == {"DELETED"}
    assert _CREATION.key is not None
    event = last_event(evidence, _CREATION.key.decode())
    if first == "creation":
        assert event["operation"]["operation"] == "DELETE"
    else:
        assert event["operation"]["errorCode"] == "CONSUMER_NOT_ACTIVE"
        assert event["card"] is None


async def test_a_consumer_is_deleted_without_locking_or_reading_its_cards(
    ground: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand of them, all locked by somebody else: its own transaction does not notice."""
    await _with_a_card(ground)
    await copy_card(ground, "card", _MANY - 1)
    (place,) = await bank.send(ground, [_DELETION])
    cards_read = []

    async def counted(connection: Connection) -> None:
        cards_read.append(
            await connection.fetchval(
                "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables"
                " WHERE relname = 'card'"
            )
        )

    _before_commit(monkeypatch, counted)
    async with _pool(ground) as pool, connected(ground) as other, other.transaction():
        locked = await other.fetch(
            "SELECT FROM card WHERE issuer_id = $1 AND consumer_id = 'consumer-1' FOR UPDATE",
            ISSUER,
        )
        assert len(locked) == _MANY
        await _commit(ground, pool, place)
    assert cards_read == [0]
    async with connected(ground) as connection:
        assert await connection.fetchval("SELECT consumer_id FROM cascade") == "consumer-1"


def _before_commit(
    monkeypatch: pytest.MonkeyPatch, then: Callable[[Connection], Awaitable[None]]
) -> None:
    """Do something inside each transaction when everything in it is written."""
    store = transaction._store  # noqa: SLF001 - the last thing before the commit

    async def storing(connection: Connection, *arguments: Any) -> None:  # noqa: ANN401
        await store(connection, *arguments)
        await then(connection)

    monkeypatch.setattr(transaction, "_store", storing)


@asynccontextmanager
async def _pool(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    pool = await open_pool(settings)
    try:
        yield pool
    finally:
        await pool.close()
