"""Commands that no subject's row remembers get a table of their own, filled from the log.

Restartable. Old workers go on while this runs, and afterwards until they are restarted. They know
nothing of the table, so triggers fill it for them: first the triggers, then what lies in the log by
then, so that nothing falls between the two. The triggers pass over whoever fills the table himself,
and go with a later version.
"""

from typing import Any

import psycopg
from alembic import op

from lifecycle.postgres.moments import driver_of, in_a_moment

revision = "0009"
down_revision = "0008"

_BLOCKS_AT_ONCE = 2_000  # 16 MiB of the log in one transaction

_TABLE = """
CREATE TABLE IF NOT EXISTS past_command (
    issuer_id            text COLLATE "C" NOT NULL,
    operation_id         uuid    NOT NULL,
    content_hash         bytea   NOT NULL,
    subject_key          text COLLATE "C",  -- of a subject that had no row,
    last_time_ms         bigint,            -- and the start of its last operation then
    recorded_at          timestamptz NOT NULL DEFAULT now(),  -- not before its operation
    CHECK ((subject_key IS NULL) = (last_time_ms IS NULL))
);
-- None is unique: what is kept twice says the same twice.
CREATE INDEX IF NOT EXISTS past_command_by_id ON past_command (issuer_id, operation_id);
CREATE INDEX IF NOT EXISTS past_command_by_subject
    ON past_command (issuer_id, subject_key, last_time_ms) WHERE subject_key IS NOT NULL;
CREATE INDEX IF NOT EXISTS past_command_by_time ON past_command (recorded_at);
"""

_FUNCTIONS = """
-- What a row of card, consumer or card_product no longer remembers.
CREATE OR REPLACE FUNCTION keep_commands_of_subject() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp AS $body$
DECLARE
    command bytea;
BEGIN
    FOR at IN 1 .. length(OLD.recent_commands) BY 32 LOOP
        command := substr(OLD.recent_commands, at, 32);
        IF TG_OP = 'DELETE' OR position(command IN NEW.recent_commands) = 0 THEN
            INSERT INTO past_command (issuer_id, operation_id, content_hash) VALUES (
                OLD.issuer_id, encode(substr(command, 1, 16), 'hex')::uuid, substr(command, 17));
        END IF;
    END LOOP;
    RETURN NULL;
END $body$;

-- Every command of the log: what one poll took and forgot again is in no row before or after it.
CREATE OR REPLACE FUNCTION keep_command_of_log() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp AS $body$
DECLARE
    is_unknown boolean := NEW.status = 'FAILED'
        AND convert_from(NEW.payload, 'UTF8')::jsonb ->> 'version' = '0';
BEGIN
    INSERT INTO past_command (issuer_id, operation_id, content_hash, subject_key, last_time_ms)
    VALUES (NEW.issuer_id, NEW.operation_id, NEW.content_hash,
        CASE WHEN is_unknown THEN NEW.aggregateid END,
        CASE WHEN is_unknown THEN (extract(epoch FROM NEW.start_time) * 1000)::bigint END);
    RETURN NULL;
END $body$;

-- A week that the log still has is never forgotten here, whoever asks. With the owner's rights,
-- because a worker has none to delete.
CREATE OR REPLACE FUNCTION forget_past_commands(rows_max integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $body$
DECLARE
    log_begins_at timestamptz;
    forgotten integer;
BEGIN
    SELECT min(coalesce(substring(pg_get_expr(week.relpartbound, week.oid)
        FROM $bound$FROM \\('([^']+)'\\)$bound$)::timestamptz, '-infinity')) INTO log_begins_at
    FROM pg_inherits JOIN pg_class AS week ON week.oid = inhrelid
    WHERE inhparent = 'operation'::regclass;
    DELETE FROM past_command WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM past_command WHERE recorded_at < log_begins_at
        ORDER BY recorded_at LIMIT rows_max FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END $body$;
REVOKE ALL ON FUNCTION forget_past_commands(integer), keep_command_of_log(),
    keep_commands_of_subject() FROM PUBLIC;
"""

