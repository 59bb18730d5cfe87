"""A database that answers, but does not get through with certain records within its limits."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from lifecycle.postgres.durability import answers
from lifecycle.settings import Settings, required
from lifecycle.worker.readiness import Readiness
from lifecycle.worker.slowness import TooSlowError
from tests.support import bank
from tests.support.bank import create
from tests.support.fixtures import NewGround
from tests.support.ground import connected
from tests.support.guarantees import verify_all
from tests.support.proxy import proxy_to
from tests.support.reading import taken_count, until_settled, until_taken
from tests.support.waiting import until
from tests.support.worker import running_worker

_SLOW_CARD = "slow-card"
_CARDS = 40


async def _sleep_at_cards(ground: Settings, seconds: float, card_id: str | None = None) -> None:
    """Make the INSERT of a card, or of each, take a while."""
    async with connected(ground) as connection:
        await connection.execute(
            f"""
            CREATE FUNCTION sleep_first() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END $$
            """
        )
        condition = "" if card_id is None else f"WHEN (NEW.card_id = '{card_id}')"
        await connection.execute(
            f"CREATE TRIGGER slow BEFORE INSERT ON card FOR EACH ROW {condition}"
            " EXECUTE FUNCTION sleep_first()"
        )


async def _sleep_no_more(ground: Settings) -> None:
    async with connected(ground) as connection:
        await connection.execute("DROP TRIGGER slow ON card; DROP FUNCTION sleep_first")


async def test_a_record_that_is_too_slow_ends_the_worker_with_its_place(
    new_ground: NewGround,
) -> None:
    """It is not buried; what lies before it, and on the other lanes, is taken."""
    ground = await new_ground(
        partitions=2, database_statement_timeout_ms=1_000, database_lock_timeout_ms=500
    )
    await _sleep_at_cards(ground, 30, _SLOW_CARD)
    messages = [create(f"card-{number}") for number in range(_CARDS)]
    messages.insert(_CARDS // 2, create(_SLOW_CARD))
    slow_partition = bank.home(create(_SLOW_CARD).key, ground.partitions)
    await bank.send(ground, bank.PRODUCTS)
    async with running_worker(ground):
        await until_settled(ground)
    places = await bank.send(ground, messages)
    slow = places[_CARDS // 2]
    with pytest.raises(
        TooSlowError, match=rf"commands\.v1, partition {slow.partition}, offset {slow.offset}: "
    ):
        async with running_worker(ground):
            await until_taken(ground, 1_000)
    async with connected(ground) as connection:
        assert await connection.fetchval("SELECT count(*) FROM dead_letter") == 0
        positions = dict(await connection.fetch("SELECT partition, next_offset FROM lane_in"))
    assert positions[slow_partition] == slow.offset
    other = 1 - slow_partition
    assert positions[other] == max(at.offset for at in places if at.partition == other) + 1
    await _sleep_no_more(ground)
    async with running_worker(ground):
        evidence = await verify_all(ground)
    assert evidence.outcomes(places) == ["SUCCESSFUL"] * len(places)


async def test_records_that_are_too_slow_only_together_are_taken(new_ground: NewGround) -> None:
    """Nothing is buried, and the worker goes on."""
    ground = await new_ground(
        partitions=1, database_statement_timeout_ms=3_000, database_lock_timeout_ms=1_000
    )
    await _sleep_at_cards(ground, 0.1)
    await bank.send(ground, bank.PRODUCTS)
    places = await bank.send(ground, [create(f"card-{number}") for number in range(_CARDS)])
    async with running_worker(ground):
        evidence = await verify_all(ground)
    assert evidence.outcomes(places) == ["SUCCESSFUL"] * _CARDS
    assert len(evidence.batches) >= 2, "they are too slow together"


async def test_time_outs_of_a_database_that_does_not_answer_blame_no_record(
    new_ground: NewGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk or a standby that every COMMIT waits for: it is away, and is waited for."""
    ground = await new_ground(
        partitions=1, database_statement_timeout_ms=300, database_lock_timeout_ms=100
    )
    asked = 0

    async def no_answer(_: Settings) -> bool:
        nonlocal asked
        asked += 1
        return False

    monkeypatch.setattr("lifecycle.worker.service.answers", no_answer)
    await _sleep_at_cards(ground, 30)
    async with running_worker(ground):
        await bank.send(ground, [*bank.PRODUCTS, create("card-1")])

        async def has_been_asked_often() -> bool:
            return asked >= 4

        await until(has_been_asked_often, "the same record to time out again and again")
        await _sleep_no_more(ground)
        evidence = await verify_all(ground)
    assert evidence.count("dead_letters") == 0


