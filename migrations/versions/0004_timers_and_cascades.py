"""What the service still has to send itself: the timers of cards, and cascades of deletions.

The timers of cards that are already there are dated too early rather than too late: before the end
of their month in any time zone. One that fires too early is ignored and then dated exactly.
"""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create both tables, and the timers of the cards that are there."""
    op.execute("""
    CREATE TABLE cascade (
        issuer_id            text    NOT NULL,
        operation_id         uuid    NOT NULL,  -- the cause
        partition            integer NOT NULL,  -- of the cause's command: its owner sends
        consumer_id          text,              -- whose cards are deleted,
        real_card_id         text,              -- or whose virtual cards
        reason_code          text    NOT NULL,
        after_card_id        text    NOT NULL DEFAULT '',  -- the last card that was told
        recorded_at          timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (issuer_id, operation_id),
        CHECK ((consumer_id IS NULL) <> (real_card_id IS NULL))
    );
    CREATE INDEX cascade_by_partition ON cascade (partition, recorded_at);

    CREATE TABLE timer (
        issuer_id            text    NOT NULL,
        card_id              text    NOT NULL,
        kind                 text    NOT NULL,  -- the command: EXPIRE, AUTO_RENEW, DELETE_DUE
        due_ms               bigint  NOT NULL,
        command_id           text    NOT NULL,
        PRIMARY KEY (issuer_id, card_id, kind)
    );
    CREATE INDEX timer_by_due ON timer (due_ms);
    """)
    # 14 hours: no time zone is further ahead of UTC.
    op.execute("""
    WITH living AS (
        SELECT *, (extract(epoch FROM
            make_date(2000 + right(exp, 2)::integer, left(exp, 2)::integer, 1)
            + interval '1 month' - interval '14 hours') * 1000)::bigint AS ends_ms
        FROM card WHERE state NOT IN ('RENEWED', 'REPLACED', 'DELETED')
    )
    INSERT INTO timer (issuer_id, card_id, kind, due_ms, command_id)
    SELECT issuer_id, card_id, 'EXPIRE', ends_ms, 'EXPIRE:' || exp || ':' || incarnation
    FROM living WHERE exp IS NOT NULL AND state <> 'EXPIRED'
    UNION ALL
    SELECT issuer_id, card_id, 'AUTO_RENEW',
        ends_ms - (terms ->> 'auto_renew_days')::bigint * 86400000,
        'AUTO_RENEW:' || exp || ':' || incarnation
    FROM living WHERE exp IS NOT NULL AND state = 'ACTIVE' AND origin = 'ISSUED'
        AND (terms ->> 'auto_renew')::boolean
    UNION ALL
    SELECT issuer_id, card_id, 'DELETE_DUE', delete_at_ms,
        'DELETE_DUE:' || delete_at_ms || ':' || incarnation
    FROM living WHERE delete_at_ms IS NOT NULL
    """)
