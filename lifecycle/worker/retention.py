"""The end of the log's life: what runs by itself, in one worker, every few minutes.

Each step may run twice, or at once in two workers, and does what is left to do however long nobody
ran it. One that fails is counted and told; the others go on, and so do intake and publishing.
"""

import asyncio
import time
from collections import Counter as Count
from collections.abc import Awaitable, Callable, Sequence

import structlog
from prometheus_client import Counter, Gauge

from lifecycle.postgres.connection import Pool
from lifecycle.postgres.failures import FAILURES
from lifecycle.postgres.past_commands import forget_past_commands
from lifecycle.postgres.retention import IN_USE, Week, drop_week, load_weeks
from lifecycle.postgres.schema import ensure_partitions
from lifecycle.settings import Settings

log = structlog.get_logger(__name__)

FORGOTTEN_AT_ONCE_MAX = 5_000
"""Ids of commands that one statement forgets."""
FORGET_ROUNDS_MAX = 200
"""Statements of one run; what is left is forgotten in the next one."""
FORGET_PAUSE_SECONDS = 0.05
"""Between two of them, for everybody else."""

_BY_ONE = "by the worker that sends what is due"
WEEKS_KEPT = Gauge(
    "lifecycle_partitions_kept",
    f"Weekly partitions, by why they stay, {_BY_ONE}.",
    ["table", "reason"],
)
OLDEST_WEEK = Gauge(
    "lifecycle_oldest_partition_end_timestamp_seconds",
    f"Where the oldest weekly partition ends, and why it stays, {_BY_ONE}.",
    ["table", "reason"],
)
WEEKS_DROPPED = Counter(
    "lifecycle_partitions_dropped", "Weekly partitions that were dropped.", ["table"]
)
LAST_RUN = Gauge(
    "lifecycle_retention_last_run_timestamp_seconds",
    f"When every step of retention last ran to its end, {_BY_ONE}.",
)
RETENTION_FAILURES = Counter(
    "lifecycle_retention_failures", "Steps of retention that failed.", ["step"]
)


async def retain(pool: Pool, settings: Settings) -> None:
    """Run every step once. What fails is counted and comes again: nobody's work depends on it.

    A database that is away for too long ends the worker elsewhere, where it is asked every second.
    """
    failed = False
    for step in STEPS:
        try:
            await step(pool, settings)
        except FAILURES as error:
            RETENTION_FAILURES.labels(step.__name__).inc()
            failed = True
            log.error("retention_failed", step=step.__name__, error=repr(error))  # noqa: TRY400 - one line says it
    if not failed:
        LAST_RUN.set_to_current_time()


async def make_weeks_ahead(pool: Pool, _: Settings) -> None:
    """Create the partitions of the weeks to come."""
    if created := await ensure_partitions(pool):
        log.info("partitions_created", partitions=created)


async def drop_expired_weeks(pool: Pool, settings: Settings) -> None:
    """Drop what may go, and tell what stays."""
    left = await drop_expired(pool, settings)
    WEEKS_KEPT.clear()
    OLDEST_WEEK.clear()
    for (table, reason), weeks in Count((week.table, _why(week)) for week in left).items():
        WEEKS_KEPT.labels(table, reason).set(weeks)
    oldest = {week.table: week for week in reversed(left)}
    for table, week in oldest.items():
        OLDEST_WEEK.labels(table, _why(week)).set(week.ends_at.timestamp())


async def forget_dropped_commands(pool: Pool, _: Settings) -> None:
    """Forget the ids of commands whose operations went with their week."""
    for _round in range(FORGET_ROUNDS_MAX):
        if await forget_past_commands(pool, FORGOTTEN_AT_ONCE_MAX) < FORGOTTEN_AT_ONCE_MAX:
            return
        await asyncio.sleep(FORGET_PAUSE_SECONDS)


async def look(pool: Pool, settings: Settings) -> list[Week]:
    """Every week, the oldest first; those without a reason may go."""
    return await load_weeks(pool, settings, _now_ms())


async def drop_expired(pool: Pool, settings: Settings) -> list[Week]:
    """Drop every week that may go; those that stay, the oldest first.

    A table that is in use is left for the next time: each try makes its intake wait for a moment.
    """
    left: list[Week] = []
    in_use: set[str] = set()
    for week in await look(pool, settings):
        why = week.reason
        if why is None:
            why = (
                IN_USE
                if week.table in in_use
                else await drop_week(pool, settings, _now_ms(), week.partition)
            )
        if why is None:
            WEEKS_DROPPED.labels(week.table).inc()
            log.info("partition_dropped", partition=week.partition)
            continue
        if why == IN_USE:
            in_use.add(week.table)
            log.info("partition_in_use", partition=week.partition)
        left.append(week._replace(reason=why, detail=week.detail or _IN_USE_DETAIL))
    return left


_IN_USE_DETAIL = "a transaction held the table when it was to be dropped: next time"

STEPS: Sequence[Callable[[Pool, Settings], Awaitable[None]]] = (
    make_weeks_ahead,
    drop_expired_weeks,
    forget_dropped_commands,
)


def _why(week: Week) -> str:
    return week.reason or ""


def _now_ms() -> int:
    return int(time.time() * 1000)
