"""The operation log, which is the outbox: rows go in by COPY and come out in lane order.

A row holds the bytes of its event as they are published, so that whoever publishes it, now or after
a crash, publishes the same.
"""

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg
import orjson

from lifecycle.domain.sources import Partition, Source

LANES_CHANNEL = "card_lifecycle_lanes"

# What a row takes in memory beside its large fields, and a header beside its name and its value:
# measured, with room. A header that is two bytes on a topic takes a hundred times that here.
_ROW_BYTES = 700
_HEADER_BYTES = 200


class OutboxRow(NamedTuple):
    """What is published of an operation: one event, at its place in its lane."""

    lane: int
    seq: int
    event_id: UUID
    key: str
    event_type: str
    event_time_ms: int
    payload: bytes
    traceparent: str | None
    changes_card: bool

    @property
    def bytes_held(self) -> int:
        """What it takes in memory, about."""
        return _ROW_BYTES + len(self.payload)


class OperationRow(NamedTuple):
    """One change of an operation's status, and the event that tells it."""

    event: OutboxRow
    aggregate_type: str
    issuer_id: str
    operation_id: UUID
    caused: bool
    content_hash: bytes
    status: str
    start_time: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterRow:
    """A record that could not become a command, or a reply, as it is published.

    `headers` in order; `command_offset` is that of the record on its own topic. `bytes_held`: what
    it takes in memory, about; of half a million headers that takes long to count, so it is counted
    where the row is made, which is beside the event loop where it is large.
    """

    source: Source
    partition: int
    command_offset: int
    code: str
    error: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    bytes_held: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Count once."""
        in_headers = sum(
            _HEADER_BYTES + len(name) + len(value or b"") for name, value in self.headers
        )
        in_all = _ROW_BYTES + len(self.key or b"") + len(self.value or b"") + in_headers
        object.__setattr__(self, "bytes_held", in_all)  # as dataclasses do for frozen ones


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeCount:
    """What became of the records of one partition in one transaction (G1)."""

    partition: Partition
    from_offset: int
    to_offset: int
    records: int
    operations: int
    duplicates: int
    ignored: int
    dead_letters: int
    foreign_partition: int


async def copy_operations(connection: asyncpg.Connection, rows: Sequence[OperationRow]) -> None:
    """Append to the log, in the order of `rows`."""
    await connection.copy_records_to_table(
        "operation",
        columns=[
            *("lane", "seq", "id", "aggregateid", "type", "event_time_ms", "payload"),
            *("traceparent", "aggregatetype", "issuer_id", "operation_id", "caused"),
            *("content_hash", "status", "start_time", "expires_at", "changes_card"),
        ],
        records=[
            (
                *(event.lane, event.seq, event.event_id, event.key, event.event_type),
                *(event.event_time_ms, event.payload, event.traceparent, row.aggregate_type),
                *(row.issuer_id, row.operation_id, row.caused, row.content_hash, row.status),
                *(row.start_time, row.expires_at, event.changes_card),
            )
            for row in rows
            if (event := row.event)
        ],
    )


async def copy_dead_letters(connection: asyncpg.Connection, rows: Sequence[DeadLetterRow]) -> None:
    """Append dead letters; they are published with the events of their partition's lane."""
    # Of half a million headers, which a record may have, both take most of a second.
    headers = await asyncio.to_thread(lambda: [_pack_headers(row.headers) for row in rows])
    await connection.copy_records_to_table(
        "dead_letter",
        columns=[
            *("source", "partition", "command_offset", "code", "error", "key", "value"),
            "headers",
        ],
        records=[
            (
                *(row.source, row.partition, row.command_offset, row.code, row.error, row.key),
                row.value,
                packed,
            )
            for row, packed in zip(rows, headers, strict=True)
        ],
    )


async def copy_intake_counts(connection: asyncpg.Connection, rows: Sequence[IntakeCount]) -> None:
    """Record what became of the records that this transaction takes."""
    await connection.copy_records_to_table(
        "intake_batch",
        columns=[
            *("source", "partition", "from_offset", "to_offset", "records", "operations"),
            *("duplicates", "ignored", "dead_letters", "foreign_partition"),
        ],
        records=[
            (
                *(row.partition.source, row.partition.number, row.from_offset, row.to_offset),
                *(row.records, row.operations, row.duplicates, row.ignored, row.dead_letters),
                row.foreign_partition,
            )
            for row in rows
        ],
    )


