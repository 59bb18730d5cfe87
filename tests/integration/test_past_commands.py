"""Commands that no row remembers: kept through an upgrade, and forgotten with the log's weeks."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from lifecycle.local import Servers
from lifecycle.postgres import connection as connections
from lifecycle.postgres import past_commands
from lifecycle.postgres.migrate import migrate
from lifecycle.settings import Settings, required
from tests.support import bank
from tests.support.bank import Message, card, consumer, create, define
from tests.support.fixtures import NewGround
from tests.support.ground import connected, on_database, own_database
from tests.support.guarantees import verify_all
from tests.support.reading import until_settled
from tests.support.worker import running_worker

_BEFORE, _WITH_TABLE = "0007", "0009"
"""The schema of the last version without the table, and the first that has it."""
_REMEMBERED = 2
_TURNS = ("SUSPEND", "RESUME")

_TAKEN = [
    create("card-1"),
    *(card("card-1", _TURNS[number % 2], f"turn-{number}") for number in range(6)),
    card("card-1", "DELETE", "delete"),
    create("card-1", "again"),
    consumer("anna", "CONSUMER_REGISTER", "register"),
    *(
        consumer("anna", f"CONSUMER_{change}ACTIVATE", f"{change}{number}")
        for number in range(2)
        for change in ("DE", "RE")
    ),
    *(define(bank.VIRTUAL, "VIRTUAL", f"define-{number}") for number in range(4)),
]
_REFUSED = [
    *(card("nobody", "SUSPEND", f"early-{number}") for number in range(2 * _REMEMBERED)),
    *(consumer("no-one", "CONSUMER_DELETE", f"early-{number}") for number in range(3)),
]
_CONFLICTS = [
    create("card-1", consumerId="someone-else"),
    card("card-1", "DELETE", "turn-0"),
    card("card-1", "SUSPEND", "delete"),
    card("nobody", "DELETE", "early-0"),
    consumer("anna", "CONSUMER_DELETE", "register"),
    consumer("no-one", "CONSUMER_REGISTER", "early-0"),
    define(bank.VIRTUAL, "PHYSICAL", "define-0"),
]


async def _send(ground: Settings, messages: list[Message]) -> list[bank.Place]:
    places = await bank.send(ground, messages)
    await until_settled(ground)
    return places


async def _known(ground: Settings, *, born: bool) -> None:
    """Every command again is nothing, and with other content a conflict."""
    async with running_worker(ground):
        again = await _send(ground, [*reversed(_TAKEN), *_REFUSED])
        conflicts = await _send(ground, _CONFLICTS)
        born_places = await _send(
            ground, [create("nobody"), consumer("no-one", "CONSUMER_REGISTER", "born")]
        )
        again += await _send(ground, [*_TAKEN, *_REFUSED])
        conflicts += await _send(ground, _CONFLICTS)
        evidence = await verify_all(ground)
    assert evidence.outcomes(again) == ["NOTHING"] * len(again)
    assert evidence.outcomes(conflicts) == ["IDEMPOTENCY_CONFLICT"] * len(conflicts)
    assert evidence.outcomes(born_places) == ["SUCCESSFUL" if born else "NOTHING"] * 2


async def test_what_only_the_log_knew_is_known_after_the_upgrade(
    new_ground: NewGround, servers: Servers
) -> None:
    """G2: the rows are those that a worker of the version before leaves, at its schema."""
    ground = await new_ground(recent_commands_max=_REMEMBERED)
    async with running_worker(ground):
        await _send(ground, list(bank.PRODUCTS))
        await _send(ground, _TAKEN)
        await _send(ground, _REFUSED)
    async with own_database(servers) as name:
        before = on_database(ground, name)
        await asyncio.to_thread(migrate, before, revision=_BEFORE)
        await _copy_rows(ground, before)
        await asyncio.to_thread(migrate, before, revision=_WITH_TABLE)
        kept = await _kept(before)
        assert kept
        assert kept == sorted(set(kept)), "each once"
        # As if the migration had been stopped at its end, and was started anew.
        async with connected(before) as connection:
            await connection.execute("UPDATE alembic_version SET version_num = $1", _BEFORE)
        await asyncio.to_thread(migrate, before, revision=_WITH_TABLE)
        assert await _kept(before) == kept
        await asyncio.to_thread(migrate, before, with_roles=True)
        await _known(before, born=True)


async def test_what_a_worker_of_the_version_before_takes_after_the_upgrade_is_known(
    new_ground: NewGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on until it is restarted, and keeps nothing itself: it does not know the table."""
    ground = await new_ground(recent_commands_max=_REMEMBERED)
    with monkeypatch.context() as old:

        async def keep_nothing(*_: object) -> None:
            pass

        old.setattr(connections, "_KEEPS_PAST_COMMANDS", {})
        old.setattr(past_commands, "copy_past_commands", keep_nothing)
        async with running_worker(ground):
            await _send(ground, list(bank.PRODUCTS))
            await _send(ground, _TAKEN)
            await _send(ground, _REFUSED)
    # And what was taken before the triggers, and leaves its row after.
    async with connected(ground) as connection:
        await connection.execute(
            "DELETE FROM past_command WHERE operation_id IN ("
            " SELECT operation_id FROM operation JOIN card USING (issuer_id)"
            " WHERE position(uuid_send(operation_id) IN recent_commands) > 0)"
        )
    with monkeypatch.context() as old:
        old.setattr(connections, "_KEEPS_PAST_COMMANDS", {})
        old.setattr(past_commands, "copy_past_commands", keep_nothing)
        async with running_worker(ground):
            later = [card("card-1", _TURNS[number % 2], f"later-{number}") for number in range(4)]
            await _send(ground, [*later, card("card-1", "DELETE", "x"), create("card-1", "third")])
    await _known(ground, born=True)


