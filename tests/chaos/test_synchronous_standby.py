"""A database with a synchronous standby: what is published was acknowledged by both.

While the standby is away COMMIT waits. Somebody may break the wait off, an administrator or a
restart: then the primary alone has what everybody sees, and loses it if it dies now.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from lifecycle.kafka.topics import topics_of
from lifecycle.local import Servers
from lifecycle.postgres.connection import Pool, end_stalled_sessions, open_pool
from lifecycle.postgres.durability import (
    DurableReads,
    NotAcknowledgedError,
    answers,
    seconds_without_standby,
    transaction,
)
from lifecycle.settings import Settings
from lifecycle.worker.readiness import Readiness
from tests.support import bank
from tests.support.dispatching import sent_ids, until_dispatched
from tests.support.ground import connected, migrated_template, open_ground
from tests.support.guarantees import verify_all
from tests.support.reading import read_topic, until_settled
from tests.support.replicas import Pair, synchronous_pair
from tests.support.waiting import until
from tests.support.worker import running_worker

# Short, so that a wait that is in vain costs the test little; patient, so that nobody gives up.
_LIMITS = {
    "database_commit_timeout_ms": 500,
    "database_lock_timeout_ms": 500,
    "retry_ms_max": 600_000,
}


@pytest_asyncio.fixture(scope="module")
async def pair() -> AsyncIterator[Pair]:
    async with synchronous_pair() as both:
        yield both


@pytest_asyncio.fixture(scope="module")
async def on_pair(servers: Servers, pair: Pair) -> AsyncIterator[tuple[Servers, str]]:
    """Our Kafka with this database, and the name of a migrated one to copy."""
    with_pair = replace(servers, database_url=pair.primary.url)
    async with migrated_template(with_pair) as template:
        yield with_pair, template


@asynccontextmanager
async def _ground(
    on_pair: tuple[Servers, str], pair: Pair, **overrides: object
) -> AsyncIterator[Settings]:
    servers, template = on_pair
    values: dict[str, Any] = {**_LIMITS, **overrides}
    async with open_ground(servers, template, **values) as ground:
        try:
            yield ground
        finally:
            # Nothing can be dropped without it.
            await pair.bring_replica_back()


async def test_what_the_standby_does_not_have_is_not_published(
    on_pair: tuple[Servers, str], pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G5: neither while COMMIT waits, nor when its wait was broken off. Then all is, once (G6)."""
    not_covered = _reads_without_cover(monkeypatch)
    readiness = Readiness()
    async with _ground(on_pair, pair) as ground, running_worker(ground, readiness):
        await bank.send(ground, [*bank.PRODUCTS, *bank.day(21, cards=10, commands_of_a_card=5)])
        await until_settled(ground)
        before = await _published(ground)
        assert before
        await pair.replica.stop()
        await bank.send(ground, bank.day(22, cards=20, commands_of_a_card=6))

        async def is_missed() -> bool:
            return any("synchronous standby" in reason for reason in readiness.reasons)

        await until(is_missed, "the worker to say that it waits for the standby")
        await _until_closed(ground)
        logged = await _logged(ground)
        assert await _published(ground) == before
        await _break_waits_off(ground)

        async def is_seen() -> bool:
            if await _logged(ground) == logged:
                return False
            return bool(not_covered) or await _published(ground) != before

        await until(is_seen, "what only the primary has to be read from the log")
        assert await _published(ground) == before
        await pair.bring_replica_back()
        await verify_all(ground)
        await until(_is_ready(readiness), "the worker to be ready again")


