"""Which weeks may go, why the others stay, and the one function that drops them.

Everything that is asked is asked here, in SQL, so that a worker, which may call these functions and
drops nothing itself, can't drop what must stay.
"""

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Create the tables and the functions."""
    op.execute(f"""
    -- Which versions of the service work on this schema: those that were written for this revision
    -- or a later one. A migration that takes something away moves it on.
    CREATE TABLE schema_support (
        oldest_revision      text COLLATE "C" NOT NULL,
        only_row             boolean PRIMARY KEY DEFAULT true CHECK (only_row)
    );
    INSERT INTO schema_support (oldest_revision) VALUES ('{revision}');
    """)  # noqa: S608 - constants of this file
    op.execute("""
    -- Who reads the log beside the publishers, and up to where. A reader has a row for each lane.
    CREATE TABLE log_reader (
        reader               text COLLATE "C" NOT NULL CHECK (reader ~ '^[A-Za-z0-9_.-]{1,64}$'),
        lane                 integer NOT NULL,
        read_seq             bigint  NOT NULL DEFAULT 0,  -- everything up to it has been read
        moved_at             timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (reader, lane)
    );

    -- The last event of each lane in what was dropped: whoever takes over a quiet lane compares the
    -- end of the topic with it.
    CREATE TABLE dropped_event (
        lane                 integer PRIMARY KEY,
        seq                  bigint  NOT NULL,
        id                   uuid    NOT NULL
    );

    -- Set by `lifecycle migrate`, with the rights of the owner: whoever may only call the functions
    -- can't choose what they drop.
    CREATE TABLE retention_limit (
        intake_batch_days    integer NOT NULL DEFAULT 100 CHECK (intake_batch_days >= 1),
        dead_letter_days     integer NOT NULL DEFAULT 100 CHECK (dead_letter_days >= 1),
        clock_may_be_moved   boolean NOT NULL DEFAULT false,  -- in development
        only_row             boolean PRIMARY KEY DEFAULT true CHECK (only_row)
    );
    INSERT INTO retention_limit DEFAULT VALUES;
    """)
    op.execute("""
    -- Why a week stays, as a word and a sentence; both null when it may go. `clock` is the time by
    -- which operations expire.
    CREATE FUNCTION why_kept(
        table_name name, partition_name name, ends_at timestamptz, clock timestamptz,
        intake_batch_days integer, dead_letter_days integer, OUT reason text, OUT detail text)
    LANGUAGE plpgsql SET search_path = public, pg_temp
    SET enable_seqscan = off SET timezone = 'UTC' AS $body$
    DECLARE
        days integer;
        has_more boolean;
        expiry_index name;
    BEGIN
        -- A transaction that began in its week may still write to it.
        IF ends_at > now() - interval '7 days' THEN
            reason := 'CURRENT';
            detail := 'it is written to, or was until a week ago';
            RETURN;
        END IF;
        IF table_name <> 'operation' THEN
            days := CASE table_name WHEN 'intake_batch' THEN why_kept.intake_batch_days
                ELSE why_kept.dead_letter_days END;
            IF ends_at > clock - days * interval '1 day' THEN
                reason := 'YOUNG';
                detail := format('kept for %s days, until %s', days,
                    to_char(ends_at + days * interval '1 day', 'YYYY-MM-DD'));
                RETURN;
            END IF;
        END IF;
        IF table_name = 'operation' THEN
            IF ends_at < clock - interval '3 months' THEN
                -- What autovacuum has not summarised would be read.
                SELECT relname INTO expiry_index FROM pg_index JOIN pg_class ON oid = indexrelid
                    JOIN pg_inherits ON inhrelid = indexrelid
                    WHERE indrelid = quote_ident(partition_name)::regclass
                        AND inhparent = 'operation_by_expiry'::regclass;
                BEGIN
                    PERFORM brin_summarize_new_values(quote_ident(expiry_index)::regclass);
                EXCEPTION WHEN lock_not_available THEN NULL;  -- autovacuum is at it
                END;
            END IF;
            EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE expires_at > $1)', partition_name)
                INTO has_more USING clock;
            IF has_more THEN
                reason := 'NOT_EXPIRED';
                detail := format('operations in it expire until about %s',
                    to_char(ends_at + interval '3 months', 'YYYY-MM-DD'));
                RETURN;
            END IF;
            EXECUTE format($sql$
                SELECT format('lane %%s is published up to %%s of %%s', lane_out.partition,
                    coalesce(published_seq, 0), seq)
                FROM lane_out LEFT JOIN lane_pub USING (partition), LATERAL (
                    SELECT seq FROM %I AS o WHERE o.lane = lane_out.partition
                    ORDER BY seq DESC LIMIT 1) AS last
                WHERE seq > coalesce(published_seq, 0) ORDER BY lane_out.partition LIMIT 1
                $sql$, partition_name) INTO detail;
            IF detail IS NOT NULL THEN
                reason := 'UNPUBLISHED';
                RETURN;
            END IF;
            EXECUTE format($sql$
                SELECT format('reader %%s has read lane %%s up to %%s of %%s, last on %%s', reader,
                    log_reader.lane, read_seq, seq, to_char(moved_at, 'YYYY-MM-DD HH24:MI'))
                FROM log_reader, LATERAL (
                    SELECT seq FROM %I AS o WHERE o.lane = log_reader.lane
                    ORDER BY seq DESC LIMIT 1) AS last
                WHERE seq > read_seq ORDER BY read_seq, reader, log_reader.lane LIMIT 1
                $sql$, partition_name) INTO detail;
            IF detail IS NOT NULL THEN
                reason := 'READER';
                RETURN;
            END IF;
            EXECUTE format($sql$
                SELECT format('operation %%s of issuer %%s is PENDING', operation_id, issuer_id)
                FROM pending_operation JOIN %I AS o USING (issuer_id, operation_id)
                WHERE o.status = 'PENDING' LIMIT 1
                $sql$, partition_name) INTO detail;
            IF detail IS NOT NULL THEN
                reason := 'PENDING';
            END IF;
        ELSIF table_name = 'dead_letter' THEN
            EXECUTE format($sql$
                SELECT format('dead letters of partition %%s of the %%s are published up to offset'
                    ' %%s of %%s', lane, source, published, command_offset)
                FROM (
                    SELECT partition AS lane, 'commands' AS source, dead_letter_offset AS published
                    FROM lane_pub
                    UNION ALL SELECT partition, 'replies', reply_dead_letter_offset FROM lane_pub
                    -- A lane without its row has published nothing.
                    UNION ALL SELECT DISTINCT d.partition, d.source, -1 FROM %1$I AS d
                    WHERE d.partition NOT IN (SELECT partition FROM lane_pub)
                ) AS noted, LATERAL (
                    SELECT command_offset FROM %1$I AS d
                    WHERE d.source = noted.source AND d.partition = noted.lane
                    ORDER BY command_offset DESC LIMIT 1) AS last
                WHERE command_offset > published LIMIT 1
                $sql$, partition_name) INTO detail;
            IF detail IS NOT NULL THEN
                reason := 'UNPUBLISHED';
            END IF;
        END IF;
    END $body$;

    -- The clock of retention: this server's, which must be about the caller's; a clock that runs a
    -- year ahead would drop everything. `offset_seconds` is LIFECYCLE_CLOCK_OFFSET_SECONDS.
    CREATE FUNCTION retention_clock(caller_ms bigint, offset_seconds bigint) RETURNS timestamptz
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $body$
    BEGIN
        IF abs(extract(epoch FROM now()) - caller_ms / 1000.0) > 3600 THEN
            RAISE EXCEPTION 'the clocks differ by % s: nothing is dropped by a clock that is wrong',
                round(extract(epoch FROM now()) - caller_ms / 1000.0) USING ERRCODE = 'LR001';
        END IF;
        IF offset_seconds <> 0 AND NOT (SELECT clock_may_be_moved FROM retention_limit) THEN
            RAISE EXCEPTION 'this database is not for development: its clock is not moved'
                USING ERRCODE = 'LR002',
                HINT = 'LIFECYCLE_ENVIRONMENT=development lifecycle migrate';
        END IF;
        RETURN now() + offset_seconds * interval '1 second';
    END $body$;

    -- Every week that there is, the oldest first, or the one that is named; `reason` is null where
    -- it may go. The days are the caller's or the owner's, whichever are more.
    CREATE FUNCTION weeks_kept(only_partition text, caller_ms bigint, offset_seconds bigint,
        intake_batch_days integer, dead_letter_days integer) RETURNS TABLE (table_name text,
        partition_name text, starts_at timestamptz, ends_at timestamptz, reason text, detail text)
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $body$
        SELECT p.table_name, p.partition_name, p.starts_at, p.ends_at, w.reason, w.detail
        FROM retention_limit AS l, retention_clock(caller_ms, offset_seconds) AS clock,
            weekly_partitions() AS p, why_kept(p.table_name, p.partition_name, p.ends_at, clock,
                greatest(weeks_kept.intake_batch_days, l.intake_batch_days),
                greatest(weeks_kept.dead_letter_days, l.dead_letter_days)) AS w
        WHERE only_partition IS NULL OR p.partition_name = only_partition
        ORDER BY p.ends_at, p.table_name
    $body$;

    -- Drop a week that may go; why it stays, or null when it is gone. It waits for a moment only:
    -- whoever waits for the table makes intake wait. Asked once before the lock, which may take a
    -- while, and once under it. Of two at once one drops, the other finds nothing.
    CREATE FUNCTION drop_week(partition_name text, caller_ms bigint, offset_seconds bigint,
        intake_batch_days integer, dead_letter_days integer) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    SET lock_timeout = '100ms' AS $body$
    DECLARE
        parent name;
        why text;
    BEGIN
        IF current_setting('transaction_isolation') <> 'read committed' THEN
            RAISE EXCEPTION 'drop_week looks again under its lock: call it in READ COMMITTED';
        END IF;
        FOR look IN 1 .. 2 LOOP
            SELECT r.table_name, r.reason INTO parent, why
                FROM weeks_kept(drop_week.partition_name, caller_ms, offset_seconds,
                    intake_batch_days, dead_letter_days) AS r;
            IF NOT FOUND THEN
                RETURN 'GONE';
            ELSIF why IS NOT NULL THEN
                RETURN why;
            ELSIF look = 1 THEN
                EXECUTE format('LOCK TABLE ONLY %I IN ACCESS EXCLUSIVE MODE', parent);
                -- Whoever waited for that lock may find it gone.
                IF to_regclass(quote_ident(partition_name)) IS NULL THEN
                    RETURN 'GONE';
                END IF;
                EXECUTE format('LOCK TABLE ONLY %I IN ACCESS EXCLUSIVE MODE', partition_name);
            END IF;
        END LOOP;
        IF parent = 'operation' THEN
            EXECUTE format($sql$
                INSERT INTO dropped_event (lane, seq, id)
                SELECT lane_out.partition, last.seq, last.id FROM lane_out, LATERAL (
                    SELECT seq, id FROM %I AS o WHERE o.lane = lane_out.partition
                    ORDER BY seq DESC LIMIT 1) AS last
                ON CONFLICT (lane) DO UPDATE SET seq = excluded.seq, id = excluded.id
                WHERE dropped_event.seq < excluded.seq
                $sql$, partition_name);
        END IF;
        EXECUTE format('DROP TABLE %I', partition_name);
        RETURN NULL;
    END $body$;

    REVOKE ALL ON FUNCTION
        why_kept(name, name, timestamptz, timestamptz, integer, integer),
        retention_clock(bigint, bigint),
        weeks_kept(text, bigint, bigint, integer, integer),
        drop_week(text, bigint, bigint, integer, integer)
    FROM PUBLIC;
    """)
