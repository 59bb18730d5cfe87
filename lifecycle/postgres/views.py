"""What people and programs may see: operations, cards and the sums of a database. Reads only.

An operation is gone the moment its expiry has come, whatever the storage still holds; one that is
PENDING stays until it ended (domain.md 5, G8).
"""

from dataclasses import dataclass
from uuid import UUID

from lifecycle.domain.cards import Card
from lifecycle.domain.sources import Partition, Source
from lifecycle.postgres.connection import Pool
from lifecycle.postgres.durability import transaction
from lifecycle.postgres.subjects import load_cards

OPERATIONS_LISTED_MAX = 50

# The newest row of each operation is its status now. `$3` moves the clock, in development only.
_VISIBLE = """
    WITH by_operation AS (
        SELECT DISTINCT ON (operation_id) operation_id, payload, status, start_time, expires_at,
            min(seq) OVER (PARTITION BY operation_id) AS first_seq
        FROM operation WHERE issuer_id = $1 AND aggregateid = $2
        ORDER BY operation_id, seq DESC
    ), visible AS (
        SELECT * FROM by_operation
        WHERE status = 'PENDING' OR expires_at > now() + $3 * interval '1 second'
    )
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationsPage:
    """Some operations of a subject, newest first, as the events that tell their status now."""

    events: list[bytes]
    remaining: int
    """How many older ones are left."""


async def find_card(pool: Pool, issuer_id: str, card_id: str) -> tuple[Card, int] | None:
    """A card and its version; None when the issuer has no such card."""
    found = (await load_cards(pool, [(issuer_id, card_id)])).get((issuer_id, card_id))
    return None if found is None else (found[0], found[1].version)


async def list_operations(  # noqa: PLR0913 - the parameters of domain.md 5
    pool: Pool, issuer_id: str, key: str, *, offset: int, limit: int, clock_offset_seconds: int
) -> OperationsPage:
    """A page of the operations of the subject with this event key (domain.md 5)."""
    assert offset >= 0, "the caller checks this"
    assert 1 <= limit <= OPERATIONS_LISTED_MAX, "the caller checks this"
    total, events = await pool.fetchrow(
        _VISIBLE  # noqa: S608 - two constants
        + """
        SELECT (SELECT count(*) FROM visible), ARRAY(
            SELECT payload FROM visible
            ORDER BY start_time DESC, first_seq DESC LIMIT $5 OFFSET $4)
        """,
        issuer_id,
        key,
        clock_offset_seconds,
        offset,
        limit,
    )
    return OperationsPage(events=events, remaining=max(0, total - offset - len(events)))


async def find_operation(
    pool: Pool, issuer_id: str, key: str, operation_id: UUID, *, clock_offset_seconds: int
) -> bytes | None:
    """One operation of a subject, as the event that tells its status now; None when it is gone."""
    found: bytes | None = await pool.fetchval(
        """
        -- The rows of one operation first: in the order of `seq` all of its card would be read.
        WITH told AS MATERIALIZED (
            SELECT seq, payload, status, expires_at FROM operation
            WHERE issuer_id = $1 AND operation_id = $4 AND aggregateid = $2
        ), newest AS (
            SELECT * FROM told ORDER BY seq DESC LIMIT 1
        )
        SELECT payload FROM newest
        WHERE status = 'PENDING' OR expires_at > now() + $3 * interval '1 second'
        """,
        issuer_id,
        key,
        clock_offset_seconds,
        operation_id,
    )
    return found


async def has_operations(pool: Pool) -> bool:
    """Whether anything was ever recorded and is still kept."""
    return bool(await pool.fetchval("SELECT EXISTS (SELECT FROM operation)"))


async def knows_operation(pool: Pool, issuer_id: str, operation_id: UUID) -> bool:
    """Whether the log holds an operation, visible or not."""
    return bool(
        await pool.fetchval(
            "SELECT EXISTS (SELECT FROM operation WHERE issuer_id = $1 AND operation_id = $2)",
            issuer_id,
            operation_id,
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What became of every record that was taken, replies among them, and what the log holds."""

    records: int
    operations: int
    """Commands that led to an operation of their own; those that it caused are not among them."""
    duplicates: int
    ignored: int
    dead_letters: int
    logged: int
    """Rows of the log: each is one event."""
    logged_of_commands: int
    dead_letters_stored: int
    by_status: dict[str, int]
    by_error_code: dict[str, int]
    dead_letters_by_code: dict[str, int]


