"""G8: storage is reclaimed by weeks, when all in one is over, published, read and not PENDING."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio
from pydantic import SecretStr

from lifecycle.local import Servers
from lifecycle.postgres.connection import Pool, open_pool
from lifecycle.postgres.operations import event_id_at
from lifecycle.postgres.retention import IN_USE, drop_week
from lifecycle.postgres.roles import Role
from lifecycle.settings import Settings, required
from lifecycle.worker import retention
from tests.support.ground import connected, login_of, own_database, with_database
from tests.support.waiting import until
from tests.support.worker import running_worker

NOW = datetime.now(UTC)
WEEK = timedelta(days=7)
LANE = 1


@pytest_asyncio.fixture
async def settings(servers: Servers, template: str) -> AsyncIterator[Settings]:
    """A database of the test's own, with the worker's login, and the test's."""
    async with own_database(servers, template) as name:
        superuser = with_database(servers.database_url, name)
        yield Settings(
            database_url=SecretStr(login_of(superuser, template, Role.WORKER)),
            database_owner_url=SecretStr(superuser),
            environment="development",
        )


@pytest_asyncio.fixture
async def worker(settings: Settings) -> AsyncIterator[Pool]:
    """As the worker, which may call the functions and nothing more."""
    async with await open_pool(settings) as opened:
        yield opened


@pytest_asyncio.fixture
async def pool(settings: Settings) -> AsyncIterator[Pool]:
    """The test's own, which may do everything."""
    everything = settings.model_copy(update={"database_url": settings.database_owner_url})
    async with await open_pool(everything) as opened:
        await opened.execute("INSERT INTO lane_out VALUES (0, 0), (1, 0)")
        await opened.execute("INSERT INTO lane_pub (partition) VALUES (0), (1)")
        yield opened


def _monday(days_ago: int) -> datetime:
    day = NOW - timedelta(days=days_ago)
    return datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(days=day.weekday())


async def _add_week(pool: Pool, table: str, monday: datetime) -> str:
    """A week that lies behind, as if the service had run then."""
    name = f"{table}_{monday:%Y%m%d}"
    await pool.execute(
        f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL);"
        f"ALTER TABLE {table} ATTACH PARTITION {name}"
        f" FOR VALUES FROM ('{monday.isoformat()}') TO ('{(monday + WEEK).isoformat()}')"
    )
    owner = await pool.fetchval(
        "SELECT relowner::regrole::text FROM pg_class WHERE oid = $1::text::regclass", table
    )
    await pool.execute(f"ALTER TABLE {name} OWNER TO {owner}")
    return name


async def _record(  # noqa: PLR0913 - what the row is about
    pool: Pool,
    recorded_at: datetime,
    seq: int,
    *,
    expires_at: datetime | None = None,
    status: str = "SUCCESSFUL",
    operation_id: UUID | None = None,
) -> UUID:
    event_id = uuid4()
    await pool.execute(
        """
        INSERT INTO operation (recorded_at, lane, seq, id, aggregatetype, aggregateid, type,
            event_time_ms, payload, issuer_id, operation_id, caused, content_hash, status,
            start_time, expires_at)
        VALUES ($1, $2, $3, $4, 'card', 'BANK/card-1', 'SUSPEND', 0, '', 'BANK', $5, false, '',
            $6, $1, $7)
        """,
        recorded_at,
        LANE,
        seq,
        event_id,
        operation_id or uuid4(),
        status,
        expires_at or recorded_at + timedelta(days=92),
    )
    return event_id


async def _publish(pool: Pool, seq: int) -> None:
    await pool.execute("UPDATE lane_pub SET published_seq = $1 WHERE partition = $2", seq, LANE)


async def _is_there(pool: Pool, partition: str) -> bool:
    return bool(await pool.fetchval("SELECT to_regclass($1) IS NOT NULL", partition))


async def _why(worker: Pool, settings: Settings, partition: str) -> str | None:
    """Why a week stays, after a run; None when it is gone."""
    left = await retention.drop_expired(worker, settings)
    found = {week.partition: week.reason for week in left}
    assert (partition in found) == await _is_there(worker, partition)
    return found.get(partition)


