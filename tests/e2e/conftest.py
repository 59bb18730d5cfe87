"""A world of its own for each module: a database and a topic prefix on the servers of the session.

Everything is done through the installed `lifecycle`, as a process, as a user would, with the logins
that docs/operate.md has an administrator make.
"""

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import pytest_asyncio

from lifecycle.local import Servers
from lifecycle.postgres.roles import Role, role_name
from lifecycle.postgres.temporary import temporary_database
from tests.e2e import quick_start
from tests.support.ground import login_of, own_roles
from tests.support.waiting import SECONDS_MAX
from tests.unit.vault_keys import write_keys

PROGRAM = Path(sys.executable).with_name("lifecycle")


@dataclass(frozen=True, slots=True)
class Ended:
    exit_code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class World:
    """The environment that a user of these servers has."""

    environment: dict[str, str]
    database_url: str
    """For the test itself: the login is a superuser."""

    def on(self, **environment: str) -> "World":
        """The same, with other settings."""
        return replace(self, environment={**self.environment, **environment})

    @asynccontextmanager
    async def started(
        self, *arguments: str | Path, folder: Path | None = None
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """A process that is killed at the end, if it is still there."""
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment,
            cwd=folder,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def run(self, *arguments: str, given: bytes = b"") -> Ended:
        """`lifecycle` with these arguments, to its end."""
        return Ended(
            *await asyncio.to_thread(
                quick_start.run, arguments, self.environment, given, SECONDS_MAX
            )
        )

    async def ok(self, *arguments: str, given: bytes = b"") -> str:
        """As `run`, for what must go well: what it printed."""
        result = await self.run(*arguments, given=given)
        assert result.exit_code == 0, result
        return result.out

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """A worker, for as long as it is wanted; then it must stop in order."""
        async with self.started(PROGRAM, "worker") as process:
            yield process
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            result = await ended(process)
            assert result.exit_code == 0, result


async def ended(
    process: asyncio.subprocess.Process,
    given: bytes | None = None,
    seconds_max: float = SECONDS_MAX,
) -> Ended:
    async with asyncio.timeout(seconds_max):
        out, err = await process.communicate(given)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def new_world(servers: Servers) -> AsyncIterator[World]:
    """With a database that is empty and a topic prefix that no one uses."""
    name = f"e2e-{secrets.token_hex(4)}"
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith("LIFECYCLE_")
    }
    with TemporaryDirectory() as folder:
        keys_file = Path(folder) / "keys.json"
        write_keys(keys_file)
        async with (
            own_roles(servers) as roles,
            temporary_database(servers.database_url, name, connect_seconds_max=SECONDS_MAX) as url,
        ):
            await _belongs_to_owner(url, name, roles)
            yield World(
                {
                    **inherited,
                    "PATH": f"{PROGRAM.parent}{os.pathsep}{inherited['PATH']}",
                    "LIFECYCLE_ENVIRONMENT": "development",
                    "LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS": servers.kafka_bootstrap_servers,
                    "LIFECYCLE_DATABASE_URL": login_of(url, roles, Role.WORKER),
                    "LIFECYCLE_DATABASE_OWNER_URL": login_of(url, roles, Role.OWNER),
                    "LIFECYCLE_DATABASE_ROLE_PREFIX": roles,
                    "LIFECYCLE_TOPIC_PREFIX": name,
                    "LIFECYCLE_CONSUMER_GROUP": name,
                    "LIFECYCLE_PARTITIONS": "4",
                    "LIFECYCLE_KEYS_FILE": str(keys_file),
                },
                url,
            )


async def _belongs_to_owner(url: str, database: str, roles: str) -> None:
    owner = role_name(roles, Role.OWNER)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f'ALTER DATABASE "{database}" OWNER TO {owner}')
        # For `dev --once`, which makes a database of its own.
        await connection.execute(f"ALTER ROLE {owner}_login CREATEDB")
    finally:
        await connection.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(servers: Servers) -> AsyncIterator[World]:
    """Migrated, with topics, and a worker that works."""
    async with new_world(servers) as fresh:
        await fresh.ok("migrate")
        await fresh.ok("topics", "create")
        async with fresh.worker():
            yield fresh


@pytest_asyncio.fixture(loop_scope="session")
async def empty_world(servers: Servers) -> AsyncIterator[World]:
    """Nothing in it yet."""
    async with new_world(servers) as fresh:
        yield fresh