async def load_outbox(
    connection: asyncpg.Connection, lane: int, after_seq: int, *, rows_max: int, bytes_max: int
) -> list[OutboxRow]:
    """The next committed rows of a lane, in order.

    No more than `rows_max`, and none behind `bytes_max`: they end with the one that exceeds it.

    A row is recorded at the time at which its transaction began, which may be before that of the
    row before it, but by no more than a transaction lasts. So where the last published row is of
    these days, older weeks need not be looked through, and weeks to come never.
    """
    rows = await connection.fetch(
        """
        SELECT seq, id, aggregateid, type, event_time_ms, payload, traceparent, changes_card
        FROM (
            SELECT *, sum($4 + octet_length(payload)) OVER (
                ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS bytes_before
            FROM (
                SELECT seq, id, aggregateid, type, event_time_ms, payload, traceparent, changes_card
                FROM operation
                WHERE lane = $1 AND seq > $2 AND recorded_at < now() + interval '7 days'
                    AND recorded_at >= coalesce((
                        SELECT max(recorded_at) - interval '1 day' FROM operation
                        WHERE lane = $1 AND seq = $2 AND recorded_at >= now() - interval '7 days'
                            AND recorded_at < now() + interval '7 days'), '-infinity')
                ORDER BY seq LIMIT $3
            ) AS next
        ) AS sized
        WHERE coalesce(bytes_before, 0) <= $5 ORDER BY seq
        """,
        lane,
        after_seq,
        rows_max,
        _ROW_BYTES,
        bytes_max,
    )
    return [
        OutboxRow(
            lane=lane,
            seq=row[0],
            event_id=row[1],
            key=row[2],
            event_type=row[3],
            event_time_ms=row[4],
            payload=row[5],
            traceparent=row[6],
            changes_card=row[7],
        )
        for row in rows
    ]


async def load_dead_letters(  # noqa: PLR0913 - both limits, and where each of two sources stands
    connection: asyncpg.Connection,
    partition: int,
    after_offset: int,
    after_reply_offset: int,
    *,
    rows_max: int,
    bytes_max: int,
) -> list[DeadLetterRow]:
    """The next dead letters of a partition, in the order of their records.

    No more than `rows_max`, and none behind `bytes_max`: they end with the one that exceeds it.
    Those of commands come before those of replies: of each topic the order is kept.
    """
    rows = await connection.fetch(
        """
        SELECT source, command_offset, code, error, key, value, headers
        FROM (
            SELECT *, sum(
                $5 + coalesce(octet_length(key), 0) + coalesce(octet_length(value), 0)
                + octet_length(headers)
            ) OVER (
                ORDER BY source, command_offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS bytes_before
            FROM (
                -- Each source by itself, so that none is read that was published before.
                (SELECT * FROM dead_letter
                    WHERE source = 'commands' AND partition = $1 AND command_offset > $2
                        AND recorded_at < now() + interval '7 days'
                    ORDER BY command_offset LIMIT $4)
                UNION ALL
                (SELECT * FROM dead_letter
                    WHERE source = 'replies' AND partition = $1 AND command_offset > $3
                        AND recorded_at < now() + interval '7 days'
                    ORDER BY command_offset LIMIT $4)
                ORDER BY source, command_offset LIMIT $4
            ) AS next
        ) AS sized
        WHERE coalesce(bytes_before, 0) <= $6 ORDER BY source, command_offset
        """,
        partition,
        after_offset,
        after_reply_offset,
        rows_max,
        _ROW_BYTES,
        bytes_max,
    )
    # Decoding the headers of large ones takes long.
    return await asyncio.to_thread(_dead_letters, partition, rows, bytes_max)


def _dead_letters(
    partition: int, rows: Sequence[asyncpg.Record], bytes_max: int
) -> list[DeadLetterRow]:
    letters: list[DeadLetterRow] = []
    for row in rows:
        letters.append(
            DeadLetterRow(
                source=Source(row[0]),
                partition=partition,
                command_offset=row[1],
                code=row[2],
                error=row[3],
                key=row[4],
                value=row[5],
                headers=_unpack_headers(row[6]),
            )
        )
        # Many short headers are more in memory than in their row.
        bytes_max -= letters[-1].bytes_held
        if bytes_max < 0:
            break
    return letters


async def event_id_at(pool: asyncpg.Pool, lane: int, seq: int) -> UUID | None:
    """The id of one event of the log; None when retention has dropped it, and a later one too.

    Older weeks, and those to come, are looked through only when it is not of these days. The last
    event of each lane in what was dropped is kept by its id.
    """
    found: UUID | None = await pool.fetchval(
        """
        SELECT id FROM operation WHERE lane = $1 AND seq = $2
            AND recorded_at >= now() - interval '7 days'
            AND recorded_at < now() + interval '7 days'
        UNION ALL
        SELECT id FROM operation WHERE lane = $1 AND seq = $2
        UNION ALL
        SELECT id FROM dropped_event WHERE lane = $1 AND seq = $2
        LIMIT 1
        """,
        lane,
        seq,
    )
    return found


async def notify_lanes(connection: asyncpg.Connection, lanes: Sequence[int]) -> None:
    """Tell the owners of other lanes, when we commit, that there is something to publish."""
    await connection.execute(
        "SELECT pg_notify($1, lane::text) FROM unnest($2::integer[]) AS u(lane)",
        LANES_CHANNEL,
        lanes,
    )


def _pack_headers(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    return orjson.dumps(
        [(name, None if value is None else b64encode(value).decode()) for name, value in headers]
    )


def _unpack_headers(packed: bytes) -> tuple[tuple[str, bytes | None], ...]:
    return tuple(
        (name, None if value is None else b64decode(value)) for name, value in orjson.loads(packed)
    )
