"""Timers fire when they are due in the time zone of the issuer, and a second time in vain."""

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

from lifecycle.settings import Settings
from tests.support import bank
from tests.support.bank import ISSUER, Message, card, create
from tests.support.dispatching import (
    at,
    last_event,
    now_ms,
    sent_ids,
    timers_of,
    until_dispatched,
)
from tests.support.fixtures import NewGround
from tests.support.ground import connected
from tests.support.guarantees import verify_all
from tests.support.reading import until_settled
from tests.support.waiting import until
from tests.support.worker import running_worker, worker_process

_WESTERN = "BANK000002"
_DAY_MS = 24 * 60 * 60 * 1000
_RENEWING = "renewing"


def _of(issuer_id: str, message: Message) -> Message:
    assert message.key is not None
    assert message.value is not None
    old, new = ISSUER.encode(), issuer_id.encode()
    return replace(
        message, key=message.key.replace(old, new), value=message.value.replace(old, new)
    )


def _with(message: Message, **fields: object) -> Message:
    assert message.value is not None
    return replace(message, value=json.dumps({**json.loads(message.value), **fields}).encode())


async def _send_and_settle(settings: Settings, *messages: Message) -> None:
    await bank.send(settings, messages)
    await until_settled(settings)


async def _state_of(settings: Settings, issuer_id: str, card_id: str) -> str:
    async with connected(settings) as connection:
        return str(
            await connection.fetchval(
                "SELECT state FROM card WHERE issuer_id = $1 AND card_id = $2", issuer_id, card_id
            )
        )


async def test_a_card_expires_at_the_end_of_its_month_where_its_issuer_is(
    new_ground: NewGround,
) -> None:
    """domain.md 2: the month ends five hours later in New York than in UTC."""
    zone = "America/New_York"
    ground = await new_ground(environment="development", issuer_time_zones={_WESTERN: zone})
    async with running_worker(ground):
        await _send_and_settle(
            ground, *bank.PRODUCTS, *(_of(_WESTERN, product) for product in bank.PRODUCTS)
        )
        await _send_and_settle(ground, create("in-utc"), _of(_WESTERN, create("western")))
    (utc_ms,) = (await timers_of(ground, "in-utc")).values()
    (western_ms,) = (await timers_of(ground, "western")).values()
    assert (western_ms - utc_ms) % _DAY_MS == 5 * 60 * 60 * 1000
    ends = datetime.fromtimestamp(utc_ms / 1000, UTC)
    assert (ends.day, ends.hour, ends.minute) == (1, 0, 0)
    between = at(ground, utc_ms, later_seconds=3600)
    async with running_worker(between):
        await until_dispatched(between, timers=True)
        assert await _state_of(between, ISSUER, "in-utc") == "EXPIRED"
        assert await _state_of(between, _WESTERN, "western") == "ACTIVE"
    after = at(ground, western_ms)
    async with running_worker(after):
        await until_dispatched(after, timers=True)
        evidence = await verify_all(after)
    assert await timers_of(ground, "western") == {}
    event = last_event(evidence, f"{_WESTERN}/western")
    assert event["card"]["state"] == "EXPIRED"
    assert event["operation"]["requestorType"] == "SYSTEM"
    assert event["commandId"] == f"EXPIRE:{event['card']['exp']}:1"
    assert event["operation"]["startTime"] >= "2029"


async def test_a_card_is_renewed_inside_its_window_and_has_new_timers_then(
    new_ground: NewGround,
) -> None:
    """domain.md 2.1: thirty days before its month ends; only the flag of its product does it."""
    ground = await new_ground(environment="development")
    renewing = _with(bank.define(_RENEWING, "VIRTUAL"), autoRenew=True)
    async with running_worker(ground):
        await _send_and_settle(ground, *bank.PRODUCTS, renewing)
        await _send_and_settle(
            ground, create("renewed", cardProductId=_RENEWING), create("not-renewed")
        )
    before = await timers_of(ground, "renewed")
    assert before["EXPIRE"] - before["AUTO_RENEW"] == 30 * _DAY_MS
    assert set(await timers_of(ground, "not-renewed")) == {"EXPIRE"}
    inside = at(ground, before["AUTO_RENEW"])
    async with running_worker(inside):
        await until_dispatched(inside, timers=True)
        evidence = await verify_all(inside)
    event = last_event(evidence, f"{ISSUER}/renewed")
    assert event["operation"]["operation"] == "RENEW"
    assert event["operation"]["requestorType"] == "SYSTEM"
    assert event["version"] == 2
    now = await timers_of(ground, "renewed")
    assert now["EXPIRE"] - before["EXPIRE"] > 3 * 365 * _DAY_MS - _DAY_MS
    assert now["AUTO_RENEW"] == now["EXPIRE"] - 30 * _DAY_MS


