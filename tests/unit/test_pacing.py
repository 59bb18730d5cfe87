"""How the service paces what it sends itself: a rate, and one round at a time."""

from types import SimpleNamespace

import pytest

from lifecycle.kafka.at_least_once import Appended
from lifecycle.worker import pacing
from lifecycle.worker.pacing import ROUND_COMMANDS_MAX, ROUND_SECONDS_MAX, Pace


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still, and moves on when somebody sleeps."""
    now = [1_000.0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(pacing, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(pacing, "asyncio", SimpleNamespace(sleep=sleep))
    return now


def test_a_round_is_awaited_until_each_partition_is_taken_beyond_its_last_command() -> None:
    pace = Pace(1_000)
    assert pace.awaited == set()
    pace.note([Appended(0, 7, 0), Appended(0, 9, 0), Appended(0, 8, 0), Appended(2, 4, 0)])
    assert pace.awaited == {0, 2}
    pace.taken({0: 9, 2: 5})
    assert pace.awaited == {0}
    pace.taken({0: 10})
    assert pace.awaited == set()


def test_a_partition_that_was_never_taken_is_awaited() -> None:
    pace = Pace(1_000)
    pace.note([Appended(1, 0, 0)])
    pace.taken({})
    assert pace.awaited == {1}


def test_a_lane_that_stands_still_does_not_hold_up_the_others_for_ever(clock: list[float]) -> None:
    pace = Pace(1_000)
    pace.note([Appended(1, 0, 0)])
    clock[0] += ROUND_SECONDS_MAX
    assert pace.awaited == {1}
    clock[0] += 1.0
    assert pace.awaited == set()


async def test_no_more_than_so_many_are_sent_a_second(clock: list[float]) -> None:
    pace = Pace(100)
    assert pace.round_max == 100
    begun = clock[0]
    for _ in range(10):
        await pace.wait(50)
    assert clock[0] - begun == pytest.approx(4.5)


def test_a_round_is_bounded_whatever_the_rate() -> None:
    assert Pace(100_000).round_max == ROUND_COMMANDS_MAX
