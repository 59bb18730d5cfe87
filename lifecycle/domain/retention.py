"""How long an operation is shown: three calendar months from its start (domain.md 5, G8)."""

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

RETENTION_MONTHS = 3

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS_REMEMBERED_MAX = 1_024


def start_and_expiry(start_time_ms: int) -> tuple[datetime, datetime]:
    """When an operation started, and the moment from which it is gone from every view.

    `start_time_ms`: milliseconds since the epoch, UTC.
    """
    start = _EPOCH + timedelta(milliseconds=start_time_ms)
    return start, datetime.combine(_months_later(start.date()), start.timetz())


@lru_cache(maxsize=_DAYS_REMEMBERED_MAX)
def _months_later(day: date) -> date:
    """The same day of a later month, or the last day that this month has."""
    months = day.year * 12 + day.month - 1 + RETENTION_MONTHS
    year, month = divmod(months, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))