async def test_what_the_standby_does_not_have_asks_nobody_for_anything(
    on_pair: tuple[Servers, str], pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cascades and requests: their cause may be lost, and they would stay."""
    not_covered = _reads_without_cover(monkeypatch)
    async with _ground(on_pair, pair) as ground, running_worker(ground):
        await bank.send(ground, bank.PRODUCTS)
        await until_settled(ground)
        await bank.send(
            ground,
            [
                bank.create("card-1", cardProductId=bank.PHYSICAL),
                bank.create("card-2", consumerId="consumer-2", cardProductId=bank.PHYSICAL),
                bank.card("card-2", "ACTIVATE", "activate"),
            ],
        )
        await until_settled(ground)
        await pair.replica.stop()
        await bank.send(
            ground,
            [
                bank.consumer("consumer-1", "CONSUMER_DELETE", "leave"),
                bank.card("card-2", "PRODUCE", "order", distributionChannel="MAIL"),
            ],
        )

        async def owes_both() -> bool:
            await _break_waits_off(ground)
            async with connected(ground) as connection:
                return bool(
                    await connection.fetchval(
                        "SELECT EXISTS (SELECT FROM cascade) AND EXISTS (SELECT FROM dispatch)"
                    )
                )

        await until(owes_both, "the primary to have what the standby has not")
        not_covered.clear()

        async def were_read() -> bool:
            return {"_load_pages", "load_dispatches"} <= set(not_covered) or bool(
                await sent_ids(ground, "CASCADE:")
            )

        await until(were_read, "cascades and requests to be read")
        assert await sent_ids(ground, "CASCADE:") == []
        assert not any((await read_topic(ground, topics_of(ground).requests)).values())
        await pair.bring_replica_back()
        await until_dispatched(ground)
        await verify_all(ground)
        assert len(await sent_ids(ground, "CASCADE:")) == 1
        assert sum(map(len, (await read_topic(ground, topics_of(ground).requests)).values())) == 1


async def test_a_standby_that_stays_away_ends_the_worker(
    on_pair: tuple[Servers, str], pair: Pair
) -> None:
    """Bounded retries, then an error that says why; the next worker goes on (G1, G5, G9)."""
    async with _ground(on_pair, pair, retry_ms_max=2_000) as ground:

        async def work_until_it_is_away_for_too_long() -> None:
            async with running_worker(ground):
                await bank.send(ground, bank.PRODUCTS)
                await until_settled(ground)
                await pair.replica.stop()
                await bank.send(ground, bank.day(23, cards=10, commands_of_a_card=5))
                await asyncio.Event().wait()

        with pytest.raises(NotAcknowledgedError, match="standby"):
            await work_until_it_is_away_for_too_long()
        await pair.bring_replica_back()
        async with running_worker(ground):
            await verify_all(ground)


async def test_a_commit_is_never_cancelled(on_pair: tuple[Servers, str], pair: Pair) -> None:
    """Not by our time-out, not by the end of a task, not by those who end stalled sessions."""
    async with (
        _ground(on_pair, pair) as ground,
        await open_pool(ground) as pool,
    ):
        await pair.replica.stop()
        with pytest.raises(NotAcknowledgedError, match="in time"):
            await _insert(pool, 1001, commit_seconds_max=0.1)
        cancelled = asyncio.create_task(_insert(pool, 1002, commit_seconds_max=60.0))
        alone = asyncio.create_task(_insert_alone(pool, 1003))
        await until(_are_waiting(ground, 3), "three to wait for the standby")
        for task in (cancelled, alone):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        with pytest.raises(TimeoutError):
            await pool.execute("INSERT INTO lane_pub (partition) VALUES (1004)", timeout=0.1)
        # In any session that has done one thing for longer than a moment.
        hasty = ground.model_copy(update={"database_statement_timeout_ms": 1})
        assert await end_stalled_sessions(pool, hasty) == 0
        assert await _are_waiting(ground, 4)()
        assert await _rows_from(ground, 1000) == 0
        await pair.bring_replica_back()

        async def are_there() -> bool:
            return await _rows_from(ground, 1000) == 4

        await until(are_there, "all of them to be committed")


async def test_no_limit_of_the_server_ends_the_wait_of_a_commit(
    on_pair: tuple[Servers, str], pair: Pair
) -> None:
    """Were it otherwise, the server would commit what the standby does not have."""
    limits = {"database_statement_timeout_ms": 200, "database_lock_timeout_ms": 100}
    async with (
        _ground(on_pair, pair, **limits) as ground,
        await open_pool(ground) as pool,
    ):
        await pair.replica.stop()
        committing = [
            asyncio.create_task(_insert(pool, 1001, commit_seconds_max=60.0)),
            asyncio.create_task(_insert_alone(pool, 1002)),
        ]

        async def wait_for_long() -> bool:
            return await seconds_without_standby(pool) > 3 * 0.2

        await until(wait_for_long, "two to wait for longer than any limit")
        assert await _are_waiting(ground, 2)()
        assert await _rows_from(ground, 1000) == 0
        await pair.bring_replica_back()
        await asyncio.gather(*committing)


async def test_a_server_without_its_standby_does_not_answer(
    on_pair: tuple[Servers, str], pair: Pair
) -> None:
    """However often it is asked: one session waits on the server, not one for each question."""
    limits = {"database_statement_timeout_ms": 200, "database_lock_timeout_ms": 100}
    async with _ground(on_pair, pair) as ground:
        assert await answers(ground)
        hasty = ground.model_copy(update=limits)
        await pair.replica.stop()
        assert [await answers(hasty) for _ in range(3)] == [False] * 3
        assert await _are_waiting(ground, 1)()
        await pair.bring_replica_back()
        assert await answers(ground)


async def test_a_commit_whose_wait_is_broken_off_does_not_count(
    on_pair: tuple[Servers, str], pair: Pair
) -> None:
    """The server answers COMMIT to it, as if the standby had it, and adds a warning."""
    async with (
        _ground(on_pair, pair) as ground,
        await open_pool(ground) as pool,
    ):
        await pair.replica.stop()
        inserting = asyncio.create_task(_insert(pool, 1001, commit_seconds_max=60.0))
        await until(_are_waiting(ground, 1), "COMMIT to wait for the standby")
        await _break_waits_off(ground)
        with pytest.raises(NotAcknowledgedError, match="canceling wait"):
            await inserting
        assert await _rows_from(ground, 1000) == 1


async def _insert(pool: Pool, partition: int, *, commit_seconds_max: float) -> None:
    async with transaction(pool, commit_seconds_max=commit_seconds_max) as connection:
        await connection.execute("INSERT INTO lane_pub (partition) VALUES ($1)", partition)


async def _insert_alone(pool: Pool, partition: int) -> None:
    await pool.execute("INSERT INTO lane_pub (partition) VALUES ($1)", partition, timeout=60.0)


def _reads_without_cover(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a worker in this process read, and kept to itself because no COMMIT covered it."""
    read = DurableReads.read
    failed: list[str] = []

    async def listening(self: DurableReads, load: Any) -> Any:  # noqa: ANN401 - any rows
        found: list[str] = []

        async def loading(connection: Any) -> Any:  # noqa: ANN401 - any rows
            rows = await load(connection)
            if rows:
                found.extend({load.__name__, *getattr(load, "__code__", load).co_names})
            return rows

        try:
            return await read(self, loading)
        except NotAcknowledgedError:
            failed.extend(found)
            raise

    monkeypatch.setattr(DurableReads, "read", listening)
    return failed


def _is_ready(readiness: Readiness) -> Any:  # noqa: ANN401 - a condition
    async def is_ready() -> bool:
        return not readiness.reasons

    return is_ready


async def _published(ground: Settings) -> list[object]:
    topics = topics_of(ground)
    return [
        await read_topic(ground, topic, "read_uncommitted")
        for topic in (topics.events, topics.dead_letters)
    ]


async def _logged(ground: Settings) -> int:
    async with connected(ground) as connection:
        return int(await connection.fetchval("SELECT count(*) FROM operation"))


async def _rows_from(ground: Settings, partition: int) -> int:
    async with connected(ground) as connection:
        return int(
            await connection.fetchval(
                "SELECT count(*) FROM lane_pub WHERE partition >= $1", partition
            )
        )


def _are_waiting(ground: Settings, sessions: int) -> Any:  # noqa: ANN401 - a condition
    async def are_waiting() -> bool:
        async with connected(ground) as connection:
            found = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event = 'SyncRep'"
            )
            return bool(found == sessions)

    return are_waiting


async def _until_closed(ground: Settings) -> None:
    """Wait until the worker waits no longer for a COMMIT that the server still keeps."""

    async def is_closed() -> bool:
        async with connected(ground) as connection:
            # The next transaction waits for its locks.
            return bool(
                await connection.fetchval(
                    "SELECT EXISTS (SELECT FROM pg_stat_activity"
                    " WHERE datname = current_database() AND wait_event = 'SyncRep')"
                    " AND EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
                )
            )

    await until(is_closed, "the worker to close the connection of its COMMIT")


async def _break_waits_off(ground: Settings) -> None:
    async with connected(ground) as connection:
        await connection.execute(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event = 'SyncRep'"
        )
