"""PENDING operations: what waits for an outside party, what it is asked, and its replies.

Replies are taken in as commands are, so every table that counts records says from which topic.
"""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the tables and columns."""
    op.execute("""
    ALTER TABLE lane_in ADD COLUMN source text NOT NULL DEFAULT 'commands'
        CHECK (source IN ('commands', 'replies'));
    ALTER TABLE lane_in DROP CONSTRAINT lane_in_pkey, ADD PRIMARY KEY (source, partition);
    ALTER TABLE lane_in ALTER COLUMN source DROP DEFAULT;

    ALTER TABLE intake_batch ADD COLUMN source text NOT NULL DEFAULT 'commands'
        CHECK (source IN ('commands', 'replies'));
    ALTER TABLE intake_batch DROP CONSTRAINT intake_batch_pkey,
        ADD PRIMARY KEY (source, partition, from_offset);
    ALTER TABLE intake_batch ALTER COLUMN source DROP DEFAULT;

    -- `command_offset` is an offset of the topic that `source` names.
    ALTER TABLE dead_letter ADD COLUMN source text NOT NULL DEFAULT 'commands'
        CHECK (source IN ('commands', 'replies'));
    ALTER TABLE dead_letter DROP CONSTRAINT dead_letter_pkey,
        ADD PRIMARY KEY (source, partition, command_offset);
    ALTER TABLE dead_letter ALTER COLUMN source DROP DEFAULT;
    ALTER TABLE lane_pub ADD COLUMN reply_dead_letter_offset bigint NOT NULL DEFAULT -1;

    ALTER TABLE card
        ADD COLUMN controls              text,   -- RFC 8785 JSON, as the domain compares it
        ADD COLUMN limits                text,
        ADD COLUMN click_to_pay          boolean NOT NULL DEFAULT false;
    """)
    op.execute("""
    -- Whole, because the log may have dropped the row that began it by the time it ends. Written
    -- and deleted under the lock of the card's lane. Never a card number: no command with one
    -- waits.
    CREATE TABLE pending_operation (
        issuer_id            text    NOT NULL,
        operation_id         uuid    NOT NULL,
        card_id              text    NOT NULL,
        kind                 text    NOT NULL,
        command              jsonb   NOT NULL,
        content_hash         bytea   NOT NULL,
        incarnation          integer NOT NULL,
        start_time_ms        bigint  NOT NULL,
        deadline_ms          bigint  NOT NULL,
        command_partition    integer NOT NULL,
        command_offset       bigint  NOT NULL,
        traceparent          text,
        time_out_sent        boolean NOT NULL DEFAULT false,
        PRIMARY KEY (issuer_id, operation_id)
    );
    CREATE INDEX pending_operation_by_card ON pending_operation (issuer_id, card_id);
    CREATE INDEX pending_operation_by_deadline ON pending_operation (deadline_ms)
        WHERE NOT time_out_sent;

    -- Requests to outside parties that Kafka has not acknowledged yet (design.md 7.8).
    CREATE TABLE dispatch (
        partition            integer NOT NULL,  -- of the command; its owner sends
        command_offset       bigint  NOT NULL,
        ordinal              integer NOT NULL,
        topic                text    NOT NULL,
        key                  text    NOT NULL,
        value                bytea   NOT NULL,
        PRIMARY KEY (partition, command_offset, ordinal)
    );
    """)