async def test_a_server_answers_when_it_commits_for_a_new_session(ground: Settings) -> None:
    async with proxy_to(required(ground, "database_url")) as (proxy, url):
        through_proxy = ground.model_copy(update={"database_url": SecretStr(url)})
        assert await answers(through_proxy)
        await proxy.cut()
        assert not await answers(through_proxy)


async def test_a_server_that_says_nothing_does_not_answer(ground: Settings) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        silent = ground.model_copy(
            update={
                "database_url": SecretStr(f"postgresql://nobody@127.0.0.1:{port}/nothing"),
                "database_connect_timeout_ms": 200,
            }
        )
        assert not await answers(silent)


async def test_progress_on_one_lane_does_not_keep_another_from_giving_up(
    new_ground: NewGround,
) -> None:
    """Someone looks into a row of one lane by hand, and never ends the transaction."""
    ground = await new_ground(
        partitions=2, poll_records_max=1, database_lock_timeout_ms=100, retry_ms_max=3_000
    )
    async with running_worker(ground):
        await bank.send(ground, bank.PRODUCTS)
        await until_settled(ground)
    before = await taken_count(ground)
    async with connected(ground) as connection, connection.transaction():
        await connection.execute("SELECT FROM lane_out WHERE partition = 0 FOR UPDATE")
        await bank.send(ground, [_created_on(ground, 0)])

        async def work_on_the_other_lane() -> None:
            async with running_worker(ground):
                for number in range(1_000):
                    await bank.send(ground, [_created_on(ground, 1, number)])

        with pytest.raises(asyncpg.LockNotAvailableError):
            await work_on_the_other_lane()
    assert await taken_count(ground) > before, "the other lane moves"
    async with running_worker(ground):
        await verify_all(ground)


def _created_on(ground: Settings, partition: int, number: int = 0) -> bank.Message:
    """CREATE of the card with this number among those of a partition."""
    found = (
        message
        for candidate in range(1_000_000)
        if bank.home(
            (message := create(f"card-{partition}-{number}-{candidate}")).key, ground.partitions
        )
        == partition
    )
    return next(found)


async def test_a_lane_that_stands_still_is_told(new_ground: NewGround) -> None:
    """With its name in /readyz and its seconds in a metric, until it moves."""
    ground = await new_ground(partitions=2, database_lock_timeout_ms=100, lane_standstill_ms=1_000)
    readiness = Readiness()
    async with running_worker(ground, readiness), connected(ground) as connection:
        await bank.send(ground, bank.PRODUCTS)
        await until_settled(ground)
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SELECT FROM lane_out WHERE partition = 1 FOR UPDATE")
        await bank.send(ground, [_created_on(ground, 1)])
        told = "lane 1: commands wait, and for 1 s or more none was taken"
        await until(_is(lambda: told in readiness.reasons), "/readyz to name the lane")
        assert _standstill_seconds(1, "commands") >= 1
        assert _standstill_seconds(0, "commands") == 0
        await transaction.rollback()
        await until(_is(lambda: not readiness.reasons), "the worker to be ready again")
        assert _standstill_seconds(1, "commands") == 0
        await verify_all(ground)


def _is(condition: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        return condition()

    return holds


def _standstill_seconds(lane: int, work: str) -> float:
    found = REGISTRY.get_sample_value(
        "lifecycle_lane_standstill_seconds", {"lane": str(lane), "work": work}
    )
    assert found is not None, f"lane {lane} has no standstill of {work}"
    return found
