"""Sends the sample day and holds what became of it against itself: the sums of G1 and G5.

Relies on a worker, and outside parties, that run meanwhile. A part is through when the database has
taken all that lies on the topics and owes nothing; then the topics are read for what they hold.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
from rich.console import Group
from rich.table import Table
from rich.text import Text

from lifecycle.cli.exits import Problem
from lifecycle.cli.rendering import fields_table
from lifecycle.domain.operations import Status
from lifecycle.domain.sources import Partition
from lifecycle.kafka.commands import is_reserved_id
from lifecycle.kafka.sending import SendingStoppedError, send_commands
from lifecycle.kafka.tails import TailReader
from lifecycle.kafka.topics import source_topics, topics_of
from lifecycle.kafka.watching import read_all
from lifecycle.postgres.connection import Pool
from lifecycle.postgres.views import Totals, load_progress, load_totals
from lifecycle.samples import Part
from lifecycle.samples.credentials import encrypted
from lifecycle.settings import Settings, required
from lifecycle.vault.keys import load_keys

PART_SECONDS_MAX = 60.0
"""For one part of the day, from sending it to its last event: a few hundred commands."""
_ASK_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A database and its topics after a day."""

    totals: Totals
    sent: int
    """Commands on the topic that others than the service sent."""
    own: int
    """Commands on the topic that the service sent itself: timers, cascades."""
    replies: int
    events: int
    dead_letters: int


async def send_day(
    settings: Settings,
    pool: Pool,
    parts: Sequence[Part],
    *,
    began: Callable[[Part], None],
    went: Callable[[Part], Awaitable[None]],
) -> int:
    """Send the parts, each when the one before is through; how many records they had.

    `went` is awaited when every event of a part is published.

    Raises:
        Problem: a part was not taken, or not through in time.
    """
    ring = load_keys(Path(required(settings, "keys_file")))
    async with TailReader(settings) as tails:
        for part in parts:
            began(part)
            try:
                await send_commands(
                    settings, [encrypted(sample.record, ring) for sample in part.records]
                )
            except SendingStoppedError as error:
                raise Problem(str(error)) from error
            await _until_through(settings, pool, tails, part)
            await went(part)
    return sum(len(part.records) for part in parts)


async def _until_through(settings: Settings, pool: Pool, tails: TailReader, part: Part) -> None:
    deadline = time.monotonic() + PART_SECONDS_MAX
    while missing := await _missing(settings, pool, tails):
        if time.monotonic() > deadline:
            raise Problem(
                f"{part.name} was not through after {PART_SECONDS_MAX:.0f} s: {', '.join(missing)}."
            )
        await asyncio.sleep(_ASK_SECONDS)


async def _missing(settings: Settings, pool: Pool, tails: TailReader) -> list[str]:
    """What must happen before everything on the topics is through; empty when nothing must."""
    # In this order: what later records will owe is not owed at these positions, but then they are
    # not at the end.
    progress = await load_progress(pool, clock_offset_seconds=settings.clock_offset_seconds)
    left = await _left(settings, tails, progress.positions)
    missing = [f"{left} records are not taken"] if left else []
    if not progress.owes_nothing:
        missing.append("requests are not answered, or timers or cascades not sent")
    if not progress.is_published:
        missing.append("not everything is published")
    return missing


async def _left(settings: Settings, tails: TailReader, positions: dict[Partition, int]) -> int:
    """How many offsets of commands and replies lie behind `positions`."""
    left = 0
    for source, topic in source_topics(settings).items():
        for number, (first, end) in (
            await tails.bounds(topic, list(range(settings.partitions)))
        ).items():
            left += max(0, end - positions.get(Partition(source, number), first))
    return left


async def summarised(settings: Settings, pool: Pool) -> Summary:
    """The sums of the database, and what the topics hold."""
    topics = topics_of(settings)
    totals = await load_totals(pool)
    is_own = Counter(
        [_is_own(record.value) async for record in read_all(settings, topics.commands)]
    )
    replies, events, dead_letters = [
        sum([1 async for _ in read_all(settings, topic)])
        for topic in (topics.replies, topics.events, topics.dead_letters)
    ]
    return Summary(
        totals=totals,
        sent=is_own[False],
        own=is_own[True],
        replies=replies,
        events=events,
        dead_letters=dead_letters,
    )


def _is_own(value: bytes | None) -> bool:
    try:
        command = orjson.loads(value or b"null")
    except orjson.JSONDecodeError:
        # A broken one, from a client.
        return False
    return isinstance(command, dict) and is_reserved_id(str(command.get("commandId")))


def disagreements(summary: Summary, sent: int) -> list[str]:
    """What does not add up, in sentences; empty when all does."""
    totals = summary.totals
    records = summary.sent + summary.own + summary.replies
    outcomes = totals.operations + totals.duplicates + totals.ignored + totals.dead_letters
    pairs = (
        ("commands sent", sent, "of them on the topic", summary.sent),
        ("commands and replies on the topics", records, "records taken", totals.records),
        ("records taken", totals.records, "outcomes", outcomes),
        ("operations counted", totals.operations, "in the log", totals.logged_of_commands),
        ("rows of the log", totals.logged, "events on the topic", summary.events),
        ("dead letters counted", totals.dead_letters, "stored", totals.dead_letters_stored),
        ("dead letters stored", totals.dead_letters_stored, "on the topic", summary.dead_letters),
    )
    return [
        f"{left} {what} but {right} {other}" for what, left, other, right in pairs if left != right
    ]


def unexpected(totals: Totals, parts: Sequence[Part]) -> list[str]:
    """Where the outcomes of a whole day on an empty database differ from what the samples expect.

    SUCCESSFUL and PENDING are not among them: commands cause more operations than their own.
    """
    expected = Counter(sample.expected for part in parts for sample in part.records)
    found = Counter(
        {
            "DUPLICATE": totals.duplicates,
            "IGNORED": totals.ignored,
            **{f"FAILED {code}": count for code, count in totals.by_error_code.items()},
            **{f"DEAD_LETTER {code}": count for code, count in totals.dead_letters_by_code.items()},
        }
    )
    for outcome in (Status.SUCCESSFUL, Status.PENDING):
        expected.pop(outcome, None)
    return [
        f"{found[outcome]} times {outcome}, expected {expected[outcome]}"
        for outcome in sorted(found.keys() | expected.keys())
        if found[outcome] != expected[outcome]
    ]


def summary_view(summary: Summary) -> Group:
    """The summary for people."""
    totals = summary.totals
    caused = totals.logged - totals.logged_of_commands
    main = {
        "commands sent": summary.sent,
        "timers and cascades": summary.own,
        "replies from outside": summary.replies,
        "taken in all": totals.records,
        "  operations": f"{totals.operations}, and {caused} that they caused",
        "  duplicates": totals.duplicates,
        "  ignored": totals.ignored,
        "  dead letters": totals.dead_letters,
        "events on the topic": summary.events,
        "dead letters on the topic": summary.dead_letters,
    }
    return Group(
        fields_table(main),
        Text(),
        _counts("Operations by status", totals.by_status),
        Text(),
        _counts("Refused by the rules", totals.by_error_code),
        Text(),
        _counts("Dead letters by code", totals.dead_letters_by_code),
    )


def _counts(title: str, counts: dict[str, int]) -> Table:
    return fields_table({f"  {name}": str(count) for name, count in counts.items()}, title)
