"""Which life of its real card a virtual card stands for, and a cascade ends.

The id of a real card may begin a new life while the virtual cards of the last one are still being
deleted; those of the new one stay.
"""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the columns."""
    op.execute("""
    ALTER TABLE card ADD COLUMN real_card_incarnation integer;
    UPDATE card SET real_card_incarnation = real.incarnation FROM card AS real
        WHERE real.issuer_id = card.issuer_id AND real.card_id = card.real_card_id;
    ALTER TABLE card ADD CHECK ((real_card_id IS NULL) = (real_card_incarnation IS NULL));

    ALTER TABLE cascade ADD COLUMN real_card_incarnation integer;
    UPDATE cascade SET real_card_incarnation = real.incarnation FROM card AS real
        WHERE real.issuer_id = cascade.issuer_id AND real.card_id = cascade.real_card_id;
    ALTER TABLE cascade ADD CHECK ((real_card_id IS NULL) = (real_card_incarnation IS NULL));
    """)
