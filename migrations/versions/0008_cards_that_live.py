"""Cards that have left are no longer read: indexes of those that live, of a consumer and of a card.

A consumer or a real card may have had any number of cards before. The indexes leave out the ended
ones by a column of its own, which is written once in a card's life: with `state` in their predicate
every change of state would touch every index of its card.

Restartable. A worker of the version before goes on meanwhile, and uses the indexes that it knows:
they go with a later version.
"""

from typing import Any

import psycopg
from alembic import op

from lifecycle.postgres.moments import driver_of, in_a_moment, without_haste

revision = "0008"
down_revision = "0007"

_BLOCKS_AT_ONCE = 2_000  # 16 MiB of the table in one transaction

_COLUMN = "ALTER TABLE card ADD COLUMN IF NOT EXISTS has_ended boolean NOT NULL DEFAULT false"
# A row that a worker holds is passed over, so that nobody waits: every statement that uses the
# indexes asks for the state as well.
_NOTE_ENDED = """
    UPDATE card SET has_ended = true WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM card WHERE ctid >= %(first)s::tid AND ctid < %(behind)s::tid
            AND state IN ('RENEWED', 'REPLACED', 'DELETED') AND NOT has_ended
        FOR UPDATE SKIP LOCKED))
"""
_INDEXES = {
    "card_living_by_consumer": "(issuer_id, consumer_id, card_id) WHERE NOT has_ended",
    "card_living_by_real_card": "(issuer_id, real_card_id, real_card_incarnation, card_id)"
    " WHERE NOT has_ended AND real_card_id IS NOT NULL",
}
_IS_THERE = "SELECT FROM pg_index WHERE indexrelid = to_regclass(%s) AND indisvalid"


def upgrade() -> None:
    """Add the column, note the cards that have ended, build the indexes."""
    with op.get_context().autocommit_block():
        driver = driver_of(op.get_bind())
        in_a_moment(driver, lambda: _COLUMN)
        _note_ended(driver)
        for name, definition in _INDEXES.items():
            if driver.execute(_IS_THERE, [name]).fetchone() is None:
                # What a build that was broken off has left.
                without_haste(driver, f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
                without_haste(driver, f"CREATE INDEX CONCURRENTLY {name} ON card {definition}")


def _note_ended(driver: psycopg.Connection[Any]) -> None:
    found = driver.execute(
        "SELECT pg_relation_size('card') / current_setting('block_size')::bigint"
    ).fetchone()
    assert found is not None, "a table has a size"
    for first in range(0, found[0], _BLOCKS_AT_ONCE):
        driver.execute(
            _NOTE_ENDED, {"first": f"({first},0)", "behind": f"({first + _BLOCKS_AT_ONCE},0)"}
        )
    if found[0]:
        # The planner should know the column. Of an empty table it had better know nothing: it
        # would plan as if the table stayed empty.
        without_haste(driver, "ANALYZE card (has_ended)")
