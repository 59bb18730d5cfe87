"""PENDING operations and the requests that they still owe to outside parties.

A pending row is inserted and deleted by the transaction of its card, under the lock of the card's
lane; whoever reads it under that lock may decide on it. `time_out_sent` alone is set without.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import asyncpg

from lifecycle.postgres.subjects import Key

OperationKey = tuple[str, UUID]  # issuerId and operationId


class PendingRow(NamedTuple):
    """A PENDING operation. `command` is JSON; times are milliseconds since the epoch."""

    issuer_id: str
    operation_id: UUID
    card_id: str
    kind: str
    command: str
    content_hash: bytes
    incarnation: int
    start_time_ms: int
    deadline_ms: int
    command_partition: int
    command_offset: int
    traceparent: str | None

    @property
    def key(self) -> OperationKey:
        """What the row is found by."""
        return self.issuer_id, self.operation_id


class DispatchRow(NamedTuple):
    """A record that is owed to a topic: `ordinal` counts those of one command from 1."""

    partition: int
    command_offset: int
    ordinal: int
    topic: str
    key: str
    value: bytes


class DueOperation(NamedTuple):
    """A PENDING operation whose deadline has come."""

    issuer_id: str
    operation_id: UUID
    card_id: str
    due_ms: int


async def copy_pending(connection: asyncpg.Connection, rows: Sequence[PendingRow]) -> None:
    """Store operations that have become PENDING."""
    await connection.copy_records_to_table(
        "pending_operation", columns=PendingRow._fields, records=rows
    )


async def load_pending(
    connection: asyncpg.Connection, keys: Sequence[OperationKey]
) -> dict[OperationKey, PendingRow]:
    """Those of `keys` that are PENDING."""
    rows = await connection.fetch(
        """
        SELECT issuer_id, operation_id, card_id, kind, command, content_hash, incarnation,
            start_time_ms, deadline_ms, command_partition, command_offset, traceparent
        FROM unnest($1::text[], $2::uuid[]) AS u(issuer_id, operation_id)
        JOIN pending_operation USING (issuer_id, operation_id)
        """,
        [issuer_id for issuer_id, _ in keys],
        [operation_id for _, operation_id in keys],
    )
    # asyncpg's own UUIDs are no UUIDs to a JSON writer, and their ids go into events.
    found = (PendingRow(row[0], UUID(int=row[1].int), *row[2:]) for row in rows)
    return {row.key: row for row in found}


async def count_pending(
    connection: asyncpg.Connection, cards: Sequence[Key], kind: str
) -> dict[Key, int]:
    """How many operations of `kind` are PENDING for each of `cards`."""
    rows = await connection.fetch(
        """
        SELECT issuer_id, card_id, count(*)
        FROM unnest($1::text[], $2::text[]) AS u(issuer_id, card_id)
        JOIN pending_operation USING (issuer_id, card_id)
        WHERE kind = $3 GROUP BY issuer_id, card_id
        """,
        [issuer_id for issuer_id, _ in cards],
        [card_id for _, card_id in cards],
        kind,
    )
    return {(row[0], row[1]): row[2] for row in rows}


async def delete_pending(connection: asyncpg.Connection, keys: Sequence[OperationKey]) -> None:
    """Forget operations that have ended."""
    deleted = await connection.execute(
        """
        DELETE FROM pending_operation USING unnest($1::text[], $2::uuid[])
            AS u(issuer_id, operation_id)
        WHERE pending_operation.issuer_id = u.issuer_id
            AND pending_operation.operation_id = u.operation_id
        """,
        [issuer_id for issuer_id, _ in keys],
        [operation_id for _, operation_id in keys],
    )
    assert deleted == f"DELETE {len(keys)}", "a row vanished under the lock of its card's lane"


async def load_due(
    connection: asyncpg.Connection, now_ms: int, operations_max: int
) -> list[DueOperation]:
    """The operations that have waited longest beyond their deadline and were not told so."""
    rows = await connection.fetch(
        "SELECT issuer_id, operation_id, card_id, deadline_ms FROM pending_operation"
        " WHERE deadline_ms <= $1 AND NOT time_out_sent ORDER BY deadline_ms LIMIT $2",
        now_ms,
        operations_max,
    )
    return [DueOperation(*row) for row in rows]


async def mark_timed_out(pool: asyncpg.Pool, sent: Sequence[DueOperation]) -> None:
    """Note that the TIME_OUTs lie on the command topic; one that has ended meanwhile is gone.

    A row that a transaction holds is passed over: waiting here, with other rows locked, could be a
    deadlock. That transaction ends the operation, or its TIME_OUT is sent once more.
    """
    await pool.execute(
        """
        UPDATE pending_operation SET time_out_sent = true WHERE ctid = ANY (ARRAY(
            SELECT pending_operation.ctid
            FROM unnest($1::text[], $2::uuid[]) AS u(issuer_id, operation_id)
            JOIN pending_operation USING (issuer_id, operation_id)
            FOR UPDATE OF pending_operation SKIP LOCKED))
        """,
        [one.issuer_id for one in sent],
        [one.operation_id for one in sent],
    )


async def copy_dispatches(connection: asyncpg.Connection, rows: Sequence[DispatchRow]) -> None:
    """Store what is to be sent once the transaction has committed."""
    await connection.copy_records_to_table("dispatch", columns=DispatchRow._fields, records=rows)


async def load_dispatches(
    connection: asyncpg.Connection, partitions: Sequence[int], rows_max: int
) -> list[DispatchRow]:
    """The next records that these partitions owe, those of one command in their order."""
    rows = await connection.fetch(
        # Of each partition by itself, so that no more than so many are read of however many.
        """
        SELECT next.* FROM unnest($1::integer[]) AS u(partition), LATERAL (
            SELECT partition, command_offset, ordinal, topic, key, value FROM dispatch
            WHERE dispatch.partition = u.partition
            ORDER BY command_offset, ordinal LIMIT $2) AS next
        ORDER BY partition, command_offset, ordinal LIMIT $2
        """,
        partitions,
        rows_max,
    )
    return [DispatchRow(*row) for row in rows]


async def delete_dispatches(pool: asyncpg.Pool, sent: Sequence[DispatchRow]) -> None:
    """Forget records that Kafka has acknowledged; another worker may have done so before."""
    await pool.execute(
        """
        DELETE FROM dispatch
        USING unnest($1::integer[], $2::bigint[], $3::integer[])
            AS u(partition, command_offset, ordinal)
        WHERE dispatch.partition = u.partition AND dispatch.command_offset = u.command_offset
            AND dispatch.ordinal = u.ordinal
        """,
        [row.partition for row in sent],
        [row.command_offset for row in sent],
        [row.ordinal for row in sent],
    )


async def count_dispatches(pool: asyncpg.Pool, partitions: Sequence[int], count_max: int) -> int:
    """How many records these partitions owe; no more than `count_max` are counted."""
    return int(
        await pool.fetchval(
            "SELECT count(*) FROM ("
            "SELECT FROM dispatch WHERE partition = ANY($1) LIMIT $2) AS owed",
            partitions,
            count_max,
        )
    )


async def count_open(pool: asyncpg.Pool, count_max: int) -> int:
    """How many operations are PENDING; no more than `count_max` are counted."""
    return int(
        await pool.fetchval(
            "SELECT count(*) FROM (SELECT FROM pending_operation LIMIT $1) AS open", count_max
        )
    )


async def count_due(pool: asyncpg.Pool, now_ms: int, count_max: int) -> int:
    """How many operations `load_due` would still give; no more than `count_max` are counted."""
    return int(
        await pool.fetchval(
            "SELECT count(*) FROM (SELECT FROM pending_operation"
            " WHERE deadline_ms <= $1 AND NOT time_out_sent LIMIT $2) AS due",
            now_ms,
            count_max,
        )
    )
