"""Brings the schema to the newest revision of `migrations/`, and weekly partitions into being.

Alembic runs the revisions; two that start at once wait for each other on an advisory lock.
"""

from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from lifecycle.settings import Settings, required

PARTITION_WEEKS_AHEAD = 8
_MIGRATION_LOCK_ID = 0x6C69666563  # any number that no one else uses in this database


class SchemaError(Exception):
    """The database does not have the schema of this version."""


def _config() -> Config:
    packaged = Path(__file__).parents[1] / "migrations"  # in a wheel
    checkout = Path(__file__).parents[2] / "migrations"
    config = Config()
    config.set_main_option("script_location", str(packaged if packaged.exists() else checkout))
    return config


def migrate(settings: Settings) -> tuple[str | None, str | None]:
    """Bring the schema to the newest revision; safe to run again and by several at once.

    Returns:
        The revision before and the revision after.

    Raises:
        sqlalchemy.exc.OperationalError: the database can't be reached.
    """
    url = make_url(required(settings, "database_url")).set(drivername="postgresql+psycopg")
    connect_timeout_s = max(1, settings.database_connect_timeout_ms // 1000)
    engine = create_engine(
        url, poolclass=NullPool, connect_args={"connect_timeout": connect_timeout_s}
    )
    config = _config()
    with engine.connect() as connection:
        # Without it, two `migrate` at once would both create the first table, and one would fail.
        connection.execute(text("SELECT pg_advisory_lock(:id)"), {"id": _MIGRATION_LOCK_ID})
        connection.commit()
        before = MigrationContext.configure(connection).get_current_revision()
        connection.commit()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.execute(
            text("SELECT ensure_operation_partitions(:weeks)"), {"weeks": PARTITION_WEEKS_AHEAD}
        )
        connection.commit()
        after = MigrationContext.configure(connection).get_current_revision()
    return before, after


async def check_schema(pool: asyncpg.Pool) -> None:
    """See that the database has the newest schema.

    Raises:
        SchemaError: it has not; says what to run.
    """
    newest = ScriptDirectory.from_config(_config()).get_current_head()
    found = None
    if await pool.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL"):
        found = await pool.fetchval("SELECT version_num FROM alembic_version")
    if found != newest:
        raise SchemaError(
            f"the database has schema {found or 'none'}, this version needs {newest}:"
            " run `lifecycle migrate`"
        )


async def ensure_partitions(pool: asyncpg.Pool) -> int:
    """Create the weekly partitions of `operation` ahead of time; how many were missing."""
    return int(await pool.fetchval("SELECT ensure_operation_partitions($1)", PARTITION_WEEKS_AHEAD))
