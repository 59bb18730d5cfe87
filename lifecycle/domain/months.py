"""Expiry months: when one is over, and which one a generated expiry falls on.

An expiry is `MMYY`, read as a month of 2000 to 2099, and usable through its last day in the
issuer's time zone (domain.md 2). A month is counted from January of year 0, so that months add
up and compare as numbers.
"""

from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

_CENTURY = 2000
_MONTHS_PER_YEAR = 12
_MS_PER_SECOND = 1000

# No expiry lies behind December 2099: the next one would read as a month of long ago.
MONTH_MAX = (_CENTURY + 99) * _MONTHS_PER_YEAR + 11

# Every offset of a time zone since 1972 is a whole number of quarter hours, so months begin at one
# everywhere, and all commands of the same quarter of an hour lie in the same month.
_QUARTER_HOUR_SECONDS = 15 * 60
_QUARTER_HOUR_CACHE_ENTRIES_MAX = 4_096

# An issuer's cards expire in some 250 different months; a few hundred issuers' zones fit.
_MONTH_END_CACHE_ENTRIES_MAX = 65_536


def month_of_expiry(exp: str) -> int:
    """The month that `exp` (`MMYY`) names."""
    return (_CENTURY + int(exp[2:])) * _MONTHS_PER_YEAR + int(exp[:2]) - 1


def expiry_of_month(month: int) -> str:
    """`MMYY` of a month."""
    year, month_of_year = divmod(month, _MONTHS_PER_YEAR)
    return f"{month_of_year + 1:02}{year % 100:02}"


def month_of_time(time_ms: int, time_zone: str) -> int:
    """The month of a moment (milliseconds since the epoch, UTC) in `time_zone` (an IANA name)."""
    quarter_hour = time_ms // (_QUARTER_HOUR_SECONDS * _MS_PER_SECOND)
    return _month_of_quarter_hour(quarter_hour, time_zone)


@lru_cache(maxsize=_QUARTER_HOUR_CACHE_ENTRIES_MAX)
def _month_of_quarter_hour(quarter_hour: int, time_zone: str) -> int:
    local = datetime.fromtimestamp(quarter_hour * _QUARTER_HOUR_SECONDS, ZoneInfo(time_zone))
    return local.year * _MONTHS_PER_YEAR + local.month - 1


@lru_cache(maxsize=_MONTH_END_CACHE_ENTRIES_MAX)
def month_end_ms(exp: str, time_zone: str, *, days_before: int = 0) -> int:
    """The first moment after the month `exp` in `time_zone`, in milliseconds since the epoch.

    With `days_before`, the midnight as many calendar days earlier.
    """
    year, month_of_year = divmod(month_of_expiry(exp) + 1, _MONTHS_PER_YEAR)
    day = date(year, month_of_year + 1, 1) - timedelta(days=days_before)
    midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(time_zone))
    return int(midnight.timestamp()) * _MS_PER_SECOND


def is_over(exp: str, time_ms: int, time_zone: str) -> bool:
    """Whether the expiry month has passed at a moment: the card is not usable any more."""
    return time_ms >= month_end_ms(exp, time_zone)


def generated_month(month: int, validity_months: int) -> int:
    """The month of a generated expiry: `validity_months` after `month` (domain.md 8)."""
    return min(month + validity_months, MONTH_MAX)
