"""A migration holds no lock for longer than a moment, goes on after a crash, and loses nothing.

The version before is here as it was: its statements, on the schema that it knew.
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import psycopg
import pytest
import pytest_asyncio
from alembic import command
from pydantic import SecretStr
from sqlalchemy import create_engine, make_url, text

from lifecycle.local import Servers
from lifecycle.postgres import migrate as migrating
from lifecycle.postgres import moments
from lifecycle.postgres.connection import APPLICATION_NAME, is_transient, open_pool
from lifecycle.postgres.migrate import migrate
from lifecycle.postgres.moments import TablesInUseError
from lifecycle.postgres.schema import SCHEMA_REVISION, SchemaError, check_schema
from lifecycle.settings import Settings, required
from tests.support.ground import own_database, with_database
from tests.support.waiting import until

BASE = "0007"
LANES = (0, 1, 2)
CARDS = 300
STEPS_PER_LIFE = 20

_OUTSIDE = "relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'"
_TEXTS_BY_LOCALE = f"""
    SELECT relname || '.' || attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
    WHERE {_OUTSIDE} AND relkind IN ('r', 'p', 'v') AND attnum > 0 AND NOT attisdropped
        AND atttypid IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype, 'name'::regtype)
        AND attcollation <> 'pg_catalog."C"'::regcollation
"""  # noqa: S608 - constants of this file
_SCHEMA = f"""
    WITH tables AS (
        SELECT oid, relname FROM pg_class
        WHERE {_OUTSIDE} AND relkind IN ('r', 'p', 'v') AND NOT relispartition
    )
    SELECT relname, 'column', attname, concat_ws(' ', format_type(atttypid, atttypmod),
            attcollation::regcollation, attnotnull, pg_get_expr(adbin, adrelid))
        FROM tables JOIN pg_attribute ON attrelid = tables.oid AND attnum > 0
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    UNION ALL SELECT relname, 'constraint', conname, concat_ws(' ', pg_get_constraintdef(c.oid),
            convalidated)
        FROM tables JOIN pg_constraint AS c ON conrelid = tables.oid
    UNION ALL SELECT relname, 'index', indexrelid::regclass::text, concat_ws(' ',
            pg_get_indexdef(indexrelid), indisvalid)
        FROM tables JOIN pg_index ON indrelid = tables.oid
    UNION ALL SELECT relname, 'trigger', tgname, pg_get_triggerdef(t.oid)
        FROM tables JOIN pg_trigger AS t ON tgrelid = tables.oid WHERE NOT tgisinternal
    UNION ALL SELECT relname, 'view', relname, pg_get_viewdef(oid) FROM tables
        WHERE oid IN (SELECT ev_class FROM pg_rewrite)
    ORDER BY 1, 2, 3
"""  # noqa: S608 - constants of this file


@pytest_asyncio.fixture(scope="module")
async def base(servers: Servers) -> AsyncIterator[str]:
    """A database of the version before, with cards, operations and dead letters; to copy from."""
    async with own_database(servers) as name:
        url = with_database(servers.database_url, name)
        await asyncio.to_thread(_upgrade_to_base, url)
        settings = Settings(database_url=SecretStr(url))
        async with await open_pool(settings) as pool:
            for statement in _ROWS:
                await pool.execute(statement)
        await _OldWorker(settings).work(until_batches=CARDS // 3)
        yield name


@pytest_asyncio.fixture
async def old(servers: Servers, base: str) -> AsyncIterator[Settings]:
    """A database of the version before, of the test's own."""
    async with own_database(servers, base) as name:
        yield Settings(
            database_url=SecretStr(with_database(servers.database_url, name)),
            environment="development",
            database_lock_timeout_ms=5_000,
        )


_ROWS = (
    """
    INSERT INTO lane_in (source, partition, next_offset)
    SELECT 'commands', generate_series(0, 2), 0
    """,
    "INSERT INTO lane_out (partition) SELECT generate_series(0, 2)",
    "INSERT INTO lane_pub (partition) SELECT generate_series(0, 2)",
    """
    INSERT INTO pan_fingerprint SELECT 'BANK', sha256(i::text::bytea),
        CASE WHEN i % 2 = 0 THEN 'card-' || i END, CASE WHEN i % 2 = 0 THEN 1 END
    FROM generate_series(1, 300) AS i
    """,
    """
    INSERT INTO consumer SELECT 'BANK', 'consumer-' || i, 'ACTIVE', 1, 0, 0, '', 1, ''
    FROM generate_series(1, 300) AS i
    """,
)


