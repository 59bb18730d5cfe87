"""Card numbers as rows: sealed for their card, and as fingerprints that no second card can claim.

Everything goes by batch, inside the transaction of the worker. A number is claimed before it is
decided who gets it, so that two lanes that want one number at once come one after the other; after
the decision the claims are settled. Nothing here ever sees a clear number.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from lifecycle.postgres.connection import Connection, Pool


class LifeKey(NamedTuple):
    """A card id in one of its lives."""

    issuer_id: str
    card_id: str
    incarnation: int


class WantedNumber(NamedTuple):
    """A number that a card might get: its fingerprints, one for every key, and the card."""

    fingerprints: tuple[bytes, ...]
    life: LifeKey


class PanRow(NamedTuple):
    """The sealed numbers of a card, and the fingerprints of each of them under every key."""

    life: LifeKey
    key_id: str
    sealed: bytes
    fingerprints: tuple[bytes, ...]


class SealedRow(NamedTuple):
    """The sealed numbers of a card as they were stored."""

    key_id: str
    sealed: bytes


Claims = dict[tuple[str, bytes], LifeKey]
"""What one transaction has claimed: issuerId and fingerprint, with the card noted in the row."""


class ClaimError(Exception):
    """A row is not as this transaction left it: someone writes past the worker."""


async def claim_numbers(
    connection: Connection, wanted: Sequence[WantedNumber], claims: Claims
) -> list[bool]:
    """Claim numbers for this transaction; for each whether it may be given to a card.

    False: another card has the number, or one had it. A number that this transaction has claimed
    before is its own still, whichever of its cards it was for. `claims` is added to.

    Rows are inserted in one order by everyone. Whoever wants a number that another transaction has
    claimed, or retires, waits for its end and then sees what became of it. Claims of a second call
    are out of that order: a deadlock is possible then, rare, and tried again like any other
    (`is_transient`).
    """
    new: Claims = {}
    for number in wanted:
        assert number.fingerprints, "a number has a fingerprint for every key, and there is a key"
        for fingerprint in number.fingerprints:
            key = (number.life.issuer_id, fingerprint)
            if key not in claims:
                new.setdefault(key, number.life)
    if new:
        rows = await connection.fetch(
            """
            INSERT INTO pan_fingerprint (issuer_id, fingerprint, card_id, incarnation)
            SELECT * FROM unnest($1::text[], $2::bytea[], $3::text[], $4::integer[])
                AS u(issuer_id, fingerprint, card_id, incarnation)
            ORDER BY issuer_id COLLATE "C", fingerprint
            ON CONFLICT DO NOTHING
            RETURNING issuer_id, fingerprint
            """,
            *_columns(new),
        )
        for row in rows:
            key = (row[0], row[1])
            claims[key] = new[key]
    return [
        all((number.life.issuer_id, fingerprint) in claims for fingerprint in number.fingerprints)
        for number in wanted
    ]


async def store_pans(connection: Connection, rows: Sequence[PanRow], claims: Claims) -> None:
    """Store the numbers of cards and settle every claim: what no card got is set free.

    Call it once, after the decisions, also without rows when anything was claimed: a claim that is
    committed unsettled would keep its number from everyone.

    Raises:
        ClaimError: a claimed row is gone; nothing may be committed.
    """
    held: Claims = {}
    for row in rows:
        for fingerprint in row.fingerprints:
            key = (row.life.issuer_id, fingerprint)
            assert key in claims, "only a claimed number is given to a card"
            assert key not in held, "a number is given to one card"
            held[key] = row.life
    moved = {key: life for key, life in held.items() if claims[key] != life}
    if moved:
        tag = await connection.execute(
            """
            UPDATE pan_fingerprint AS p SET card_id = u.card_id, incarnation = u.incarnation
            FROM unnest($1::text[], $2::bytea[], $3::text[], $4::integer[])
                AS u(issuer_id, fingerprint, card_id, incarnation)
            WHERE p.issuer_id = u.issuer_id AND p.fingerprint = u.fingerprint
            """,
            *_columns(moved),
        )
        _assert_rows(tag, len(moved))
    free = claims.keys() - held.keys()
    if free:
        tag = await connection.execute(
            """
            DELETE FROM pan_fingerprint AS p
            USING unnest($1::text[], $2::bytea[]) AS u(issuer_id, fingerprint)
            WHERE p.issuer_id = u.issuer_id AND p.fingerprint = u.fingerprint
            """,
            [issuer_id for issuer_id, _ in free],
            [fingerprint for _, fingerprint in free],
        )
        _assert_rows(tag, len(free))
    if rows:
        await connection.copy_records_to_table(
            "pan",
            columns=["issuer_id", "card_id", "incarnation", "key_id", "sealed"],
            records=[(*row.life, row.key_id, row.sealed) for row in rows],
        )
    claims.clear()


async def load_pans(
    connection: Connection | Pool, lives: Sequence[LifeKey]
) -> dict[LifeKey, SealedRow]:
    """The sealed numbers of those lives that have some: not of cards that ended."""
    rows = await connection.fetch(
        """
        SELECT issuer_id, card_id, incarnation, key_id, sealed
        FROM unnest($1::text[], $2::text[], $3::integer[])
            AS wanted(issuer_id, card_id, incarnation)
        JOIN pan USING (issuer_id, card_id, incarnation)
        """,
        *_life_columns(lives),
    )
    return {LifeKey(row[0], row[1], row[2]): SealedRow(row[3], row[4]) for row in rows}


async def reseal_pans(connection: Connection, rows: Mapping[LifeKey, SealedRow]) -> None:
    """Store numbers that stay as they are, sealed anew with what has come to them."""
    tag = await connection.execute(
        """
        UPDATE pan AS p SET key_id = u.key_id, sealed = u.sealed
        FROM unnest($1::text[], $2::text[], $3::integer[], $4::text[], $5::bytea[])
            AS u(issuer_id, card_id, incarnation, key_id, sealed)
        WHERE (p.issuer_id, p.card_id, p.incarnation) = (u.issuer_id, u.card_id, u.incarnation)
        """,
        *_life_columns(list(rows)),
        [row.key_id for row in rows.values()],
        [row.sealed for row in rows.values()],
    )
    _assert_rows(tag, len(rows))


async def retire_pans(
    connection: Connection, lives: Sequence[LifeKey], kept: Collection[tuple[str, bytes]] = ()
) -> None:
    """Retire the numbers of cards that were deleted, replaced or renewed (domain.md 4).

    Their fingerprints stay for ever, of the numbers themselves nothing. A life without numbers, or
    whose numbers are retired already, is left as it is. After `store_pans`, because a card may be
    registered and deleted in one batch; and after every claim of the transaction, because others
    that claim such a number wait for us from here on. `kept`: pairs of issuerId and fingerprint
    that stay with their card, which changes the other of its two numbers.
    """
    await connection.execute(
        """
        WITH ended AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::integer[])
                AS u(issuer_id, card_id, incarnation)
        ), gone AS (
            DELETE FROM pan AS p USING ended AS e
            WHERE (p.issuer_id, p.card_id, p.incarnation)
                = (e.issuer_id, e.card_id, e.incarnation)
        )
        UPDATE pan_fingerprint AS p SET card_id = NULL, incarnation = NULL FROM ended AS e
        WHERE (p.issuer_id, p.card_id, p.incarnation) = (e.issuer_id, e.card_id, e.incarnation)
            -- Hashed once. NOT EXISTS may look through all of them for each row.
            AND (p.issuer_id, p.fingerprint) NOT IN (
                SELECT * FROM unnest($4::text[], $5::bytea[]))
        """,
        *_life_columns(lives),
        [issuer_id for issuer_id, _ in kept],
        [fingerprint for _, fingerprint in kept],
    )


def _columns(claims: Mapping[tuple[str, bytes], LifeKey]) -> tuple[list[object], ...]:
    return (
        [issuer_id for issuer_id, _ in claims],
        [fingerprint for _, fingerprint in claims],
        [life.card_id for life in claims.values()],
        [life.incarnation for life in claims.values()],
    )


def _life_columns(lives: Sequence[LifeKey]) -> tuple[list[object], ...]:
    return (
        [life.issuer_id for life in lives],
        [life.card_id for life in lives],
        [life.incarnation for life in lives],
    )


def _assert_rows(tag: str, expected: int) -> None:
    """Compare the row count of a command tag, such as `UPDATE 12`, with what was sent."""
    if int(tag.rsplit(" ", 1)[1]) != expected:
        raise ClaimError(
            f"{tag} of {expected} claimed card numbers: a row is not as this transaction left it."
            " Something other than the workers writes to this database; nothing was stored."
        )


async def load_holders(
    connection: Connection, keys: Sequence[tuple[str, bytes]]
) -> dict[tuple[str, bytes], LifeKey | None]:
    """Which life has each of these numbers; None for one that was retired."""
    if not keys:
        return {}
    rows = await connection.fetch(
        """
        SELECT issuer_id, fingerprint, card_id, incarnation
        FROM unnest($1::text[], $2::bytea[]) AS u(issuer_id, fingerprint)
        JOIN pan_fingerprint USING (issuer_id, fingerprint)
        """,
        [issuer_id for issuer_id, _ in keys],
        [fingerprint for _, fingerprint in keys],
    )
    return {
        (row[0], row[1]): None if row[2] is None else LifeKey(row[0], row[2], row[3])
        for row in rows
    }


async def retire_claimed(
    connection: Connection, keys: Sequence[tuple[str, bytes]], claims: Claims
) -> None:
    """Retire numbers that this transaction claimed for a card which it then gave another one.

    Raises:
        ClaimError: a claimed row is gone; nothing may be committed.
    """
    tag = await connection.execute(
        """
        UPDATE pan_fingerprint AS p SET card_id = NULL, incarnation = NULL
        FROM unnest($1::text[], $2::bytea[]) AS u(issuer_id, fingerprint)
        WHERE p.issuer_id = u.issuer_id AND p.fingerprint = u.fingerprint
        """,
        [issuer_id for issuer_id, _ in keys],
        [fingerprint for _, fingerprint in keys],
    )
    _assert_rows(tag, len(keys))
    for key in keys:
        del claims[key]
