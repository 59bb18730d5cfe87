"""The sample day: the same for everyone, sent and read back exactly, with everything in it."""

from collections import Counter
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.cli.day import Summary, disagreements, unexpected
from lifecycle.domain.commands import CommandName
from lifecycle.kafka.commands import Broken, Parsed, parse
from lifecycle.kafka.sending import CommandRecord
from lifecycle.postgres.views import Totals
from lifecycle.samples import (
    first_operation,
    last_operation,
    read_record_line,
    record_line,
    sample_day,
)
from lifecycle.samples.credentials import encrypted
from tests.unit.vault_keys import ring
from tests.unit.wire_records import record as raw_record

PARTITIONS = 12
# Only the service sends these. The day brings about EXPIRE and AUTO_RENEW; the other two would have
# to be waited for.
NOT_OF_THE_DAY = frozenset(
    {CommandName.EXPIRE, CommandName.AUTO_RENEW, CommandName.DELETE_DUE, CommandName.TIME_OUT}
)


def parsed(record: CommandRecord) -> Parsed | Broken:
    sent = encrypted(record, ring())
    return parse(raw_record(sent.value, key=sent.key, headers=sent.headers))


def test_the_day_is_the_same_on_every_call_but_for_the_ids_of_successors() -> None:
    assert sample_day(PARTITIONS) == sample_day(PARTITIONS)
    other = sample_day(5)
    assert [len(part.records) for part in other] == [
        len(part.records) for part in sample_day(PARTITIONS)
    ]
    assert first_operation() != last_operation()


def test_every_record_is_broken_exactly_when_it_should_be() -> None:
    for part in sample_day(PARTITIONS):
        for sample in part.records:
            result = parsed(sample.record)
            if isinstance(result, Broken):
                assert sample.expected == f"DEAD_LETTER {result.code}"
            else:
                assert not sample.expected.startswith("DEAD_LETTER") or sample.expected.endswith(
                    "IDEMPOTENCY_CONFLICT"
                )


def test_every_command_and_both_modes_of_cloudevents_are_in_the_day() -> None:
    records = [sample.record for part in sample_day(PARTITIONS) for sample in part.records]
    commands = {result.command.command for r in records if isinstance(result := parsed(r), Parsed)}
    assert commands == set(CommandName) - NOT_OF_THE_DAY
    headers = {name for record in records for name, _ in record.headers}
    assert {"ce_specversion", "traceparent"} <= headers
    assert any(
        ("content-type", b"application/cloudevents+json") in record.headers for record in records
    )


def test_every_record_of_the_day_is_read_back_from_its_line() -> None:
    for part in sample_day(PARTITIONS):
        for sample in part.records:
            line = record_line(sample.record, sample.expected)
            assert line.count(b"\n") == 1
            assert read_record_line(line) == sample.record


@given(
    key=st.none() | st.text().map(str.encode),
    value=st.none() | st.binary(),
    headers=st.lists(st.tuples(st.text(), st.none() | st.text().map(str.encode))),
)
def test_any_record_is_read_back_from_its_line(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    record = CommandRecord(key=key, value=value, headers=tuple(headers))
    assert read_record_line(record_line(record, "")) == record


def test_credentials_of_a_sample_are_in_clear_until_it_is_sent() -> None:
    [register, *_] = [
        sample.record
        for sample in sample_day(PARTITIONS)[1].records
        if b'"encryptedData":{"pan":' in (sample.record.value or b"")
    ]
    number = orjson.loads(register.value or b"")["encryptedData"]["pan"]
    first, second = encrypted(register, ring()), encrypted(register, ring())
    assert number.encode() not in (first.value or b"")
    assert first != second, "no two encryptions are alike"
    assert orjson.loads(first.value or b"").keys() == orjson.loads(register.value or b"").keys()


def test_every_tale_is_told_by_records_of_its_part() -> None:
    for part in sample_day(PARTITIONS):
        sent = {(sample.record.key or b"").decode() for sample in part.records}
        assert part.tales
        for tale in part.tales:
            assert tale.keys & sent, tale.title


def totals(**changes: int) -> Totals:
    counts = {
        "records": 12,
        "operations": 8,
        "duplicates": 1,
        "ignored": 1,
        "dead_letters": 2,
        "logged": 9,
        "logged_of_commands": 8,
        "dead_letters_stored": 2,
    }
    return Totals(**{**counts, **changes}, by_status={}, by_error_code={}, dead_letters_by_code={})


AGREEING = Summary(totals=totals(), sent=10, own=1, replies=1, events=9, dead_letters=2)


def test_sums_that_agree_leave_nothing_to_say() -> None:
    assert disagreements(AGREEING, 10) == []


@pytest.mark.parametrize(
    "summary",
    [
        replace(AGREEING, totals=totals(records=11)),
        replace(AGREEING, totals=totals(operations=7)),
        replace(AGREEING, totals=totals(duplicates=2)),
        replace(AGREEING, totals=totals(logged_of_commands=9)),
        replace(AGREEING, totals=totals(dead_letters_stored=1)),
        replace(AGREEING, sent=9, own=2),
        replace(AGREEING, own=2),
        replace(AGREEING, replies=0),
        replace(AGREEING, events=10),
        replace(AGREEING, dead_letters=1),
    ],
)
def test_each_sum_that_does_not_agree_is_told(summary: Summary) -> None:
    assert disagreements(summary, 10)


def test_an_outcome_other_than_the_samples_expect_is_told() -> None:
    day = sample_day(PARTITIONS)
    expected = Counter(sample.expected for part in day for sample in part.records)

    def of(kind: str) -> dict[str, int]:
        return {
            outcome.split()[1]: count
            for outcome, count in expected.items()
            if outcome.startswith(kind)
        }

    right = replace(
        totals(duplicates=expected["DUPLICATE"], ignored=expected["IGNORED"]),
        by_error_code=of("FAILED"),
        dead_letters_by_code=of("DEAD_LETTER"),
    )
    assert unexpected(right, day) == []
    right.by_error_code["CARD_NOT_FOUND"] += 1
    del right.dead_letters_by_code["NOT_JSON"]
    assert unexpected(right, day) == [
        "0 times DEAD_LETTER NOT_JSON, expected 1",
        "5 times FAILED CARD_NOT_FOUND, expected 4",
    ]
