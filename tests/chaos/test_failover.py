"""The primary dies and its synchronous replica takes its place: what was published is there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from pydantic import SecretStr

from lifecycle.kafka.topics import topics_of
from lifecycle.local import Servers
from lifecycle.postgres.migrate import migrate
from lifecycle.settings import Settings
from tests.support import bank
from tests.support.ground import connected, open_topics
from tests.support.guarantees import verify_all
from tests.support.reading import read_topic, until_settled, until_taken
from tests.support.replicas import Pair, synchronous_pair
from tests.support.waiting import until
from tests.support.worker import WorkerProcess, running_worker, worker_process

_LOAD = bank.day(31, cards=60, commands_of_a_card=10)
_MORE = 12  # operations: some beyond the three that both servers have


@asynccontextmanager
async def _ground(servers: Servers, pair: Pair, **overrides: object) -> AsyncIterator[Settings]:
    """Ground on the pair's one database, which nobody can drop when the primary has died."""
    url = pair.primary.url
    await asyncio.to_thread(migrate, Settings(database_url=SecretStr(url)))
    addresses = {"database_url": url, "database_owner_url": url}
    values: dict[str, Any] = {**addresses, "poll_records_max": 10, **overrides}
    async with open_topics(servers, **values) as ground:
        yield ground


async def test_a_replica_promoted_under_load_has_all_that_was_published(servers: Servers) -> None:
    """G1, G2, G4, G5, G6: the next worker goes on there, and publishes the rest once."""
    async with (
        synchronous_pair() as pair,
        _ground(servers, pair, retry_ms_max=1_000) as ground,
        worker_process(ground) as worker,
    ):
        await bank.send(ground, bank.PRODUCTS)
        await until_settled(ground)
        await bank.send(ground, _LOAD)
        await until_taken(ground, len(_LOAD) // 3)
        await pair.fail_over()
        await _goes_on_at_the_replica(ground, pair, worker)


async def test_a_replica_that_was_away_has_all_that_was_published(servers: Servers) -> None:
    """The same, where the primary had committed more: its waits for the replica were broken off."""
    limits = {
        "retry_ms_max": 600_000,
        "database_commit_timeout_ms": 500,
        "database_lock_timeout_ms": 500,
    }
    async with (
        synchronous_pair() as pair,
        _ground(servers, pair, **limits) as ground,
        worker_process(ground) as worker,
    ):
        await bank.send(ground, [*bank.PRODUCTS, bank.create("card-1")])
        await until_settled(ground)
        await pair.replica.stop()
        await bank.send(ground, _LOAD)

        async def has_more_than_the_replica() -> bool:
            await pair.primary.run(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            )
            async with connected(ground) as connection:
                return len(await _logged(connection)) >= _MORE

        await until(has_more_than_the_replica, "the primary to commit without its replica")

        async def keeps_it_back() -> bool:
            return any(
                "lane_interrupted" in line and "NotAcknowledgedError" in line
                for line in worker.log.read_text().splitlines()
            )

        await until(keeps_it_back, "the worker to find rows that it may not publish")
        await pair.primary.kill()
        worker.kill()
        await pair.replica.start()
        await pair.replica.run("SELECT pg_promote()")
        await _goes_on_at_the_replica(ground, pair, worker)


async def _goes_on_at_the_replica(ground: Settings, pair: Pair, worker: WorkerProcess) -> None:
    assert await worker.ended() != 0
    url = SecretStr(pair.replica.url)
    moved = ground.model_copy(update={"database_url": url, "database_owner_url": url})
    published = await _published(ground)
    assert published
    async with connected(moved) as connection:
        assert published <= await _logged(connection)
    in_next_group = moved.model_copy(update={"consumer_group": f"{ground.consumer_group}-next"})
    async with running_worker(in_next_group):
        await verify_all(in_next_group)


async def _published(ground: Settings) -> set[tuple[int, int, str]]:
    """Lane, number and id of every event that anybody may have seen."""
    topics = topics_of(ground)
    return {
        (lane, record.number("ce_sequence"), (record.header("ce_id") or b"").decode())
        for lane, records in (await read_topic(ground, topics.events, "read_uncommitted")).items()
        for record in records
    }


async def _logged(connection: asyncpg.Connection) -> set[Any]:
    return {
        tuple(row) for row in await connection.fetch("SELECT lane, seq, id::text FROM operation")
    }
