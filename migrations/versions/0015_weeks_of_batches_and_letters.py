"""The counts of intake and the dead letters lie in weekly partitions too, like the log.

The table that is there becomes the first partition, for everything before a Monday that comes. That
all of its rows are older is a CHECK, validated while others write, so that ATTACH reads nothing.
A migration that is broken off after the CHECK has come must be run again before that Monday, a week
or two later: no row of a later day would be taken until then.

Unique within a week now, not for ever: what keeps a record from being taken twice is `lane_in`.
"""

from typing import Any

import psycopg
from alembic import op

from lifecycle.postgres.moments import driver_of, in_a_moment, without_haste
from lifecycle.postgres.schema import PARTITION_WEEKS_AHEAD

revision = "0015"
down_revision = "0014"

_KEYS = {
    "intake_batch": "source, partition, from_offset, recorded_at",
    "dead_letter": "source, partition, command_offset, recorded_at",
}
_DAYS_LEFT_MIN = 2
# What is inside is a constant of this file, or made of the catalog's names.
_FIRST_PARTITION = """
    LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE;
    ALTER TABLE {table} DROP CONSTRAINT {table}_pkey;
    DROP TRIGGER {table}_is_insert_only ON {table};
    ALTER TABLE {table} RENAME TO {first};
    ALTER TABLE {first} ADD CONSTRAINT {first}_pkey PRIMARY KEY USING INDEX {table}_by_week;
    CREATE TABLE {table} (LIKE {first} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
        PARTITION BY RANGE (recorded_at);
    ALTER TABLE {table} DROP CONSTRAINT {check};
    ALTER TABLE {table} ADD CONSTRAINT {table}_pkey PRIMARY KEY ({keys});
    DO $$
    DECLARE
        right_of record;
    BEGIN
        FOR right_of IN SELECT privilege_type AS name, CASE grantee WHEN 0 THEN 'PUBLIC'
                    ELSE grantee::regrole::text END AS grantee
                FROM pg_class, aclexplode(relacl) WHERE oid = '{first}'::regclass LOOP
            EXECUTE format('GRANT %s ON {table} TO %s', right_of.name, right_of.grantee);
        END LOOP;
        IF EXISTS (SELECT FROM {first}) THEN
            ALTER TABLE {table} ATTACH PARTITION {first} FOR VALUES FROM (MINVALUE) TO ('{monday}');
            ALTER TABLE {first} DROP CONSTRAINT {check};
        ELSE
            DROP TABLE {first};
        END IF;
        PERFORM make_insert_only('{table}');
        PERFORM ensure_partitions({weeks_ahead});
    END $$;
"""


def upgrade() -> None:
    """Turn both tables; can be broken off anywhere and run again."""
    _create_functions()
    with op.get_context().autocommit_block():
        driver = driver_of(op.get_bind())
        for table, keys in _KEYS.items():
            if not _is_partitioned(driver, table):
                _turn(driver, table, keys)


def _is_partitioned(driver: psycopg.Connection[Any], table: str) -> bool:
    row = driver.execute(
        "SELECT relkind = 'p' FROM pg_class WHERE oid = %s::regclass", (table,)
    ).fetchone()
    return bool(row and row[0])


def _turn(driver: psycopg.Connection[Any], table: str, keys: str) -> None:
    monday, check = _bound(driver, table)
    without_haste(driver, f"ALTER TABLE {table} VALIDATE CONSTRAINT {check}")
    is_ready = driver.execute(
        "SELECT FROM pg_index WHERE indexrelid = to_regclass(%s) AND indisvalid",
        (f"{table}_by_week",),
    ).fetchone()
    if is_ready is None:
        without_haste(driver, f"DROP INDEX CONCURRENTLY IF EXISTS {table}_by_week")
        without_haste(
            driver, f"CREATE UNIQUE INDEX CONCURRENTLY {table}_by_week ON {table} ({keys})"
        )
    first = check.replace("_before_", "_until_")
    script = _FIRST_PARTITION.format(
        table=table,
        first=first,
        keys=keys,
        check=check,
        monday=f"{monday} 00:00:00+00",
        weeks_ahead=PARTITION_WEEKS_AHEAD,
    )
    in_a_moment(driver, lambda: script)


