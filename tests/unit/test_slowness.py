"""A record that is too slow is found among any others, and only it ends the worker."""

import random
from collections.abc import Mapping

import pytest

from lifecycle.domain.sources import Partition, Source
from lifecycle.kafka.records import RawRecord
from lifecycle.worker.slowness import Suspicions, TooSlowError
from tests.unit.wire_records import record

PARTITIONS = 4
RECORDS = 60
_TIME_OUTS_MAX = 2 + 1 + 6 + 1
"""Twice together, once for its partition alone, then halved from 60 records down to one."""

_POLLS_MAX = 2_000

Place = tuple[int, int]


class _Lanes:
    """Polls over partitions of which some places are slow: how a worker goes through them."""

    def __init__(self, seed: int, *, slow: set[Place], at_once_max: int | None = None) -> None:
        self._chance = random.Random(seed)  # noqa: S311 - a test
        self._slow = slow
        self._at_once_max = at_once_max
        self._suspicions = Suspicions()
        self.positions = {Partition(Source.COMMANDS, number): 0 for number in range(PARTITIONS)}
        self.time_outs = 0

    def poll(self) -> None:
        """One poll and its transaction."""
        polled = [
            (partition, record(b"{", place=(partition.number, offset)))
            for partition in self._chance.sample(sorted(self.positions), PARTITIONS)
            for offset in range(self.positions[partition], RECORDS)
        ]
        together, put_back = self._suspicions.portion(polled)
        batch = [(Partition(Source.COMMANDS, one.partition), one) for one in together]
        self._see_that_each_is_taken_or_put_back(together, put_back)
        if self._times_out(together):
            self.time_outs += 1
            self._suspicions.timed_out(batch, self.positions)
            return
        self.positions |= {partition: one.offset + 1 for partition, one in batch}
        self._suspicions.moved_to(self.positions)

    def _times_out(self, together: list[RawRecord]) -> bool:
        if self._at_once_max is not None and len(together) > self._at_once_max:
            return True
        return any((one.partition, one.offset) in self._slow for one in together)

    def _see_that_each_is_taken_or_put_back(
        self, together: list[RawRecord], put_back: Mapping[Partition, int]
    ) -> None:
        for partition, position in self.positions.items():
            own = [one.offset for one in together if one.partition == partition.number]
            assert own == list(range(position, position + len(own))), "a lane is taken in order"
            if position + len(own) < RECORDS:
                assert put_back[partition] == position + len(own)

    def poll_until_through(self) -> None:
        """Poll until every record is committed; more polls than that are an endless loop."""
        for _ in range(_POLLS_MAX):
            if self.are_through:
                return
            self.poll()
        raise AssertionError(f"not through after {_POLLS_MAX} polls: {self.positions}")

    @property
    def are_through(self) -> bool:
        return all(position == RECORDS for position in self.positions.values())


@pytest.mark.parametrize("seed", range(20))
def test_the_one_slow_record_is_found_and_named(seed: int) -> None:
    slow = (seed % PARTITIONS, random.Random(seed).randrange(RECORDS))  # noqa: S311 - a test
    lanes = _Lanes(seed, slow={slow})
    with pytest.raises(TooSlowError, match=rf"partition {slow[0]}, offset {slow[1]}:"):
        lanes.poll_until_through()
    assert lanes.positions[Partition(Source.COMMANDS, slow[0])] == slow[1]
    assert lanes.time_outs <= _TIME_OUTS_MAX


def test_the_other_partitions_go_on_while_it_is_looked_for() -> None:
    lanes = _Lanes(1, slow={(0, 0)})
    with pytest.raises(TooSlowError):
        lanes.poll_until_through()
    del lanes.positions[Partition(Source.COMMANDS, 0)]
    assert lanes.are_through


def test_records_that_are_slow_only_together_are_taken_in_smaller_portions() -> None:
    lanes = _Lanes(2, slow=set(), at_once_max=7)
    lanes.poll_until_through()


def test_one_time_out_changes_nothing() -> None:
    suspicions = Suspicions()
    polled = [(Partition(Source.COMMANDS, 0), record(b"{", place=(0, 5)))]
    suspicions.timed_out(polled, {Partition(Source.COMMANDS, 0): 5})
    assert suspicions.portion(polled) == ([polled[0][1]], {})


def test_a_single_record_ends_the_worker_only_when_it_is_the_same_one_again() -> None:
    suspicions = Suspicions()
    partition = Partition(Source.COMMANDS, 0)
    suspicions.timed_out([(partition, record(b"{", place=(0, 5)))], {partition: 5})
    suspicions.moved_to({partition: 6})
    suspicions.timed_out([(partition, record(b"{", place=(0, 6)))], {partition: 6})
    with pytest.raises(TooSlowError, match=r"partition 0, offset 6:"):
        suspicions.timed_out([(partition, record(b"{", place=(0, 6)))], {partition: 6})
