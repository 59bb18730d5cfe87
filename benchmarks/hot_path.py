"""Every statement of the hot path, the dispatcher and the views, run as for a poll at its limit.

On a database of `large_database`: the names here are those of its fill.
"""

from collections.abc import Awaitable, Callable
from hashlib import md5, sha256
from typing import Any
from uuid import UUID

import asyncpg

from benchmarks.explaining import Explaining, Plan, rolled_back
from lifecycle.domain.sources import Partition, Source
from lifecycle.postgres import (
    cascades,
    lanes,
    operations,
    pans,
    past_commands,
    pending,
    subjects,
    timers,
    views,
)
from lifecycle.postgres.cascades import CascadeRow
from lifecycle.postgres.pans import Claims, LifeKey, PanRow, SealedRow, WantedNumber
from lifecycle.postgres.timers import TimerKey, TimerRow

ISSUER = "BANK000001"
COUNTED_MAX = 1_000_000
RECORDS = 2_000
"""Records of a poll: the default of LIFECYCLE_POLL_RECORDS_MAX."""
LANES = 12
ROUND = 100
REQUESTS = 500
"""Timers, and requests, that the dispatcher sends at once."""

_LATE_MS = 10**15
_BYTES_MAX = 4 * 1024 * 1024


async def plans_of_hot_path(connection: asyncpg.Connection) -> dict[str, list[Plan]]:
    """The plans of each function of `lifecycle.postgres`, by its name; nothing is changed."""
    plans: dict[str, list[Plan]] = {}
    for part in (_intake, _subjects, _past, _numbers, _pending, _owed, _publication, _views):
        async with rolled_back(connection):
            await part(_Statements(connection, plans))
    return plans


class _Statements:
    """Calls functions of `lifecycle.postgres`, and notes the plans of what they run."""

    def __init__(self, connection: asyncpg.Connection, plans: dict[str, list[Plan]]) -> None:
        self._connection = connection
        self._plans = plans

    async def __call__(
        self, function: Callable[..., Awaitable[Any]], *arguments: object, **named: object
    ) -> Any:  # noqa: ANN401 - whatever the function gives
        """Call it with a connection; what it gives."""
        explaining = Explaining(self._connection)
        result = await function(explaining, *arguments, **named)
        name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        self._plans.setdefault(name, []).extend(explaining.plans)
        return result


def _uuid(kind: str, number: int) -> UUID:
    return UUID(md5(f"{kind}{number}".encode()).hexdigest())  # noqa: S324 - as the fill names them


def _cards(count: int) -> list[tuple[str, str]]:
    # Spread over the table, and none of those that are all of one consumer.
    return [(ISSUER, f"card-{1 + number * 4}") for number in range(count)]


async def _intake(call: _Statements) -> None:
    await call(lanes.ensure_lanes, LANES)
    partitions = [Partition(source, lane) for source in Source for lane in range(LANES)]
    await call(lanes.load_intake, dict.fromkeys(partitions, 0))
    advances = [
        lanes.Advance(partition=partition, from_offset=1_000, to_offset=1_100, last_record_hash=b"")
        for partition in partitions
    ]
    assert await call(lanes.advance_intake, advances)
    last_seq = await call(lanes.lock_lanes, list(range(LANES)))
    await call(lanes.store_last_seq, last_seq)
    await call(operations.notify_lanes, list(range(LANES)))


async def _subjects(call: _Statements) -> None:
    found = await call(subjects.load_cards, _cards(RECORDS))
    changes = [(card, chain, chain) for card, chain in found.values()]
    assert len(changes) == RECORDS
    await call(subjects.update_cards, changes)
    await call(subjects.replace_cards, changes[:ROUND])
    counted = await call(subjects.count_virtual_cards, [(ISSUER, "card-1"), *_cards(ROUND)])
    assert counted
    consumers = [(ISSUER, f"consumer-{number}") for number in range(RECORDS)]
    unknown = [(ISSUER, f"nobody-{number}") for number in range(ROUND)]
    for exclusive in (False, True):
        locked = await call(
            subjects.lock_consumers, [*consumers, *unknown], unknown, exclusive=exclusive
        )
    known = [(one, chain, chain) for one, chain in locked.values() if one is not None]
    await call(subjects.store_consumers, known, unknown)
    products = [(ISSUER, f"product-{number}") for number in range(ROUND)]
    loaded = await call(subjects.load_products, products)
    await call(subjects.store_products, [(one, chain, chain) for one, chain in loaded.values()])


async def _past(call: _Statements) -> None:
    ids = [(ISSUER, _uuid("past", number)) for number in range(1, RECORDS + 1)]
    assert len(await call(past_commands.load_content_hashes, ids)) == RECORDS
    keys = [f"{ISSUER}/new-{number}" for number in range(RECORDS)]
    keys += [f"{ISSUER}/unknown-{number * 100}" for number in range(ROUND)]
    assert await call(past_commands.load_last_times, [(ISSUER, key) for key in keys])
    await call(past_commands.forget_past_commands, RECORDS)


