"""Connections to PostgreSQL, each wait with a limit, and the question which errors may pass.

The limits are set on the server too: a session of ours that stops inside a transaction, because
the process was paused or its network fell away, must not keep a lane locked.
"""

from functools import partial

import asyncpg
from asyncpg import Connection, Pool

from lifecycle.settings import Settings, required

__all__ = [
    "Connection",
    "NotAcknowledgedError",
    "Pool",
    "SessionError",
    "UncancelledConnection",
    "is_systemic",
    "is_time_out",
    "is_transient",
    "open_pool",
    "server_limits",
]

APPLICATION_NAME = "card-lifecycle"
POOL_CONNECTIONS_MAX = 8

PINNED = {
    "default_transaction_isolation": "read committed",
    "search_path": "public, pg_temp",
    "timezone": "UTC",
    "client_min_messages": "warning",  # or nobody hears that COMMIT did not wait for a standby
}
"""What every session has, whatever the role, the database or the server would give it."""

# Whoever says so fills `past_command` himself; for workers of before the table, triggers do it.
_KEEPS_PAST_COMMANDS = {"lifecycle.keeps_past_commands": "on"}

_WAITS_FOR_STANDBY = ("on", "remote_apply")
"""The values of synchronous_commit that lose nothing with the primary, the weaker one first."""

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
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        return True  # A migration changed a table; asyncpg has forgotten the plan by now.
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


class NotAcknowledgedError(ConnectionError):
    """A COMMIT was not acknowledged: what it commits may be there, and may be lost again."""


def is_time_out(error: BaseException) -> bool:
    """Whether the work may have been too slow: it was ended, or its connection was.

    The same comes of a server that is away; `durability.answers` tells the two apart. Who waited
    for a lock (55P03) waited for somebody else, and a COMMIT for a disk or for a standby.
    """
    if isinstance(error, NotAcknowledgedError):
        return False
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate is not None:
        return error.sqlstate in _TIME_OUT_CODES or error.sqlstate.startswith("08")
    return isinstance(error, CONNECTION_ERRORS)


class SessionError(Exception):
    """Our sessions do not get the settings that they ask for: says which, and what mends it."""


# What is wrong with the installation and not with a command: missing or forbidden tables and
# columns, a missing partition, a corrupted database. Halving a batch would bury every command.
_SYSTEMIC_CLASSES = frozenset({"0A", "28", "3D", "3F", "42", "XX"})
_SYSTEMIC_CODES = frozenset({"23514"})  # check_violation: also a row that no partition takes


def is_systemic(error: BaseException) -> bool:
    """Whether every other command would fail in the same way, so that a person must look."""
    if not isinstance(error, asyncpg.PostgresError):
        return isinstance(error, SessionError)
    code = str(error.sqlstate or "")
    return code[:2] in _SYSTEMIC_CLASSES or code in _SYSTEMIC_CODES


def server_limits(settings: Settings) -> dict[str, str]:
    """The limits that the server keeps for each of our sessions."""
    return {
        "statement_timeout": str(settings.database_statement_timeout_ms),
        "lock_timeout": str(settings.database_lock_timeout_ms),
        "idle_in_transaction_session_timeout": str(settings.database_statement_timeout_ms),
    }


class UncancelledConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg ships no types
    """Closes where asyncpg would ask the server to cancel what nobody waits for any more.

    A COMMIT that waits for its synchronous standby is not undone when it is cancelled: the server
    stops waiting, and everybody sees what this server alone has. An open transaction ends with
    its connection; a COMMIT goes on waiting, and nobody sees what it commits before it may.
    """

    def _cancel_current_command(self, _waiter: object, _cancel_waiter: object = None) -> None:
        # Not at once: the caller is in the middle of its own state. And not `terminate`, which
        # would also give the connection back to the pool, as whoever has it is about to do.
        self._loop.call_soon(self._abort)


async def open_pool(settings: Settings) -> Pool:
    """Open the pool that a worker or a command of the command line uses.

    Raises:
        OSError, TimeoutError, asyncpg.PostgresError: the database can't be reached.
        SessionError: the settings of our sessions do not reach the server.
    """
    url = required(settings, "database_url")
    connect_seconds_max = settings.database_connect_timeout_ms / 1000
    # Above the server's own limit: the server's answer says more than our time-out.
    command_seconds_max = settings.database_statement_timeout_ms / 1000 + 5
    kept = server_limits(settings) | PINNED | _KEEPS_PAST_COMMANDS
    kept["synchronous_commit"] = await _synchronous_commit(
        url, connect_seconds_max, command_seconds_max
    )
    pool: Pool = await asyncpg.create_pool(
        url,
        min_size=1,
        max_size=POOL_CONNECTIONS_MAX,
        timeout=connect_seconds_max,
        command_timeout=command_seconds_max,
        connection_class=UncancelledConnection,
        server_settings=kept
        | {
            "application_name": APPLICATION_NAME,
            "tcp_keepalives_idle": "5",
            "tcp_keepalives_interval": "2",
            "tcp_keepalives_count": "3",
        },
        init=partial(_check_session, kept=kept),
    )
    return pool


async def _synchronous_commit(
    url: str, connect_seconds_max: float, command_seconds_max: float
) -> str:
    """The value for our sessions: that of the server, if it waits for a standby's disk at least."""
    connection = await asyncpg.connect(
        url, timeout=connect_seconds_max, command_timeout=command_seconds_max
    )
    try:
        asked = str(await connection.fetchval("SHOW synchronous_commit"))
    finally:
        await connection.close(timeout=connect_seconds_max)
    return asked if asked in _WAITS_FOR_STANDBY else _WAITS_FOR_STANDBY[0]


async def _check_session(connection: Connection, kept: dict[str, str]) -> None:
    """See that a new session has the settings with which it was asked for."""
    found = await connection.fetch(
        "SELECT kept.name, kept.value, setting"
        " FROM unnest($1::text[], $2::text[]) AS kept(name, value)"
        " JOIN pg_settings ON lower(pg_settings.name) = kept.name"
        " WHERE setting <> kept.value ORDER BY kept.name",
        list(kept),
        list(kept.values()),
    )
    if found:
        wrong = ", ".join(
            f"{name} is {setting!r} and not {value!r}" for name, value, setting in found
        )
        raise SessionError(
            "LIFECYCLE_DATABASE_URL: the settings with which our sessions begin do not reach the"
            f" server: {wrong}. What stands between, such as PgBouncer, leaves them out: connect"
            " without it, or give these settings to our role (ALTER ROLE … SET …) and see that no"
            " session changes them for another."
        )


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
