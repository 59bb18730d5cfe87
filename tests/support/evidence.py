"""Everything that a scenario left behind: the three topics and the tables, read once.

`guarantees.py` judges it. It is read raw, with SQL and consumers of the tests' own, so that the
service's reading of itself is not what it is judged by.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

import asyncpg

from lifecycle.kafka.topics import topics_of
from lifecycle.settings import Settings
from tests.support.bank import Place
from tests.support.ground import connected
from tests.support.reading import Record, read_topic, until_settled

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Logged:
    """A row of the operation log."""

    lane: int
    seq: int
    event_id: UUID
    operation_id: UUID
    key: str
    caused: bool
    payload: bytes
    event: Json

    @property
    def place(self) -> Place:
        """Where its command lies."""
        return Place(self.event["command"]["partition"], self.event["command"]["offset"])


@dataclass(frozen=True)
class Evidence:
    """What lies on the topics and in the database."""

    partitions: int
    topic_prefix: str
    commands: dict[int, list[Record]]
    events: dict[int, list[Record]]
    events_uncommitted: dict[int, list[Record]]
    dead_letters: dict[int, list[Record]]
    state: dict[int, list[Record]]
    log: list[Logged]
    batches: list[asyncpg.Record]
    dead_letter_rows: dict[Place, str]
    positions: dict[int, int]
    cards: list[asyncpg.Record]
    consumers: list[asyncpg.Record]
    products: list[asyncpg.Record]

    @cached_property
    def by_subject(self) -> dict[str, list[Logged]]:
        """The operations of each subject, in their order."""
        found = defaultdict(list)
        for row in self.log:
            found[row.key].append(row)
        return found

    @cached_property
    def of_commands(self) -> dict[Place, Logged]:
        """The operations that have a command of their own, by where it lies."""
        own = [row for row in self.log if not row.caused]
        found = {row.place: row for row in own}
        assert len(found) == len(own), "a record of the command topic led to two operations"
        return found

    def all_commands(self) -> Iterator[Record]:
        """Every record of the command topic."""
        for records in self.commands.values():
            yield from records

    def count(self, column: str) -> int:
        """The sum of one count over every batch."""
        return sum(batch[column] for batch in self.batches)

    def operation(self, place: Place) -> Json:
        """The operation that the command at `place` led to, as its event shows it."""
        operation: Json = self.of_commands[place].event["operation"]
        return operation

    def outcomes(self, places: Sequence[Place]) -> list[str]:
        """What became of each record: a status, a dead-letter code, or `NOTHING`."""
        outcomes = []
        for place in places:
            if place in self.dead_letter_rows:
                outcomes.append(self.dead_letter_rows[place])
            elif place in self.of_commands:
                operation = self.operation(place)
                outcomes.append(operation.get("errorCode") or operation["status"])
            else:
                outcomes.append("NOTHING")
        return outcomes


async def gather_evidence(settings: Settings) -> Evidence:
    """Wait until everything is taken and published, then read it all.

    Of what was published without the fence, every repeat is dropped as design.md 4 tells readers.
    """
    await until_settled(settings)
    topics = topics_of(settings)
    has_fence = settings.publish == "transactional"
    events = await read_topic(settings, topics.events)
    dead_letters = await read_topic(settings, topics.dead_letters)
    async with connected(settings) as connection:
        rows = await connection.fetch(
            "SELECT lane, seq, id, operation_id, aggregateid, caused, payload FROM operation"
            " ORDER BY lane, seq"
        )
        letters = await connection.fetch("SELECT partition, command_offset, code FROM dead_letter")
        return Evidence(
            partitions=settings.partitions,
            topic_prefix=settings.topic_prefix,
            commands=await read_topic(settings, topics.commands),
            events=events if has_fence else _without_repeats(events, "ce_sequence"),
            events_uncommitted=await read_topic(settings, topics.events, "read_uncommitted"),
            dead_letters=dead_letters
            if has_fence
            else _without_repeats(dead_letters, "dlq-offset"),
            # Without the fence there is no state topic (design.md 7).
            state=await read_topic(settings, topics.state) if has_fence else {},
            log=[
                Logged(
                    lane=row["lane"],
                    seq=row["seq"],
                    event_id=row["id"],
                    operation_id=row["operation_id"],
                    key=row["aggregateid"],
                    caused=row["caused"],
                    payload=row["payload"],
                    event=json.loads(row["payload"]),
                )
                for row in rows
            ],
            batches=await connection.fetch("SELECT * FROM intake_batch ORDER BY 1, 2"),
            dead_letter_rows={Place(row[0], row[1]): row[2] for row in letters},
            positions=dict(await connection.fetch("SELECT partition, next_offset FROM lane_in")),
            cards=await connection.fetch("SELECT * FROM card"),
            consumers=await connection.fetch("SELECT * FROM consumer"),
            products=await connection.fetch("SELECT * FROM card_product"),
        )


def _without_repeats(records: dict[int, list[Record]], header: str) -> dict[int, list[Record]]:
    """Drop what is not above the last seen."""
    kept: dict[int, list[Record]] = {}
    for partition, found in records.items():
        kept[partition] = []
        last = -1
        for record in found:
            if record.number(header) > last:
                last = record.number(header)
                kept[partition].append(record)
    return kept