async def _old_week(pool: Pool, *, days_ago: int = 120) -> tuple[str, datetime]:
    monday = _monday(days_ago)
    return await _add_week(pool, "operation", monday), monday + timedelta(days=3)


async def test_a_week_whose_operations_are_over_goes_and_the_next_one_stays(
    pool: Pool, worker: Pool, settings: Settings
) -> None:
    over, during = await _old_week(pool)
    younger, later = await _old_week(pool, days_ago=60)
    await _record(pool, during, 1)
    await _record(pool, later, 2)
    await _publish(pool, 2)
    assert await _why(worker, settings, over) is None
    assert await _why(worker, settings, younger) == "NOT_EXPIRED"
    assert await pool.fetchval("SELECT array_agg(seq) FROM operation") == [2]


async def test_one_operation_that_is_not_over_keeps_its_week(
    pool: Pool, worker: Pool, settings: Settings
) -> None:
    """`expires_at` lies in the row: the week of its recording says nothing of it."""
    week, during = await _old_week(pool)
    await _record(pool, during, 1)
    await _record(pool, during, 2, expires_at=NOW + timedelta(hours=1))
    await _publish(pool, 2)
    assert await _why(worker, settings, week) == "NOT_EXPIRED"
    moved = settings.model_copy(update={"clock_offset_seconds": 2 * 3600})
    assert await _why(worker, moved, week) is None


async def test_a_week_stays_until_every_event_in_it_is_published(
    pool: Pool, worker: Pool, settings: Settings
) -> None:
    week, during = await _old_week(pool)
    await _record(pool, during, 7)
    await _publish(pool, 6)
    assert await _why(worker, settings, week) == "UNPUBLISHED"
    await pool.execute("DELETE FROM lane_pub WHERE partition = $1", LANE)
    assert await _why(worker, settings, week) == "UNPUBLISHED"
    await pool.execute("INSERT INTO lane_pub (partition, published_seq) VALUES ($1, 7)", LANE)
    assert await _why(worker, settings, week) is None


async def test_a_week_stays_until_every_reader_has_read_it(
    pool: Pool, worker: Pool, settings: Settings
) -> None:
    week, during = await _old_week(pool)
    await _record(pool, during, 7)
    await _publish(pool, 7)
    await pool.execute(
        "INSERT INTO log_reader (reader, lane, read_seq) VALUES ('slow', $1, 6), ('fast', $1, 9)",
        LANE,
    )
    assert await _why(worker, settings, week) == "READER"
    await pool.execute("UPDATE log_reader SET read_seq = 7 WHERE reader = 'slow'")
    assert await _why(worker, settings, week) is None


async def test_a_pending_operation_keeps_its_week_until_it_ended(
    pool: Pool, worker: Pool, settings: Settings
) -> None:
    week, during = await _old_week(pool)
    pending, ended = uuid4(), uuid4()
    await _record(pool, during, 1, status="PENDING", operation_id=pending)
    await _record(pool, during, 2, status="PENDING", operation_id=ended)
    await _publish(pool, 2)
    await pool.execute(
        """
        INSERT INTO pending_operation (issuer_id, operation_id, card_id, kind, command,
            content_hash, incarnation, start_time_ms, deadline_ms, command_partition,
            command_offset)
        VALUES ('BANK', $1, 'card-1', 'RENEW', '{}', '', 1, 0, 0, 0, 0)
        """,
        pending,
    )
    assert await _why(worker, settings, week) == "PENDING"
    await pool.execute("DELETE FROM pending_operation")
    assert await _why(worker, settings, week) is None


async def test_the_current_week_stays_even_when_all_in_it_is_over(
    pool: Pool, worker: Pool, settings: Settings
) -> None:
    await _record(pool, NOW, 1, expires_at=NOW - timedelta(days=1))
    await _publish(pool, 1)
    weeks = await retention.drop_expired(worker, settings)
    assert {week.reason for week in weeks} == {"CURRENT"}
    assert await pool.fetchval("SELECT count(*) FROM operation") == 1


