"""Connections to PostgreSQL, each wait with a limit, and the question which errors may pass.

The limits are set on the server too: a session of ours that stops inside a transaction, because
the process was paused or its network fell away, must not keep a lane locked.
"""

import asyncio

import asyncpg
from asyncpg import Connection, Pool

from lifecycle.settings import Settings, required

__all__ = [
    "Connection",
    "Pool",
    "answers",
    "is_systemic",
    "is_time_out",
    "is_transient",
    "open_pool",
    "server_limits",
]

APPLICATION_NAME = "card-lifecycle"
POOL_CONNECTIONS_MAX = 6

# SQLSTATE classes and codes after which the same statement may work: connection exceptions,
# transaction rollbacks (deadlock, serialization), resources, operator intervention, system errors.
_TRANSIENT_CLASSES = frozenset({"08", "40", "53", "57", "58"})
_TRANSIENT_CODES = frozenset(
    {
        "55P03",  # lock_not_available
        "25006",  # read_only_sql_transaction: a standby that is not promoted yet
        "25P03",  # idle_in_transaction_session_timeout
        "25P04",  # transaction_timeout
    }
)


# What a statement on a connection that has ended may raise, or one that ends at this moment.
# InternalClientError is what asyncpg's own machine says when that is between two messages.
CONNECTION_ERRORS = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)


def is_transient(error: BaseException) -> bool:
    """Whether the database may accept the same work later, so that nothing is wrong with it."""
    if isinstance(error, asyncpg.PostgresError):
        code = str(error.sqlstate or "")
        return code[:2] in _TRANSIENT_CLASSES or code in _TRANSIENT_CODES
    return isinstance(error, CONNECTION_ERRORS)


# A statement or a session that the server, or someone in its name, ended before it was through.
_TIME_OUT_CODES = frozenset(
    {
        "57014",  # query_canceled: statement_timeout
        "57P01",  # admin_shutdown: pg_terminate_backend, as of a session that stalled in a COPY
        "25P03",  # idle_in_transaction_session_timeout
        "25P04",  # transaction_timeout
    }
)


def is_time_out(error: BaseException) -> bool:
    """Whether the work may have been too slow: it was ended, or its connection was.

    The same comes of a server that is away; `answers` tells the two apart. Who waited for a lock
    (55P03) waited for somebody else.
    """
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate is not None:
        return error.sqlstate in _TIME_OUT_CODES or error.sqlstate.startswith("08")
    return isinstance(error, CONNECTION_ERRORS)


# What is wrong with the installation and not with a command: missing or forbidden tables and
# columns, a missing partition, a corrupted database. Halving a batch would bury every command.
_SYSTEMIC_CLASSES = frozenset({"0A", "28", "3D", "3F", "42", "XX"})
_SYSTEMIC_CODES = frozenset({"23514"})  # check_violation: also a row that no partition takes


def is_systemic(error: BaseException) -> bool:
    """Whether every other command would fail in the same way, so that a person must look."""
    if not isinstance(error, asyncpg.PostgresError):
        return False
    code = str(error.sqlstate or "")
    return code[:2] in _SYSTEMIC_CLASSES or code in _SYSTEMIC_CODES


def server_limits(settings: Settings) -> dict[str, str]:
    """The limits that the server keeps for each of our sessions."""
    return {
        "application_name": APPLICATION_NAME,
        "statement_timeout": str(settings.database_statement_timeout_ms),
        "lock_timeout": str(settings.database_lock_timeout_ms),
        "idle_in_transaction_session_timeout": str(settings.database_statement_timeout_ms),
        "tcp_keepalives_idle": "5",
        "tcp_keepalives_interval": "2",
        "tcp_keepalives_count": "3",
        "timezone": "UTC",
    }


async def open_pool(settings: Settings) -> Pool:
    """Open the pool that a worker or a command of the command line uses.

    Raises:
        OSError, TimeoutError, asyncpg.PostgresError: the database can't be reached.
    """
    pool: Pool = await asyncpg.create_pool(
        required(settings, "database_url"),
        min_size=1,
        max_size=POOL_CONNECTIONS_MAX,
        timeout=settings.database_connect_timeout_ms / 1000,
        # Above the server's own limit: the server's answer says more than our time-out.
        command_timeout=settings.database_statement_timeout_ms / 1000 + 5,
        server_settings=server_limits(settings),
    )
    return pool


async def answers(settings: Settings) -> bool:
    """Whether the server takes a new connection and commits what is trivial, as durably as ours."""
    seconds_max = settings.database_statement_timeout_ms / 1000
    try:
        connection = await asyncpg.connect(
            required(settings, "database_url"),
            timeout=settings.database_connect_timeout_ms / 1000,
            server_settings=server_limits(settings),
        )
        try:
            # Nothing but a record of the write-ahead log; where COMMIT waits for a disk or for a
            # standby, so does this one.
            async with asyncio.timeout(seconds_max):
                await connection.execute(
                    "SELECT pg_logical_emit_message(true, 'card-lifecycle', 'are you there?')"
                )
        finally:
            connection.terminate()
    except (asyncpg.PostgresError, *CONNECTION_ERRORS):
        return False
    return True


async def end_stalled_sessions(pool: Pool, settings: Settings) -> int:
    """End sessions of ours that stopped in the middle of a COPY; how many there were.

    While the server waits there for its client it heeds none of the limits above, so that a worker
    which is paused at that moment would keep its lanes locked until somebody kills it. No session
    that works waits for as long as a statement may take.
    """
    return int(
        await pool.fetchval(
            """
            SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND usename = current_user
                AND application_name = $1 AND state = 'active' AND wait_event = 'ClientRead'
                AND query_start < clock_timestamp() - $2 * interval '1 millisecond'
            """,
            APPLICATION_NAME,
            settings.database_statement_timeout_ms,
        )
    )
