"""A command that breaks its transaction is buried alone; what breaks every one stops the worker."""

import asyncpg
import pytest

from lifecycle.domain.cards import Card
from lifecycle.domain.commands import CardCommand
from lifecycle.domain.decide import decide_card
from lifecycle.domain.operations import Context, Decision, Ignored
from lifecycle.settings import Settings
from tests.support import bank
from tests.support.bank import card, create
from tests.support.fixtures import NewGround
from tests.support.ground import connected
from tests.support.guarantees import verify_all
from tests.support.reading import taken_count, until_settled, until_taken
from tests.support.worker import running_worker

_CARDS = 12


async def test_a_command_that_breaks_its_batch_is_buried_alone(
    new_ground: NewGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Halving finds it; its neighbours take effect in their order (design.md 5, INTERNAL)."""
    ground = await new_ground(poll_records_max=1_000)

    def breaking(found: Card | None, command: CardCommand, context: Context) -> Decision | Ignored:
        if command.card_id.startswith("breaking"):
            raise RuntimeError("a mistake in the rules")
        return decide_card(found, command, context)

    monkeypatch.setattr("lifecycle.worker.deciding.decide_card", breaking)
    async with running_worker(ground):
        await bank.send(ground, bank.PRODUCTS)
        await until_settled(ground)
    good, breaks = [], []
    for number in range(_CARDS):
        good += [
            create(f"card-{number}"),
            card(f"card-{number}", "SUSPEND", "s"),
            card(f"card-{number}", "RESUME", "r"),
            card(f"card-{number}", "DELETE", "d"),
        ]
        if number % 4 == 0:
            breaks.append((len(good) - 2, create(f"breaking-{number}")))
    messages = list(good)
    for place, message in reversed(breaks):
        messages.insert(place, message)
    places = await bank.send(ground, messages)
    async with running_worker(ground):
        evidence = await verify_all(ground)
    outcomes = evidence.outcomes(places)
    assert outcomes.count("INTERNAL") == len(breaks)
    assert outcomes.count("SUCCESSFUL") == len(good)
    assert {row["state"] for row in evidence.cards} == {"DELETED"}
    assert {row["version"] for row in evidence.cards} == {4}


@pytest.mark.parametrize("table", ["operation", "card", "dead_letter", "intake_batch"])
async def test_a_database_that_is_set_up_wrongly_buries_nothing(
    ground: Settings, table: str
) -> None:
    """Halving would make a dead letter of every command, one after the other."""
    async with running_worker(ground):
        await bank.send(ground, bank.PRODUCTS)
        await until_settled(ground)
    async with connected(ground) as connection:
        await connection.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
        broken = bank.Message(b"key", b"{")
        await bank.send(ground, [create("card-1"), broken, card("card-1", "DELETE", "d")])
        with pytest.raises(asyncpg.UndefinedTableError, match=table):
            async with running_worker(ground):
                await until_taken(ground, len(bank.PRODUCTS) + 3)
        await connection.execute(f"ALTER TABLE {table}_away RENAME TO {table}")
    assert await taken_count(ground) == len(bank.PRODUCTS)
    async with running_worker(ground):
        evidence = await verify_all(ground)
    assert list(evidence.dead_letter_rows.values()) == ["NOT_JSON"]