@pytest.mark.parametrize(
    ("source", "column"),
    [("commands", "dead_letter_offset"), ("replies", "reply_dead_letter_offset")],
)
async def test_dead_letters_stay_for_their_days_and_until_they_are_published(
    pool: Pool, worker: Pool, settings: Settings, source: str, column: str
) -> None:
    monday = _monday(115)
    week = await _add_week(pool, "dead_letter", monday)
    await pool.execute(
        """
        INSERT INTO dead_letter (source, partition, command_offset, recorded_at, code, error,
            headers) VALUES ($1, $2, 41, $3, 'NOT_JSON', '', '')
        """,
        source,
        LANE,
        monday,
    )
    longer = settings.model_copy(update={"dead_letters_retention_days": 200})
    assert await _why(worker, longer, week) == "YOUNG"
    assert await _why(worker, settings, week) == "UNPUBLISHED"
    await pool.execute(f"UPDATE lane_pub SET {column} = 41 WHERE partition = $1", LANE)  # noqa: S608 - constants of this file
    assert await _why(worker, settings, week) is None


async def test_the_counts_of_intake_stay_as_long_as_the_commands_on_their_topic(
    pool: Pool, worker: Pool, settings: Settings
) -> None:
    """G1 is checked against the offsets of the topic."""
    gone = await _add_week(pool, "intake_batch", _monday(115))
    kept = await _add_week(pool, "intake_batch", _monday(99))
    assert await _why(worker, settings, gone) is None
    assert await _why(worker, settings, kept) == "YOUNG"


async def test_fewer_days_than_the_owner_set_are_not_taken_from_a_worker(
    pool: Pool, worker: Pool, settings: Settings
) -> None:
    week = await _add_week(pool, "intake_batch", _monday(50))
    hasty = settings.model_copy(update={"commands_retention_days": 1})
    assert await _why(worker, hasty, week) == "YOUNG"
    await pool.execute("UPDATE retention_limit SET intake_batch_days = 1")
    assert await _why(worker, hasty, week) is None


async def test_nothing_is_dropped_by_a_clock_that_is_wrong(
    pool: Pool, worker: Pool, settings: Settings
) -> None:
    week, during = await _old_week(pool)
    await _record(pool, during, 1)
    await _publish(pool, 1)
    in_a_year = int((NOW + timedelta(days=365)).timestamp() * 1000)
    with pytest.raises(asyncpg.PostgresError, match="clocks differ"):
        await drop_week(worker, settings, in_a_year, week)
    await pool.execute("UPDATE retention_limit SET clock_may_be_moved = false")
    moved = settings.model_copy(update={"clock_offset_seconds": 3600})
    with pytest.raises(asyncpg.PostgresError, match="not for development"):
        await retention.drop_expired(worker, moved)
    assert await _is_there(pool, week)


async def test_two_runs_at_once_are_harmless(pool: Pool, worker: Pool, settings: Settings) -> None:
    weeks = []
    for days_ago in (120, 127, 134):
        week, during = await _old_week(pool, days_ago=days_ago)
        await _record(pool, during, days_ago)
        weeks.append(week)
    await _publish(pool, 1_000)
    async with await open_pool(settings) as other:
        for _ in range(5):  # one may find the table held by the other, and leaves it
            await asyncio.gather(
                retention.retain(worker, settings), retention.retain(other, settings)
            )
    assert not any([await _is_there(pool, week) for week in weeks])


@asynccontextmanager
async def _a_long_reader(settings: Settings, table: str) -> AsyncIterator[None]:
    """A session that has read the table and has not ended its transaction: a dump, or a person."""
    connection = await asyncpg.connect(required(settings, "database_owner_url"))
    try:
        await connection.execute(f"BEGIN; SELECT count(*) FROM {table}")  # noqa: S608 - constants of this file
        yield
    finally:
        await connection.close()


async def test_whoever_reads_the_log_for_long_delays_retention_and_not_intake(
    pool: Pool, worker: Pool, settings: Settings
) -> None:
    week, during = await _old_week(pool)
    await _record(pool, during, 1)
    await _publish(pool, 1)
    async with _a_long_reader(settings, "operation"):
        for _ in range(3):
            assert await _why(worker, settings, week) == IN_USE
        # Nobody waits in front of the writer any more.
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '1ms'")
            await connection.execute("LOCK TABLE operation IN ROW EXCLUSIVE MODE")
    assert await _why(worker, settings, week) is None


