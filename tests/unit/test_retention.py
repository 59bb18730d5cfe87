"""G8: an operation is gone the moment that startTime + 3 calendar months has come."""

from datetime import UTC, datetime

import pytest

from lifecycle.domain.retention import start_and_expiry


@pytest.mark.parametrize(
    ("start", "gone"),
    [
        ("2026-08-22T10:00:00.123", "2026-11-22T10:00:00.123"),
        ("2026-11-30T23:59:59.999", "2027-02-28T23:59:59.999"),
        ("2027-11-29T00:00:00.000", "2028-02-29T00:00:00.000"),
        ("2026-12-31T12:00:00.000", "2027-03-31T12:00:00.000"),
        ("2026-10-01T00:00:00.000", "2027-01-01T00:00:00.000"),
    ],
)
def test_an_operation_is_gone_three_calendar_months_after_its_start(start: str, gone: str) -> None:
    started = datetime.fromisoformat(start).replace(tzinfo=UTC)
    start_time_ms = round(started.timestamp() * 1000)
    assert start_and_expiry(start_time_ms) == (
        started,
        datetime.fromisoformat(gone).replace(tzinfo=UTC),
    )