async def test_a_card_is_deleted_when_its_time_has_come(new_ground: NewGround) -> None:
    """domain.md 8: `deleteAt`; a card that leaves takes its timers with it."""
    ground = await new_ground(environment="development")
    due_ms = now_ms(ground) // 1000 * 1000 + _DAY_MS
    delete_at = datetime.fromtimestamp(due_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    async with running_worker(ground):
        await _send_and_settle(ground, *bank.PRODUCTS)
        await _send_and_settle(
            ground,
            create("due", deleteAt=delete_at),
            create("left", deleteAt=delete_at),
            card("left", "DELETE", "d"),
        )
    assert (await timers_of(ground, "due"))["DELETE_DUE"] == due_ms
    assert await timers_of(ground, "left") == {}
    then = at(ground, due_ms)
    async with running_worker(then):
        await until_dispatched(then, timers=True)
        evidence = await verify_all(then)
    event = last_event(evidence, f"{ISSUER}/due")
    assert (event["card"]["state"], event["card"]["stateReason"]) == ("DELETED", "CLOSED_CARD")
    assert event["commandId"] == f"DELETE_DUE:{due_ms}:1"
    assert await timers_of(ground, "due") == {}


async def test_timers_that_fire_twice_because_their_worker_was_killed_act_once(
    new_ground: NewGround,
) -> None:
    ground = await new_ground(environment="development")
    names = [f"card-{number}" for number in range(20)]
    async with running_worker(ground):
        await _send_and_settle(ground, *bank.PRODUCTS)
        await _send_and_settle(ground, *map(create, names))
    (due_ms,) = (await timers_of(ground, names[0])).values()
    then = at(ground, due_ms)
    killed = then.model_copy(update={"consumer_group": f"{ground.consumer_group}-killed"})
    async with worker_process(killed, stop_at="before-timer-note") as worker:
        assert await worker.ended() == -9, worker.log.read_text()
    next_one = then.model_copy(update={"consumer_group": f"{ground.consumer_group}-next"})
    async with running_worker(next_one):
        await until_dispatched(next_one, timers=True)
        evidence = await verify_all(next_one)
    assert len(await sent_ids(ground, "EXPIRE:")) >= len(names)
    kinds = Counter(row.event["operation"]["operation"] for row in evidence.log)
    assert kinds["EXPIRE"] == len(names)
    assert {row["state"] for row in evidence.cards} == {"EXPIRED"}


async def test_timers_are_paced_and_what_waits_is_caught_up_after_a_pause(
    new_ground: NewGround,
) -> None:
    """An ordinary command is decided while timers wait; none is lost when the worker changes."""
    cards = 120
    ground = await new_ground(environment="development", timer_commands_per_second_max=5)
    async with running_worker(ground):
        await _send_and_settle(ground, *bank.PRODUCTS)
        await _send_and_settle(ground, *(create(f"card-{number}") for number in range(cards)))
    (due_ms,) = (await timers_of(ground, "card-0")).values()
    then = at(ground, due_ms)
    async with running_worker(then):
        await until_fired(then, 5)
        # What the first EXPIREs leave room for: it need not wait for the last of them.
        await _send_and_settle(then, create("ordinary"))
        assert await _waiting(then) > 0
    left = await _waiting(then)
    assert 0 < left < cards
    fast = then.model_copy(update={"timer_commands_per_second_max": 2_000})
    async with running_worker(fast):
        await until_dispatched(fast, timers=True)
        evidence = await verify_all(fast)
    states = Counter(row["state"] for row in evidence.cards)
    assert states == {"EXPIRED": cards, "ACTIVE": 1}


async def until_fired(settings: Settings, timers: int) -> None:
    """Wait until so many EXPIREs took effect."""
    async with connected(settings) as connection:

        async def have_fired() -> bool:
            expired = await connection.fetchval("SELECT count(*) FROM card WHERE state = 'EXPIRED'")
            return bool(expired >= timers)

        await until(have_fired, f"{timers} timers to fire")


async def _waiting(settings: Settings) -> int:
    async with connected(settings) as connection:
        return int(
            await connection.fetchval(
                "SELECT count(*) FROM timer WHERE due_ms <= $1", now_ms(settings)
            )
        )


async def test_a_timer_that_fired_too_early_is_dated_again(new_ground: NewGround) -> None:
    """As when the time zone of its issuer was set anew: the card ignores it, and it is not lost."""
    ground = await new_ground(environment="development")
    async with running_worker(ground):
        await _send_and_settle(ground, *bank.PRODUCTS)
        await _send_and_settle(ground, create("card-1"))
        right = await timers_of(ground, "card-1")
        async with connected(ground) as connection:
            await connection.execute("UPDATE timer SET due_ms = $1", now_ms(ground) - 1)

        async def is_dated_again() -> bool:
            return await timers_of(ground, "card-1") == right

        await until(is_dated_again, "the timer to be dated again")
        await until_settled(ground)
    assert len(await sent_ids(ground, "EXPIRE:")) == 1
    then = at(ground, right["EXPIRE"])
    async with running_worker(then):
        await until_dispatched(then, timers=True)
        evidence = await verify_all(then)
    assert evidence.count("ignored") == 1
    assert last_event(evidence, f"{ISSUER}/card-1")["card"]["state"] == "EXPIRED"
