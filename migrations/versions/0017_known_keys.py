"""The database knows which keys its numbers and fingerprints were made with.

No key is in it: a check value tells whether a keys file has the same one. It starts empty, because
a migration sees no keys; the first worker, or `lifecycle keys adopt`, fills it.
"""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Create the table. Nothing that a worker of the version before uses is touched."""
    op.execute("""
    CREATE TABLE known_key (
        key_id               text COLLATE "C" PRIMARY KEY,  -- the kid in the keys file
        kind                 text COLLATE "C" NOT NULL CHECK (kind IN ('data', 'fingerprint')),
        -- Within the kind, oldest first: the first fingerprint key makes the content hashes. Being
        -- unique, it keeps two processes from both making the first key known.
        ordinal              integer     NOT NULL CHECK (ordinal >= 1),
        check_value          bytea       NOT NULL CHECK (length(check_value) = 32),
        known_since          timestamptz NOT NULL DEFAULT clock_timestamp(),
        UNIQUE (kind, ordinal)
    );
    """)
    op.execute("""
    -- What a number or a fingerprint was made with stays known, whoever asks.
    CREATE FUNCTION known_key_stays() RETURNS trigger
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $body$
    BEGIN
        IF TG_OP = 'DELETE' THEN
            IF OLD.kind = 'data' AND NOT EXISTS (SELECT FROM pan WHERE key_id = OLD.key_id)
                OR OLD.kind = 'fingerprint' AND NOT EXISTS (SELECT FROM pan_fingerprint)
            THEN
                RETURN OLD;
            END IF;
        END IF;
        RAISE EXCEPTION 'a key that is in use is never forgotten or changed';
    END $body$;
    CREATE TRIGGER known_key_stays BEFORE UPDATE OR DELETE ON known_key
        FOR EACH ROW EXECUTE FUNCTION known_key_stays();
    CREATE TRIGGER known_keys_stay BEFORE TRUNCATE ON known_key
        FOR EACH STATEMENT EXECUTE FUNCTION known_key_stays();
    REVOKE ALL ON FUNCTION known_key_stays() FROM PUBLIC;
    """)
