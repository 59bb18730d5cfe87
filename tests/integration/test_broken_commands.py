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


@pytest.mark.parametrize("error", [MemoryError, SystemError])
async def test_a_process_at_its_end_buries_nothing(
    ground: Settings, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Its next command would fail as well: the worker ends, and the next one takes them all."""

    def exhausted(*_: object) -> Decision | Ignored:
        raise error

    async with running_worker(ground):
        await bank.send(ground, bank.PRODUCTS)
        await until_settled(ground)
    places = await bank.send(ground, [create("card-1"), create("card-2")])
    with monkeypatch.context() as patched:
        patched.setattr("lifecycle.worker.deciding.decide_card", exhausted)
        with pytest.raises(error):
            async with running_worker(ground):
                await until_taken(ground, len(bank.PRODUCTS) + len(places))
    assert await taken_count(ground) == len(bank.PRODUCTS)
    async with running_worker(ground):
        evidence = await verify_all(ground)
    assert evidence.outcomes(places) == ["SUCCESSFUL"] * len(places)


async def test_a_record_that_exhausts_the_stack_is_buried_alone(
    ground: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How deep the stack grows is up to the record; its neighbours pass."""

    def endless(found: Card | None, command: CardCommand, context: Context) -> Decision | Ignored:
        if command.card_id == "endless":
            raise RecursionError
        return decide_card(found, command, context)

    monkeypatch.setattr("lifecycle.worker.deciding.decide_card", endless)
    async with running_worker(ground):
        await bank.send(ground, bank.PRODUCTS)
        await until_settled(ground)
        places = await bank.send(ground, [create("card-1"), create("endless"), create("card-2")])
        evidence = await verify_all(ground)
    assert evidence.outcomes(places) == ["SUCCESSFUL", "INTERNAL", "SUCCESSFUL"]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("53100", asyncpg.DiskFullError),
        ("53200", asyncpg.OutOfMemoryError),
        ("58030", asyncpg.PostgresIOError),
        ("XX000", asyncpg.InternalServerError),
        ("XX001", asyncpg.DataCorruptedError),
    ],
)
async def test_a_database_at_its_end_buries_nothing(
    new_ground: NewGround, code: str, error: type[Exception]
) -> None:
    """What may pass is waited for; either way the worker ends, and the next one takes it all."""
    ground = await new_ground(retry_ms_max=300)
    async with running_worker(ground):
        await bank.send(ground, bank.PRODUCTS)
        await until_settled(ground)
    places = await bank.send(ground, [create("card-1"), create("card-2")])
    async with connected(ground) as connection:
        await connection.execute(
            f"""
            CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'at its end' USING ERRCODE = '{code}'; END $$;
            CREATE TRIGGER fails BEFORE INSERT ON card FOR EACH ROW EXECUTE FUNCTION fail();
            """
        )
        with pytest.raises(error):
            async with running_worker(ground):
                await until_taken(ground, len(bank.PRODUCTS) + len(places))
        await connection.execute("DROP TRIGGER fails ON card; DROP FUNCTION fail")
    async with running_worker(ground):
        evidence = await verify_all(ground)
    assert evidence.outcomes(places) == ["SUCCESSFUL"] * len(places)
