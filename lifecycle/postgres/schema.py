"""Whether the database has the schema that this version was written for.

Apart from `migrate.py`, so that a worker does not load Alembic to compare two words.
"""

from lifecycle.postgres.connection import Pool

SCHEMA_REVISION = "0017"
"""The newest revision in `migrations/versions`; a test compares the two."""

PARTITION_WEEKS_AHEAD = 8
"""Weekly partitions of each table that has them that exist beyond the current week."""


class SchemaError(Exception):
    """The database does not have the schema of this version."""


async def check_schema(pool: Pool) -> None:
    """See that this version works on the schema of the database: its own, or a later one.

    While versions follow each other the schema is the newer one's, and the older one's workers go
    on; one that starts anew then asks the schema which versions it supports (docs/operate.md).

    Raises:
        SchemaError: it does not; says what to do.
    """
    found = None
    if await pool.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL"):
        found = await pool.fetchval("SELECT version_num FROM alembic_version")
    if found == SCHEMA_REVISION:
        return
    if found is None or found < SCHEMA_REVISION:
        raise SchemaError(
            f"the database has schema {found or 'none'}, this version needs {SCHEMA_REVISION}:"
            " run `lifecycle migrate`"
        )
    oldest = await pool.fetchval("SELECT oldest_revision FROM schema_support")
    if oldest > SCHEMA_REVISION:
        raise SchemaError(
            f"the database has schema {found}, which supports versions of schema {oldest} and"
            f" later; this version is of {SCHEMA_REVISION}: start a newer one"
        )


async def ensure_partitions(pool: Pool) -> int:
    """Create the weekly partitions of every table ahead of time; how many were missing."""
    return int(await pool.fetchval("SELECT ensure_partitions($1)", PARTITION_WEEKS_AHEAD))


async def needless_rights(pool: Pool) -> str | None:
    """With which rights this login could change the log, if with any; None is as it should be."""
    found: str | None = await pool.fetchval(
        """
        SELECT CASE
            WHEN rolsuper THEN 'it is a superuser'
            WHEN pg_has_role(current_user, relowner, 'MEMBER') THEN 'the tables belong to it'
            WHEN has_table_privilege('operation', 'UPDATE, DELETE, TRUNCATE, TRIGGER')
                THEN 'it may change operations'
        END FROM pg_roles, pg_class
        WHERE rolname = current_user AND pg_class.oid = 'operation'::regclass
        """
    )
    return found
