"""What the service sends itself in bulk leaves room for the commands of others, however much it is.

Structure is asserted, never speed: how many commands of its own lie on the topic that were not
taken yet, what is decided before what, and how many rows a statement looks at.
"""

from collections import Counter

import pytest

from lifecycle.settings import Settings
from lifecycle.worker import pacing
from tests.support import bank
from tests.support.bank import Message, card, consumer, create
from tests.support.dispatching import at, copy_card, timers_of, until_dispatched, watch_rounds
from tests.support.fixtures import NewGround
from tests.support.ground import connected
from tests.support.reading import until_settled
from tests.support.worker import running_worker

_UNPACED = 100_000  # commands a second: only the rounds hold anything back
_ROUND = 500
_BULK = {"poll_records_max": 1_000, "publish_rows_max": 1_000}


@pytest.fixture(autouse=True)
def _larger_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that fewer of them are waited for."""
    monkeypatch.setattr(pacing, "ROUND_COMMANDS_MAX", _ROUND)


async def _send_and_settle(settings: Settings, *messages: Message) -> None:
    await bank.send(settings, messages)
    await until_settled(settings)


async def _state_of(settings: Settings, card_id: str) -> str | None:
    async with connected(settings) as connection:
        state: str | None = await connection.fetchval(
            "SELECT state FROM card WHERE card_id = $1", card_id
        )
        return state


async def _states(settings: Settings) -> dict[str, int]:
    async with connected(settings) as connection:
        return dict(await connection.fetch("SELECT state, count(*) FROM card GROUP BY state"))


async def _outcomes(settings: Settings) -> Counter[tuple[str, str]]:
    """How many operations there are of each type of event, by the card."""
    async with connected(settings) as connection:
        rows = await connection.fetch("SELECT aggregateid, type FROM operation")
    return Counter((row[0], row[1]) for row in rows)


async def test_ten_thousand_cards_of_one_consumer_block_nothing_else(
    new_ground: NewGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is deleted, once; a command or a small cascade that comes meanwhile need not wait."""
    cards = 10_000
    ground = await new_ground(cascade_commands_per_second_max=_UNPACED, **_BULK)
    async with running_worker(ground):
        await _send_and_settle(ground, *bank.PRODUCTS)
        await _send_and_settle(
            ground,
            create("card"),
            create("small", consumerId="small"),
            create("of-another", consumerId="another"),
        )
    await copy_card(ground, "card", cards - 1)

    async def others_come() -> None:
        suspend, leave = card("of-another", "SUSPEND", "s"), "CONSUMER_DELETE"
        await bank.send(ground, [suspend, consumer("small", leave, "leave")])

    async def other_is_decided() -> None:
        assert await _state_of(ground, "of-another") == "SUSPENDED"

    async def small_is_over() -> None:
        assert await _state_of(ground, "small") == "DELETED"

    # The round after the command lies behind it, and the one after that waits until it is taken.
    # The small cascade has a page of the next round then, which the last one here has waited for.
    moments = {3: others_come, 5: other_is_decided, 8: small_is_over}
    untaken = watch_rounds(ground, monkeypatch, moments)
    async with running_worker(ground):
        await _send_and_settle(ground, consumer("consumer-1", "CONSUMER_DELETE", "leave"))
        await until_dispatched(ground)
    assert len(untaken) > max(moments)
    assert max(untaken) <= _ROUND
    assert await _states(ground) == {"DELETED": cards + 1, "SUSPENDED": 1}
    deletions = [
        count for (_, kind), count in (await _outcomes(ground)).items() if "delete" in kind
    ]
    assert deletions == [1] * (cards + 1 + 2)


async def test_thousands_of_due_timers_block_nothing_else(
    new_ground: NewGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the midnight of a month each fires; a command that comes meanwhile need not wait."""
    cards = 4_000
    ground = await new_ground(
        environment="development", timer_commands_per_second_max=_UNPACED, **_BULK
    )
    async with running_worker(ground):
        await _send_and_settle(ground, *bank.PRODUCTS)
        await _send_and_settle(ground, create("card"))
    (due_ms,) = (await timers_of(ground, "card")).values()
    await copy_card(ground, "card", cards - 1)
    async with connected(ground) as connection:
        await connection.execute(
            """
            INSERT INTO timer
            SELECT card.issuer_id, card.card_id, timer.kind, timer.due_ms, timer.command_id
            FROM card, timer WHERE card.card_id <> timer.card_id
            """
        )
    then = at(ground, due_ms)

    async def another_comes() -> None:
        await bank.send(then, [create("another")])

    async def other_is_decided() -> None:
        assert await _state_of(then, "another") == "ACTIVE"

    moments = {3: another_comes, 5: other_is_decided}
    untaken = watch_rounds(then, monkeypatch, moments)
    async with running_worker(then):
        await until_dispatched(then, timers=True)
    assert len(untaken) > max(moments)
    assert max(untaken) <= _ROUND
    assert await _states(then) == {"EXPIRED": cards, "ACTIVE": 1}
    expiries = [count for (_, kind), count in (await _outcomes(then)).items() if "expire" in kind]
    assert expiries == [1] * cards
