"""Several workers share the partitions while some come, some go and some die, under load."""

from contextlib import AsyncExitStack

from tests.support import bank
from tests.support.fixtures import NewGround
from tests.support.guarantees import verify_all
from tests.support.reading import until_settled, until_taken
from tests.support.worker import WorkerProcess, worker_process


async def test_workers_share_partitions_through_rebalances_and_a_kill(
    new_ground: NewGround,
) -> None:
    """G1, G2, G4, G5, G6, G9: a second worker joins, the first leaves, a third joins, one dies."""
    ground = await new_ground(partitions=4, poll_records_max=10, publish_rows_max=20)
    async with AsyncExitStack() as stack:

        async def started() -> WorkerProcess:
            return await stack.enter_async_context(worker_process(ground))

        first = await started()
        await bank.send(ground, bank.PRODUCTS)
        await until_settled(ground)
        load = bank.day(4, cards=150, commands_of_a_card=14)
        third_of_load = len(load) // 3
        await bank.send(ground, load[:third_of_load])
        second = await started()
        await until_taken(ground, third_of_load // 2)
        await bank.send(ground, load[third_of_load : 2 * third_of_load])
        first.ask_to_stop()
        third = await started()
        assert await first.ended() == 0, first.log.read_text()
        await until_taken(ground, third_of_load)
        await bank.send(ground, load[2 * third_of_load :])
        second.kill()
        await verify_all(ground)
        await third.stopped()


async def test_commands_on_random_partitions_are_right_with_two_workers(
    new_ground: NewGround,
) -> None:
    """G1, G2, G4, G5, G6: nearly every command needs a lane that the other worker fills."""
    ground = await new_ground(partitions=4, poll_records_max=25)
    async with worker_process(ground) as first, worker_process(ground) as second:
        await bank.send(ground, bank.PRODUCTS)
        await until_settled(ground)
        load = bank.day(5, cards=60, commands_of_a_card=12)
        await bank.send(ground, bank.scattered(6, load, ground.partitions))
        evidence = await verify_all(ground)
        await second.stopped()
        await first.stopped()
    homes = {record: record.partition for record in evidence.all_commands()}
    foreign = sum(
        bank.home(record.key, ground.partitions) != partition
        for record, partition in homes.items()
        if (place := bank.Place(record.partition, record.offset)) not in evidence.dead_letter_rows
        or evidence.dead_letter_rows[place] == "IDEMPOTENCY_CONFLICT"
    )
    assert evidence.count("foreign_partition") == foreign
    assert foreign > len(load) // 2
