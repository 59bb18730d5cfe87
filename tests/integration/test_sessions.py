"""Sessions have the settings that the service relies on, or the service does not start."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from lifecycle.cli.exits import Exit
from lifecycle.local import Servers
from lifecycle.postgres.connection import Pool, SessionError, is_systemic, open_pool
from lifecycle.postgres.migrate import migrate
from lifecycle.settings import Settings, required
from tests.e2e.conftest import new_world
from tests.support.ground import connected, database_of, own_database, with_database
from tests.support.proxy import Proxy, proxy_to

_HARMFUL = {
    "synchronous_commit": "off",
    "default_transaction_isolation": "serializable",
    "search_path": "elsewhere",
    "TimeZone": "Asia/Tokyo",
    "client_min_messages": "error",
}
_PINNED = {
    "synchronous_commit": "on",
    "default_transaction_isolation": "read committed",
    "search_path": "public, pg_temp",
    "TimeZone": "UTC",
    "client_min_messages": "warning",
}
_STARTUP_HEADER = struct.Struct("!ii")


async def test_no_default_of_the_database_reaches_a_session(ground: Settings) -> None:
    """Neither at first, nor when the session was given back to the pool and reset."""
    await _give_to_database(ground, _HARMFUL)
    async with await open_pool(ground) as pool:
        assert await _settings_of_session(pool) == _PINNED
        await pool.execute("SET synchronous_commit = off")
        assert await _settings_of_session(pool) == _PINNED


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("off", "on"),
        ("local", "on"),
        ("remote_write", "on"),
        ("on", "on"),
        ("remote_apply", "remote_apply"),
    ],
)
async def test_a_commit_waits_for_the_disk_of_a_standby_at_least(
    ground: Settings, asked: str, given: str
) -> None:
    await _give_to_database(ground, {"synchronous_commit": asked})
    async with await open_pool(ground) as pool:
        assert (await _settings_of_session(pool))["synchronous_commit"] == given


async def test_migrate_keeps_the_tables_together_whatever_the_database_says(
    servers: Servers,
) -> None:
    async with own_database(servers) as name:
        url = SecretStr(with_database(servers.database_url, name))
        empty = Settings(database_url=url, database_owner_url=url)
        await _give_to_database(empty, _HARMFUL)
        async with connected(empty) as connection:
            await connection.execute("CREATE SCHEMA elsewhere")
        await asyncio.to_thread(migrate, empty)
        async with connected(empty) as connection:
            assert await connection.fetchval("SELECT to_regclass('public.operation') IS NOT NULL")
            assert await connection.fetchval("SELECT to_regclass('elsewhere.card') IS NULL")


async def test_settings_that_do_not_reach_the_server_are_refused(ground: Settings) -> None:
    """A pooler may leave out what a connection asks for, and hand out what it finds."""
    await _give_to_database(ground, {"synchronous_commit": "off", "search_path": "elsewhere"})
    async with _leaving_settings_out(ground) as through_pooler:
        with pytest.raises(SessionError) as refused:
            await open_pool(through_pooler)
    assert "synchronous_commit is 'off' and not 'on'" in str(refused.value)
    assert "search_path is 'elsewhere'" in str(refused.value)
    assert is_systemic(refused.value), "no command is buried for it"


async def test_settings_that_the_database_gives_are_as_good(ground: Settings) -> None:
    limits = {
        "statement_timeout": str(ground.database_statement_timeout_ms),
        "lock_timeout": str(ground.database_lock_timeout_ms),
        "idle_in_transaction_session_timeout": str(ground.database_statement_timeout_ms),
    }
    await _give_to_database(ground, {**_PINNED, **limits})
    async with (
        _leaving_settings_out(ground) as through_pooler,
        await open_pool(through_pooler) as pool,
    ):
        assert await _settings_of_session(pool) == _PINNED


async def test_a_worker_without_its_settings_ends_with_a_sentence(servers: Servers) -> None:
    async with new_world(servers) as world:
        await world.ok("migrate")
        address = SecretStr(world.database_url)
        settings = Settings(database_url=address, database_owner_url=address)
        await _give_to_database(settings, {"synchronous_commit": "off"})
        async with _leaving_settings_out(settings) as through_pooler:
            url = required(through_pooler, "database_url")
            for command in (("worker",), ("migrate",), ("operations", "list", "BANK000001", "c")):
                behind_pooler = world.on(
                    LIFECYCLE_DATABASE_URL=url, LIFECYCLE_DATABASE_OWNER_URL=url
                )
                result = await behind_pooler.run(*command)
                assert result.exit_code == Exit.WRONG_USE, result
                assert "synchronous_commit is 'off' and not 'on'" in result.err
                assert "Traceback" not in result.err


async def _give_to_database(settings: Settings, values: dict[str, str]) -> None:
    """What the database gives to each session that asks for nothing else."""
    async with connected(settings) as connection:
        for name, value in values.items():
            statement = await connection.fetchval(
                "SELECT format('ALTER DATABASE %I SET %I = '"
                " || CASE WHEN $2 = 'search_path' THEN '%s' ELSE '%L' END, $1::text, $2, $3::text)",
                database_of(settings),
                name,
                value,
            )
            await connection.execute(statement)


async def _settings_of_session(pool: Pool) -> dict[str, str]:
    rows = await pool.fetch(
        "SELECT name, setting FROM pg_settings WHERE name = ANY($1)", list(_PINNED)
    )
    return dict(rows)


@asynccontextmanager
async def _leaving_settings_out(settings: Settings) -> AsyncIterator[Settings]:
    """The same database behind what forwards all but the settings of a new session."""
    async with proxy_to(required(settings, "database_url"), _ForgetfulProxy) as (_, url):
        yield settings.model_copy(update={"database_url": SecretStr(f"{url}?sslmode=disable")})


class _ForgetfulProxy(Proxy):
    async def forward_start(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        length, version = _STARTUP_HEADER.unpack(await reader.readexactly(_STARTUP_HEADER.size))
        body = await reader.readexactly(length - _STARTUP_HEADER.size)
        words = body.rstrip(b"\0").split(b"\0")
        kept = b"".join(
            name + b"\0" + value + b"\0"
            for name, value in zip(words[::2], words[1::2], strict=True)
            if name.lower() in {b"user", b"database", b"client_encoding"}
        )
        writer.write(_STARTUP_HEADER.pack(_STARTUP_HEADER.size + len(kept) + 1, version))
        writer.write(kept + b"\0")
