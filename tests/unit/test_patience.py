"""Patience ends for a partition that does not move, however well the others do."""

import pytest

from lifecycle.domain.sources import Partition, Source
from lifecycle.worker import retrying
from lifecycle.worker.retrying import PartitionPatience

STANDS, MOVES = Partition(Source.COMMANDS, 0), Partition(Source.COMMANDS, 1)


class _Clock:
    """Stands in for the monotonic clock."""

    seconds = 1_000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(retrying, "time", clock)
    return clock


def test_progress_on_one_partition_does_not_renew_it_for_another(clock: _Clock) -> None:
    patience = PartitionPatience(limit_ms=60_000)
    assert not patience.is_over({STANDS, MOVES})
    clock.seconds += 59
    patience.reset({MOVES})
    assert not patience.is_over({STANDS, MOVES})
    clock.seconds += 1
    assert not patience.is_over({MOVES})
    assert patience.is_over({STANDS, MOVES})


def test_a_partition_that_has_moved_is_waited_for_anew(clock: _Clock) -> None:
    patience = PartitionPatience(limit_ms=60_000)
    assert not patience.is_over({STANDS})
    clock.seconds += 60
    patience.reset({STANDS})
    assert not patience.is_over({STANDS})


def test_a_failure_counts_for_each_partition_of_its_batch(clock: _Clock) -> None:
    patience = PartitionPatience(limit_ms=60_000)
    assert not patience.is_over([STANDS])
    clock.seconds += 60
    assert patience.is_over([STANDS, MOVES])
    clock.seconds += 60
    assert patience.is_over([MOVES])


def test_what_others_have_taken_is_forgotten(clock: _Clock) -> None:
    patience = PartitionPatience(limit_ms=60_000)
    assert not patience.is_over({STANDS})
    clock.seconds += 60
    patience.keep_only({MOVES})
    assert not patience.is_over({STANDS})
