"""Transactions whose COMMIT counts only when it was acknowledged, and reads that count on one.

With a synchronous standby, COMMIT waits until the standby has it. Until then nobody sees what is
committed, unless the wait is broken off: by a cancel request, the end of the session, a restart of
the server. Then everybody sees it, and it is lost with the server. So what is read and then leaves
the database is covered first: by a COMMIT of the transaction that has read it. The standby that
acknowledges this one has everything that was visible before; and since one transaction is on one
server, no other server can have acknowledged it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Literal, TypeVar

import asyncpg

from lifecycle.postgres.connection import (
    APPLICATION_NAME,
    CONNECTION_ERRORS,
    PINNED,
    Connection,
    NotAcknowledgedError,
    Pool,
    UncancelledConnection,
    server_limits,
)
from lifecycle.settings import Settings, required

__all__ = [
    "DurableReads",
    "NotAcknowledgedError",
    "answers",
    "seconds_without_standby",
    "transaction",
]

Row = TypeVar("Row")

COVERED_AT_ONCE_MAX = 2
"""Reads of one process that hold a connection until they are covered; others wait their turn.

And on the server, of all processes together, so many COMMITs of reads wait for a standby that is
away: a connection that was closed meanwhile is one that the server still keeps.
"""

_BEGIN = {
    "read committed": "BEGIN ISOLATION LEVEL READ COMMITTED",
    "repeatable read": "BEGIN ISOLATION LEVEL REPEATABLE READ",
}
_COVER_LOCK = 0x6C696665  # any number that no one else locks in this database
# A message of the write-ahead log: of a transaction that writes nothing COMMIT waits for nothing.
_COVER = """
SELECT pg_advisory_xact_lock($1, $2),
    pg_logical_emit_message(true, 'card-lifecycle', 'what was read before this may leave') IS NULL
"""


@asynccontextmanager
async def transaction(
    pool: Pool,
    *,
    commit_seconds_max: float | None = None,
    isolation: Literal["read committed", "repeatable read"] = "read committed",
) -> AsyncIterator[Connection]:
    """A transaction that is committed at the end, and rolled back after an error.

    COMMIT is never cancelled. After `commit_seconds_max` (as any statement, if None) its connection
    is closed; the server may still wait then, and commit later.

    Raises:
        NotAcknowledgedError: COMMIT was not acknowledged, or not by the standby.
    """
    async with pool.acquire() as connection:
        await connection.execute(_BEGIN[isolation])
        try:
            yield connection
        except Exception:
            # Where the connection has ended, so has the transaction.
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await connection.execute("ROLLBACK")
            raise
        except BaseException:
            with suppress(asyncpg.InterfaceError):
                connection.terminate()
            raise
        await _commit(connection, commit_seconds_max)


async def _commit(connection: Connection, seconds_max: float | None) -> None:
    messages: list[str] = []

    def on_message(_: Connection, message: asyncpg.PostgresLogMessage) -> None:
        messages.append(str(message))

    connection.add_log_listener(on_message)
    try:
        status = await connection.execute("COMMIT", timeout=seconds_max)
    except TimeoutError:
        raise NotAcknowledgedError(
            "COMMIT was not acknowledged in time: either the database is slow, or it waits for its"
            " synchronous standby"
        ) from None
    finally:
        with suppress(asyncpg.InterfaceError):
            connection.remove_log_listener(on_message)
    # Sessions hear of warnings only, and COMMIT has one to give: that it did not wait.
    if messages or status != "COMMIT":
        raise NotAcknowledgedError(
            f"COMMIT was not acknowledged as it should be: {messages or [status]}"
        )


class DurableReads:
    """Reads rows that are to leave the database, and gives them once they can't be lost."""

    def __init__(self, pool: Pool, settings: Settings) -> None:
        """One for each process: the reads of all its tasks take turns."""
        self._pool = pool
        self._seconds_max = settings.database_commit_timeout_ms / 1000
        self._places: asyncio.Queue[int] = asyncio.Queue(COVERED_AT_ONCE_MAX)
        for place in range(COVERED_AT_ONCE_MAX):
            self._places.put_nowait(place)

    async def read(self, load: Callable[[Connection], Awaitable[list[Row]]]) -> list[Row]:
        """What `load` finds, once a COMMIT was acknowledged that came after it.

        Raises:
            NotAcknowledgedError: it was not; the rows may be lost.
        """
        try:
            async with asyncio.timeout(self._seconds_max):
                place = await self._places.get()
        except TimeoutError:
            raise NotAcknowledgedError(
                "other reads have waited too long for a COMMIT to be acknowledged"
            ) from None
        try:
            async with transaction(self._pool, commit_seconds_max=self._seconds_max) as connection:
                rows = await load(connection)
                if rows:
                    await _cover(connection, place)
        finally:
            self._places.put_nowait(place)
        return rows


async def _cover(connection: Connection, place: int) -> None:
    try:
        await connection.fetchrow(_COVER, _COVER_LOCK, place)
    except asyncpg.LockNotAvailableError as error:
        raise NotAcknowledgedError(
            "the COMMIT of an earlier read still waits for the synchronous standby"
        ) from error


async def answers(settings: Settings) -> bool:
    """Whether the server takes a new connection and commits what is trivial, as durably as ours."""
    seconds_max = settings.database_statement_timeout_ms / 1000
    try:
        connection = await asyncpg.connect(
            required(settings, "database_url"),
            timeout=settings.database_connect_timeout_ms / 1000,
            connection_class=UncancelledConnection,
            server_settings=server_limits(settings)
            | PINNED
            | {"synchronous_commit": "on", "application_name": APPLICATION_NAME},
        )
        try:
            # Who asks while another's question still waits for a standby has the answer: the lock.
            async with asyncio.timeout(seconds_max):
                await connection.fetchrow(_COVER, _COVER_LOCK, COVERED_AT_ONCE_MAX)
        finally:
            connection.terminate()
    except (asyncpg.PostgresError, *CONNECTION_ERRORS):
        return False
    return True


async def seconds_without_standby(pool: Pool) -> float:
    """For how long the oldest COMMIT of this service has been waiting for the synchronous standby.

    0.0 when none waits. Those of processes that have gone count as well.
    """
    return float(
        await pool.fetchval(
            """
            SELECT coalesce(extract(epoch FROM max(clock_timestamp() - query_start)), 0)
            FROM pg_stat_activity
            WHERE datname = current_database() AND usename = current_user
                AND application_name = $1 AND wait_event = 'SyncRep'
            """,
            APPLICATION_NAME,
        )
    )
