"""Cards, consumers and products as rows, with the chain of events that each of them carries.

Everything goes by batch: one statement reads, inserts or updates all rows of a transaction. The
caller holds the lane locks of every subject that is written here (design.md 7).
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import asyncpg
import orjson

from lifecycle.domain.cards import TERMINAL, Card, Lock, OngoingOperation, Origin, State
from lifecycle.domain.chain import Chain
from lifecycle.domain.consumers import Consumer, ConsumerState
from lifecycle.domain.products import ActivationMethod, Form, Product, ProductTerms

Key = tuple[str, str]  # issuerId and the id of the card, consumer or product
Life = tuple[str, str, int]  # issuerId, cardId and incarnation

_TERMS_CACHED_MAX = 10_000  # distinct products at hand, each some 300 bytes


class ChainBrokenError(Exception):
    """A row is not as it was read under the lock: someone writes past the lanes."""


@lru_cache(maxsize=_TERMS_CACHED_MAX)
def _terms_from(text: str) -> ProductTerms:
    values: dict[str, Any] = orjson.loads(text)
    return ProductTerms(
        **{
            **values,
            "form": Form(values["form"]),
            "activation_method": ActivationMethod(values["activation_method"]),
        }
    )


@lru_cache(maxsize=_TERMS_CACHED_MAX)
def _terms_text(terms: ProductTerms) -> str:
    return orjson.dumps(asdict(terms)).decode()


def _joined(values: frozenset[str]) -> str:
    return ",".join(sorted(values)) if values else ""


def _split(text: str) -> frozenset[str]:
    return frozenset(text.split(",")) if text else frozenset()


_NO_LOCKS: frozenset[Lock] = frozenset()


async def load_cards(
    connection: asyncpg.Connection | asyncpg.Pool, keys: Sequence[Key]
) -> dict[Key, tuple[Card, Chain]]:
    """The cards that exist among `keys`."""
    rows = await connection.fetch(
        """
        SELECT issuer_id, card_id, incarnation, state, state_reason, suspensions, locks,
            ongoing_operation, exp, pending_exp, last4, consumer_id, card_product_id, origin, terms,
            name, second_name, predecessor_card_id, successor_card_id, delete_at_ms,
            digital_cards_relinked, has_auxiliary_pan, auxiliary_exp, pending_auxiliary_exp,
            real_card_id, real_card_incarnation, controls, limits, click_to_pay,
            version, version_time_ms, last_time_ms, last_hash, command_count, recent_commands
        FROM unnest($1::text[], $2::text[]) AS wanted(issuer_id, card_id)
        JOIN card USING (issuer_id, card_id)
        """,
        [issuer_id for issuer_id, _ in keys],
        [card_id for _, card_id in keys],
    )
    loaded = {}
    for row in rows:
        card = Card(
            issuer_id=row[0],
            card_id=row[1],
            incarnation=row[2],
            state=State(row[3]),
            state_reason=row[4],
            suspensions=_split(row[5]),
            locks=frozenset(map(Lock, _split(row[6]))) if row[6] else _NO_LOCKS,
            ongoing_operation=OngoingOperation(row[7]),
            exp=row[8],
            pending_exp=row[9],
            last4=row[10],
            consumer_id=row[11],
            card_product_id=row[12],
            origin=Origin(row[13]),
            terms=_terms_from(row[14]),
            name=row[15],
            second_name=row[16],
            predecessor_card_id=row[17],
            successor_card_id=row[18],
            delete_at_ms=row[19],
            digital_cards_relinked=row[20],
            has_auxiliary_pan=row[21],
            auxiliary_exp=row[22],
            pending_auxiliary_exp=row[23],
            real_card_id=row[24],
            real_card_incarnation=row[25],
            controls=row[26],
            limits=row[27],
            click_to_pay=row[28],
        )
        loaded[row[0], row[1]] = (card, _chain_from(row, 29))
    return loaded


async def insert_cards(connection: asyncpg.Connection, cards: Sequence[tuple[Card, Chain]]) -> None:
    """Store cards that had no row."""
    await connection.copy_records_to_table(
        "card",
        columns=[
            *("issuer_id", "card_id", "incarnation", "state", "state_reason", "suspensions"),
            *("locks", "ongoing_operation", "exp", "pending_exp", "last4", "consumer_id"),
            *("card_product_id", "origin", "terms", "name", "second_name", "predecessor_card_id"),
            *("successor_card_id", "delete_at_ms", "digital_cards_relinked"),
            *("has_auxiliary_pan", "auxiliary_exp", "pending_auxiliary_exp", "real_card_id"),
            *("real_card_incarnation", "controls", "limits", "click_to_pay", "has_ended"),
            *_CHAIN_COLUMNS,
        ],
        records=[
            (
                *(card.issuer_id, card.card_id, card.incarnation, card.state, card.state_reason),
                *(_joined(card.suspensions), _joined(card.locks), card.ongoing_operation),
                *(card.exp, card.pending_exp, card.last4, card.consumer_id, card.card_product_id),
                *(card.origin, _terms_text(card.terms), card.name, card.second_name),
                *(card.predecessor_card_id, card.successor_card_id, card.delete_at_ms),
                *(card.digital_cards_relinked, card.has_auxiliary_pan, card.auxiliary_exp),
                *(card.pending_auxiliary_exp, card.real_card_id, card.real_card_incarnation),
                *(card.controls, card.limits, card.click_to_pay, card.state in TERMINAL),
                *_chain_values(chain),
            )
            for card, chain in cards
        ],
    )


async def update_cards(
    connection: asyncpg.Connection, changes: Sequence[tuple[Card, Chain, Chain]]
) -> None:
    """Store what changed of cards, each given as it is now, its chain now and its chain as read.

    What one life of a card never changes (its product, its consumer, its origin) is not written.

    Raises:
        ChainBrokenError: a row has not the version and hash that were read under the lock.
    """
    stored = await connection.execute(
        """
        UPDATE card SET
            state = u.state, state_reason = u.state_reason, suspensions = u.suspensions,
            locks = u.locks, ongoing_operation = u.ongoing_operation, exp = u.exp,
            pending_exp = u.pending_exp, successor_card_id = u.successor_card_id,
            digital_cards_relinked = u.digital_cards_relinked, last4 = u.last4,
            has_auxiliary_pan = u.has_auxiliary_pan, auxiliary_exp = u.auxiliary_exp,
            pending_auxiliary_exp = u.pending_auxiliary_exp, controls = u.controls,
            limits = u.limits, click_to_pay = u.click_to_pay,
            has_ended = u.state IN ('RENEWED', 'REPLACED', 'DELETED'), version = u.version,
            version_time_ms = u.version_time_ms, last_time_ms = u.last_time_ms,
            last_hash = u.last_hash, command_count = u.command_count,
            recent_commands = u.recent_commands
        FROM unnest(
            $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
            $8::text[], $9::text[], $10::text[], $11::boolean[], $12::text[], $13::boolean[],
            $14::text[], $15::text[], $16::text[], $17::text[], $18::boolean[], $19::bigint[],
            $20::bigint[], $21::bigint[], $22::bytea[], $23::bigint[], $24::bytea[],
            $25::bigint[], $26::bytea[]
        ) AS u(issuer_id, card_id, state, state_reason, suspensions, locks, ongoing_operation,
            exp, pending_exp, successor_card_id, digital_cards_relinked, last4, has_auxiliary_pan,
            auxiliary_exp, pending_auxiliary_exp, controls, limits, click_to_pay, version,
            version_time_ms, last_time_ms, last_hash, command_count, recent_commands,
            read_version, read_hash)
        WHERE card.issuer_id = u.issuer_id AND card.card_id = u.card_id
            AND card.version = u.read_version AND card.last_hash IS NOT DISTINCT FROM u.read_hash
        """,
        [card.issuer_id for card, _, _ in changes],
        [card.card_id for card, _, _ in changes],
        [card.state for card, _, _ in changes],
        [card.state_reason for card, _, _ in changes],
        [_joined(card.suspensions) for card, _, _ in changes],
        [_joined(card.locks) for card, _, _ in changes],
        [card.ongoing_operation for card, _, _ in changes],
        [card.exp for card, _, _ in changes],
        [card.pending_exp for card, _, _ in changes],
        [card.successor_card_id for card, _, _ in changes],
        [card.digital_cards_relinked for card, _, _ in changes],
        [card.last4 for card, _, _ in changes],
        [card.has_auxiliary_pan for card, _, _ in changes],
        [card.auxiliary_exp for card, _, _ in changes],
        [card.pending_auxiliary_exp for card, _, _ in changes],
        [card.controls for card, _, _ in changes],
        [card.limits for card, _, _ in changes],
        [card.click_to_pay for card, _, _ in changes],
        *_chain_arrays([(now, read) for _, now, read in changes]),
    )
    _assert_all_stored("card", stored, len(changes))


async def replace_cards(
    connection: asyncpg.Connection, changes: Sequence[tuple[Card, Chain, Chain]]
) -> None:
    """Store cards whose id began a new life, each with its chain now and its chain as read.

    Raises:
        ChainBrokenError: a row has not the version and hash that were read under the lock.
    """
    deleted = await connection.execute(
        """
        DELETE FROM card USING unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[])
            AS u(issuer_id, card_id, read_version, read_hash)
        WHERE card.issuer_id = u.issuer_id AND card.card_id = u.card_id
            AND card.version = u.read_version AND card.last_hash IS NOT DISTINCT FROM u.read_hash
        """,
        [card.issuer_id for card, _, _ in changes],
        [card.card_id for card, _, _ in changes],
        [read.version for _, _, read in changes],
        [read.last_hash for _, _, read in changes],
    )
    _assert_all_stored("card", deleted, len(changes))
    await insert_cards(connection, [(card, now) for card, now, _ in changes])


async def count_virtual_cards(
    connection: asyncpg.Connection, real_cards: Sequence[Key]
) -> dict[Life, int]:
    """How many virtual cards that are not terminal stand for each life of these cards.

    The states are asked for as well as the column of the index, which a worker of an older version
    does not write.
    """
    rows = await connection.fetch(
        """
        SELECT u.issuer_id, u.card_id, card.real_card_incarnation, count(*)
        FROM unnest($1::text[], $2::text[]) AS u(issuer_id, card_id)
        JOIN card ON card.issuer_id = u.issuer_id AND card.real_card_id = u.card_id
        WHERE NOT card.has_ended AND card.state NOT IN ('RENEWED', 'REPLACED', 'DELETED')
        GROUP BY u.issuer_id, u.card_id, card.real_card_incarnation
        """,
        [issuer_id for issuer_id, _ in real_cards],
        [card_id for _, card_id in real_cards],
    )
    return {(row[0], row[1], row[2]): row[3] for row in rows}


async def lock_consumers(
    connection: asyncpg.Connection,
    keys: Sequence[Key],
    perhaps_unknown: Sequence[Key],
    *,
    exclusive: bool,
) -> dict[Key, tuple[Consumer | None, Chain]]:
    """Lock and read consumers; `exclusive` when a command of the batch is about a consumer.

    An unknown consumer gets a row without a state, so that there is something to lock: otherwise a
    card could be created for a consumer whose deletion, running in another lane, did not see it.
    Only those among `perhaps_unknown` can be: whoever has a card is known. Both statements go
    through their keys in sorted order, and one batch locks in one mode: whoever waits for us in the
    first one holds nothing that we still need, whoever waits in the second one waits in the same
    order as we do.
    """
    inserted = perhaps_unknown and await connection.fetch(
        """
        INSERT INTO consumer (issuer_id, consumer_id, version, command_count, recent_commands)
        SELECT issuer_id, consumer_id, 0, 0, ''
        FROM unnest($1::text[], $2::text[]) AS u(issuer_id, consumer_id)
        ORDER BY issuer_id COLLATE "C", consumer_id COLLATE "C"
        ON CONFLICT DO NOTHING
        RETURNING issuer_id
        """,
        [issuer_id for issuer_id, _ in perhaps_unknown],
        [consumer_id for _, consumer_id in perhaps_unknown],
    )
    # FOR SHARE first and FOR UPDATE later would deadlock two batches that register one consumer.
    rows = await connection.fetch(
        _CONSUMERS_FOR_UPDATE if exclusive or inserted else _CONSUMERS_FOR_SHARE,
        [issuer_id for issuer_id, _ in keys],
        [consumer_id for _, consumer_id in keys],
    )
    assert len(rows) == len(set(keys)), "a consumer row vanished under its lock"
    return {
        (row[0], row[1]): (
            Consumer(issuer_id=row[0], consumer_id=row[1], state=ConsumerState(row[2]))
            if row[2] is not None
            else None,
            _chain_from(row, 3),
        )
        for row in rows
    }


_CONSUMERS_FOR_UPDATE = """
    SELECT issuer_id, consumer_id, state,
        version, version_time_ms, last_time_ms, last_hash, command_count, recent_commands
    FROM unnest($1::text[], $2::text[]) AS wanted(issuer_id, consumer_id)
    JOIN consumer USING (issuer_id, consumer_id)
    ORDER BY issuer_id COLLATE "C", consumer_id COLLATE "C" FOR UPDATE OF consumer
