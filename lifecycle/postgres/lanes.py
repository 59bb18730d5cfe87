"""The three lane tables: where intake stands, how far the log is numbered, what is published.

Lock order in every transaction: lane_in, lane_out, consumer, card, each sorted by its key; in any
other order two workers deadlock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from lifecycle.domain.sources import Partition, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakePosition:
    """Where intake of one partition stands."""

    next_offset: int
    last_record_offset: int | None
    last_record_hash: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """How far one lane is numbered and published, as committed."""

    last_seq: int
    published_seq: int
    dead_letter_offset: int
    reply_dead_letter_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance:
    """One partition's step in one transaction: from the lane's position to behind `to_offset`."""

    partition: Partition
    from_offset: int
    to_offset: int
    last_record_hash: bytes


async def ensure_lanes(pool: asyncpg.Pool, partition_count: int) -> None:
    """Give every lane its rows; harmless when they are there.

    Only missing ones are inserted: ON CONFLICT alone would wait for whoever updates a row.
    """
    for statement in (
        """
        INSERT INTO lane_out (partition) SELECT generate_series(0, $1 - 1)
        EXCEPT SELECT partition FROM lane_out ON CONFLICT DO NOTHING
        """,
        """
        INSERT INTO lane_pub (partition) SELECT generate_series(0, $1 - 1)
        EXCEPT SELECT partition FROM lane_pub ON CONFLICT DO NOTHING
        """,
    ):
        await pool.execute(statement, partition_count)


async def load_intake(
    pool: asyncpg.Pool, first_offsets: Mapping[Partition, int]
) -> dict[Partition, IntakePosition]:
    """The positions of the partitions that are the keys of `first_offsets`.

    A partition that was never taken starts at its value: the first offset that the topic has.
    """
    partitions = sorted(first_offsets)
    sources = [partition.source for partition in partitions]
    numbers = [partition.number for partition in partitions]
    await pool.execute(
        """
        INSERT INTO lane_in (source, partition, next_offset)
        SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[])
            AS u(source, partition, first_offset)
        WHERE (source, partition) NOT IN (SELECT source, partition FROM lane_in)
        ON CONFLICT DO NOTHING
        """,
        sources,
        numbers,
        [first_offsets[partition] for partition in partitions],
    )
    rows = await pool.fetch(
        "SELECT * FROM unnest($1::text[], $2::integer[]) AS u(source, partition)"
        " JOIN lane_in USING (source, partition)",
        sources,
        numbers,
    )
    return {
        Partition(Source(row["source"]), row["partition"]): IntakePosition(
            next_offset=row["next_offset"],
            last_record_offset=row["last_record_offset"],
            last_record_hash=row["last_record_hash"],
        )
        for row in rows
    }


async def load_taken(pool: asyncpg.Pool, partitions: Sequence[int]) -> dict[int, int]:
    """Up to which offset these partitions of the commands were taken, as far as they ever were."""
    rows = await pool.fetch(
        "SELECT partition, next_offset FROM lane_in WHERE source = $1 AND partition = ANY($2)",
        Source.COMMANDS,
        partitions,
    )
    return {row["partition"]: row["next_offset"] for row in rows}


async def advance_intake(connection: asyncpg.Connection, advances: Sequence[Advance]) -> bool:
    """Take the records: move every partition on, if each stands where its step begins.

    This is exactly-once intake and fencing in one. A second owner of a partition blocks here until
    we commit, then finds the lane elsewhere and takes nothing.

    Returns:
        False when a lane was not where it was expected; then the transaction must be rolled back.
    """
    moved = await connection.fetchval(
        """
        WITH step AS (
            SELECT * FROM unnest(
                $1::text[], $2::integer[], $3::bigint[], $4::bigint[], $5::bytea[]
            ) AS u(source, partition, from_offset, to_offset, record_hash)
        ), locked AS (
            -- Sorted: two owners of the same lanes would otherwise lock them crosswise.
            SELECT partition FROM lane_in WHERE (source, partition) IN (
                SELECT source, partition FROM step
            ) ORDER BY source, partition FOR UPDATE
        ), moved AS (
            UPDATE lane_in SET next_offset = step.to_offset,
                last_record_offset = step.to_offset - 1, last_record_hash = step.record_hash
            FROM step, (SELECT count(*) FROM locked) AS all_locked
            WHERE lane_in.source = step.source AND lane_in.partition = step.partition
                AND lane_in.next_offset = step.from_offset
            RETURNING 1
        )
        SELECT count(*) FROM moved
        """,
        [advance.partition.source for advance in advances],
        [advance.partition.number for advance in advances],
        [advance.from_offset for advance in advances],
        [advance.to_offset for advance in advances],
        [advance.last_record_hash for advance in advances],
    )
    return bool(moved == len(advances))


async def lock_lanes(connection: asyncpg.Connection, partitions: Sequence[int]) -> dict[int, int]:
    """Lock the home lanes of every subject of a batch; their last sequence numbers.

    Whatever is read after this, in a new statement, is what the transaction before us left: reading
    first and locking then loses updates and forks a card's hash chain.
    """
    rows = await connection.fetch(
        "SELECT partition, last_seq FROM lane_out WHERE partition = ANY($1)"
        " ORDER BY partition FOR UPDATE",
        partitions,
    )
    return {row["partition"]: row["last_seq"] for row in rows}


async def store_last_seq(connection: asyncpg.Connection, last_seq: Mapping[int, int]) -> None:
    """Keep how far each locked lane is numbered now."""
    await connection.execute(
        """
        UPDATE lane_out SET last_seq = u.last_seq
        FROM unnest($1::integer[], $2::bigint[]) AS u(partition, last_seq)
        WHERE lane_out.partition = u.partition
        """,
        list(last_seq.keys()),
        list(last_seq.values()),
    )


async def load_publications(
    pool: asyncpg.Pool, partitions: Sequence[int]
) -> dict[int, Publication]:
    """How far the lanes are numbered and published."""
    rows = await pool.fetch(
        "SELECT partition, last_seq, published_seq, dead_letter_offset, reply_dead_letter_offset"
        " FROM lane_out JOIN lane_pub USING (partition) WHERE partition = ANY($1)",
        partitions,
    )
    return {
        row["partition"]: Publication(
            last_seq=row["last_seq"],
            published_seq=row["published_seq"],
            dead_letter_offset=row["dead_letter_offset"],
            reply_dead_letter_offset=row["reply_dead_letter_offset"],
        )
        for row in rows
    }


async def store_published(
    pool: asyncpg.Pool,
    partition: int,
    published_seq: int,
    dead_letter_offset: int,
    reply_dead_letter_offset: int,
) -> None:
    """Note what Kafka acknowledged. GREATEST: an owner of the past never moves a lane back.

    The note is not flushed to disk by itself: if it is lost, the topic's end tells the same.
    """
    await pool.execute(
        """
        WITH unhurried AS (SELECT set_config('synchronous_commit', 'off', true))
        UPDATE lane_pub SET published_seq = GREATEST(published_seq, $2),
            dead_letter_offset = GREATEST(dead_letter_offset, $3),
            reply_dead_letter_offset = GREATEST(reply_dead_letter_offset, $4)
        FROM unhurried WHERE partition = $1
        """,
        partition,
        published_seq,
        dead_letter_offset,
        reply_dead_letter_offset,
    )


async def lane_ends(
    connection: asyncpg.Connection | asyncpg.Pool, partitions: Sequence[int]
) -> dict[int, tuple[int, int, int]]:
    """What was committed lately to be published: the last sequence number, the last dead letters.

    First the dead letter of the commands, then that of the replies; -1 when there is none of the
    last days. Whoever took the lane read what is older.
    """
    rows = await connection.fetch(
        """
        SELECT partition, last_seq, coalesce((
            SELECT max(command_offset) FROM dead_letter
            WHERE source = 'commands' AND dead_letter.partition = lane_out.partition
                AND recorded_at >= now() - interval '7 days'
                AND recorded_at < now() + interval '7 days'), -1),
        coalesce((
            SELECT max(command_offset) FROM dead_letter
            WHERE source = 'replies' AND dead_letter.partition = lane_out.partition
                AND recorded_at >= now() - interval '7 days'
                AND recorded_at < now() + interval '7 days'), -1)
        FROM lane_out WHERE partition = ANY($1)
        """,
        partitions,
    )
    return {row[0]: (row[1], row[2], row[3]) for row in rows}