async def _numbers(call: _Statements) -> None:
    lives = [LifeKey(ISSUER, f"card-{number * 4}", 1) for number in range(1, RECORDS + 1)]
    sealed = {life: SealedRow("data-1", b"") for life in lives}
    claims: Claims = {}
    wanted = [
        WantedNumber((sha256(f"new {number}".encode()).digest(),), LifeKey(*card, 2))
        for number, card in enumerate(_cards(RECORDS))
    ]
    await call(pans.claim_numbers, wanted, claims)
    taken = [(ISSUER, sha256(str(number).encode()).digest()) for number in range(1, RECORDS + 1)]
    assert len(await call(pans.load_holders, taken)) == RECORDS
    await call(pans.load_pans, lives)
    await call(pans.reseal_pans, sealed)
    given_up = [(ISSUER, number.fingerprints[0]) for number in wanted[:ROUND]]
    await call(pans.retire_claimed, given_up, claims)
    given = [
        PanRow(number.life._replace(incarnation=3), "data-1", b"", number.fingerprints)
        for number in wanted[ROUND : RECORDS // 2]
    ]
    await call(pans.store_pans, given, claims)
    await call(pans.retire_pans, lives, taken)


async def _pending(call: _Statements) -> None:
    keys = [(ISSUER, _uuid("pending", number)) for number in range(1, ROUND + 1)]
    assert len(await call(pending.load_pending, keys)) == ROUND
    cards = [(ISSUER, f"card-{number * 10}") for number in range(1, ROUND + 1)]
    assert await call(pending.count_pending, cards, "CLICK_TO_PAY_ENROLMENT")
    await call(pending.delete_pending, keys)
    stored = [TimerRow(*card, "EXPIRE", _LATE_MS, "EXPIRE:1231:1") for card in _cards(RECORDS)]
    dropped = [TimerKey(ISSUER, f"card-{number * 4}", "EXPIRE") for number in range(1, RECORDS)]
    await call(timers.store_timers, stored, dropped)
    causes = [
        CascadeRow(
            *(0, ISSUER, _uuid("cause", number)), None, card_id, 1, "CLOSED_ACCOUNT", None, None
        )
        for number, (_, card_id) in enumerate(_cards(ROUND))
    ]
    await call(cascades.insert_cascades, causes)


async def _owed(call: _Statements) -> None:
    partitions = list(range(LANES))
    due = await call(timers.load_due, _LATE_MS, ROUND)
    await call(timers.delete_sent, due)
    timed_out = await call(pending.load_due, _LATE_MS, ROUND)
    await call(pending.mark_timed_out, timed_out)
    requests = await call(pending.load_dispatches, partitions, REQUESTS)
    await call(pending.delete_dispatches, requests)
    # First comes that of the card whose virtual cards have nearly all ended, then its consumer.
    found = await call(cascades.load_open, partitions, 2)
    pages = await call(cascades.load_pages, found, ROUND // len(found))
    told = [(cascade, page[-1].card_id) for cascade, page in zip(found, pages, strict=True) if page]
    await call(cascades.move_on, told)
    await call(cascades.finish, found)
    await call(lanes.load_taken, partitions)
    await call(timers.count_due, _LATE_MS, COUNTED_MAX)
    await call(pending.count_due, _LATE_MS, COUNTED_MAX)
    await call(pending.count_open, COUNTED_MAX)
    await call(pending.count_dispatches, partitions, COUNTED_MAX)
    await call(cascades.count_open, partitions, COUNTED_MAX)


async def _publication(call: _Statements) -> None:
    published = await call(lanes.load_publications, list(range(LANES)))
    await call(lanes.lane_ends, list(range(LANES)))
    at = published[1]
    room = {"rows_max": RECORDS, "bytes_max": _BYTES_MAX}
    await call(operations.load_outbox, 1, at.published_seq, **room)
    await call(operations.load_outbox, 1, at.last_seq, **room)
    assert await call(operations.event_id_at, 1, at.published_seq)
    await call(operations.load_dead_letters, 1, 10**8, 10**8, **room)
    await call(operations.load_dead_letters, 1, 1_000, -1, **room)
    await call(lanes.store_published, 1, at.last_seq, 0, 0)


async def _views(call: _Statements) -> None:
    key = f"{ISSUER}/card-2"
    offset = {"clock_offset_seconds": 0}
    await call(views.list_operations, ISSUER, key, offset=0, limit=50, **offset)
    await call(views.find_operation, ISSUER, key, _uuid("operation", 1_000), **offset)
    await call(views.knows_operation, ISSUER, _uuid("operation", 1_000))
    await call(views.has_operations)
