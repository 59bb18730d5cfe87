"""Whether everything in a partition of the log has expired is told by a small index.

A BRIN keeps the bounds of each megabyte: writing a row costs it next to nothing, and the question
"is there any that expires later" reads no row that does not. Partitions get theirs CONCURRENTLY.
"""

from alembic import op

from lifecycle.postgres.moments import driver_of, in_a_moment, without_haste

revision = "0014"
down_revision = "0013"

_PARTITIONS_WITHOUT = """
    SELECT quote_ident(c.relname), quote_ident(c.relname || '_expires_at_idx')
    FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid
    WHERE inhparent = 'operation'::regclass AND pg_relation_size(c.oid) > 0 AND NOT EXISTS (
        SELECT FROM pg_index JOIN pg_class AS i ON i.oid = indexrelid
        WHERE indrelid = c.oid AND i.relname = c.relname || '_expires_at_idx' AND indisvalid)
    ORDER BY c.relname
"""
# Those that are missing are of partitions that lie ahead and are empty.
_ON_ALL = """
    SELECT pg_advisory_xact_lock(hashtext('ensure_operation_partitions'));
    DO $$
    DECLARE
        partition name;
    BEGIN
        CREATE INDEX IF NOT EXISTS operation_by_expiry ON ONLY operation USING brin (expires_at);
        FOR partition IN SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid
                WHERE inhparent = 'operation'::regclass LOOP
            EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON %I USING brin (expires_at)',
                partition || '_expires_at_idx', partition);
            EXECUTE format('ALTER INDEX operation_by_expiry ATTACH PARTITION %I',
                partition || '_expires_at_idx');
        END LOOP;
    END $$;
"""


def upgrade() -> None:
    """Create the index; can be broken off anywhere and run again."""
    with op.get_context().autocommit_block():
        driver = driver_of(op.get_bind())
        for partition, index in driver.execute(_PARTITIONS_WITHOUT).fetchall():
            without_haste(driver, f"DROP INDEX CONCURRENTLY IF EXISTS {index}")
            without_haste(
                driver, f"CREATE INDEX CONCURRENTLY {index} ON {partition} USING brin (expires_at)"
            )
        in_a_moment(driver, lambda: _ON_ALL)