def _bound(driver: psycopg.Connection[Any], table: str) -> tuple[str, str]:
    """The Monday before which every row was recorded, and the CHECK that says so."""
    for check, monday, is_far in driver.execute(
        "SELECT conname, to_date(right(conname, 8), 'YYYYMMDD')::text,"
        " to_date(right(conname, 8), 'YYYYMMDD') > (now() AT TIME ZONE 'UTC')::date + %s::integer"
        " FROM pg_constraint WHERE conrelid = %s::regclass AND conname LIKE %s",
        (_DAYS_LEFT_MIN, table, f"{table}\\_before\\_%"),
    ).fetchall():
        if is_far:
            return monday, check
        too_early = f"ALTER TABLE {table} DROP CONSTRAINT {check}"
        in_a_moment(driver, lambda statement=too_early: statement)
    row = driver.execute(
        "SELECT (date_trunc('week', now() AT TIME ZONE 'UTC')::date + 14)::text"
    ).fetchone()
    assert row is not None, "a row of constants"
    monday = row[0]
    check = f"{table}_before_{monday.replace('-', '')}"
    add = (
        f"ALTER TABLE {table} ADD CONSTRAINT {check}"
        f" CHECK (recorded_at < '{monday} 00:00:00+00') NOT VALID"
    )
    in_a_moment(driver, lambda: add)
    return monday, check


def _create_functions() -> None:
    op.execute("""
    -- Which weeks there are, of which table. A first partition may begin at -infinity.
    CREATE OR REPLACE FUNCTION weekly_partitions() RETURNS TABLE (
        table_name name, partition_name name, starts_at timestamptz, ends_at timestamptz)
    LANGUAGE sql STABLE SET search_path = public, pg_temp
    SET timezone = 'UTC' SET datestyle = 'ISO' AS $body$
        SELECT parent.relname, child.relname,
            coalesce(substring(bounds FROM 'FROM \\(''([^'']+)''\\)'), '-infinity')::timestamptz,
            substring(bounds FROM 'TO \\(''([^'']+)''\\)')::timestamptz
        FROM pg_inherits JOIN pg_class AS parent ON parent.oid = inhparent
        JOIN pg_class AS child ON child.oid = inhrelid,
            pg_get_expr(child.relpartbound, child.oid) AS bounds
        WHERE parent.relnamespace = 'public'::regnamespace AND parent.relkind = 'p'
            AND parent.relname IN ('operation', 'intake_batch', 'dead_letter')
    $body$;

    -- The one place where weekly partitions are made, of every table that has them. They are
    -- attached, not created in place: ATTACH lets inserts go on. There is no default partition,
    -- since one with rows in it would block every later ATTACH. The week before this one is made
    -- too: a standby that is promoted may have a clock that is a little behind.
    CREATE OR REPLACE FUNCTION ensure_partitions(weeks_ahead integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $body$
    DECLARE
        parent name;
        week date;
        starts timestamptz;
        partition name;
        created integer := 0;
    BEGIN
        IF weeks_ahead NOT BETWEEN 0 AND 53 THEN
            RAISE EXCEPTION 'weeks_ahead is %, it must be 0 to 53', weeks_ahead;
        END IF;
        PERFORM pg_advisory_xact_lock(hashtext('ensure_operation_partitions'));
        FOREACH parent IN ARRAY ARRAY['operation', 'intake_batch', 'dead_letter'] LOOP
            -- Not while the migration has not come to it yet.
            CONTINUE WHEN (SELECT relkind <> 'p' FROM pg_class WHERE oid = parent::regclass);
            FOR ahead IN -1 .. weeks_ahead LOOP
                week := date_trunc('week', now() AT TIME ZONE 'UTC')::date + 7 * ahead;
                starts := week::timestamp AT TIME ZONE 'UTC';
                CONTINUE WHEN EXISTS (SELECT FROM weekly_partitions() AS p
                    WHERE p.table_name = parent AND p.starts_at <= starts AND p.ends_at > starts);
                partition := parent || to_char(week, '_YYYYMMDD');
                IF to_regclass(quote_ident(partition)) IS NOT NULL THEN
                    RAISE EXCEPTION 'table % is there and is no partition of %', partition, parent
                        USING HINT = 'Someone detached it: attach it again, or rename it.';
                END IF;
                EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', partition, parent);
                PERFORM make_insert_only(quote_ident(partition)::regclass);
                EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                    parent, partition, week || ' 00:00:00+00', (week + 7) || ' 00:00:00+00');
                created := created + 1;
            END LOOP;
        END LOOP;
        RETURN created;
    END $body$;

    -- What the version before asks for.
    CREATE OR REPLACE FUNCTION ensure_operation_partitions(weeks_ahead integer) RETURNS integer
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS 'SELECT ensure_partitions(weeks_ahead)';

    REVOKE ALL ON FUNCTION weekly_partitions(), ensure_partitions(integer) FROM PUBLIC;
    """)
