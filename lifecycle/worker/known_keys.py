"""The keys of a file beside those that the database knows: compared before any of them is used.

A process with other keys than its neighbours does silent damage: it finds no number that a card has
already, and stores what the others can't read. So each compares at its start. Relies on the vault
for check values, and on `lifecycle.postgres.known_keys` for what is known.
"""

from collections.abc import Sequence
from typing import NamedTuple

import structlog

from lifecycle.postgres.connection import Connection, Pool
from lifecycle.postgres.known_keys import (
    KnownKey,
    add_known_keys,
    has_fingerprints,
    load_known_keys,
    lock_known_keys,
    sample_numbers,
)
from lifecycle.vault.check_values import check_value, keys_at_rest
from lifecycle.vault.fingerprints import fingerprints_with
from lifecycle.vault.keys import KIND_OF, Algorithm, Key, KeyRing, KeysError, Status
from lifecycle.vault.sealing import CardLife, Sealed, SealError, sealing_with

_log = structlog.get_logger(__name__)

NUMBERS_TRIED_MAX = 100
"""Of a database that holds numbers and knows no key: enough to see that a file is another one."""


class Comparison(NamedTuple):
    """What of a keys file does not fit: known by name as another key, known and not there, unknown.

    An unknown key that is staged (`next`) is no fault: it is not used before it is known.
    """

    different: tuple[KnownKey, ...]
    missing: tuple[KnownKey, ...]
    unknown: tuple[Key, ...]
    staged: tuple[Key, ...]


def compare(ring: KeyRing, known: Sequence[KnownKey]) -> Comparison:
    """A keys file beside what the database knows."""
    values = {key.kid: check_value(key) for key in keys_at_rest(ring)}
    there = [key for key in known if key.kid in values]
    kids = {key.kid for key in known}
    new = [key for key in keys_at_rest(ring) if key.kid not in kids]
    return Comparison(
        different=tuple(key for key in there if values[key.kid] != key.check_value),
        missing=tuple(key for key in known if key.kid not in values),
        unknown=tuple(key for key in new if key.status is not Status.NEXT),
        staged=tuple(key for key in new if key.status is Status.NEXT),
    )


def refuse_another_file(compared: Comparison) -> None:
    """Refuse a keys file that is not this database's, or an older one of it.

    Raises:
        KeysError: a known key is missing or another one. Says what to do.
    """
    for key in compared.different:
        raise KeysError(
            f"its {key.kind} key {key.kid} is not the one that the database knows by this name:"
            " give this process the keys file of this installation"
        )
    for key in compared.missing:
        unused = ""
        if key.kind == KIND_OF[Algorithm.A256GCM]:
            unused = (
                f", or forget a key that encrypts nothing more: `lifecycle keys forget {key.kid}`"
            )
        raise KeysError(
            f"it does not have the {key.kind} key {key.kid}, which the database knows: give this"
            f" process the newest keys file of this installation{unused}"
        )


async def keys_in_use(pool: Pool, ring: KeyRing | None) -> KeyRing | None:
    """The keys of a file that this process may use: all but the staged ones that nobody knows yet.

    The fingerprint keys come in the order in which they became known, whatever that of the file.
    The first process of a database that knows no key makes its own known, unless the numbers in the
    database were stored with others. `ring` is None for a process without a keys file.

    Raises:
        KeysError: the file does not fit the database. Says what to do.
    """
    known = await load_known_keys(pool)
    if ring is None:
        if known:
            raise KeysError("it is not set, and the database knows keys: give this process theirs")
        return None
    if not known:
        async with pool.acquire() as connection, connection.transaction():
            if adopted := await _adopt_first(connection, ring):
                _log.info("keys_made_known", kids=[key.kid for key in adopted])
            known = await load_known_keys(connection)
    compared = compare(ring, known)
    refuse_another_file(compared)
    for key in compared.unknown:
        raise KeysError(
            f"the database does not know its {KIND_OF[key.algorithm]} key {key.kid}: if this is the"
            " newest keys file of this installation, and every process has it, make the key known"
            " with `lifecycle keys adopt`"
        )
    for key in compared.staged:
        _log.info("staged_key_not_used", kid=key.kid, until="`lifecycle keys adopt`, and a restart")
    return _usable(ring, known)


def _usable(ring: KeyRing, known: Sequence[KnownKey]) -> KeyRing:
    at_rest = {key.kid: key for key in keys_at_rest(ring)}
    opening = [key for key in ring.keys if key.kid not in at_rest]
    return KeyRing((*opening, *(at_rest[key.kid] for key in known)))


async def _adopt_first(connection: Connection, ring: KeyRing) -> list[KnownKey]:
    """Make the keys of a file known to a database that knows none; empty when it knows some now."""
    await lock_known_keys(connection)
    if await load_known_keys(connection):
        return []
    tried = await _refuse_other_numbers(connection, ring)
    if not tried and await has_fingerprints(connection):
        raise KeysError(
            "the database knows no keys and holds only numbers that have left with their cards, of"
            " which nobody can tell the keys: if this is the keys file of this installation, say so"
            " with `lifecycle keys adopt`"
        )
    return await _add(
        connection, [key for key in keys_at_rest(ring) if key.status is not Status.NEXT]
    )


async def adopt(connection: Connection, ring: KeyRing) -> list[KnownKey]:
    """Make every key of a file known, the staged ones too; those that were not. In a transaction.

    Raises:
        KeysError: it is the file of another installation, or an older one of this.
    """
    await lock_known_keys(connection)
    known = await load_known_keys(connection)
    compared = compare(ring, known)
    refuse_another_file(compared)
    if not known:
        await _refuse_other_numbers(connection, ring)
    new = {key.kid for key in (*compared.unknown, *compared.staged)}
    return await _add(connection, [key for key in keys_at_rest(ring) if key.kid in new])


async def _add(connection: Connection, keys: Sequence[Key]) -> list[KnownKey]:
    rows = [KnownKey(key.kid, KIND_OF[key.algorithm], check_value(key)) for key in keys]
    await add_known_keys(connection, rows)
    return rows


async def _refuse_other_numbers(connection: Connection, ring: KeyRing) -> int:
    """See that numbers in the database were stored with the keys of a file; how many were tried.

    Raises:
        KeysError: one does not open, or has fingerprints under another key.
    """
    sealing, fingerprints = sealing_with(ring), fingerprints_with(ring)
    stored = await sample_numbers(connection, NUMBERS_TRIED_MAX)
    for number in stored:
        try:
            numbers = sealing.unseal(CardLife(*number.life), Sealed(*number.sealed))
        except SealError as error:
            raise KeysError(f"it does not open the numbers in the database: {error}") from None
        pans = [pan for pan in (numbers.pan, numbers.auxiliary_pan) if pan is not None]
        made = {pan: fingerprints.of_number(number.life.issuer_id, pan) for pan in pans}
        # The first key has made one of every number's, a key that was added later of some.
        if (
            not {by_key[0] for by_key in made.values()}
            <= number.fingerprints
            <= {fingerprint for by_key in made.values() for fingerprint in by_key}
        ):
            raise KeysError(
                "the numbers in the database were fingerprinted with other keys: give this process"
                " the keys file of this installation"
            )
    return len(stored)
