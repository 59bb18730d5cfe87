"""What a card keeps beside its number, and which operations are told on the state topic.

Operations of before it are not told there again; a card appears with its next change.
"""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns."""
    op.execute("""
    ALTER TABLE operation ADD COLUMN changes_card boolean NOT NULL DEFAULT false;
    ALTER TABLE card
        ADD COLUMN has_auxiliary_pan     boolean NOT NULL DEFAULT false,
        ADD COLUMN auxiliary_exp         text,
        ADD COLUMN pending_auxiliary_exp text,
        ADD COLUMN real_card_id          text;
    CREATE INDEX card_by_real_card ON card (issuer_id, real_card_id, card_id)
        WHERE real_card_id IS NOT NULL;
    CREATE INDEX card_by_consumer ON card (issuer_id, consumer_id, card_id);
    """)
