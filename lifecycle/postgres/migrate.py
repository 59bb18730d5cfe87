"""Brings the schema to the newest revision of `migrations/`, and weekly partitions into being.

Alembic runs the revisions; two that start at once wait for each other on an advisory lock.
"""

import time
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from psycopg.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from lifecycle.postgres import roles
from lifecycle.postgres.connection import PINNED
from lifecycle.postgres.moments import TablesInUseError
from lifecycle.postgres.schema import PARTITION_WEEKS_AHEAD, SCHEMA_REVISION
from lifecycle.settings import Settings, owner_field, required

LOCK_WAIT_MS_MAX = 3_000
"""Less than a worker waits for a lock, more than the second after which PostgreSQL ends an
autovacuum that is in the way."""
LOCK_TRIES_MAX = 20
LOCK_PAUSE_SECONDS = 1.0
_MIGRATION_LOCK_ID = 0x6C69666563  # any number that no one else uses in this database
_LOCK_POLL_SECONDS = 0.2
_NEWEST = "head"  # as Alembic calls it


def _config() -> Config:
    packaged = Path(__file__).parents[1] / "migrations"  # in a wheel
    checkout = Path(__file__).parents[2] / "migrations"
    config = Config()
    config.set_main_option("script_location", str(packaged if packaged.exists() else checkout))
    return config


def migrate(
    settings: Settings, *, with_roles: bool = False, revision: str = _NEWEST
) -> tuple[str | None, str | None]:
    """Bring the schema to a revision, the newest; safe to run again and by several at once.

    `with_roles` creates the roles that are missing, and gives the tables to the owner role. Where
    they belong to it, everything is done as that role, and every role has its rights afterwards. A
    schema that is newer than this version is left as it is.

    Returns:
        The revision before and the revision after.

    Raises:
        RolesError: the login may not do what is needed.
        TablesInUseError: the next `migrate` goes on with the revision that this one could not do.
        sqlalchemy.exc.OperationalError, psycopg.OperationalError: the database can't be reached.
    """
    address = required(settings, owner_field(settings))
    connect_timeout_s = max(1, settings.database_connect_timeout_ms // 1000)
    engine = create_engine(
        make_url(address).set(drivername="postgresql+psycopg"),
        poolclass=NullPool,
        connect_args={"connect_timeout": connect_timeout_s},
    )
    config = _config()
    prefix = settings.database_role_prefix
    owner = roles.role_name(prefix, roles.Role.OWNER)
    with (
        engine.connect() as connection,
        roles.connected(
            address, connect_seconds_max=connect_timeout_s, lock_ms_max=LOCK_WAIT_MS_MAX
        ) as login,
    ):
        for name, value in (*PINNED.items(), ("synchronous_commit", "on")):
            connection.execute(
                text("SELECT set_config(:name, :value, false)"), {"name": name, "value": value}
            )
        _wait_for_turn(connection)
        if with_roles:
            roles.create_roles(login, prefix)
        is_handed_over = roles.is_handed_over(login, prefix)
        if with_roles or is_handed_over:
            roles.open_schema(login, prefix)
        if is_handed_over:
            roles.become_owner(login, prefix)
        connection.execute(
            text(
                "SELECT set_config('lock_timeout', :wait_ms, false),"
                " set_config('role', :role, false)"
            ),
            {"wait_ms": str(LOCK_WAIT_MS_MAX), "role": owner if is_handed_over else "none"},
        )
        connection.commit()
        before = MigrationContext.configure(connection).get_current_revision()
        connection.commit()
        config.attributes["connection"] = connection
        if before is not None and before > SCHEMA_REVISION:
            return before, before
        _patiently(lambda: _upgrade(connection, config, settings, revision))
        if with_roles:
            _patiently(lambda: roles.hand_over(login, prefix))
        if with_roles or is_handed_over:
            roles.become_owner(login, prefix)
            roles.grant_rights(login, prefix)
        after = MigrationContext.configure(connection).get_current_revision()
    return before, after


def _wait_for_turn(connection: Connection) -> None:
    """Hold the lock of migrations: two at once would both create the first table.

    A statement that waited for it would be waited for itself, by CREATE INDEX CONCURRENTLY.
    """
    while not connection.scalar(
        text("SELECT pg_try_advisory_lock(:id)"), {"id": _MIGRATION_LOCK_ID}
    ):
        connection.commit()
        time.sleep(_LOCK_POLL_SECONDS)
    connection.commit()


def _upgrade(connection: Connection, config: Config, settings: Settings, revision: str) -> None:
    connection.rollback()
    command.upgrade(config, revision)
    if revision != _NEWEST:
        connection.execute(
            text("SELECT ensure_operation_partitions(:weeks)"), {"weeks": PARTITION_WEEKS_AHEAD}
        )
        connection.commit()
        return
    connection.execute(text("SELECT ensure_partitions(:weeks)"), {"weeks": PARTITION_WEEKS_AHEAD})
    # Retention keeps at least this, whatever a worker asks for.
    connection.execute(
        text(
            "UPDATE retention_limit SET intake_batch_days = :intake_batch_days,"
            " dead_letter_days = :dead_letter_days, clock_may_be_moved = :clock_may_be_moved"
        ),
        {
            "intake_batch_days": settings.commands_retention_days,
            "dead_letter_days": settings.dead_letters_retention_days,
            "clock_may_be_moved": settings.environment == "development",
        },
    )
    connection.commit()


def _patiently(work: Callable[[], None]) -> None:
    """Try again what a transaction of somebody else keeps waiting.

    Whoever waits for a lock on a table makes all others wait that come after it. So it waits for a
    moment only, lets go of everything, and comes again.
    """
    for _ in range(LOCK_TRIES_MAX):
        try:
            return work()
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable | DeadlockDetected):
                raise
        except (LockNotAvailable, DeadlockDetected):
            pass
        time.sleep(LOCK_PAUSE_SECONDS)
    raise TablesInUseError(
        f"A table was in use each of {LOCK_TRIES_MAX} times: end the transaction that is open for"
        " longest (pg_stat_activity, xact_start), and run `lifecycle migrate` again."
    )
