"""A worker that is paused for so long that another one takes its lanes, and then goes on."""

import pytest

from lifecycle.settings import Settings
from tests.support import bank
from tests.support.fixtures import NewGround
from tests.support.guarantees import verify_all
from tests.support.reading import until_settled
from tests.support.waiting import until
from tests.support.worker import Moment, running_worker, worker_process


@pytest.mark.parametrize(
    ("moment", "publish"),
    [
        ("before-transaction", "transactional"),
        ("before-commit", "transactional"),
        ("inside-copy", "transactional"),
        ("before-hand-over", "idempotent"),
        ("inside-kafka-transaction", "transactional"),
    ],
)
async def test_a_worker_that_wakes_after_its_lanes_were_taken_repeats_nothing(
    new_ground: NewGround, moment: Moment, publish: str
) -> None:
    """G1, G2, G4, G5, G6: it holds a poll, rows or a Kafka transaction that are no longer its own.

    Paused inside a database transaction it holds row locks too: the server ends that session.
    Without the fence what it still publishes are repeats, with numbers that readers know.
    """
    ground = await new_ground(
        publish=publish,
        poll_records_max=20,
        database_statement_timeout_ms=2_000,
        database_lock_timeout_ms=1_000,
    )
    load = bank.day(7, cards=40, commands_of_a_card=12)
    await bank.send(ground, [*bank.PRODUCTS, *load[: len(load) // 2]])
    async with worker_process(ground, stop_at=moment, with_signal="STOP", after=3) as zombie:

        async def is_paused() -> bool:
            return zombie.is_paused()

        await until(is_paused, "the worker to pause")
        async with running_worker(ground):
            await until_settled(ground)
            zombie.go_on()
            await bank.send(ground, load[len(load) // 2 :])
            await verify_all(ground)
            await zombie.stopped()
            await verify_all(ground)


async def test_a_lane_is_worked_on_again_by_the_worker_that_slept(ground: Settings) -> None:
    """G9: the worker that took its lanes has gone when it wakes."""
    load = bank.day(8, cards=20, commands_of_a_card=10)
    await bank.send(ground, [*bank.PRODUCTS, *load[: len(load) // 2]])
    async with worker_process(
        ground, stop_at="before-hand-over", with_signal="STOP", after=2
    ) as zombie:

        async def is_paused() -> bool:
            return zombie.is_paused()

        await until(is_paused, "the worker to pause")
        async with running_worker(ground):
            await until_settled(ground)
        zombie.go_on()
        await bank.send(ground, load[len(load) // 2 :])
        await verify_all(ground)
        await zombie.stopped()