def _upgrade_to_base(url: str) -> None:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    config = migrating._config()  # noqa: SLF001 - where the revisions are
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, BASE)
        connection.execute(text("SELECT ensure_operation_partitions(8)"))
        connection.commit()
    engine.dispose()


class _OldWorker:
    """What a worker of the version before asks of the database, for one batch after the other."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.interruptions: list[BaseException] = []

    async def work(self, *, until_batches: int | None = None) -> None:
        """Commit batches, for ever or so many; tries again what the version before tries again."""
        batches = 0
        async with await open_pool(self._settings) as pool:
            while batches != until_batches:
                for lane in LANES:
                    try:
                        await self._batch(pool, lane)
                    except Exception as error:
                        # Since then: a plan that a migration made invalid. That was a failure.
                        if not is_transient(error) or isinstance(
                            error, asyncpg.InvalidCachedStatementError
                        ):
                            raise
                        self.interruptions.append(error)
                batches += 1
                await asyncio.sleep(0.01)

    async def _batch(self, pool: asyncpg.Pool, lane: int) -> None:
        offset = await pool.fetchval(
            "SELECT next_offset FROM lane_in WHERE source = 'commands' AND partition = $1", lane
        )
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "UPDATE lane_in SET next_offset = $2 + 3 WHERE source = 'commands'"
                " AND partition = $1 AND next_offset = $2",
                lane,
                offset,
            )
            seq = await connection.fetchval(
                "SELECT last_seq FROM lane_out WHERE partition = ANY($1) FOR UPDATE", [lane]
            )
            keys = [f"card-{lane}-{number}" for number in range(seq - 5, seq)]
            await connection.fetch(
                "SELECT issuer_id, card_id, state, consumer_id, version"
                " FROM unnest($1::text[], $2::text[]) AS wanted(issuer_id, card_id)"
                " JOIN card USING (issuer_id, card_id)",
                ["BANK"] * len(keys),
                keys,
            )
            card_id = f"card-{lane}-{seq}"
            await connection.execute(
                "UPDATE card SET version = card.version + 1, state_reason = u.reason"
                " FROM unnest($1::text[], $2::text[], $3::text[]) AS u(issuer_id, card_id, reason)"
                " WHERE card.issuer_id = u.issuer_id AND card.card_id = u.card_id",
                ["BANK"],
                [f"card-{lane}-{seq - 1}"],
                ["again"],
            )
            await connection.copy_records_to_table(
                "card",
                columns=_CARD_COLUMNS,
                records=[("BANK", card_id, f"consumer-{lane}", *_CARD_REST, card_id, 1)],
            )
            await connection.copy_records_to_table(
                "operation",
                columns=_OPERATION_COLUMNS,
                records=[_operation(lane, seq + 1, card_id)],
            )
            await connection.execute(
                "UPDATE lane_out SET last_seq = $2 WHERE partition = $1", lane, seq + 1
            )
            await connection.copy_records_to_table(
                "dead_letter",
                columns=[
                    *("source", "partition", "command_offset", "code", "error", "key", "value"),
                    "headers",
                ],
                records=[("commands", lane, offset + 1, "NOT_JSON", "", b"", b"", b"[]")],
            )
            await connection.copy_records_to_table(
                "intake_batch",
                columns=[
                    *("source", "partition", "from_offset", "to_offset", "records"),
                    *("operations", "duplicates", "ignored", "dead_letters", "foreign_partition"),
                ],
                records=[("commands", lane, offset, offset + 3, 3, 1, 1, 0, 1, 0)],
            )
        await pool.fetchval(
            "SELECT max(command_offset) FROM dead_letter WHERE partition = $1", lane
        )
        await pool.fetchval("SELECT ensure_operation_partitions($1)", 8)


_CARD_COLUMNS = [
    *("issuer_id", "card_id", "consumer_id", "incarnation", "state", "suspensions", "locks"),
    *("ongoing_operation", "card_product_id", "origin", "terms", "name"),
    *("digital_cards_relinked", "version", "command_count", "recent_commands"),
    *("real_card_id", "real_card_incarnation"),
]
_CARD_REST = (1, "ACTIVE", "", "", "NONE", "product", "ISSUED", "{}", "", False, 1, 1, b"")
_OPERATION_COLUMNS = [
    *("lane", "seq", "id", "aggregatetype", "aggregateid", "type", "event_time_ms", "payload"),
    *("issuer_id", "operation_id", "caused", "content_hash", "status", "start_time"),
    *("expires_at", "changes_card"),
]


def _operation(lane: int, seq: int, card_id: str) -> tuple[Any, ...]:
    now = datetime.now(UTC)
    return (
        *(lane, seq, uuid4(), "card", f"BANK/{card_id}", "CREATE", 0, b"{}", "BANK", uuid4()),
        *(False, b"", "SUCCESSFUL", now, now + timedelta(days=92), True),
    )


async def _nothing_is_lost(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        """
        SELECT lane_out.partition, last_seq, next_offset,
            (SELECT array_agg(seq ORDER BY seq) FROM operation WHERE lane = lane_out.partition),
            (SELECT count(*) FROM card WHERE card_id LIKE 'card-' || lane_out.partition || '-%'),
            (SELECT count(*) FROM dead_letter AS d WHERE d.partition = lane_out.partition),
            (SELECT sum(records) FROM intake_batch AS b WHERE b.partition = lane_out.partition),
            (SELECT min(version) FROM card
                WHERE card_id LIKE 'card-' || lane_out.partition || '-%'
                AND card_id <> 'card-' || lane_out.partition || '-' || last_seq - 1)
        FROM lane_out JOIN lane_in USING (partition)
        """
    )
    assert len(rows) == len(LANES)
    for _, last_seq, next_offset, seqs, cards, letters, records, version in rows:
        assert next_offset == records == 3 * last_seq
        assert seqs == list(range(1, last_seq + 1))
        assert cards == letters == last_seq
        assert version == 2


@asynccontextmanager
async def _connection(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(required(settings, "database_url"))
    try:
        yield connection
    finally:
        await connection.close()


async def _is_as_a_new_one(settings: Settings, servers: Servers, template: str) -> None:
    async with (
        _connection(settings) as connection,
        own_database(servers, template) as name,
    ):
        new = await asyncpg.connect(with_database(servers.database_url, name))
        try:
            assert await connection.fetch(_SCHEMA) == await new.fetch(_SCHEMA)
        finally:
            await new.close()
        assert await connection.fetch(_TEXTS_BY_LOCALE) == []
        assert (
            await connection.fetch("SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid")
            == []
        )
        assert await connection.fetch(r"SELECT 1 FROM pg_class WHERE relname LIKE '%\_bytes'") == []


async def test_a_worker_of_the_version_before_goes_on_while_the_schema_is_migrated(
    old: Settings, servers: Servers, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No statement of it waits for longer than a lock may be waited for, and nothing is lost."""
    monkeypatch.setattr(moments, "SMALL_BYTES_MAX", 0)
    worker = _OldWorker(old)
    working = asyncio.create_task(worker.work())
    async with _connection(old) as connection:

        async def taken() -> int:
            return int(await connection.fetchval("SELECT min(next_offset) FROM lane_in"))

        before = await taken()

        async def has_begun() -> bool:
            return await taken() > before + 30 or working.done()

        await until(has_begun, "the worker to begin")
        assert await asyncio.to_thread(migrate, old) == (BASE, SCHEMA_REVISION)
        after = await taken()

        async def goes_on() -> bool:
            return await taken() > after + 30 or working.done()

        await until(goes_on, "the worker to go on afterwards")
        assert not working.done(), working.exception()
        working.cancel()
        await asyncio.wait({working})
        assert not any(
            isinstance(error, asyncpg.LockNotAvailableError | TimeoutError)
            for error in worker.interruptions
        ), worker.interruptions
        await _nothing_is_lost(connection)
    await _is_as_a_new_one(old, servers, template)