async def test_a_dropped_lanes_last_event_is_known_to_whoever_takes_it_over(
    pool: Pool, worker: Pool, settings: Settings
) -> None:
    """design.md 7.6: the id of the topic's last event is compared, also on a quiet lane."""
    older, during = await _old_week(pool, days_ago=130)
    newer, later = await _old_week(pool, days_ago=120)
    await _record(pool, during, 1)
    last = await _record(pool, later, 2)
    await _publish(pool, 2)
    assert await _why(worker, settings, newer) is None
    assert not await _is_there(pool, older)
    assert await event_id_at(worker, LANE, 2) == last
    assert await event_id_at(worker, LANE, 1) is None


async def test_asking_whether_a_week_is_over_does_not_read_it(
    pool: Pool, settings: Settings
) -> None:
    week, during = await _old_week(pool)
    for seq in range(1, 4):
        await _record(pool, during, seq)
    scans = []
    async with connected(settings) as connection, connection.transaction():
        for _ in range(2):  # the first time a part is summarised, and read for that
            why = await connection.fetchval(
                "SELECT reason"
                " FROM weeks_kept($1, (extract(epoch FROM now()) * 1000)::bigint, 0, 1, 1)",
                week,
            )
            assert why == "UNPUBLISHED"
            scans.append(
                await connection.fetchval(
                    "SELECT pg_stat_get_xact_numscans($1::text::regclass)", week
                )
            )
    assert scans[0] == scans[1]


async def test_after_weeks_of_being_down_the_present_week_is_made_and_the_old_ones_go(
    pool: Pool, worker: Pool, settings: Settings
) -> None:
    weeks = [await _old_week(pool, days_ago=days_ago) for days_ago in (120, 190, 260)]
    for seq, (_, during) in enumerate(weeks):
        await _record(pool, during, seq)
    await _publish(pool, 1_000)
    for row in await pool.fetch(
        "SELECT partition_name FROM weekly_partitions() WHERE ends_at > now() - interval '1 month'"
    ):
        await pool.execute(f'DROP TABLE "{row[0]}"')
    with pytest.raises(asyncpg.CheckViolationError):
        await _record(pool, NOW, 1_000)
    await retention.retain(worker, settings)
    await _record(pool, NOW, 1_000)
    assert await pool.fetchval("SELECT array_agg(seq) FROM operation") == [1_000]


async def test_a_detached_week_is_named_and_not_made_again(
    pool: Pool, worker: Pool, settings: Settings
) -> None:
    name = await pool.fetchval(
        "SELECT partition_name FROM weekly_partitions() WHERE table_name = 'operation'"
        " AND starts_at <= now() AND ends_at > now()"
    )
    await pool.execute(f'ALTER TABLE operation DETACH PARTITION "{name}"')
    failures = retention.RETENTION_FAILURES.labels("make_weeks_ahead")
    before = failures._value.get()  # noqa: SLF001 - the library has no other way to read it
    await retention.retain(worker, settings)
    assert failures._value.get() == before + 1  # noqa: SLF001 - see above


async def test_a_worker_drops_what_is_over_by_itself(ground: Settings) -> None:
    settings = ground.model_copy(update={"retention_interval_seconds": 1})
    everything = settings.model_copy(update={"database_url": settings.database_owner_url})
    async with await open_pool(everything) as pool:
        week, _ = await _old_week(pool)

        async def is_gone() -> bool:
            return not await _is_there(pool, week)

        async with running_worker(settings):
            await until(is_gone, "the week to be dropped")


async def test_what_must_stay_is_not_dropped_for_the_asking(
    pool: Pool, worker: Pool, settings: Settings
) -> None:
    """The worker's login may call the function, whatever the program does; and nothing else."""
    week, during = await _old_week(pool)
    await _record(pool, during, 1)
    now_ms = int(NOW.timestamp() * 1000)
    assert await drop_week(worker, settings, now_ms, week) == "UNPUBLISHED"
    for statement in (f"DROP TABLE {week}", "UPDATE retention_limit SET dead_letter_days = 1"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await worker.execute(statement)
    assert await drop_week(worker, settings, now_ms, "card") is None
    assert await _is_there(pool, "card")
