"""Cards that have left are no longer read: indexes of those that live, of a consumer and of a card.

A consumer or a real card may have had any number of cards before. The indexes leave out the ended
ones by a column of its own, which is written once in a card's life: with `state` in their predicate
every change of state would touch every index of its card.

Restartable. A worker of the version before goes on meanwhile, and uses the indexes that it knows:
they go with a later version.
"""

from alembic import op
from sqlalchemy import Connection, text

revision = "0008"
down_revision = "0007"

_BLOCKS_AT_ONCE = 2_000  # 16 MiB of the table in one transaction

# A row that a worker holds is passed over, so that nobody waits: every statement that uses the
# indexes asks for the state as well.
_NOTE_ENDED = text("""
    UPDATE card SET has_ended = true WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM card
        WHERE ctid >= CAST(:first AS tid) AND ctid < CAST(:behind AS tid)
            AND state IN ('RENEWED', 'REPLACED', 'DELETED') AND NOT has_ended
        FOR UPDATE SKIP LOCKED))
""")

_INDEXES = {
    "card_living_by_consumer": """
        CREATE INDEX CONCURRENTLY IF NOT EXISTS card_living_by_consumer
            ON card (issuer_id, consumer_id, card_id) WHERE NOT has_ended
    """,
    "card_living_by_real_card": """
        CREATE INDEX CONCURRENTLY IF NOT EXISTS card_living_by_real_card
            ON card (issuer_id, real_card_id, real_card_incarnation, card_id)
            WHERE NOT has_ended AND real_card_id IS NOT NULL
    """,
}
_IS_LEFT_INVALID = text(
    "SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass(:name) AND NOT indisvalid)"
)


def upgrade() -> None:
    """Add the column, note the cards that have ended, build the indexes."""
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        connection.execute(
            text(
                "ALTER TABLE card ADD COLUMN IF NOT EXISTS has_ended boolean NOT NULL DEFAULT false"
            )
        )
        _note_ended(connection)
        # Nobody waits for who builds an index, and he waits for every transaction that is open.
        lock_timeout = connection.execute(text("SHOW lock_timeout")).scalar_one()
        connection.execute(text("SET lock_timeout = 0"))
        for name, statement in _INDEXES.items():
            if connection.execute(_IS_LEFT_INVALID, {"name": name}).scalar_one():
                connection.execute(text(f"DROP INDEX CONCURRENTLY {name}"))
            connection.execute(text(statement))
        connection.execute(
            text("SELECT set_config('lock_timeout', :before, false)"), {"before": lock_timeout}
        )


def _note_ended(connection: Connection) -> None:
    blocks = connection.execute(
        text("SELECT pg_relation_size('card') / current_setting('block_size')::bigint")
    ).scalar_one()
    for first in range(0, blocks, _BLOCKS_AT_ONCE):
        connection.execute(
            _NOTE_ENDED,
            {"first": f"({first},0)", "behind": f"({first + _BLOCKS_AT_ONCE},0)"},
        )
    if blocks:
        # The planner should know the column. Of an empty table it had better know nothing: it
        # would plan as if the table stayed empty.
        connection.execute(text("ANALYZE card (has_ended)"))