async def test_no_table_and_no_index_is_written_anew_under_a_lock(
    old: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moments, "SMALL_BYTES_MAX", 0)
    files: list[dict[str, int]] = []
    step = moments.in_a_moment

    def looked_at(driver: psycopg.Connection[Any], script: Callable[[], str]) -> None:
        for _ in range(2):
            files.append(dict(driver.execute(_FILES).fetchall()))
            if len(files) % 2:
                step(driver, script)

    monkeypatch.setattr(moments, "in_a_moment", looked_at)
    await asyncio.to_thread(migrate, old)
    before, after = next(  # around the change of collation, the first step that has twins
        (before, after)
        for before, after in zip(files[::2], files[1::2], strict=True)
        if any(name.endswith("_bytes") for name in before)
    )
    twins = {file for name, file in before.items() if name.endswith("_bytes")}
    assert len(twins) > 10
    assert twins <= set(after.values())
    tables = {name: file for name, file in before.items() if name in _LARGE}
    assert len(tables) == len(_LARGE)
    assert tables.items() <= after.items()


_LARGE = ("card", "consumer", "dead_letter", "intake_batch", "pan_fingerprint")
_FILES = "SELECT relname::text, relfilenode::bigint FROM pg_class WHERE relfilenode <> 0"

# Any that is not known to sort by bytes; the servers of the tests have no other.
_WITH_A_LOCALE = "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"
_KILLED = """
import os, signal, sys
from pydantic import SecretStr
from lifecycle.postgres import moments
from lifecycle.settings import Settings

left = int(sys.argv[1])
moments.SMALL_BYTES_MAX = 0

def counted(step):
    def run(*arguments):
        global left
        left -= 1
        if left == 0:
            signal.setitimer(signal.ITIMER_REAL, 0.003)  # kills, perhaps inside the step
        step(*arguments)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return run

moments.in_a_moment = counted(moments.in_a_moment)
moments.without_haste = counted(moments.without_haste)
from lifecycle.postgres.migrate import migrate
migrate(Settings(database_url=SecretStr(sys.argv[2]), environment="development"))
"""