async def load_totals(pool: Pool) -> Totals:
    """The sums over the whole database: for a sample day, not for a bank's database."""
    async with transaction(pool, isolation="repeatable read") as connection:
        taken = await connection.fetchrow(
            "SELECT coalesce(sum(records), 0)::bigint AS records,"
            " coalesce(sum(operations), 0)::bigint AS operations,"
            " coalesce(sum(duplicates), 0)::bigint AS duplicates,"
            " coalesce(sum(ignored), 0)::bigint AS ignored,"
            " coalesce(sum(dead_letters), 0)::bigint AS dead_letters FROM intake_batch"
        )
        logged = await connection.fetchrow(
            "SELECT count(*) AS all, count(*) FILTER (WHERE NOT caused) AS of_commands"
            " FROM operation"
        )
        by_status = await connection.fetch(
            "SELECT status, count(*) FROM operation GROUP BY status ORDER BY count(*) DESC, status"
        )
        by_error_code = await connection.fetch(
            """
            SELECT convert_from(payload, 'UTF8')::jsonb #>> '{operation,errorCode}' AS code,
                count(*)
            FROM operation WHERE status = 'FAILED' GROUP BY code ORDER BY count(*) DESC, code
            """
        )
        dead_letters = await connection.fetch(
            "SELECT code, count(*) FROM dead_letter GROUP BY code ORDER BY count(*) DESC, code"
        )
    dead_letters_by_code = {row[0]: row[1] for row in dead_letters}
    return Totals(
        **dict(taken.items()),
        logged=logged["all"],
        logged_of_commands=logged["of_commands"],
        dead_letters_stored=sum(dead_letters_by_code.values()),
        by_status={row[0]: row[1] for row in by_status},
        by_error_code={row[0]: row[1] for row in by_error_code},
        dead_letters_by_code=dead_letters_by_code,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far intake and publication are."""

    positions: dict[Partition, int]
    """The offset that is taken next, of each partition that was ever taken."""
    is_published: bool
    """Every event and dead letter that is committed is on its topic, and noted so."""
    owes_nothing: bool
    """No operation waits for an outside party, no cascade or due timer waits to be sent."""


async def load_progress(pool: Pool, *, clock_offset_seconds: int) -> Progress:
    """How far everything is, at one moment."""
    row = await pool.fetchrow(
        """
        SELECT ARRAY(
                SELECT (source, partition, next_offset) FROM lane_in
            ) AS positions,
            NOT (
                EXISTS (SELECT FROM pending_operation) OR EXISTS (SELECT FROM cascade)
                OR EXISTS (
                    SELECT FROM timer
                    WHERE due_ms <= extract(epoch FROM now() + $1 * interval '1 second') * 1000
                )
            ) AS owes_nothing,
            NOT EXISTS (
                SELECT FROM lane_out JOIN lane_pub USING (partition)
                WHERE published_seq < last_seq OR dead_letter_offset < (
                    SELECT max(command_offset) FROM dead_letter
                    WHERE source = 'commands' AND dead_letter.partition = lane_out.partition
                ) OR reply_dead_letter_offset < (
                    SELECT max(command_offset) FROM dead_letter
                    WHERE source = 'replies' AND dead_letter.partition = lane_out.partition)
            ) AS is_published
        """,
        clock_offset_seconds,
    )
    return Progress(
        positions={
            Partition(Source(source), number): offset for source, number, offset in row["positions"]
        },
        is_published=row["is_published"],
        owes_nothing=row["owes_nothing"],
    )
