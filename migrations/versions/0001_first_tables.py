"""Cards, consumers, products, the operation log that is the outbox, and the three lane tables.

Forward only: there is no downgrade, because a recorded operation is never unrecorded. Time stamps
of the domain are milliseconds since the epoch, `…_ms`; `recorded_at` is this server's clock.
"""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create everything."""
    op.execute("""
    -- Three lane tables and never one row: intake, numbering and publication move at different
    -- times and under different locks (design.md 7). The rows are few, small and hot.
    CREATE TABLE lane_in (
        partition            integer PRIMARY KEY,
        next_offset          bigint  NOT NULL,  -- of the command topic: the first not taken yet
        last_record_offset   bigint,            -- the last taken, and a hash of it: a topic that
        last_record_hash     bytea              -- was made again is noticed by comparing
    ) WITH (fillfactor = 10);
    CREATE TABLE lane_out (
        partition            integer PRIMARY KEY,
        last_seq             bigint  NOT NULL DEFAULT 0
    ) WITH (fillfactor = 10);
    CREATE TABLE lane_pub (
        partition            integer PRIMARY KEY,
        published_seq        bigint  NOT NULL DEFAULT 0,
        dead_letter_offset   bigint  NOT NULL DEFAULT -1  -- of the last dead letter published
    ) WITH (fillfactor = 10);

    CREATE TABLE intake_batch (
        partition            integer NOT NULL,
        from_offset          bigint  NOT NULL,
        to_offset            bigint  NOT NULL,
        recorded_at          timestamptz NOT NULL DEFAULT now(),
        records              integer NOT NULL,
        operations           integer NOT NULL,
        duplicates           integer NOT NULL,
        ignored              integer NOT NULL,
        dead_letters         integer NOT NULL,
        foreign_partition    integer NOT NULL,
        PRIMARY KEY (partition, from_offset),
        CHECK (from_offset < to_offset),
        CHECK (records = operations + duplicates + ignored + dead_letters)  -- G1
    );

    CREATE TABLE dead_letter (
        partition            integer NOT NULL,  -- of the command topic, and of the dead letter
        command_offset       bigint  NOT NULL,
        recorded_at          timestamptz NOT NULL DEFAULT now(),
        code                 text    NOT NULL,
        error                text    NOT NULL,
        key                  bytea,
        value                bytea,
        headers              bytea   NOT NULL,  -- JSON: a Kafka header may hold what text cannot
        PRIMARY KEY (partition, command_offset)
    );

    CREATE TABLE consumer (
        issuer_id            text    NOT NULL,
        consumer_id          text    NOT NULL,
        state                text,   -- null: a row that only serves as a lock, no consumer yet
        version              bigint  NOT NULL,
        version_time_ms      bigint,
        last_time_ms         bigint,
        last_hash            bytea,
        command_count        bigint  NOT NULL,
        recent_commands      bytea   NOT NULL,
        PRIMARY KEY (issuer_id, consumer_id)
    ) WITH (fillfactor = 80);

    CREATE TABLE card_product (
        issuer_id            text    NOT NULL,
        card_product_id      text    NOT NULL,
        terms                jsonb   NOT NULL,
        version              bigint  NOT NULL,
        version_time_ms      bigint,
        last_time_ms         bigint,
        last_hash            bytea,
        command_count        bigint  NOT NULL,
        recent_commands      bytea   NOT NULL,
        PRIMARY KEY (issuer_id, card_product_id)
    );

    CREATE TABLE card (
        issuer_id            text    NOT NULL,
        card_id              text    NOT NULL,
        incarnation          integer NOT NULL,
        state                text    NOT NULL,
        state_reason         text,
        suspensions          text    NOT NULL,  -- comma-separated: arrays of arrays do not unnest
        locks                text    NOT NULL,
        ongoing_operation    text    NOT NULL,
        exp                  text,
        pending_exp          text,
        last4                text,
        consumer_id          text    NOT NULL,
        card_product_id      text    NOT NULL,
        origin               text    NOT NULL,
        terms                jsonb   NOT NULL,
        name                 text    NOT NULL,
        second_name          text,
        predecessor_card_id  text,
        successor_card_id    text,
        delete_at_ms         bigint,
        digital_cards_relinked boolean NOT NULL,
        version              bigint  NOT NULL,
        version_time_ms      bigint,
        last_time_ms         bigint,
        last_hash            bytea,
        command_count        bigint  NOT NULL,
        recent_commands      bytea   NOT NULL,
        PRIMARY KEY (issuer_id, card_id),
        CHECK (version >= 1)
    ) WITH (fillfactor = 60);  -- an update finds room on its own page and touches no index

    -- Insert-only: the log of every operation and the outbox of its events. The names id,
    -- aggregatetype, aggregateid, type and payload are those of Debezium's outbox router.
    CREATE TABLE operation (
        recorded_at          timestamptz NOT NULL DEFAULT now(),
        lane                 integer NOT NULL,
        seq                  bigint  NOT NULL,
        id                   uuid    NOT NULL,  -- the eventId
        aggregatetype        text    NOT NULL,
        aggregateid          text    NOT NULL,  -- the key of the event
        type                 text    NOT NULL,
        event_time_ms        bigint  NOT NULL,
        payload              bytea   NOT NULL,  -- the value of the event, byte for byte
        traceparent          text,
        issuer_id            text    NOT NULL,
        operation_id         uuid    NOT NULL,
        caused               boolean NOT NULL,  -- has no command id of its own
        content_hash         bytea   NOT NULL,
        status               text    NOT NULL,
        start_time           timestamptz NOT NULL,
        expires_at           timestamptz NOT NULL
    ) PARTITION BY RANGE (recorded_at);
    CREATE INDEX operation_by_lane ON operation (lane, seq);
    CREATE INDEX operation_by_subject ON operation (issuer_id, aggregateid, seq);
    CREATE INDEX operation_by_id ON operation (issuer_id, operation_id);
    """)
    op.execute("""
    CREATE FUNCTION operation_is_insert_only() RETURNS trigger LANGUAGE plpgsql AS $body$
    BEGIN
        RAISE EXCEPTION 'operation is insert-only: storage is reclaimed by dropping partitions';
    END $body$;
    CREATE TRIGGER operation_is_insert_only BEFORE UPDATE OR DELETE ON operation
        FOR EACH STATEMENT EXECUTE FUNCTION operation_is_insert_only();

    -- Weekly partitions are attached, not created in place: ATTACH lets inserts go on. There is no
    -- default partition, since one with rows in it would block every later ATTACH.
    CREATE FUNCTION ensure_operation_partitions(weeks_ahead integer) RETURNS integer
    LANGUAGE plpgsql AS $body$
    DECLARE
        week date;
        partition_name text;
        created integer := 0;
    BEGIN
        PERFORM pg_advisory_xact_lock(hashtext('ensure_operation_partitions'));
        FOR ahead IN 0 .. weeks_ahead LOOP
            week := date_trunc('week', now() AT TIME ZONE 'UTC')::date + 7 * ahead;
            partition_name := 'operation_' || to_char(week, 'YYYYMMDD');
            IF to_regclass(partition_name) IS NULL THEN
                EXECUTE format('CREATE TABLE %I (LIKE operation INCLUDING ALL)', partition_name);
                EXECUTE format(
                    'ALTER TABLE operation ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                    partition_name, week || ' 00:00:00+00', (week + 7) || ' 00:00:00+00');
                created := created + 1;
            END IF;
        END LOOP;
        RETURN created;
    END $body$;
    """)