# With the lock, every transaction that wrote without the triggers has ended.
_TRIGGERS = """
DO $body$
DECLARE
    subject text;
    is_old_worker text :=
        'current_setting(''lifecycle.keeps_past_commands'', true) IS DISTINCT FROM ''on''';
BEGIN
    LOCK TABLE operation, card, consumer, card_product IN SHARE ROW EXCLUSIVE MODE;
    EXECUTE 'CREATE OR REPLACE TRIGGER keep_command_of_log AFTER INSERT ON operation'
        ' FOR EACH ROW WHEN (NOT NEW.caused AND ' || is_old_worker || ')'
        ' EXECUTE FUNCTION keep_command_of_log()';
    FOREACH subject IN ARRAY ARRAY['card', 'consumer', 'card_product'] LOOP
        EXECUTE format('CREATE OR REPLACE TRIGGER keep_commands_that_leave'
            ' AFTER UPDATE ON %I FOR EACH ROW WHEN ('
            ' substr(OLD.recent_commands, 1, 32) <> substr(NEW.recent_commands, 1, 32)'
            ' AND ' || is_old_worker || ')'
            ' EXECUTE FUNCTION keep_commands_of_subject()', subject);
        EXECUTE format('CREATE OR REPLACE TRIGGER keep_commands_of_deleted'
            ' AFTER DELETE ON %I FOR EACH ROW WHEN (' || is_old_worker || ')'
            ' EXECUTE FUNCTION keep_commands_of_subject()', subject);
    END LOOP;
END $body$
"""

_WEEKS = """
    SELECT inhrelid::regclass::text, pg_relation_size(inhrelid)
        / current_setting('block_size')::bigint
    FROM pg_inherits WHERE inhparent = 'operation'::regclass ORDER BY 1
"""

# What its subject's row remembers comes here when it leaves that.
_FILL = """
INSERT INTO past_command
    (issuer_id, operation_id, content_hash, subject_key, last_time_ms, recorded_at)
SELECT DISTINCT ON (issuer_id, operation_id) issuer_id, operation_id, content_hash,
    CASE WHEN recent_commands IS NULL THEN aggregateid END,
    CASE WHEN recent_commands IS NULL THEN (extract(epoch FROM start_time) * 1000)::bigint END,
    recorded_at
FROM (
    SELECT log.*, CASE aggregatetype
        WHEN 'card' THEN (
            SELECT recent_commands FROM card WHERE card.issuer_id = log.issuer_id
                AND card_id = substr(aggregateid, length(log.issuer_id) + 2))
        WHEN 'consumer' THEN (
            SELECT recent_commands FROM consumer WHERE consumer.issuer_id = log.issuer_id
                AND consumer_id = substr(aggregateid, length(log.issuer_id || '/consumer/') + 1)
                AND state IS NOT NULL)
        WHEN 'product' THEN (
            SELECT recent_commands FROM card_product WHERE card_product.issuer_id = log.issuer_id
                AND card_product_id = substr(aggregateid, length(log.issuer_id || '/product/') + 1))
        END AS recent_commands
    FROM {week} AS log
    WHERE ctid >= '({first},0)' AND ctid < '({behind},0)' AND NOT caused
) AS command
WHERE coalesce(position(uuid_send(operation_id) IN recent_commands), 0) = 0
    AND NOT EXISTS (
        SELECT FROM past_command WHERE past_command.issuer_id = command.issuer_id
            AND past_command.operation_id = command.operation_id)
ORDER BY issuer_id, operation_id, recorded_at DESC
"""


def upgrade() -> None:
    """Create table, functions and triggers; then keep what the log alone knows."""
    with op.get_context().autocommit_block():
        driver = driver_of(op.get_bind())
        driver.execute(_TABLE)
        driver.execute(_FUNCTIONS)
        in_a_moment(driver, lambda: _TRIGGERS)
        for week, blocks in driver.execute(_WEEKS).fetchall():
            _fill(driver, week, blocks)


def _fill(driver: psycopg.Connection[Any], week: str, blocks: int) -> None:
    for first in range(0, blocks, _BLOCKS_AT_ONCE):
        behind = first + _BLOCKS_AT_ONCE
        driver.execute(_FILL.format(week=week, first=first, behind=behind).encode())
