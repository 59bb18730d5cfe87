"""The timers of cards: stored with the card, taken out when their command was sent.

A row is written in the transaction of its card, under the card's lane lock; whoever sends the due
ones only reads and deletes, and waits for nobody.
"""

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg


class TimerRow(NamedTuple):
    """A command `kind` that is to be sent for the card from `due_ms` (UTC) on."""

    issuer_id: str
    card_id: str
    kind: str
    due_ms: int
    command_id: str


class TimerKey(NamedTuple):
    """A card has one timer of each kind at most."""

    issuer_id: str
    card_id: str
    kind: str


async def store_timers(
    connection: asyncpg.Connection, stored: Sequence[TimerRow], dropped: Sequence[TimerKey]
) -> None:
    """Keep the timers in `stored`, in place of others of their kind, and none of `dropped`."""
    if dropped:
        await connection.execute(
            """
            DELETE FROM timer USING unnest($1::text[], $2::text[], $3::text[])
                AS u(issuer_id, card_id, kind)
            WHERE timer.issuer_id = u.issuer_id AND timer.card_id = u.card_id
                AND timer.kind = u.kind
            """,
            [key.issuer_id for key in dropped],
            [key.card_id for key in dropped],
            [key.kind for key in dropped],
        )
    if stored:
        await connection.execute(
            """
            INSERT INTO timer (issuer_id, card_id, kind, due_ms, command_id)
            SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[])
            ON CONFLICT (issuer_id, card_id, kind)
                DO UPDATE SET due_ms = excluded.due_ms, command_id = excluded.command_id
            """,
            *_columns(stored),
        )


async def load_due(connection: asyncpg.Connection, now_ms: int, timers_max: int) -> list[TimerRow]:
    """The timers that are due at `now_ms`, the oldest first."""
    rows = await connection.fetch(
        "SELECT issuer_id, card_id, kind, due_ms, command_id FROM timer"
        " WHERE due_ms <= $1 ORDER BY due_ms LIMIT $2",
        now_ms,
        timers_max,
    )
    return [TimerRow(*row) for row in rows]


async def delete_sent(pool: asyncpg.Pool, sent: Sequence[TimerRow]) -> None:
    """Forget timers whose command was sent, unless their card has got a new one of the kind.

    A row that a transaction holds is passed over: waiting here, with other rows locked, could be a
    deadlock. That transaction drops the timer, or it fires once more.
    """
    await pool.execute(
        """
        DELETE FROM timer WHERE ctid = ANY (ARRAY(
            SELECT timer.ctid
            FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[])
                AS u(issuer_id, card_id, kind, due_ms, command_id)
            JOIN timer USING (issuer_id, card_id, kind, due_ms, command_id)
            FOR UPDATE OF timer SKIP LOCKED))
        """,
        *_columns(sent),
    )


async def count_due(pool: asyncpg.Pool, now_ms: int, count_max: int) -> int:
    """How many timers are due at `now_ms`; no more than `count_max` are counted."""
    return int(
        await pool.fetchval(
            "SELECT count(*) FROM (SELECT FROM timer WHERE due_ms <= $1 LIMIT $2) AS due",
            now_ms,
            count_max,
        )
    )


def _columns(timers: Sequence[TimerRow]) -> tuple[list[str] | list[int], ...]:
    return (
        [timer.issuer_id for timer in timers],
        [timer.card_id for timer in timers],
        [timer.kind for timer in timers],
        [timer.due_ms for timer in timers],
        [timer.command_id for timer in timers],
    )
