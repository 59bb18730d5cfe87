"""A cascade keeps what its commands carry on from their cause."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the columns; cascades that are open carry nothing on."""
    op.execute("""
    ALTER TABLE cascade
        ADD COLUMN correlation_id        text,
        ADD COLUMN traceparent           text;
    """)
