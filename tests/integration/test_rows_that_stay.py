"""What is recorded stays: the database refuses to change it, whoever asks and by whichever name."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
import pytest_asyncio
from alembic import command
from alembic.config import Config
from pydantic import SecretStr
from sqlalchemy import create_engine, make_url

from lifecycle.local import Servers
from lifecycle.postgres import migrate as migrating
from lifecycle.postgres import moments
from lifecycle.postgres.migrate import migrate
from lifecycle.postgres.moments import TablesInUseError
from lifecycle.postgres.roles import Role, role_name
from lifecycle.settings import Settings
from tests.support.ground import own_database, with_database
from tests.support.waiting import SECONDS_MAX, until

_OPERATION = """
    INSERT INTO operation (lane, seq, id, aggregatetype, aggregateid, type, event_time_ms, payload,
        issuer_id, operation_id, caused, content_hash, status, start_time, expires_at)
    VALUES (0, 1, gen_random_uuid(), 'card', 'BANK000001/card-1', 'CREATE', 0, '', 'BANK000001',
        gen_random_uuid(), false, '', 'SUCCESSFUL', now(), now())
"""
_ROWS = (
    _OPERATION,
    """
    INSERT INTO dead_letter (source, partition, command_offset, code, error, headers)
    VALUES ('commands', 0, 0, 'NOT_JSON', 'no JSON', '[]')
    """,
    """
    INSERT INTO intake_batch (source, partition, from_offset, to_offset, records, operations,
        duplicates, ignored, dead_letters, foreign_partition)
    VALUES ('commands', 0, 0, 1, 1, 1, 0, 0, 0, 0)
    """,
    "INSERT INTO pan_fingerprint (issuer_id, fingerprint) VALUES ('B', sha256('retired'))",
)
_CHANGES = {
    "operation": "lane = 1",
    "dead_letter": "code = 'OTHER'",
    "intake_batch": "foreign_partition = 1",
}
_KEPT = tuple(_CHANGES)
_REFUSED = "is refused: its rows are never changed or removed"


@asynccontextmanager
async def _connection(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@pytest_asyncio.fixture
async def url(servers: Servers, template: str) -> AsyncIterator[str]:
    """A database with a row of each kind that stays; the address of a superuser."""
    async with own_database(servers, template) as name:
        url = with_database(servers.database_url, name)
        async with _connection(url) as connection:
            for row in _ROWS:
                await connection.execute(row)
        yield url


async def _partitions(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch(
        "SELECT inhrelid::regclass::text FROM pg_inherits"
        " WHERE inhparent = 'operation'::regclass ORDER BY 1"
    )
    return [row[0] for row in rows]


async def _count(connection: asyncpg.Connection, table: str) -> int:
    return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))  # noqa: S608 - the same


async def _is_kept(connection: asyncpg.Connection, table: str, kind: str) -> None:
    """UPDATE, DELETE and TRUNCATE of `table`, which is of the `kind` of a kept table, fail."""
    for statement in (
        f"UPDATE {table} SET {_CHANGES[kind]}",  # noqa: S608 - a table of the catalogue
        f"DELETE FROM {table}",  # noqa: S608 - the same
        f"TRUNCATE {table}",
        f"TRUNCATE {table} CASCADE",
    ):
        with pytest.raises(asyncpg.RaiseError, match=_REFUSED):
            await connection.execute(statement)


@pytest.mark.parametrize("role", ["owner", "superuser"])
@pytest.mark.parametrize("table", _KEPT)
async def test_nobody_changes_or_removes_what_is_recorded(
    url: str, template: str, table: str, role: str
) -> None:
    """By the name of the table, and by that of each of its partitions."""
    async with _connection(url) as connection:
        names = [table, *(await _partitions(connection) if table == "operation" else [])]
        if role == "owner":
            await connection.execute(f"SET ROLE {role_name(template, Role.OWNER)}")
        for name in names:
            await _is_kept(connection, name, table)
        assert await _count(connection, table) == 1


@pytest.mark.parametrize("role", ["owner", "superuser"])
async def test_nobody_frees_a_retired_number(url: str, template: str, role: str) -> None:
    """domain.md 4: a keyed hash of retired numbers is kept for ever."""
    async with _connection(url) as connection:
        if role == "owner":
            await connection.execute(f"SET ROLE {role_name(template, Role.OWNER)}")
        for statement in (
            "UPDATE pan_fingerprint SET card_id = 'c', incarnation = 1",
            "UPDATE pan_fingerprint SET fingerprint = sha256('other')",
            "DELETE FROM pan_fingerprint",
            "DELETE FROM retired_pan",
            "TRUNCATE pan_fingerprint",
            "TRUNCATE pan_fingerprint CASCADE",
        ):
            with pytest.raises(asyncpg.RaiseError, match="never"):
                await connection.execute(statement)
        assert await connection.fetchval("SELECT count(*) FROM retired_pan") == 1


async def test_a_merge_and_an_upsert_are_refused_too(url: str) -> None:
    async with _connection(url) as connection:
        for statement in (
            """
            MERGE INTO operation USING (SELECT 0 AS lane) AS u ON operation.lane = u.lane
                WHEN MATCHED THEN UPDATE SET seq = 2
            """,
            """
            MERGE INTO operation USING (SELECT 0 AS lane) AS u ON operation.lane = u.lane
                WHEN MATCHED THEN DELETE
            """,
            """
            INSERT INTO dead_letter SELECT * FROM dead_letter
                ON CONFLICT (source, partition, command_offset, recorded_at)
                DO UPDATE SET code = 'OTHER'
            """,
        ):
            with pytest.raises(asyncpg.RaiseError, match=_REFUSED):
                await connection.execute(statement)


async def test_partitions_that_are_made_later_are_kept(url: str) -> None:
    """By the function of the service, and those that a person attaches."""
    async with _connection(url) as connection:
        before = await _partitions(connection)
        assert await connection.fetchval("SELECT ensure_operation_partitions(20)") > 0
        await connection.execute(
            "CREATE TABLE operation_by_hand PARTITION OF operation"
            " FOR VALUES FROM ('2001-01-01') TO ('2001-01-08')"
        )
        for partition in set(await _partitions(connection)) - {*before, "operation_by_hand"}:
            await _is_kept(connection, partition, "operation")
        await connection.execute(
            _OPERATION.replace("(lane,", "(recorded_at, lane,").replace("(0,", "('2001-01-02', 0,")
        )
        for statement in ("UPDATE operation_by_hand SET lane = 1", "DELETE FROM operation_by_hand"):
            with pytest.raises(asyncpg.RaiseError, match=_REFUSED):
                await connection.execute(statement)


@pytest.mark.parametrize("how", ["", "CONCURRENTLY"])
async def test_a_detached_partition_is_kept(url: str, how: str) -> None:
    """It loses the triggers that it inherited, and is the log all the same."""
    async with _connection(url) as connection:
        partition = await connection.fetchval("SELECT tableoid::regclass::text FROM operation")
        await connection.execute(f"ALTER TABLE operation DETACH PARTITION {partition} {how}")
        await _is_kept(connection, partition, "operation")
        assert await _count(connection, partition) == 1


async def test_the_owner_drops_a_whole_partition(url: str, template: str) -> None:
    """design.md 6, G8: that is how storage is reclaimed."""
    async with _connection(url) as connection:
        partition = await connection.fetchval("SELECT tableoid::regclass::text FROM operation")
        await connection.execute(f"SET ROLE {role_name(template, Role.OWNER)}")
        await connection.execute(f"DROP TABLE {partition}")
        assert await connection.fetchval("SELECT count(*) FROM operation") == 0


async def test_a_table_is_made_insert_only_twice_without_harm(url: str) -> None:
    """For the migrations to come: also one with partitions that have rows."""
    async with _connection(url) as connection:
        for _ in range(2):
            await connection.execute("SELECT make_insert_only('operation')")
        await connection.execute(_OPERATION)


# --- a database of the version before


def _config(connection: object) -> Config:
    config = migrating._config()  # noqa: SLF001 - to stop at a revision, which no command does
    config.attributes["connection"] = connection
    return config


def _migrate_to(url: str, revision: str) -> None:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        command.upgrade(_config(connection), revision)
    engine.dispose()


@pytest_asyncio.fixture
async def old_url(servers: Servers) -> AsyncIterator[str]:
    """A database of schema 0007, with partitions and a row of each kind that stays."""
    async with own_database(servers) as name:
        url = with_database(servers.database_url, name)
        await asyncio.to_thread(_migrate_to, url, "0007")
        async with _connection(url) as connection:
            await connection.execute("SELECT ensure_operation_partitions(2)")
            for row in _ROWS:
                await connection.execute(row)
        yield url


async def test_a_migration_guards_what_is_there(old_url: str) -> None:
    async with _connection(old_url) as connection:
        partitions = await _partitions(connection)
        assert len(partitions) == 3
        # What was possible before.
        await connection.execute(f"UPDATE {partitions[0]} SET lane = 2")  # noqa: S608 - the same
        await asyncio.to_thread(migrate, Settings(database_url=SecretStr(old_url)))
        for name in ("operation", *partitions):
            await _is_kept(connection, name, "operation")
        for table in ("dead_letter", "intake_batch"):
            await _is_kept(connection, table, table)
        with pytest.raises(asyncpg.RaiseError):
            await connection.execute("TRUNCATE pan_fingerprint")
        assert [await _count(connection, table) for table in _KEPT] == [1, 1, 1]


async def test_a_migration_keeps_no_writer_waiting_behind_a_long_transaction(
    old_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for a table for a moment, lets go, and comes again until it gets it."""
    monkeypatch.setattr(migrating, "LOCK_WAIT_MS_MAX", 200)
    monkeypatch.setattr(migrating, "LOCK_PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(migrating, "LOCK_TRIES_MAX", 10_000)
    async with (
        _connection(old_url) as writer,
        _connection(old_url) as other,
        _connection(old_url) as watcher,
    ):
        long_one = writer.transaction()
        await long_one.start()
        await writer.execute(_OPERATION)
        migration = asyncio.create_task(
            asyncio.to_thread(migrate, Settings(database_url=SecretStr(old_url)))
        )

        async def waits() -> bool:
            return bool(
                await watcher.fetchval(
                    "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted"
                    " AND relation = 'operation'::regclass AND mode = 'ShareRowExclusiveLock')"
                )
            )

        for _ in range(2):
            await until(waits, "the migration to wait for the log")
            # This one comes after it, and so waits behind it, until it lets go.
            await other.execute(_OPERATION)
        assert not migration.done()
        await long_one.commit()
        async with asyncio.timeout(SECONDS_MAX):
            await migration
        with pytest.raises(asyncpg.RaiseError, match=_REFUSED):
            await writer.execute("TRUNCATE operation")


async def test_a_migration_that_never_gets_a_table_says_so_and_goes_on_from_there(
    old_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moments, "LOCK_WAIT_MS_MAX", 50)
    monkeypatch.setattr(moments, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(moments, "TRIES_MAX", 3)
    settings = Settings(database_url=SecretStr(old_url))
    async with _connection(old_url) as writer:
        async with writer.transaction():
            await writer.execute(_OPERATION)
            with pytest.raises(TablesInUseError, match=r"in 3 tries.*migrate` again"):
                await asyncio.to_thread(migrate, settings)
            # 0008 is about the cards alone; 0009 needs the log.
            assert await writer.fetchval("SELECT version_num FROM alembic_version") == "0008"
        await asyncio.to_thread(migrate, settings)
