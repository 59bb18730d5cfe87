"""Everything that a scenario left behind: the three topics and the tables, read once.

`guarantees.py` judges it. It is read raw, with SQL and consumers of the tests' own, so that the
service's reading of itself is not what it is judged by.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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
    is_end: bool = False
    """The second row of an operation that was PENDING before."""

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
    requests: dict[int, list[Record]]
    replies: dict[int, list[Record]]
    reply_dead_letter_rows: dict[Place, str]
    reply_positions: dict[int, int]
    pending: list[asyncpg.Record]
    cards: list[asyncpg.Record]
    consumers: list[asyncpg.Record]
    products: list[asyncpg.Record]
    issuer_time_zones: dict[str, str]
    clock_offset_seconds: int

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
        own = [row for row in self.log if not (row.caused or row.is_end)]
        found = {row.place: row for row in own}
        assert len(found) == len(own), "a record of the command topic led to two operations"
        return found

    @cached_property
    def ends(self) -> dict[str, Logged]:
        """The end of each operation that was PENDING, by its id."""
        return {row.event["operation"]["operationId"]: row for row in self.log if row.is_end}

    def has_ended_by(self, record: Record, records: Sequence[Record], operation_id: str) -> bool:
        """Whether `record`, the first of its time among `records`, ended the operation.

        `records` name operations, each under the key of its card.
        """
        end = self.ends.get(operation_id)
        if end is None or record.key != end.key.encode() or not self._is_at(record, end):
            return False
        named = operation_id.encode()
        alike = [
            other
            for other in records
            if other.key == record.key and named in (other.value or b"") and self._is_at(other, end)
        ]
        return record is alike[0]

    def _is_at(self, record: Record, end: Logged) -> bool:
        """Whether an operation ended at the time of the record, the clock moved or not yet."""
        instant = datetime.fromtimestamp(record.timestamp / 1000, UTC)
        end_time = datetime.fromisoformat(end.event["operation"]["endTime"])
        return any(
            abs(instant + timedelta(seconds=moved) - end_time) < timedelta(milliseconds=1)
            for moved in (0, self.clock_offset_seconds)
        )

    def all_commands(self) -> Iterator[Record]:
        """Every record of the command topic."""
        for records in self.commands.values():
            yield from records

    def count(self, column: str) -> int:
        """The sum of one count over every batch of commands."""
        return sum(batch[column] for batch in self.batches if batch["source"] == "commands")

    def operation(self, place: Place) -> Json:
        """The operation that the command at `place` led to, as its newest event shows it."""
        operation: Json = self.of_commands[place].event["operation"]
        end = self.ends.get(operation["operationId"])
        return operation if end is None else dict(end.event["operation"])

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
        letters = await connection.fetch(
            "SELECT source, partition, command_offset, code FROM dead_letter"
        )
        lanes = await connection.fetch("SELECT source, partition, next_offset FROM lane_in")
        log = _as_logged(rows)
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
            log=log,
            batches=await connection.fetch(
                "SELECT * FROM intake_batch ORDER BY partition, from_offset"
            ),
            dead_letter_rows=_places(letters, "commands"),
            positions={row[1]: row[2] for row in lanes if row[0] == "commands"},
            requests=await read_topic(settings, topics.requests),
            replies=await read_topic(settings, topics.replies),
            reply_dead_letter_rows=_places(letters, "replies"),
            reply_positions={row[1]: row[2] for row in lanes if row[0] == "replies"},
            pending=await connection.fetch("SELECT * FROM pending_operation"),
            cards=await connection.fetch("SELECT * FROM card"),
            consumers=await connection.fetch("SELECT * FROM consumer"),
            products=await connection.fetch("SELECT * FROM card_product"),
            issuer_time_zones=settings.issuer_time_zones,
            clock_offset_seconds=settings.clock_offset_seconds,
        )


def _as_logged(rows: list[asyncpg.Record]) -> list[Logged]:
    """The rows of the log; the later one of two with the same operation is its end."""
    seen: set[UUID] = set()
    log = []
    for row in rows:
        log.append(
            Logged(
                lane=row["lane"],
                seq=row["seq"],
                event_id=row["id"],
                operation_id=row["operation_id"],
                key=row["aggregateid"],
                caused=row["caused"],
                payload=row["payload"],
                event=json.loads(row["payload"]),
                is_end=row["operation_id"] in seen,
            )
        )
        seen.add(row["operation_id"])
    return log


def _places(letters: list[asyncpg.Record], source: str) -> dict[Place, str]:
    return {Place(row[1], row[2]): row[3] for row in letters if row[0] == source}


def _without_repeats(records: dict[int, list[Record]], header: str) -> dict[int, list[Record]]:
    """Drop what is not above the last seen."""
    kept: dict[int, list[Record]] = {}
    for partition, found in records.items():
        kept[partition] = []
        last: dict[bytes | None, int] = {}
        for record in found:
            # Dead letters of commands and of replies are numbered apart.
            topic = dict(record.headers).get("dlq-topic")
            if record.number(header) > last.get(topic, -1):
                last[topic] = record.number(header)
                kept[partition].append(record)
    return kept
