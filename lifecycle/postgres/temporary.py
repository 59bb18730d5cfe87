"""A database for one purpose, on a server that others use too: made, and dropped again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy.engine import make_url


@asynccontextmanager
async def temporary_database(
    url: str, name: str, *, connect_seconds_max: float
) -> AsyncIterator[str]:
    """Make the database `name` beside the one of `url`; its address.

    Raises:
        asyncpg.InsufficientPrivilegeError: the user of `url` may make no databases.
        OSError, TimeoutError, asyncpg.PostgresError: the server can't be reached.
    """
    connection = await asyncpg.connect(url, timeout=connect_seconds_max)
    try:
        await _run(connection, "CREATE DATABASE %I", name)
        try:
            yield make_url(url).set(database=name).render_as_string(hide_password=False)
        finally:
            await _run(connection, "DROP DATABASE %I WITH (FORCE)", name)
    finally:
        await connection.close()


async def _run(connection: asyncpg.Connection, template: str, name: str) -> None:
    # A statement about a database takes no parameters: the server itself quotes the name.
    await connection.execute(
        await connection.fetchval("SELECT format($1, $2::text)", template, name)
    )
