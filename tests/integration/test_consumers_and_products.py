"""Consumers and products: their events, and what two lanes do that need the same one at once."""

from lifecycle.settings import Settings
from tests.support import bank
from tests.support.bank import consumer, create, define
from tests.support.evidence import Evidence, Json
from tests.support.fixtures import NewGround
from tests.support.ground import connected
from tests.support.guarantees import verify_all
from tests.support.reading import until_settled
from tests.support.worker import running_worker, worker_process

_CONSUMERS, _CARDS_OF_EACH = 40, 6


async def test_consumers_and_products_have_events_of_their_own(ground: Settings) -> None:
    """One event for each accepted command, with a version of their own (design.md 4)."""
    changed = bank.PRODUCTS[0], define(bank.VIRTUAL, "VIRTUAL", "define-again")
    refused = define(bank.VIRTUAL, "PHYSICAL", "other-form")
    commands = [
        consumer("consumer-9", name, name)
        for name in ("CONSUMER_REGISTER", "CONSUMER_DEACTIVATE", "CONSUMER_REACTIVATE")
    ]
    async with running_worker(ground):
        of_products = await bank.send(ground, [*changed, refused])
        of_consumers = await bank.send(ground, commands)
        unknown = await bank.send(ground, [consumer("nobody", "CONSUMER_DEACTIVATE", "d")])
        evidence = await verify_all(ground)
    product_events = [_event(evidence, place) for place in of_products]
    assert [event["operation"]["operation"] for event in product_events] == ["PRODUCT_DEFINE"] * 3
    assert [event["version"] for event in product_events] == [1, 1, 1]
    assert product_events[0]["product"]["form"] == "VIRTUAL"
    assert product_events[2]["operation"]["errorCode"] == "FIELD_INVALID_VALUE"
    consumer_events = [_event(evidence, place) for place in of_consumers]
    assert [event["version"] for event in consumer_events] == [1, 2, 3]
    states = [event["consumer"]["state"] for event in consumer_events]
    assert states == ["ACTIVE", "INACTIVE", "ACTIVE"]
    for event in product_events + consumer_events:
        assert (event["cardId"], event["card"]) == (None, None)
    assert _event(evidence, unknown[0])["operation"]["errorCode"] == "CONSUMER_NOT_FOUND"
    assert evidence.outcomes(unknown) == ["CONSUMER_NOT_FOUND"]


async def test_lanes_that_register_the_same_new_consumers_do_not_deadlock(
    new_ground: NewGround,
) -> None:
    """Each CREATE names a consumer that nobody knows, in several lanes and two workers at once."""
    ground = await new_ground(partitions=4)
    creates = [
        create(f"card-{of_consumer}-{number}", consumerId=f"new-{number}")
        for of_consumer in range(_CARDS_OF_EACH)
        for number in range(_CONSUMERS)
    ]
    changes = [
        consumer(f"new-{number}", name, name)
        for number in range(0, _CONSUMERS, 4)
        for name in ("CONSUMER_REGISTER", "CONSUMER_DEACTIVATE", "CONSUMER_REACTIVATE")
    ]
    async with worker_process(ground) as first, worker_process(ground) as second:
        await bank.send(ground, bank.PRODUCTS)
        await until_settled(ground)
        places = await bank.send(ground, creates + changes)
        evidence = await verify_all(ground)
        await second.stopped()
        await first.stopped()
    assert set(evidence.outcomes(places)) <= {
        *("SUCCESSFUL", "CONSUMER_NOT_ACTIVE", "CONSUMER_NOT_FOUND")
    }
    assert len(evidence.consumers) == _CONSUMERS
    async with connected(ground) as connection:
        deadlocks = await connection.fetchval(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )
    assert deadlocks == 0


def _event(evidence: Evidence, place: bank.Place) -> Json:
    return evidence.of_commands[place].event
