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

    `partition` is where the cause's command lies: the owner of it sends the DELETEs, which carry on
    the `correlation_id` and the `traceparent` of the cause.
    """

    partition: int
    issuer_id: str
    operation_id: UUID
    consumer_id: str | None
    real_card_id: str | None
    real_card_incarnation: int | None
    reason_code: str
    correlation_id: str | None
    traceparent: str | None


class OpenCascade(NamedTuple):
    """A cascade whose cards up to `after_card_id` were told."""

    issuer_id: str
    operation_id: UUID
    consumer_id: str | None
    real_card_id: str | None
    real_card_incarnation: int | None
    reason_code: str
    correlation_id: str | None
    traceparent: str | None
    after_card_id: str


class LivingCard(NamedTuple):
    """A card, and the life of it that is meant."""

    card_id: str
    incarnation: int


async def insert_cascades(connection: asyncpg.Connection, rows: Sequence[CascadeRow]) -> None:
    """Store cascades; of a card only if it has a virtual card that lives, which most have not.

    No more is read than one card of each, and none is locked, however many there are: those that
    have left already are passed over when the pages are read.

    Runs after the batch's own cards were stored, and so sees every card that there will ever be:
    whoever creates a card for a consumer holds its row FOR SHARE until the commit, and this
    transaction has locked it FOR UPDATE in an earlier statement. All of those have committed,
    therefore, and those that come later find the consumer DELETED. For virtual cards the home lane
    of the real card is what both lock. What is true here is true when the pages are read, later.
    """
    await connection.execute(
        """
        INSERT INTO cascade (partition, issuer_id, operation_id, consumer_id, real_card_id,
            real_card_incarnation, reason_code, correlation_id, traceparent)
        SELECT * FROM unnest($1::integer[], $2::text[], $3::uuid[], $4::text[], $5::text[],
                $6::integer[], $7::text[], $8::text[], $9::text[])
            AS u(partition, issuer_id, operation_id, consumer_id, real_card_id,
                real_card_incarnation, reason_code, correlation_id, traceparent)
        WHERE consumer_id IS NOT NULL OR EXISTS (
            SELECT FROM card
            WHERE card.issuer_id = u.issuer_id AND card.real_card_id = u.real_card_id
                AND card.real_card_incarnation = u.real_card_incarnation AND NOT card.has_ended)
        """,
        *zip(*rows, strict=True),
    )


async def load_open(
    connection: asyncpg.Connection, partitions: Sequence[int], cascades_max: int
) -> list[OpenCascade]:
    """The oldest cascades of these partitions that are not finished."""
    rows = await connection.fetch(
        # Of each partition by itself, so that no more than so many are read of however many.
        """
        SELECT issuer_id, operation_id, consumer_id, real_card_id, real_card_incarnation,
            reason_code, correlation_id, traceparent, after_card_id
        FROM unnest($1::integer[]) AS u(partition), LATERAL (
            SELECT * FROM cascade WHERE cascade.partition = u.partition
            ORDER BY recorded_at LIMIT $2) AS oldest
        ORDER BY recorded_at LIMIT $2
        """,
        partitions,
        cascades_max,
    )
    return [OpenCascade(*row) for row in rows]


async def load_pages(
    connection: asyncpg.Connection, cascades: Sequence[OpenCascade], cards_max: int
) -> list[list[LivingCard]]:
    """The next cards of each cascade by their ids, `cards_max` at most, none that has left.

    A virtual card stands for one life of a card: of what stands for a later one, nothing is told.
    """
    rows = await connection.fetch(
        """
        SELECT cascade, card_id, incarnation
        FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::text[])
            WITH ORDINALITY AS u(issuer_id, consumer_id, real_card_id, real_card_incarnation,
                after_card_id, cascade),
        LATERAL (
            (SELECT card_id, incarnation FROM card
                WHERE card.issuer_id = u.issuer_id AND card.consumer_id = u.consumer_id
                AND card.card_id > u.after_card_id AND NOT card.has_ended
                AND state NOT IN ('RENEWED', 'REPLACED', 'DELETED')
                ORDER BY card_id LIMIT $6)
            UNION ALL
            (SELECT card_id, incarnation FROM card
                WHERE card.issuer_id = u.issuer_id AND card.real_card_id = u.real_card_id
                AND card.real_card_incarnation = u.real_card_incarnation
                AND card.card_id > u.after_card_id AND NOT card.has_ended
                AND state NOT IN ('RENEWED', 'REPLACED', 'DELETED')
                ORDER BY card_id LIMIT $6)
        ) AS page
        ORDER BY cascade, card_id
        """,
        [cascade.issuer_id for cascade in cascades],
        [cascade.consumer_id for cascade in cascades],
        [cascade.real_card_id for cascade in cascades],
        [cascade.real_card_incarnation for cascade in cascades],
        [cascade.after_card_id for cascade in cascades],
        cards_max,
    )
    pages: list[list[LivingCard]] = [[] for _ in cascades]
    for ordinality, card_id, incarnation in rows:
        pages[ordinality - 1].append(LivingCard(card_id, incarnation))
    return pages


async def move_on(pool: asyncpg.Pool, told: Sequence[tuple[OpenCascade, str]]) -> None:
    """Note up to which card each cascade was told, unless another worker noted more."""
    await pool.execute(
        """
        UPDATE cascade SET after_card_id = u.told
        FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[])
            AS u(issuer_id, operation_id, after_card_id, told)
        WHERE cascade.issuer_id = u.issuer_id AND cascade.operation_id = u.operation_id
            AND cascade.after_card_id = u.after_card_id
        """,
        [cascade.issuer_id for cascade, _ in told],
        [cascade.operation_id for cascade, _ in told],
        [cascade.after_card_id for cascade, _ in told],
        [card_id for _, card_id in told],
    )


async def finish(pool: asyncpg.Pool, cascades: Sequence[OpenCascade]) -> None:
    """Forget cascades all of whose cards were told."""
    await pool.execute(
        """
        DELETE FROM cascade USING unnest($1::text[], $2::uuid[]) AS u(issuer_id, operation_id)
        WHERE cascade.issuer_id = u.issuer_id AND cascade.operation_id = u.operation_id
        """,
        [cascade.issuer_id for cascade in cascades],
        [cascade.operation_id for cascade in cascades],
    )


async def count_open(pool: asyncpg.Pool, partitions: Sequence[int], count_max: int) -> int:
    """How many cascades of these partitions are not finished; no more than `count_max`."""
    return int(
        await pool.fetchval(
            "SELECT count(*) FROM (SELECT FROM cascade WHERE partition = ANY($1) LIMIT $2) AS open",
            partitions,
            count_max,
        )
    )
