"""A worker needs no rights of the owner: what does is a function that runs as the owner.

Nobody but the owner may call a function, unless `lifecycle/postgres/roles.py` says so.
"""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Let the function that creates partitions run as the owner, and guard what it creates."""
    op.execute("""
    -- Weekly partitions are attached, not created in place: ATTACH lets inserts go on. There is no
    -- default partition, since one with rows in it would block every later ATTACH.
    -- The path is fixed, its first schema closed to others: whoever calls this can't make it run
    -- something of his own.
    CREATE OR REPLACE FUNCTION ensure_operation_partitions(weeks_ahead integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $body$
    DECLARE
        week date;
        partition_name text;
        created integer := 0;
    BEGIN
        IF weeks_ahead NOT BETWEEN 0 AND 53 THEN
            RAISE EXCEPTION 'weeks_ahead is %, it must be 0 to 53', weeks_ahead;
        END IF;
        PERFORM pg_advisory_xact_lock(hashtext('ensure_operation_partitions'));
        FOR ahead IN 0 .. weeks_ahead LOOP
            week := date_trunc('week', now() AT TIME ZONE 'UTC')::date + 7 * ahead;
            partition_name := 'operation_' || to_char(week, 'YYYYMMDD');
            IF to_regclass(partition_name) IS NULL THEN
                EXECUTE format('CREATE TABLE %I (LIKE operation INCLUDING ALL)', partition_name);
                PERFORM make_insert_only(partition_name::regclass);
                EXECUTE format(
                    'ALTER TABLE operation ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                    partition_name, week || ' 00:00:00+00', (week + 7) || ' 00:00:00+00');
                created := created + 1;
            END IF;
        END LOOP;
        RETURN created;
    END $body$;

    REVOKE ALL ON FUNCTION ensure_operation_partitions(integer), make_insert_only(regclass),
        forbid_change(), retired_pan_stays() FROM PUBLIC;
    """)