async def test_a_command_is_kept_as_long_as_the_log_has_its_week(new_ground: NewGround) -> None:
    """And is forgotten in bounded bites when it has not, also by two at once."""
    ground = await new_ground()
    async with (
        connected(ground) as owner,
        asyncpg.create_pool(required(ground, "database_url")) as pool,
    ):
        week = await owner.fetchval(
            "SELECT min(inhrelid::regclass::text) FROM pg_inherits"
            " WHERE inhparent = 'operation'::regclass"
        )
        begins = datetime.strptime(week, "operation_%Y%m%d").replace(tzinfo=UTC)
        ends = begins + timedelta(days=7)
        await pool.execute(
            "INSERT INTO past_command (issuer_id, operation_id, content_hash, recorded_at)"
            " SELECT $1, gen_random_uuid(), '', recorded_at"
            " FROM unnest($2::timestamptz[]) AS u(recorded_at), generate_series(1, 100)",
            bank.ISSUER,
            [begins, ends - timedelta(seconds=1), ends],
        )
        assert await past_commands.forget_past_commands(pool, 1_000) == 0
        await owner.execute(f"DROP TABLE {week}")
        assert await past_commands.forget_past_commands(pool, 30) == 30
        async with pool.acquire() as other, other.transaction():
            await other.execute("SELECT forget_past_commands(100)")
            # What another call holds is passed over and not waited for.
            assert await past_commands.forget_past_commands(pool, 1_000) == 70
        assert await past_commands.forget_past_commands(pool, 1_000) == 0
        left = await owner.fetch("SELECT DISTINCT recorded_at FROM past_command")
        assert [row["recorded_at"] for row in left] == [ends]


async def _kept(ground: Settings) -> list[Any]:
    async with connected(ground) as connection:
        return [
            row["operation_id"]
            for row in await connection.fetch(
                "SELECT operation_id FROM past_command ORDER BY operation_id"
            )
        ]


async def _copy_rows(source: Settings, target: Settings) -> None:
    """Every row, as far as the older schema of the target has tables and columns for it."""
    async with connected(source) as read, connected(target) as written:
        tables = await written.fetch(
            """
            SELECT table_name, array_agg(column_name::text) AS columns
            FROM information_schema.columns JOIN information_schema.tables USING (table_name)
            WHERE tables.table_schema = 'public' AND table_type = 'BASE TABLE'
                AND table_name <> 'alembic_version' AND table_name !~ '_[0-9]{8}$'
            GROUP BY table_name
            """
        )
        for table, columns in tables:
            names = ", ".join(columns)
            rows = await read.fetch(f"SELECT {names} FROM {table}")  # noqa: S608 - of the schema
            await written.copy_records_to_table(table, columns=columns, records=map(tuple, rows))
        _assert_some(tables)


def _assert_some(tables: list[asyncpg.Record]) -> None:
    assert {"operation", "card", "consumer"} <= {table for table, _ in tables}
