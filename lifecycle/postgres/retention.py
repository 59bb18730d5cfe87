"""Which weekly partitions there are, why each stays, and how one is dropped (G8).

What may go is decided by functions of the database, in `migrations/`: whoever calls them can't drop
what must stay.
"""

from datetime import datetime
from typing import NamedTuple

import asyncpg

from lifecycle.postgres.connection import Pool
from lifecycle.settings import Settings

IN_USE = "IN_USE"
"""Why a week stays that could have gone: somebody held the table when it was to be dropped."""

HELD_BACK = frozenset({"UNPUBLISHED", "READER", "PENDING", IN_USE})
"""Why a week stays whose time is over."""


class Week(NamedTuple):
    """A weekly partition; the first one of a table may have no beginning.

    `reason` is a word, `detail` a sentence: why it stays. None and None: it may go.
    """

    table: str
    partition: str
    starts_at: datetime | None
    ends_at: datetime
    reason: str | None
    detail: str | None


async def load_weeks(pool: Pool, settings: Settings, now_ms: int) -> list[Week]:
    """Every weekly partition, the oldest first.

    `now_ms` is the caller's clock, without the offset of the settings.

    Raises:
        asyncpg.PostgresError: among others when the clocks differ by more than an hour.
    """
    rows = await pool.fetch(
        """
        SELECT table_name, partition_name, nullif(starts_at, '-infinity'), ends_at, reason, detail
        FROM weeks_kept(NULL, $1, $2, $3, $4)
        """,
        *_terms(settings, now_ms),
    )
    return [Week(*row) for row in rows]


async def drop_week(pool: Pool, settings: Settings, now_ms: int, partition: str) -> str | None:
    """Drop a weekly partition if it may go; why it stays, None when it is gone.

    Waits for the locks for a moment only, because everybody else waits behind it.
    """
    try:
        why: str | None = await pool.fetchval(
            "SELECT nullif(drop_week($5, $1, $2, $3, $4), 'GONE')",
            *_terms(settings, now_ms),
            partition,
        )
    except asyncpg.LockNotAvailableError:
        return IN_USE
    return why


def _terms(settings: Settings, now_ms: int) -> tuple[int, int, int, int]:
    return (
        now_ms,
        settings.clock_offset_seconds,
        settings.commands_retention_days,
        settings.dead_letters_retention_days,
    )