async def test_a_migration_that_is_killed_again_and_again_comes_to_its_end(
    old: Settings, servers: Servers, template: str
) -> None:
    url = required(old, "database_url")
    deaths = 0
    while (
        await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", _KILLED, str(STEPS_PER_LIFE), url],
            check=False,
            timeout=300,
        )
    ).returncode:
        deaths += 1
        assert deaths < 100
    assert deaths > 2
    async with _connection(old) as connection:
        await _nothing_is_lost(connection)
    await _is_as_a_new_one(old, servers, template)


async def test_a_cascade_whose_cards_change_their_order_begins_anew_or_is_waited_for(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It pages by card id: a card that comes to lie before the last page would never be told."""
    monkeypatch.setattr(moments, "TRIES_MAX", 2)
    async with own_database(servers, "template0", options=_WITH_A_LOCALE) as name:
        url = with_database(servers.database_url, name)
        settings = Settings(database_url=SecretStr(url))
        await asyncio.to_thread(_upgrade_to_base, url)
        async with _connection(settings) as connection:
            await connection.execute(
                "INSERT INTO cascade (issuer_id, operation_id, partition, consumer_id,"
                " reason_code, after_card_id)"
                " VALUES ('BANK', gen_random_uuid(), 0, 'anna', 'CLOSED_ACCOUNT', 'b')"
            )
            async with await open_pool(settings):  # as a worker that holds a page in its memory
                with pytest.raises(TablesInUseError, match="a cascade is being sent"):
                    await asyncio.to_thread(migrate, settings)
            assert await connection.fetch(_TEXTS_BY_LOCALE)

            async def is_left_alone() -> bool:
                return not await connection.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND application_name = $1",
                    APPLICATION_NAME,
                )

            await until(is_left_alone, "the sessions to end")
            await asyncio.to_thread(migrate, settings)
            assert await connection.fetchval("SELECT after_card_id FROM cascade") == ""


async def test_every_text_is_compared_by_its_bytes(servers: Servers, template: str) -> None:
    async with own_database(servers, template) as name:
        connection = await asyncpg.connect(with_database(servers.database_url, name))
        try:
            assert await connection.fetch(_TEXTS_BY_LOCALE) == []
        finally:
            await connection.close()


@pytest_asyncio.fixture
async def current(servers: Servers, template: str) -> AsyncIterator[Settings]:
    async with own_database(servers, template) as name:
        yield Settings(database_url=SecretStr(with_database(servers.database_url, name)))


async def test_a_version_starts_on_a_newer_schema_that_supports_it(current: Settings) -> None:
    async with await open_pool(current) as pool:
        await pool.execute("UPDATE alembic_version SET version_num = '9999'")
        await check_schema(pool)
        await pool.execute("UPDATE schema_support SET oldest_revision = '9998'")
        with pytest.raises(SchemaError, match="start a newer one"):
            await check_schema(pool)
        await pool.execute("UPDATE alembic_version SET version_num = '0013'")
        with pytest.raises(SchemaError, match="run `lifecycle migrate`"):
            await check_schema(pool)


async def test_an_older_version_leaves_a_newer_schema_as_it_is(current: Settings) -> None:
    async with await open_pool(current) as pool:
        await pool.execute("UPDATE alembic_version SET version_num = '9999'")
        assert await asyncio.to_thread(migrate, current) == ("9999", "9999")


async def test_migrations_at_once_come_one_after_the_other(old: Settings) -> None:
    results = await asyncio.gather(*(asyncio.to_thread(migrate, old) for _ in range(3)))
    assert sorted(results) == [(BASE, SCHEMA_REVISION), *[(SCHEMA_REVISION, SCHEMA_REVISION)] * 2]
