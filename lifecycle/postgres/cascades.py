"""Cascades: whose cards are to be deleted, and how far they were told.

One row stands for all of the cards, however many: it is written in the transaction of its cause,
and the cards are paged through afterwards by index.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import asyncpg


class CascadeRow(NamedTuple):
    """The cause, and whose cards it deletes: those of a consumer, or the virtual ones of a card.

    `real_card_incarnation`: the life of the real card that has ended.

    `partition` is where the cause's command lies: the owner of it sends the DELETEs.
    """

    partition: int
    issuer_id: str
    operation_id: UUID
    consumer_id: str | None
    real_card_id: str | None
    real_card_incarnation: int | None
    reason_code: str


class OpenCascade(NamedTuple):
    """A cascade whose cards up to `after_card_id` were told."""

    issuer_id: str
    operation_id: UUID
    consumer_id: str | None
    real_card_id: str | None
    real_card_incarnation: int | None
    reason_code: str
    after_card_id: str


async def insert_cascades(connection: asyncpg.Connection, rows: Sequence[CascadeRow]) -> None:
    """Store cascades that have a card to delete; most cards that leave have no virtual card.

    Runs after the batch's own cards were stored, and so sees every card that there will ever be:
    whoever creates a card for a consumer holds its row FOR SHARE until the commit, and this
    transaction has locked it FOR UPDATE in an earlier statement. All of those have committed,
    therefore, and those that come later find the consumer DELETED. For virtual cards the home lane
    of the real card is what both lock. What is true here is true when the pages are read, later.
    """
    await connection.execute(
        """
        WITH u AS (
            SELECT * FROM unnest($1::integer[], $2::text[], $3::uuid[], $4::text[], $5::text[],
                $6::integer[], $7::text[])
                AS u(partition, issuer_id, operation_id, consumer_id, real_card_id,
                real_card_incarnation, reason_code)
        )
        INSERT INTO cascade (partition, issuer_id, operation_id, consumer_id, real_card_id,
            real_card_incarnation, reason_code)
        SELECT u.* FROM u, LATERAL (
            SELECT FROM card WHERE card.issuer_id = u.issuer_id
                AND card.consumer_id = u.consumer_id
                AND card.state NOT IN ('RENEWED', 'REPLACED', 'DELETED') LIMIT 1) AS one
        UNION ALL
        SELECT u.* FROM u, LATERAL (
            SELECT FROM card WHERE card.issuer_id = u.issuer_id
                AND card.real_card_id = u.real_card_id
                AND card.real_card_incarnation = u.real_card_incarnation
                AND card.state NOT IN ('RENEWED', 'REPLACED', 'DELETED') LIMIT 1) AS one
        """,
        [row.partition for row in rows],
        [row.issuer_id for row in rows],
        [row.operation_id for row in rows],
        [row.consumer_id for row in rows],
        [row.real_card_id for row in rows],
        [row.real_card_incarnation for row in rows],
        [row.reason_code for row in rows],
    )


async def load_open(
    pool: asyncpg.Pool, partitions: Sequence[int], cascades_max: int
) -> list[OpenCascade]:
    """The oldest cascades of these partitions that are not finished."""
    rows = await pool.fetch(
        "SELECT issuer_id, operation_id, consumer_id, real_card_id, real_card_incarnation,"
        " reason_code, after_card_id FROM cascade WHERE partition = ANY($1)"
        " ORDER BY recorded_at LIMIT $2",
        partitions,
        cascades_max,
    )
    return [OpenCascade(*row) for row in rows]


async def load_page(
    pool: asyncpg.Pool, cascade: OpenCascade, cards_max: int
) -> list[tuple[str, int]]:
    """The next cards, by id, each with its life; those that have left already are not among them.

    A virtual card stands for one life of a card: of what stands for a later one, nothing is told.
    """
    if cascade.consumer_id is not None:
        rows = await pool.fetch(
            """
            SELECT card_id, incarnation FROM card
            WHERE issuer_id = $1 AND consumer_id = $2 AND card_id > $3
                AND state NOT IN ('RENEWED', 'REPLACED', 'DELETED')
            ORDER BY card_id LIMIT $4
            """,
            cascade.issuer_id,
            cascade.consumer_id,
            cascade.after_card_id,
            cards_max,
        )
    else:
        rows = await pool.fetch(
            """
            SELECT card_id, incarnation FROM card
            WHERE issuer_id = $1 AND real_card_id = $2 AND real_card_incarnation = $3
                AND card_id > $4 AND state NOT IN ('RENEWED', 'REPLACED', 'DELETED')
            ORDER BY card_id LIMIT $5
            """,
            cascade.issuer_id,
            cascade.real_card_id,
            cascade.real_card_incarnation,
            cascade.after_card_id,
            cards_max,
        )
    return [(row[0], row[1]) for row in rows]


async def move_on(pool: asyncpg.Pool, cascade: OpenCascade, after_card_id: str) -> None:
    """Note that the cards up to `after_card_id` were told, unless another worker noted more."""
    await pool.execute(
        "UPDATE cascade SET after_card_id = $4"
        " WHERE issuer_id = $1 AND operation_id = $2 AND after_card_id = $3",
        cascade.issuer_id,
        cascade.operation_id,
        cascade.after_card_id,
        after_card_id,
    )


async def finish(pool: asyncpg.Pool, cascade: OpenCascade) -> None:
    """Forget a cascade all of whose cards were told."""
    await pool.execute(
        "DELETE FROM cascade WHERE issuer_id = $1 AND operation_id = $2",
        cascade.issuer_id,
        cascade.operation_id,
    )