"""
_CONSUMERS_FOR_SHARE = """
    SELECT issuer_id, consumer_id, state,
        version, version_time_ms, last_time_ms, last_hash, command_count, recent_commands
    FROM unnest($1::text[], $2::text[]) AS wanted(issuer_id, consumer_id)
    JOIN consumer USING (issuer_id, consumer_id)
    ORDER BY issuer_id COLLATE "C", consumer_id COLLATE "C" FOR SHARE OF consumer
"""


async def store_consumers(
    connection: asyncpg.Connection,
    changes: Sequence[tuple[Consumer, Chain, Chain]],
    not_registered: Sequence[Key],
) -> None:
    """Store consumers that `lock_consumers` locked; drop the lock rows of those still unknown.

    Raises:
        ChainBrokenError: a row has not the version and hash that were read under the lock.
    """
    if changes:
        stored = await connection.execute(
            """
            UPDATE consumer SET state = u.state, version = u.version,
                version_time_ms = u.version_time_ms, last_time_ms = u.last_time_ms,
                last_hash = u.last_hash, command_count = u.command_count,
                recent_commands = u.recent_commands
            FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[],
                $6::bigint[], $7::bytea[], $8::bigint[], $9::bytea[], $10::bigint[], $11::bytea[])
                AS u(issuer_id, consumer_id, state, version, version_time_ms, last_time_ms,
                last_hash, command_count, recent_commands, read_version, read_hash)
            WHERE consumer.issuer_id = u.issuer_id AND consumer.consumer_id = u.consumer_id
                AND consumer.version = u.read_version
                AND consumer.last_hash IS NOT DISTINCT FROM u.read_hash
            """,
            [consumer.issuer_id for consumer, _, _ in changes],
            [consumer.consumer_id for consumer, _, _ in changes],
            [consumer.state for consumer, _, _ in changes],
            *_chain_arrays([(now, read) for _, now, read in changes]),
        )
        _assert_all_stored("consumer", stored, len(changes))
    if not_registered:
        await connection.execute(
            """
            DELETE FROM consumer USING unnest($1::text[], $2::text[]) AS u(issuer_id, consumer_id)
            WHERE consumer.issuer_id = u.issuer_id AND consumer.consumer_id = u.consumer_id
                AND consumer.state IS NULL
            """,
            [issuer_id for issuer_id, _ in not_registered],
            [consumer_id for _, consumer_id in not_registered],
        )


async def load_products(
    connection: asyncpg.Connection | asyncpg.Pool, keys: Sequence[Key]
) -> dict[Key, tuple[Product, Chain]]:
    """The card products that exist among `keys`."""
    rows = await connection.fetch(
        """
        SELECT issuer_id, card_product_id, terms,
            version, version_time_ms, last_time_ms, last_hash, command_count, recent_commands
        FROM unnest($1::text[], $2::text[]) AS wanted(issuer_id, card_product_id)
        JOIN card_product USING (issuer_id, card_product_id)
        """,
        [issuer_id for issuer_id, _ in keys],
        [card_product_id for _, card_product_id in keys],
    )
    return {
        (row[0], row[1]): (
            Product(issuer_id=row[0], card_product_id=row[1], terms=_terms_from(row[2])),
            _chain_from(row, 3),
        )
        for row in rows
    }


async def store_products(
    connection: asyncpg.Connection, changes: Sequence[tuple[Product, Chain, Chain]]
) -> None:
    """Store new and changed products.

    Raises:
        ChainBrokenError: a row has not the version and hash that were read under the lock.
    """
    stored = await connection.execute(
        """
        INSERT INTO card_product (issuer_id, card_product_id, terms, version, version_time_ms,
            last_time_ms, last_hash, command_count, recent_commands)
        SELECT issuer_id, card_product_id, terms, version, version_time_ms, last_time_ms,
            last_hash, command_count, recent_commands
        FROM unnest($1::text[], $2::text[], $3::jsonb[], $4::bigint[], $5::bigint[], $6::bigint[],
            $7::bytea[], $8::bigint[], $9::bytea[]) AS u(issuer_id, card_product_id, terms, version,
            version_time_ms, last_time_ms, last_hash, command_count, recent_commands)
        ON CONFLICT (issuer_id, card_product_id) DO UPDATE SET terms = excluded.terms,
            version = excluded.version, version_time_ms = excluded.version_time_ms,
            last_time_ms = excluded.last_time_ms, last_hash = excluded.last_hash,
            command_count = excluded.command_count, recent_commands = excluded.recent_commands
        WHERE (card_product.version, card_product.last_hash) IN (
            SELECT * FROM unnest($10::bigint[], $11::bytea[]))
        """,
        [product.issuer_id for product, _, _ in changes],
        [product.card_product_id for product, _, _ in changes],
        [_terms_text(product.terms) for product, _, _ in changes],
        *_chain_arrays([(now, read) for _, now, read in changes]),
    )
    _assert_all_stored("card_product", stored, len(changes))


_CHAIN_COLUMNS = (
    *("version", "version_time_ms", "last_time_ms", "last_hash", "command_count"),
    "recent_commands",
)


def _chain_from(row: asyncpg.Record, at: int) -> Chain:
    return Chain(
        version=row[at],
        version_time_ms=row[at + 1],
        last_time_ms=row[at + 2],
        last_hash=row[at + 3],
        command_count=row[at + 4],
        recent_commands=row[at + 5],
    )


def _chain_values(chain: Chain) -> tuple[Any, ...]:
    return (
        *(chain.version, chain.version_time_ms, chain.last_time_ms, chain.last_hash),
        *(chain.command_count, chain.recent_commands),
    )


def _chain_arrays(chains: Sequence[tuple[Chain, Chain]]) -> tuple[list[Any], ...]:
    """The columns of the chains as they are now, then version and hash as they were read."""
    return (
        [now.version for now, _ in chains],
        [now.version_time_ms for now, _ in chains],
        [now.last_time_ms for now, _ in chains],
        [now.last_hash for now, _ in chains],
        [now.command_count for now, _ in chains],
        [now.recent_commands for now, _ in chains],
        [read.version for _, read in chains],
        [read.last_hash for _, read in chains],
    )


def _assert_all_stored(table: str, tag: str, expected: int) -> None:
    """Compare the row count of a command tag, such as `UPDATE 12`, with what was sent."""
    if int(tag.rsplit(" ", 1)[1]) != expected:
        raise ChainBrokenError(
            f"{tag} of {expected} rows in {table}: a row is not as it was read under its lane's"
            " lock. Something other than the workers writes to this database; nothing was stored."
        )
