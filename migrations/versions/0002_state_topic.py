"""Marks the operations that changed a card: they are told on the compacted state topic too.

Operations of before it are not told again; a card appears there with its next change.
"""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the mark."""
    op.execute(
        "ALTER TABLE operation ADD COLUMN changes_card boolean NOT NULL DEFAULT false",
    )
