"""What is owed is found by index and in bounded bites, however much of it there is.

Each statement runs as the service writes it; PostgreSQL says what it looked at.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from asyncpg.connection import LoggedQuery

from lifecycle.postgres import cascades, pending, timers
from lifecycle.settings import Settings
from tests.support import bank
from tests.support.bank import create
from tests.support.dispatching import copy_card
from tests.support.ground import PARTITIONS, connected
from tests.support.reading import until_settled
from tests.support.worker import running_worker

_ROWS = 30_000
_BITE = 100
_NOW_MS = 1_000

# Every row is due, and at the same time: as at the midnight of a month.
_OWED = """
    INSERT INTO timer SELECT issuer_id, card_id, 'AUTO_RENEW', 1, 'AUTO_RENEW:1127:1' FROM card;
    INSERT INTO dispatch
        SELECT number % 3, number, 1, 'requests', 'key', ''
        FROM generate_series(1, 30000) AS number;
    INSERT INTO cascade (partition, issuer_id, operation_id, consumer_id, reason_code)
        SELECT length(card_id) % 3, issuer_id, gen_random_uuid(), consumer_id, 'CLOSED_ACCOUNT'
        FROM card;
    INSERT INTO pending_operation (issuer_id, operation_id, card_id, kind, command, content_hash,
            incarnation, start_time_ms, deadline_ms, command_partition, command_offset)
        SELECT issuer_id, gen_random_uuid(), card_id, 'RENEW', '{}', '', 1, 0, 1, 0, 0 FROM card;
    ANALYZE timer, dispatch, cascade, pending_operation, card;
"""


async def test_what_is_owed_is_claimed_by_index_and_in_bounded_bites(ground: Settings) -> None:
    async with running_worker(ground):
        await bank.send(ground, bank.PRODUCTS)
        await until_settled(ground)
        await bank.send(ground, [create("card")])
        await until_settled(ground)
    await copy_card(ground, "card", _ROWS - 1)
    lanes = list(range(PARTITIONS))
    async with connected(ground) as connection:
        await connection.execute(_OWED)

        async def explained(claim: Callable[..., Awaitable[Any]], *arguments: object) -> Any:  # noqa: ANN401 - whatever the statement gives
            return await _explained(connection, claim, *arguments)

        due = await explained(timers.load_due, _NOW_MS, _BITE)
        await explained(timers.delete_sent, due)
        timed_out = await explained(pending.load_due, _NOW_MS, _BITE)
        await explained(pending.mark_timed_out, timed_out)
        requests = await explained(pending.load_dispatches, lanes, _BITE)
        await explained(pending.delete_dispatches, requests)
        found = await explained(cascades.load_open, lanes, _BITE)
        pages = await explained(cascades.load_pages, found, _BITE // len(found))
        await explained(cascades.move_on, [(found[0], pages[0][-1].card_id)])
        await explained(cascades.finish, found)
        for claimed in (due, timed_out, requests, found, [one for page in pages for one in page]):
            assert len(claimed) == _BITE


async def _explained(
    connection: asyncpg.Connection, claim: Callable[..., Awaitable[Any]], *arguments: object
) -> Any:  # noqa: ANN401 - whatever the statement gives
    """Run a statement of the service, after it was seen to look at no more than a few bites."""
    logged: list[LoggedQuery] = []
    async with _rolled_back(connection):
        with connection.query_logger(logged.append):
            await claim(connection, *arguments)
    statement = logged[-1]  # before it asyncpg may look up types
    async with _rolled_back(connection):
        text = await connection.fetchval(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.query}", *statement.args
        )
    for node in _nodes(json.loads(text)[0]["Plan"]):
        where = (claim.__qualname__, node)
        assert node["Node Type"] != "Seq Scan", where
        passed = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        assert passed * node["Actual Loops"] <= _BITE * PARTITIONS, where
    return await claim(connection, *arguments)


@asynccontextmanager
async def _rolled_back(connection: asyncpg.Connection) -> AsyncIterator[None]:
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)
