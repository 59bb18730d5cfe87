"""Card numbers: sealed for the card that has one, as a fingerprint for whoever asks for it again.

A number is in clear nowhere in the database. Forward only.
"""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create everything."""
    op.execute("""
    CREATE TABLE pan (
        issuer_id            text    NOT NULL,
        card_id              text    NOT NULL,
        incarnation          integer NOT NULL,
        key_id               text    NOT NULL,  -- the kid of the data key: old keys stay readable
        sealed               bytea   NOT NULL,  -- nonce, ciphertext, tag; bound to this card
        PRIMARY KEY (issuer_id, card_id, incarnation)
    );

    -- Live and retired fingerprints under one primary key, so that the database itself keeps two
    -- cards of an issuer from one number, and a number that was retired from ever coming back. With
    -- two tables a claim could fall between them while a number moves from one to the other.
    CREATE TABLE pan_fingerprint (
        issuer_id            text    NOT NULL,
        fingerprint          bytea   NOT NULL CHECK (length(fingerprint) = 32),
        card_id              text,              -- null: retired, for ever
        incarnation          integer,
        PRIMARY KEY (issuer_id, fingerprint),
        CHECK ((card_id IS NULL) = (incarnation IS NULL))
    );
    CREATE INDEX pan_fingerprint_by_card ON pan_fingerprint (issuer_id, card_id, incarnation)
        WHERE card_id IS NOT NULL;

    CREATE VIEW retired_pan AS
        SELECT issuer_id, fingerprint FROM pan_fingerprint WHERE card_id IS NULL;
    """)
    op.execute("""
    -- What is retired stays: neither deleted nor given to a card again, whoever asks.
    CREATE FUNCTION retired_pan_stays() RETURNS trigger LANGUAGE plpgsql AS $body$
    BEGIN
        RAISE EXCEPTION 'a retired card number is never deleted or changed';
    END $body$;
    CREATE TRIGGER retired_pan_stays BEFORE UPDATE OR DELETE ON pan_fingerprint
        FOR EACH ROW WHEN (OLD.card_id IS NULL) EXECUTE FUNCTION retired_pan_stays();
    """)
