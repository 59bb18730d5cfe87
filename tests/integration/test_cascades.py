"""A consumer or a real card that leaves takes its cards with it, whatever happens meanwhile."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError
from pydantic import SecretStr

from lifecycle.kafka.at_least_once import Appended, AtLeastOnceSender, OwedRecord
from lifecycle.settings import Settings, required
from tests.support import bank
from tests.support.bank import ISSUER, card, consumer, create
from tests.support.dispatching import last_event, sent_ids, until_dispatched
from tests.support.evidence import Evidence
from tests.support.fixtures import NewGround
from tests.support.guarantees import verify_all
from tests.support.proxy import proxy_to
from tests.support.reading import until_settled
from tests.support.waiting import until
from tests.support.worker import running_worker, worker_process

_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_CORRELATION = "closing-7"
_DELETE = replace(
    consumer(
        *("consumer-1", "CONSUMER_DELETE", "leave"),
        reasonCode="USER_DECISION",
        correlationId=_CORRELATION,
    ),
    headers=(("traceparent", _TRACE.encode()),),
)
_SYSTEM = {"requestorType": "SYSTEM", "requestorId": "SYSTEM", "reasonCode": "CLOSED_ACCOUNT"}


async def _with_products(settings: Settings) -> None:
    await bank.send(settings, bank.PRODUCTS)
    await until_settled(settings)


def _cause(evidence: Evidence, command_id: str) -> str:
    (found,) = [row for row in evidence.log if row.event["commandId"] == command_id]
    return str(found.operation_id)


def _trace_of(evidence: Evidence, key: str) -> str:
    """The trace of the newest published event of a subject."""
    published = [
        record
        for records in evidence.events.values()
        for record in records
        if record.key == key.encode()
    ]
    return (published[-1].header("traceparent") or b"").decode()


def _states(evidence: Evidence) -> Counter[str]:
    return Counter(row["state"] for row in evidence.cards)


async def test_every_card_of_a_deleted_consumer_is_deleted_by_a_command_of_its_own(
    ground: Settings,
) -> None:
    """domain.md 8: id, causationId, requestor, reason; other cards, and those that left, stay.

    domain.md 5: what its cause is correlated with is carried through.
    """
    async with running_worker(ground):
        await _with_products(ground)
        await bank.send(
            ground,
            [
                create("active"),
                create("inactive", state="INACTIVE"),
                create("suspended"),
                card("suspended", "SUSPEND", "s"),
                create("left"),
                card("left", "DELETE", "d", reasonCode="CLOSED_CARD"),
                create("of-another", consumerId="consumer-2"),
            ],
        )
        await until_settled(ground)
        await bank.send(ground, [_DELETE])
        await until_settled(ground)
        await until_dispatched(ground)
        evidence = await verify_all(ground)
    cause = _cause(evidence, "leave")
    for card_id in ("active", "inactive", "suspended"):
        event = last_event(evidence, f"{ISSUER}/{card_id}")
        assert event["commandId"] == f"CASCADE:{cause}"
        assert event["causationId"] == cause
        assert event["correlationId"] == _CORRELATION
        assert event["operation"].items() >= {**_SYSTEM, "operation": "DELETE"}.items()
        assert (event["card"]["state"], event["card"]["stateReason"]) == (
            *("DELETED", "CLOSED_ACCOUNT"),
        )
        assert _trace_of(evidence, f"{ISSUER}/{card_id}") == _TRACE
    assert last_event(evidence, f"{ISSUER}/left")["commandId"] == "d"
    assert last_event(evidence, f"{ISSUER}/of-another")["card"]["state"] == "ACTIVE"


async def test_the_virtual_cards_of_a_card_that_left_are_deleted(ground: Settings) -> None:
    """domain.md 8: with CLOSED_CARD; a card without virtual cards leaves no cascade behind."""
    async with running_worker(ground):
        await _with_products(ground)
        await bank.send(ground, [create("real"), create("alone")])
        await until_settled(ground)
        await bank.send(ground, [create(name, realCardId="real") for name in ("v1", "v2")])
        await until_settled(ground)
        await bank.send(
            ground,
            [
                card("real", "REPLACE", "r", reasonCode="CARD_LOST", reason="lost"),
                card("alone", "DELETE", "d"),
            ],
        )
        await until_settled(ground)
        await until_dispatched(ground)
        evidence = await verify_all(ground)
    cause = _cause_of_card(evidence, "real")
    for card_id in ("v1", "v2"):
        event = last_event(evidence, f"{ISSUER}/{card_id}")
        assert event["causationId"] == cause
        assert event["card"]["stateReason"] == "CLOSED_CARD"
    assert Counter(await sent_ids(ground, "CASCADE:")) == {f"CASCADE:{cause}": 2}


def _cause_of_card(evidence: Evidence, card_id: str) -> str:
    return str(last_event(evidence, f"{ISSUER}/{card_id}")["operation"]["operationId"])


async def test_no_card_is_left_behind_that_another_lane_creates_at_the_same_moment(
    new_ground: NewGround,
) -> None:
    """Two workers, many consumers: each CREATE is either before the deletion or refused by it."""
    ground = await new_ground(partitions=4, poll_records_max=10)
    names = [f"consumer-{number}" for number in range(40)]
    creates = [
        [create(f"card-{name}-{number}", consumerId=name) for name in names] for number in range(6)
    ]
    deletions = [consumer(name, "CONSUMER_DELETE", "leave") for name in names]
    async with worker_process(ground) as first, worker_process(ground) as second:
        await _with_products(ground)
        await bank.send(ground, creates[0])
        await until_settled(ground)
        # Not one after the other: they lie on different partitions, and race.
        await asyncio.gather(
            bank.send(ground, [one for wave in creates[1:-1] for one in wave]),
            bank.send(ground, deletions),
        )
        await until_settled(ground)
        await bank.send(ground, creates[-1])
        await until_dispatched(ground)
        evidence = await verify_all(ground)
        await second.stopped()
        await first.stopped()
    assert {row["state"] for row in evidence.consumers} == {"DELETED"}
    assert set(_states(evidence)) == {"DELETED"}
    outcomes = Counter(
        row.event["operation"].get("errorCode")
        for row in evidence.log
        if row.event["operation"]["operation"] == "CREATE"
    )
    assert outcomes["CONSUMER_NOT_ACTIVE"] >= len(names)
    assert outcomes[None] >= len(names)
    assert outcomes.total() == len(creates) * len(names)


async def test_a_cascade_outlives_a_broker_that_does_not_answer_and_a_database_that_is_away(
    new_ground: NewGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent without an answer is sent again; what the database missed is looked up."""
    cards, page = 200, 50
    ground = await new_ground(cascade_commands_per_second_max=page)
    sent = AtLeastOnceSender._sent  # noqa: SLF001 - the broker's answer gets lost there
    sizes: list[int] = []

    async def without_answer(
        self: AtLeastOnceSender, producer: AIOKafkaProducer, commands: Sequence[OwedRecord]
    ) -> list[Appended]:
        appended = await sent(self, producer, commands)
        sizes.append(len(appended))
        if len(sizes) == 1:
            raise KafkaConnectionError("the answer was lost")
        return appended

    monkeypatch.setattr(AtLeastOnceSender, "_sent", without_answer)
    async with proxy_to(required(ground, "database_url")) as (proxy, url):
        through_proxy = ground.model_copy(update={"database_url": SecretStr(url)})
        async with running_worker(through_proxy):
            await _with_products(ground)
            await bank.send(ground, [create(f"card-{number:03}") for number in range(cards)])
            await until_settled(ground)
            await bank.send(ground, [_DELETE])

            async def has_begun() -> bool:
                return len(sizes) > 1

            await until(has_begun, "the cascade to begin")
            await proxy.cut()
            await asyncio.sleep(0.1)
            await proxy.mend()
            await until_dispatched(ground)
            evidence = await verify_all(ground)
    assert _states(evidence) == {"DELETED": cards}
    assert sum(sizes) >= cards


