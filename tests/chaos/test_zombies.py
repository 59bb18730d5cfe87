"""A worker that is paused for so long that another one takes its lanes, and then goes on."""

import asyncio
from typing import Literal

from lifecycle.settings import Settings
from tests.support import bank
from tests.support.fixtures import NewGround
from tests.support.guarantees import verify_all
from tests.support.reading import until_settled
from tests.support.waiting import until
from tests.support.worker import Moment, WorkerProcess, running_worker, worker_process

Publish = Literal["transactional", "idempotent"]

# What a zombie holds that is no longer its own: a poll; row locks, which the server takes from it
# by ending its session; the same, while the server waits for the rest of a COPY; committed rows,
# which it publishes late where there is no fence; a Kafka transaction.
_ZOMBIES: tuple[tuple[Moment, Publish], ...] = (
    ("before-transaction", "transactional"),
    ("before-commit", "transactional"),
    ("inside-copy", "transactional"),
    ("before-hand-over", "transactional"),
    ("before-hand-over", "idempotent"),
    ("inside-kafka-transaction", "transactional"),
)


async def test_workers_that_wake_after_their_lanes_were_taken_lose_and_repeat_nothing(
    new_ground: NewGround,
) -> None:
    """G1, G2, G4, G5, G6: without the fence, repeats have numbers that readers know.

    All at the same time, each on ground of its own: a session takes seconds to time out.
    """
    grounds = [
        await new_ground(
            publish=publish,
            poll_records_max=20,
            database_statement_timeout_ms=2_000,
            database_lock_timeout_ms=1_000,
        )
        for _, publish in _ZOMBIES
    ]
    async with asyncio.TaskGroup() as group:
        for ground, (moment, publish) in zip(grounds, _ZOMBIES, strict=True):
            group.create_task(_wakes_too_late(ground, moment), name=f"{moment}, {publish}")


async def _wakes_too_late(ground: Settings, moment: Moment) -> None:
    load = bank.day(7, cards=40, commands_of_a_card=12)
    half = len(load) // 2
    await bank.send(ground, [*bank.PRODUCTS, *load[:half]])
    try:
        async with worker_process(ground, stop_at=moment, with_signal="STOP", after=3) as zombie:
            await _until_paused(zombie)
            async with running_worker(ground):
                await until_settled(ground)
                zombie.go_on()
                await bank.send(ground, load[half:])
                await verify_all(ground)
                await zombie.stopped()
                await verify_all(ground)
    except BaseException as error:
        error.add_note(f"paused {moment}, {ground.publish}")
        raise


async def test_a_lane_is_worked_on_again_by_the_worker_that_slept(ground: Settings) -> None:
    """G9: the worker that took its lanes has gone when it wakes."""
    load = bank.day(8, cards=20, commands_of_a_card=10)
    half = len(load) // 2
    await bank.send(ground, [*bank.PRODUCTS, *load[:half]])
    async with worker_process(
        ground, stop_at="before-hand-over", with_signal="STOP", after=2
    ) as zombie:
        await _until_paused(zombie)
        async with running_worker(ground):
            await until_settled(ground)
        zombie.go_on()
        await bank.send(ground, load[half:])
        await verify_all(ground)
        await zombie.stopped()


async def _until_paused(zombie: WorkerProcess) -> None:
    async def is_paused() -> bool:
        return zombie.is_paused()

    await until(is_paused, "the worker to pause")
