"""Sends the sample day and holds what became of it against itself: the sums of G1 and G5.

Relies on a worker that runs meanwhile. The database says when a part is through; the topics are
read for what they hold.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from rich.console import Group
from rich.table import Table
from rich.text import Text

from lifecycle.cli.exits import Problem
from lifecycle.cli.rendering import fields_table
from lifecycle.kafka.sending import SendingStoppedError, send_commands
from lifecycle.kafka.topics import topics_of
from lifecycle.kafka.watching import read_all
from lifecycle.postgres.connection import Pool
from lifecycle.postgres.views import Totals, load_progress, load_totals
from lifecycle.samples import Part
from lifecycle.settings import Settings

PART_SECONDS_MAX = 60.0
"""For one part of the day, from sending it to its last event: a few hundred commands."""
_ASK_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A database and its topics after a day."""

    totals: Totals
    events_read: int
    dead_letters_read: int


async def send_day(
    settings: Settings,
    pool: Pool,
    parts: Sequence[Part],
    *,
    began: Callable[[Part], None],
    went: Callable[[], Awaitable[None]],
) -> int:
    """Send the parts, each when the one before is through; how many records they had.

    `went` is awaited when every event of a part is published.

    Raises:
        Problem: a part was not taken, or not through in time.
    """
    sent = 0
    before = (await load_progress(pool)).records
    for part in parts:
        began(part)
        try:
            await send_commands(settings, [sample.record for sample in part.records])
        except SendingStoppedError as error:
            raise Problem(str(error)) from error
        sent += len(part.records)
        await _until_through(pool, before + sent, part)
        await went()
    return sent


async def _until_through(pool: Pool, records: int, part: Part) -> None:
    deadline = time.monotonic() + PART_SECONDS_MAX
    while True:
        progress = await load_progress(pool)
        if progress.records >= records and progress.is_published:
            return
        if time.monotonic() > deadline:
            unpublished = "" if progress.is_published else ", and not everything is published"
            raise Problem(
                f"{part.name} was not through after {PART_SECONDS_MAX:.0f} s:"
                f" {progress.records} of {records} commands have their outcome{unpublished}."
            )
        await asyncio.sleep(_ASK_SECONDS)


async def summarised(settings: Settings, pool: Pool) -> Summary:
    """The sums of the database, and what the topics hold."""
    topics = topics_of(settings)
    totals = await load_totals(pool)
    return Summary(
        totals=totals,
        events_read=sum([1 async for _ in read_all(settings, topics.events)]),
        dead_letters_read=sum([1 async for _ in read_all(settings, topics.dead_letters)]),
    )


def disagreements(summary: Summary, sent: int) -> list[str]:
    """What does not add up, in sentences; empty when all does."""
    totals = summary.totals
    outcomes = totals.operations + totals.duplicates + totals.ignored + totals.dead_letters
    pairs = (
        ("commands sent", sent, "outcomes", outcomes),
        ("commands sent", sent, "records taken", totals.records),
        ("operations counted", totals.operations, "in the log", totals.logged_of_commands),
        ("rows of the log", totals.logged, "events on the topic", summary.events_read),
        ("dead letters counted", totals.dead_letters, "stored", totals.dead_letters_stored),
        (
            "dead letters stored",
            totals.dead_letters_stored,
            "on the topic",
            summary.dead_letters_read,
        ),
    )
    return [
        f"{left} {what} but {right} {other}" for what, left, other, right in pairs if left != right
    ]


def unexpected(totals: Totals, parts: Sequence[Part]) -> list[str]:
    """Where the outcomes of a whole day on an empty database differ from what the samples expect.

    SUCCESSFUL is not among them: commands cause more operations than their own.
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
    expected.pop("SUCCESSFUL", None)
    return [
        f"{found[outcome]} times {outcome}, expected {expected[outcome]}"
        for outcome in sorted(found.keys() | expected.keys())
        if found[outcome] != expected[outcome]
    ]


def summary_view(summary: Summary, sent: int | None) -> Group:
    """The summary for people."""
    totals = summary.totals
    caused = totals.logged - totals.logged_of_commands
    main: dict[str, object] = {} if sent is None else {"commands sent": str(sent)}
    main |= {
        "commands taken": str(totals.records),
        "  operations": f"{totals.operations}, and {caused} that they caused",
        "  duplicates": str(totals.duplicates),
        "  ignored": str(totals.ignored),
        "  dead letters": str(totals.dead_letters),
        "events on the topic": str(summary.events_read),
        "dead letters on the topic": str(summary.dead_letters_read),
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
