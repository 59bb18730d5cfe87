"""Brings the schema to the newest revision of `migrations/`, and weekly partitions into being.

Alembic runs the revisions; two that start at once wait for each other on an advisory lock.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from lifecycle.postgres.schema import PARTITION_WEEKS_AHEAD
from lifecycle.settings import Settings, required

_MIGRATION_LOCK_ID = 0x6C69666563  # any number that no one else uses in this database


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
