"""A burst of numbers to open does not stall the other lanes: a poll is cut by its texts."""

from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lifecycle.kafka.commands import parse
from lifecycle.kafka.records import RawRecord
from lifecycle.worker.opening import Read, portion_of
from tests.unit.wire_records import SUSPEND, record

WITHOUT: Any = record(SUSPEND)
WITH: Any = record({**SUSPEND, "command": "ACTIVATE", "encryptedData": "a.b.c.d.e"})

PLACES = st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=60)


def _read(one: RawRecord) -> Read:
    return Read(one, parse(one, max_command_bytes=65_536))


def _poll(places: list[tuple[int, bool]]) -> list[RawRecord]:
    offsets: Counter[int] = Counter()
    poll = []
    for partition, holds_text in places:
        one = WITH if holds_text else WITHOUT
        poll.append(replace(one, partition=partition, offset=offsets[partition]))
        offsets[partition] += 1
    return poll


@given(PLACES, st.integers(1, 5))
def test_portion_after_portion_takes_every_record_once_and_in_its_order(
    places: list[tuple[int, bool]], texts_max: int
) -> None:
    waiting = _poll(places)
    taken: defaultdict[int, list[int]] = defaultdict(list)
    while waiting:
        portion, waits = portion_of(waiting, _read, texts_max)
        assert portion, "each portion takes the poll on"
        assert sum(one.value == WITH.value for one, *_ in portion) <= texts_max
        for one, *_ in portion:
            taken[one.partition].append(one.offset)
        waiting = [
            one for one in waiting if one.offset >= waits.get((one.topic, one.partition), 1_000)
        ]
    for partition, count in Counter(partition for partition, _ in places).items():
        assert taken[partition] == list(range(count))


@given(PLACES, st.integers(1, 5))
def test_partitions_without_texts_wait_for_none(
    places: list[tuple[int, bool]], texts_max: int
) -> None:
    _, waits = portion_of(_poll(places), _read, texts_max)
    with_texts = {partition for partition, holds_text in places if holds_text}
    assert {partition for _, partition in waits} <= with_texts


@given(PLACES, st.integers(1, 5))
def test_a_portion_that_takes_too_long_ends_and_the_rest_follows_in_its_order(
    places: list[tuple[int, bool]], texts_max: int
) -> None:
    """No CPU time at all: each portion takes one record, and none is lost."""
    waiting = _poll(places)
    taken: list[tuple[int, int]] = []
    while waiting:
        portion, waits = portion_of(waiting, _read, texts_max, cpu_seconds_max=-1.0)
        assert len(portion) == 1
        taken += [(one.partition, one.offset) for one, *_ in portion]
        waiting = [
            one for one in waiting if one.offset >= waits.get((one.topic, one.partition), 1_000)
        ]
    counts = Counter(partition for partition, _ in places)
    assert sorted(taken) == sorted((at, n) for at, count in counts.items() for n in range(count))
