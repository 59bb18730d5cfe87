"""A database with as many cards as are asked for, filled by SQL, for looking at plans."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import orjson
from pydantic import SecretStr

from lifecycle.domain.products import ActivationMethod, Form, ProductTerms
from lifecycle.postgres.migrate import migrate
from lifecycle.postgres.schema import PARTITION_WEEKS_AHEAD
from lifecycle.settings import Settings

CARDS_MIN = 10_000
CARDS_OF_ONE_MAX = 100_000

_FILL = Path(__file__).with_name("large_database.sql")
_TERMS = ProductTerms(form=Form.VIRTUAL, scheme="VISA", activation_method=ActivationMethod.NOTHING)

# Weeks of the past, as `ensure_partitions` makes those to come.
_PAST_WEEKS = """
DO $body$
DECLARE
    week date;
    table_name text;
    partition_name text;
BEGIN
    FOREACH table_name IN ARRAY ARRAY['operation', 'dead_letter', 'intake_batch'] LOOP
        FOR back IN 1 .. (SELECT weeks_back + 1 FROM size) LOOP
            week := date_trunc('week', now() AT TIME ZONE 'UTC')::date - 7 * back;
            partition_name := table_name || '_' || to_char(week, 'YYYYMMDD');
            CONTINUE WHEN to_regclass(partition_name) IS NOT NULL;
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', partition_name, table_name);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                table_name, partition_name, week || ' 00:00:00+00', (week + 7) || ' 00:00:00+00');
        END LOOP;
    END LOOP;
END $body$
"""
_WITHOUT_LOG = """
DO $body$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT oid::regclass::text FROM pg_class
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
    LOOP
        EXECUTE format('ALTER TABLE %s SET UNLOGGED', name);
    END LOOP;
END $body$
"""


@asynccontextmanager
async def large_database(
    server_url: str, *, cards: int, weeks: int
) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database with so many cards, dropped afterwards.

    `weeks` of the log have a partition, those to come and one that is empty included.
    """
    assert cards >= CARDS_MIN, "with fewer the planner is right to read a table from end to end"
    name = f"lifecycle_large_{uuid4().hex[:12]}"
    url = urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    await _administer(server_url, f'CREATE DATABASE "{name}"')
    try:
        await asyncio.to_thread(migrate, Settings(database_url=SecretStr(url)))
        connection = await asyncpg.connect(url)
        try:
            await _fill(connection, cards=cards, weeks=weeks)
            yield connection
        finally:
            await connection.close()
    finally:
        await _administer(server_url, f'DROP DATABASE "{name}" WITH (FORCE)')


async def _fill(connection: asyncpg.Connection, *, cards: int, weeks: int) -> None:
    await connection.execute(
        "CREATE TEMPORARY TABLE size AS SELECT $1::integer AS cards, $2::integer AS of_one,"
        " $3::integer AS weeks_back, $4::jsonb AS terms",
        cards,
        min(CARDS_OF_ONE_MAX, cards // 10),
        weeks - PARTITION_WEEKS_AHEAD - 2,
        orjson.dumps(asdict(_TERMS)).decode(),
    )
    await connection.execute(_PAST_WEEKS)
    await connection.execute(_WITHOUT_LOG)
    # An index is built of a full table in a fraction of the time that it grows in.
    indexes = await connection.fetch(
        "SELECT indexname, replace(indexdef, ' ON ONLY ', ' ON ') FROM pg_indexes"
        " WHERE schemaname = 'public' AND indexdef NOT LIKE 'CREATE UNIQUE %'"
        " AND tablename !~ '_[0-9]{8}$'"
    )
    for name, _ in indexes:
        await connection.execute(f"DROP INDEX {name}")
    for statement in _FILL.read_text().strip().split(";\n"):
        await connection.execute(statement)
    await connection.execute("SET maintenance_work_mem = '512MB'")
    for _, statement in indexes:
        await connection.execute(statement)
    await connection.execute("VACUUM ANALYZE")


async def _administer(server_url: str, statement: str) -> None:
    connection = await asyncpg.connect(server_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
