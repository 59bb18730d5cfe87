"""The database breaks off, is away for a while, or makes the worker wait too long."""

import asyncpg
import pytest
from pydantic import SecretStr

from lifecycle.settings import Settings, required
from lifecycle.worker.readiness import Readiness
from lifecycle.worker.transaction import commit_batch
from tests.support import bank
from tests.support.fixtures import NewGround
from tests.support.ground import connected
from tests.support.guarantees import verify_all
from tests.support.proxy import proxy_to
from tests.support.reading import taken_count, until_settled, until_taken
from tests.support.waiting import until
from tests.support.worker import running_worker

_SESSIONS_ENDED = 4


async def test_sessions_that_are_ended_under_load_lose_and_repeat_nothing(
    new_ground: NewGround,
) -> None:
    """G1, G2, G4, G5, G6, G9: among them are some whose COMMIT has no known outcome."""
    ground = await new_ground(poll_records_max=10)
    async with running_worker(ground):
        await bank.send(ground, bank.PRODUCTS)
        await until_settled(ground)
        load = bank.day(9, cards=60, commands_of_a_card=12)
        await bank.send(ground, load)
        for step in range(1, _SESSIONS_ENDED + 1):
            await until_taken(ground, step * len(load) // (_SESSIONS_ENDED + 2))
            async with connected(ground) as connection:
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND application_name = 'card-lifecycle'"
                )
        await verify_all(ground)


async def test_a_database_that_was_away_is_found_again(
    ground: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G9: connections break and are refused; once they are accepted everything goes on.

    Meanwhile the worker is not ready, and says so.
    """
    readiness = Readiness()

    async def is_ready() -> bool:
        return not readiness.reasons

    async def is_not_ready() -> bool:
        return bool(readiness.reasons)

    async with proxy_to(required(ground, "database_url")) as (proxy, url):
        through_proxy = ground.model_copy(update={"database_url": SecretStr(url)})
        errors = _errors_of_commits(monkeypatch)
        async with running_worker(through_proxy, readiness):
            await bank.send(ground, bank.PRODUCTS)
            await until_settled(ground)
            assert await is_ready()
            await proxy.cut()
            await bank.send(ground, bank.day(10, cards=20, commands_of_a_card=8))

            async def was_missed() -> bool:
                return bool(errors)

            await until(was_missed, "the worker to miss its database")
            await until(is_not_ready, "the worker to say that it waits")
            taken = await taken_count(ground)
            assert taken == len(bank.PRODUCTS)
            await proxy.mend()
            await verify_all(ground)
            await until(is_ready, "the worker to be ready again")


async def test_a_database_that_stays_away_ends_the_worker(new_ground: NewGround) -> None:
    """Bounded retries, then an error; nothing was skipped (design.md 5)."""
    ground = await new_ground(retry_ms_max=500)
    async with proxy_to(required(ground, "database_url")) as (proxy, url):
        through_proxy = ground.model_copy(update={"database_url": SecretStr(url)})

        async def work_until_it_is_away_for_too_long() -> None:
            async with running_worker(through_proxy):
                await bank.send(ground, bank.PRODUCTS)
                await until_settled(ground)
                await proxy.cut()
                await bank.send(ground, [bank.create("card-1")])
                await until_taken(ground, 1_000)

        with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
            await work_until_it_is_away_for_too_long()
    assert await taken_count(ground) == len(bank.PRODUCTS)
    async with running_worker(ground):
        await verify_all(ground)


@pytest.mark.parametrize("table", ["lane_in", "lane_out", "lane_pub", "consumer"])
async def test_a_lock_held_for_longer_than_the_worker_waits_is_waited_out(
    new_ground: NewGround, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    """G1, G5, G9: someone looks into a table by hand and forgets the transaction."""
    ground = await new_ground(database_lock_timeout_ms=100)
    errors = _errors_of_commits(monkeypatch)
    async with running_worker(ground), connected(ground) as connection:
        await bank.send(ground, bank.PRODUCTS)
        await until_settled(ground)
        await bank.send(ground, [bank.create("card-0")])
        await until_settled(ground)
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(f"SELECT FROM {table} FOR UPDATE")
        await bank.send(ground, bank.day(11, cards=10, commands_of_a_card=5))
        if table != "lane_pub":

            async def has_waited_too_long() -> bool:
                return any(isinstance(error, asyncpg.LockNotAvailableError) for error in errors)

            await until(has_waited_too_long, "the worker to wait for the lock too long")
        await transaction.rollback()
        await verify_all(ground)


def _errors_of_commits(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What the transactions of a worker in this process failed with, so far."""
    errors: list[BaseException] = []

    async def listening(*arguments: object) -> object:
        try:
            return await commit_batch(*arguments)  # type: ignore[arg-type]
        except BaseException as error:
            errors.append(error)
            raise

    monkeypatch.setattr("lifecycle.worker.service.commit_batch", listening)
    return errors
