"""What is recorded is neither changed nor removed, whoever asks and by whichever table name.

Before, one trigger stood on `operation` itself: UPDATE and DELETE that named a partition passed it,
and so did every TRUNCATE; dead letters and the counts of intake had none.

CREATE TRIGGER waits for the transactions that write to the table and then holds it for a moment:
readers go on, writers wait. The tables are taken in the order in which a worker writes to them, so
that neither waits for the other crosswise; `migrate` gives up a wait that is too long, and tries
again. No trigger is dropped: that would wait for readers too, such as a dump.
"""

from alembic import op

revision = "0011"
down_revision = "0009"


def upgrade() -> None:
    """Create the triggers, and the function that puts them on a table."""
    op.execute("""
    CREATE FUNCTION forbid_change() RETURNS trigger LANGUAGE plpgsql AS $body$
    BEGIN
        RAISE EXCEPTION '% of % is refused: its rows are never changed or removed',
            TG_OP, TG_TABLE_NAME
            USING HINT = 'Storage is reclaimed by dropping whole partitions.';
    END $body$;

    -- Two kinds of triggers, because neither is enough. One per statement, also for TRUNCATE, on
    -- the table and on each partition: no partition inherits it, and a detached one keeps it. One
    -- per row on a partitioned table: every partition inherits it, whoever attaches it.
    -- Harmless when they are there. Inserts fire neither.
    CREATE FUNCTION make_insert_only(relation regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $body$
    DECLARE
        table_name name;
        is_partitioned boolean;
        row_trigger name;
        partition regclass;
    BEGIN
        SELECT relname, relkind = 'p' INTO STRICT table_name, is_partitioned
            FROM pg_class WHERE oid = relation;
        EXECUTE format('CREATE OR REPLACE TRIGGER %I BEFORE UPDATE OR DELETE OR TRUNCATE ON %s
            FOR EACH STATEMENT EXECUTE FUNCTION forbid_change()',
            table_name || '_is_insert_only', relation);
        IF NOT is_partitioned THEN
            RETURN;
        END IF;
        row_trigger := table_name || '_rows_stay';
        IF NOT EXISTS (
            SELECT FROM pg_trigger WHERE tgrelid = relation AND tgname = row_trigger
        ) THEN
            EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE OR DELETE ON %s
                FOR EACH ROW EXECUTE FUNCTION forbid_change()', row_trigger, relation);
        END IF;
        FOR partition IN SELECT inhrelid FROM pg_inherits WHERE inhparent = relation LOOP
            PERFORM make_insert_only(partition);
        END LOOP;
    END $body$;

    CREATE TRIGGER retired_pan_is_never_truncated BEFORE TRUNCATE ON pan_fingerprint
        FOR EACH STATEMENT EXECUTE FUNCTION forbid_change();
    SELECT make_insert_only('operation');
    SELECT make_insert_only('dead_letter');
    SELECT make_insert_only('intake_batch');
    DROP FUNCTION operation_is_insert_only();
    """)
