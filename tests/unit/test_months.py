"""Months begin and end in the issuer's time zone (domain.md 2)."""

import pytest

from lifecycle.domain.months import (
    MONTH_MAX,
    expiry_of_month,
    generated_month,
    is_over,
    month_end_ms,
    month_of_expiry,
    month_of_time,
)

# Whole hours, halves and quarters, both sides of the date line, and days that begin at 01:00.
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Pacific/Chatham",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
    "America/Asuncion",
]


@pytest.mark.parametrize("zone", ZONES)
def test_the_first_millisecond_after_a_month_is_in_the_next_one(zone: str) -> None:
    for month in range(month_of_expiry("0125"), month_of_expiry("1231")):
        exp = expiry_of_month(month)
        end_ms = month_end_ms(exp, zone)
        assert month_of_time(end_ms - 1, zone) == month
        assert month_of_time(end_ms, zone) == month + 1
        assert (is_over(exp, end_ms - 1, zone), is_over(exp, end_ms, zone)) == (False, True)


def test_no_expiry_lies_behind_the_last_month_of_the_century() -> None:
    assert expiry_of_month(MONTH_MAX) == "1299"
    assert generated_month(MONTH_MAX - 1, 36) == MONTH_MAX
    assert generated_month(MONTH_MAX - 2, 1) == MONTH_MAX - 1