async def test_a_cascade_goes_on_where_a_killed_worker_left_it(new_ground: NewGround) -> None:
    """The page that it had sent is sent again, as far as it took no effect yet."""
    cards, page = 300, 50
    ground = await new_ground(poll_records_max=500, cascade_commands_per_second_max=page)
    async with running_worker(ground):
        await _with_products(ground)
        await bank.send(ground, [create(f"card-{number:03}") for number in range(cards)])
        await until_settled(ground)
    await bank.send(ground, [_DELETE])
    killed = ground.model_copy(update={"consumer_group": f"{ground.consumer_group}-killed"})
    async with worker_process(killed, stop_at="before-cascade-note", after=2) as worker:
        assert await worker.ended() == -9, worker.log.read_text()
    assert len(await sent_ids(ground, "CASCADE:")) == 2 * page
    next_one = ground.model_copy(
        update={
            "consumer_group": f"{ground.consumer_group}-next",
            "cascade_commands_per_second_max": 2_000,
        }
    )
    async with running_worker(next_one):
        await until_dispatched(next_one)
        evidence = await verify_all(next_one)
    assert _states(evidence) == {"DELETED": cards}
    sent = len(await sent_ids(ground, "CASCADE:"))
    assert cards <= sent <= cards + page
    assert evidence.count("duplicates") == sent - cards
