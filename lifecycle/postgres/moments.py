"""Steps of migrations that hold a lock for no longer than a moment, on tables that are in use.

Whoever waits for a table makes all others wait that come after it. So a step waits for a moment
only, lets go of everything, and comes again. Each step is one transaction that the server carries
out without us: a migration that is paused or killed holds nothing.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy

LOCK_WAIT_MS_MAX = 200
"""So long at most do statements of workers queue behind one try."""
SMALL_BYTES_MAX = 8 * 1024 * 1024
"""A smaller table may have its indexes made anew in a moment."""
TRIES_MAX = 300
PAUSE_SECONDS = 0.5


class TablesInUseError(Exception):
    """A transaction of somebody else kept `migrate` from a table for too long; nothing is lost."""


def driver_of(connection: sqlalchemy.Connection) -> psycopg.Connection[Any]:
    """The connection itself, inside an `autocommit_block` of Alembic.

    What it sends without parameters goes as one message: several statements are one transaction.
    """
    driver: Any = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection), "migrations run on psycopg"
    assert driver.autocommit, "a step is a transaction of its own"
    return driver


def in_a_moment(driver: psycopg.Connection[Any], script: Callable[[], str]) -> None:
    """Run what `script` gives, as one transaction; it is asked anew for each try.

    Raises:
        TablesInUseError: something held what the step needs, at every try.
    """
    with _limits(driver, lock_timeout=str(LOCK_WAIT_MS_MAX)):
        for _ in range(TRIES_MAX):
            try:
                driver.execute(script().encode())
            except (
                psycopg.errors.LockNotAvailable,
                psycopg.errors.DeadlockDetected,
                psycopg.errors.SerializationFailure,
            ) as error:
                last = error
                time.sleep(PAUSE_SECONDS)
            else:
                return
    raise TablesInUseError(
        f"The migration did not get what it needs in {TRIES_MAX} tries:"
        f" {last.diag.message_primary};"
        " nothing is half done. See in pg_stat_activity which transaction is open for so long, end"
        " it, and run `lifecycle migrate` again: it goes on where it stopped."
    ) from last


def without_haste(driver: psycopg.Connection[Any], statement: str) -> None:
    """Run a statement that reads a whole table and lets everybody else go on.

    CREATE INDEX CONCURRENTLY, VALIDATE CONSTRAINT, ANALYZE: they may wait for as long as they like.
    """
    with _limits(driver, lock_timeout="0", statement_timeout="0"):
        driver.execute(statement.encode())


@contextmanager
def _limits(driver: psycopg.Connection[Any], **limits: str) -> Iterator[None]:
    before = {name: _set(driver, name, limit) for name, limit in limits.items()}
    try:
        yield
    finally:
        for name, limit in before.items():
            _set(driver, name, limit)


def _set(driver: psycopg.Connection[Any], name: str, limit: str) -> str:
    """Set a limit of the session; what it was."""
    row = driver.execute("SELECT current_setting(%s)", [name]).fetchone()
    assert row is not None, "a setting has a value"
    driver.execute("SELECT set_config(%s, %s, false)", [name, limit])
    return str(row[0])
