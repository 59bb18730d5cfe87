"""kill -9 at the moments at which a command or its event could be lost or repeated."""

from typing import get_args

import pytest

from lifecycle.settings import Settings
from tests.support import bank
from tests.support.guarantees import verify_all
from tests.support.reading import until_settled
from tests.support.worker import Moment, running_worker, worker_process

_MOMENTS = get_args(Moment)[1:]  # Before its transaction a worker has nothing to lose.


@pytest.mark.parametrize("moment", _MOMENTS)
async def test_a_worker_killed_at_any_moment_loses_and_repeats_nothing(
    ground: Settings, moment: Moment
) -> None:
    """G1, G2, G4, G5, G6: the next worker goes on where database and topic say."""
    await bank.send(ground, [*bank.PRODUCTS, *bank.day(2, cards=30, commands_of_a_card=8)])
    async with worker_process(ground, stop_at=moment, after=2) as worker:
        assert await worker.ended() == -9, worker.log.read_text()
    async with running_worker(_in_another_group(ground)):
        await verify_all(ground)


async def test_workers_that_die_one_after_the_other_lose_and_repeat_nothing(
    ground: Settings,
) -> None:
    """G1, G2, G4, G5, G6: each dies further on; what it left is taken over half done."""
    async with running_worker(ground):
        await bank.send(ground, bank.PRODUCTS)
        await until_settled(ground)
    await bank.send(ground, bank.day(3, cards=60, commands_of_a_card=12))
    for number, moment in enumerate(_MOMENTS):
        settings = _in_another_group(ground, number)
        async with worker_process(settings, stop_at=moment, after=3) as worker:
            assert await worker.ended() == -9, worker.log.read_text()
    async with running_worker(_in_another_group(ground)):
        await verify_all(ground)


def _in_another_group(ground: Settings, number: int = 99) -> Settings:
    """The next worker, which need not wait until the group gives up the dead one.

    The group only elects who works on a lane. That its choice holds is not relied upon.
    """
    return ground.model_copy(update={"consumer_group": f"{ground.consumer_group}-{number}"})
