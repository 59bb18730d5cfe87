"""The keys that the database was filled with, by name and check value; never a key itself."""

from collections.abc import Sequence
from typing import NamedTuple

from lifecycle.postgres.connection import Connection, Pool
from lifecycle.postgres.pans import LifeKey, SealedRow

_ADOPTION_LOCK_ID = 0x6B657973  # any number that no one else uses in this database


class KnownKey(NamedTuple):
    """A key that the database knows. `kind` is `data` or `fingerprint`."""

    kid: str
    kind: str
    check_value: bytes


class StoredNumber(NamedTuple):
    """What is sealed for a card, and every fingerprint of the numbers in it."""

    life: LifeKey
    sealed: SealedRow
    fingerprints: frozenset[bytes]


async def load_known_keys(connection: Connection | Pool) -> list[KnownKey]:
    """Every key that the database knows, each kind oldest first."""
    rows = await connection.fetch(
        "SELECT key_id, kind, check_value FROM known_key ORDER BY kind, ordinal"
    )
    return [KnownKey(*row) for row in rows]


async def lock_known_keys(connection: Connection) -> None:
    """Wait until no other transaction makes keys known; none begins to before ours ends.

    An advisory lock, because a worker may have no right to lock the table.
    """
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _ADOPTION_LOCK_ID)


async def add_known_keys(connection: Connection, keys: Sequence[KnownKey]) -> None:
    """Make keys known, after those of their kind that are known already.

    Raises:
        asyncpg.UniqueViolationError: one of them is known.
    """
    await connection.execute(
        """
        INSERT INTO known_key (key_id, kind, ordinal, check_value)
        SELECT u.key_id, u.kind, u.place_in_kind + coalesce(known.ordinal_max, 0),
            u.check_value
        FROM (
            SELECT key_id, kind, check_value,
                row_number() OVER (PARTITION BY kind ORDER BY place) AS place_in_kind
            FROM unnest($1::text[], $2::text[], $3::bytea[])
                WITH ORDINALITY AS given(key_id, kind, check_value, place)
        ) AS u
        LEFT JOIN (
            SELECT kind, max(ordinal) AS ordinal_max FROM known_key GROUP BY kind
        ) AS known USING (kind)
        """,
        [key.kid for key in keys],
        [key.kind for key in keys],
        [key.check_value for key in keys],
    )


async def is_in_use(connection: Connection, key: KnownKey) -> bool:
    """Whether a number is encrypted with a data key, or may be found by a fingerprint key.

    Reads all of `pan` when none is: seconds, for millions of cards.
    """
    if key.kind == "data":
        query, arguments = "SELECT EXISTS (SELECT FROM pan WHERE key_id = $1)", [key.kid]
    else:
        query, arguments = "SELECT EXISTS (SELECT FROM pan_fingerprint)", []
    return bool(await connection.fetchval(query, *arguments))


async def forget_known_key(connection: Connection, kid: str) -> None:
    """Forget a key; the database refuses it for one that is in use.

    Raises:
        asyncpg.RaiseError: it is in use.
    """
    await connection.execute("DELETE FROM known_key WHERE key_id = $1", kid)


async def has_fingerprints(connection: Connection) -> bool:
    """Whether a card has, or ever had, a number."""
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM pan_fingerprint)"))


async def sample_numbers(connection: Connection, numbers_max: int) -> list[StoredNumber]:
    """Numbers of cards, half of them from each end of the table's order."""
    rows = await connection.fetch(
        """
        SELECT issuer_id, card_id, incarnation, key_id, sealed, array(
            SELECT f.fingerprint FROM pan_fingerprint AS f
            WHERE (f.issuer_id, f.card_id, f.incarnation)
                = (sample.issuer_id, sample.card_id, sample.incarnation)
        )
        FROM (
            (SELECT * FROM pan ORDER BY issuer_id, card_id, incarnation LIMIT $1)
            UNION
            (SELECT * FROM pan ORDER BY issuer_id DESC, card_id DESC, incarnation DESC LIMIT $1)
        ) AS sample
        """,
        numbers_max // 2,
    )
    return [
        StoredNumber(LifeKey(*row[:3]), SealedRow(row[3], row[4]), frozenset(row[5]))
        for row in rows
    ]
