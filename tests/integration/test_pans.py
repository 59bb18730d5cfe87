"""Card numbers on the real PostgreSQL: two cards of an issuer never hold one (domain.md 4)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from pydantic import SecretStr

from lifecycle.local import Servers
from lifecycle.postgres.connection import Connection, Pool, open_pool
from lifecycle.postgres.migrate import migrate
from lifecycle.postgres.pans import (
    Claims,
    LifeKey,
    PanRow,
    SealedRow,
    WantedNumber,
    claim_numbers,
    load_pans,
    retire_pans,
    store_pans,
)
from lifecycle.postgres.temporary import temporary_database
from lifecycle.settings import Settings
from lifecycle.vault.drawing import Candidate, NumberRange, Wanted, draw_free
from lifecycle.vault.filling import Filling
from tests.support.waiting import SECONDS_MAX
from tests.unit.vault_keys import fingerprints

ISSUER = "BANK000001"


@pytest_asyncio.fixture
async def pool(servers: Servers) -> AsyncIterator[Pool]:
    """A database of its own with the newest schema."""
    async with temporary_database(
        servers.database_url, f"test_pans_{uuid4().hex}", connect_seconds_max=SECONDS_MAX
    ) as url:
        settings = Settings(database_url=SecretStr(url))
        await asyncio.to_thread(migrate, settings)
        async with await open_pool(settings) as opened:
            yield opened


def print_of(name: str) -> bytes:
    """Something that looks like a fingerprint."""
    return sha256(name.encode()).digest()


def life(card_id: str, incarnation: int = 1, issuer_id: str = ISSUER) -> LifeKey:
    return LifeKey(issuer_id, card_id, incarnation)


def wanted(card: LifeKey, *numbers: str) -> WantedNumber:
    """A number, by the names of its fingerprints."""
    return WantedNumber(tuple(map(print_of, numbers)), card)


def row(card: LifeKey, *numbers: str) -> PanRow:
    return PanRow(card, "data-1", f"sealed {card}".encode(), tuple(map(print_of, numbers)))


async def give(pool: Pool, card: LifeKey, *numbers: str) -> bool:
    """Claim numbers for a card and store them, in a transaction of its own."""
    claims: Claims = {}
    async with pool.acquire() as connection, connection.transaction():
        granted = await claim_numbers(connection, [wanted(card, one) for one in numbers], claims)
        rows = [row(card, *numbers)] if all(granted) else []
        await store_pans(connection, rows, claims)
    return all(granted)


async def retire(pool: Pool, *lives: LifeKey) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await retire_pans(connection, lives)


async def stored(pool: Pool) -> dict[bytes, tuple[str | None, int | None]]:
    """Every fingerprint with the card that holds it."""
    rows = await pool.fetch("SELECT fingerprint, card_id, incarnation FROM pan_fingerprint")
    return {one[0]: (one[1], one[2]) for one in rows}


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    async with pool.acquire() as connection, connection.transaction():
        yield connection


async def until_waiting(pool: Pool, task: asyncio.Task[list[bool]]) -> None:
    """Until a statement of this database waits for another transaction."""
    async with asyncio.timeout(SECONDS_MAX):
        while not await pool.fetchval(
            """
            SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'
            """
        ):
            assert not task.done(), "it did not wait"
            await asyncio.sleep(0.01)


async def test_a_number_belongs_to_the_card_that_claimed_it(pool: Pool) -> None:
    assert await give(pool, life("card-1"), "a", "auxiliary")
    assert await stored(pool) == {
        print_of("a"): ("card-1", 1),
        print_of("auxiliary"): ("card-1", 1),
    }
    assert await load_pans(pool, [life("card-1"), life("card-1", 2), life("card-2")]) == {
        life("card-1"): SealedRow("data-1", row(life("card-1")).sealed)
    }


async def test_a_number_of_a_live_card_is_refused_to_every_other(pool: Pool) -> None:
    await give(pool, life("card-1"), "a")
    assert not await give(pool, life("card-2"), "a")
    assert not await give(pool, life("card-2"), "b", "a")
    # What was claimed beside it is free again.
    assert await stored(pool) == {print_of("a"): ("card-1", 1)}


async def test_issuers_do_not_see_each_others_numbers(pool: Pool) -> None:
    assert await give(pool, life("card-1"), "a")
    assert await give(pool, life("card-1", issuer_id="BANK000002"), "a")


async def test_a_retired_number_never_comes_back_and_leaves_nothing_but_its_fingerprint(
    pool: Pool,
) -> None:
    await give(pool, life("card-1"), "a", "auxiliary")
    await retire(pool, life("card-1"))
    assert await load_pans(pool, [life("card-1")]) == {}
    assert await stored(pool) == {
        print_of("a"): (None, None),
        print_of("auxiliary"): (None, None),
    }
    assert not await give(pool, life("card-1", 2), "a")
    assert not await give(pool, life("card-2"), "auxiliary")
    retired = await pool.fetch("SELECT issuer_id, fingerprint FROM retired_pan")
    assert {tuple(one) for one in retired} == {
        (ISSUER, print_of("a")),
        (ISSUER, print_of("auxiliary")),
    }


async def test_retiring_again_or_without_numbers_changes_nothing(pool: Pool) -> None:
    await give(pool, life("card-1"), "a")
    await give(pool, life("card-2"), "b")
    for _ in range(2):
        await retire(pool, life("card-1"), life("unknown"))
    assert await stored(pool) == {print_of("a"): (None, None), print_of("b"): ("card-2", 1)}


async def test_a_new_life_of_a_card_keeps_its_numbers_when_the_old_one_ends(pool: Pool) -> None:
    claims: Claims = {}
    first, second = life("card-1", 1), life("card-1", 2)
    async with transaction(pool) as connection:
        asked = [wanted(first, "a"), wanted(second, "b")]
        assert await claim_numbers(connection, asked, claims) == [True, True]
        await store_pans(connection, [row(first, "a"), row(second, "b")], claims)
        await retire_pans(connection, [first])
    assert await stored(pool) == {print_of("a"): (None, None), print_of("b"): ("card-1", 2)}
    assert list(await load_pans(pool, [first, second])) == [second]


async def test_nobody_gives_a_retired_number_to_a_card_again(pool: Pool) -> None:
    await give(pool, life("card-1"), "a")
    await retire(pool, life("card-1"))
    for statement in (
        "UPDATE pan_fingerprint SET card_id = 'card-2', incarnation = 1",
        "DELETE FROM pan_fingerprint",
    ):
        with pytest.raises(asyncpg.RaiseError, match="never deleted or changed"):
            await pool.execute(statement)


async def test_of_two_lanes_that_want_one_number_the_second_waits_and_sees_it_taken(
    pool: Pool,
) -> None:
    first: Claims = {}
    second: Claims = {}
    async with transaction(pool) as other:
        async with transaction(pool) as connection:
            assert await claim_numbers(connection, [wanted(life("card-1"), "a")], first) == [True]
            waiting = asyncio.ensure_future(
                claim_numbers(other, [wanted(life("card-2"), "a")], second)
            )
            await until_waiting(pool, waiting)
            await store_pans(connection, [row(life("card-1"), "a")], first)
        assert await waiting == [False]
        await store_pans(other, [], second)
    assert await stored(pool) == {print_of("a"): ("card-1", 1)}


async def test_of_two_lanes_the_second_gets_what_the_first_set_free(pool: Pool) -> None:
    first: Claims = {}
    second: Claims = {}
    async with transaction(pool) as other:
        async with transaction(pool) as connection:
            await claim_numbers(connection, [wanted(life("card-1"), "a")], first)
            waiting = asyncio.ensure_future(
                claim_numbers(other, [wanted(life("card-2"), "a")], second)
            )
            await until_waiting(pool, waiting)
            await store_pans(connection, [], first)
        assert await waiting == [True]
        await store_pans(other, [row(life("card-2"), "a")], second)
    assert await stored(pool) == {print_of("a"): ("card-2", 1)}


async def test_of_two_lanes_the_second_gets_what_the_first_lost_in_its_crash(pool: Pool) -> None:
    second: Claims = {}
    crashing = await pool.acquire()
    begun = crashing.transaction()
    await begun.start()
    await claim_numbers(crashing, [wanted(life("card-1"), "a")], {})
    async with transaction(pool) as other:
        waiting = asyncio.ensure_future(claim_numbers(other, [wanted(life("card-2"), "a")], second))
        await until_waiting(pool, waiting)
        crashing.terminate()
        assert await waiting == [True]
        await store_pans(other, [row(life("card-2"), "a")], second)
    await pool.release(crashing)
    assert await stored(pool) == {print_of("a"): ("card-2", 1)}


async def test_a_claim_that_meets_a_number_being_retired_waits_and_is_refused(pool: Pool) -> None:
    await give(pool, life("card-1"), "a")
    claims: Claims = {}
    async with transaction(pool) as other:
        async with transaction(pool) as retiring:
            await retire_pans(retiring, [life("card-1")])
            waiting = asyncio.ensure_future(
                claim_numbers(other, [wanted(life("card-2"), "a")], claims)
            )
            await until_waiting(pool, waiting)
        assert await waiting == [False]
        await store_pans(other, [], claims)
    assert await stored(pool) == {print_of("a"): (None, None)}


async def test_many_lanes_that_want_the_same_numbers_in_any_order_do_not_deadlock(
    pool: Pool,
) -> None:
    numbers = [str(number) for number in range(200)]

    async def lane(name: str, order: Sequence[str]) -> set[str]:
        claims: Claims = {}
        cards = {number: life(f"{name}-{number}") for number in order}
        async with transaction(pool) as connection:
            asked = [wanted(cards[number], number) for number in order]
            granted = await claim_numbers(connection, asked, claims)
            got = [number for number, is_mine in zip(order, granted, strict=True) if is_mine]
            await store_pans(connection, [row(cards[one], one) for one in got], claims)
        return set(got)

    won = await asyncio.gather(
        *(lane(f"lane-{place}", numbers[:: 1 if place % 2 else -1]) for place in range(6))
    )
    assert set().union(*won) == set(numbers)
    assert sum(map(len, won)) == len(numbers)
    assert len(await stored(pool)) == len(numbers)


async def test_a_number_that_is_wanted_twice_in_one_batch_goes_to_one_of_the_cards(
    pool: Pool,
) -> None:
    claims: Claims = {}
    async with transaction(pool) as connection:
        asked = [wanted(life("card-1"), "a"), wanted(life("card-2"), "a")]
        assert await claim_numbers(connection, asked, claims) == [True, True]
        # The first card was refused for another reason.
        await store_pans(connection, [row(life("card-2"), "a")], claims)
    assert await stored(pool) == {print_of("a"): ("card-2", 1)}


async def test_a_number_that_is_known_under_an_old_key_only_is_refused(pool: Pool) -> None:
    await give(pool, life("card-1"), "a under key 1")
    claims: Claims = {}
    async with transaction(pool) as connection:
        asked = [wanted(life("card-2"), "a under key 1", "a under key 2")]
        assert await claim_numbers(connection, asked, claims) == [False]
        await store_pans(connection, [], claims)
    assert await stored(pool) == {print_of("a under key 1"): ("card-1", 1)}


async def test_a_number_that_is_given_to_two_cards_is_a_bug_that_stops_the_batch(
    pool: Pool,
) -> None:
    claims: Claims = {}
    async with transaction(pool) as connection:
        await claim_numbers(connection, [wanted(life("card-1"), "a")], claims)
        with pytest.raises(AssertionError, match="one card"):
            await store_pans(
                connection, [row(life("card-1"), "a"), row(life("card-2"), "a")], claims
            )
        with pytest.raises(AssertionError, match="only a claimed number"):
            await store_pans(connection, [row(life("card-1"), "b")], claims)
        await store_pans(connection, [], claims)


async def test_drawn_numbers_are_claimed_in_the_same_way_until_the_range_is_empty(
    pool: Pool,
) -> None:
    number_range = NumberRange(ISSUER, "4000000000", 13)  # a hundred numbers
    filling = Filling()

    async def issue(lane: int) -> int:
        """Seven cards in one transaction; how many of them got a number."""
        claims: Claims = {}
        async with transaction(pool) as connection:

            async def claim(candidates: Sequence[Candidate]) -> list[bool]:
                of_number = fingerprints().of_number
                asked = [
                    WantedNumber(of_number(one.range.issuer_id, one.pan), life(one.card_id))
                    for one in candidates
                ]
                return await claim_numbers(connection, asked, claims)

            cards = [Wanted(number_range, f"card-{lane}-{place}") for place in range(7)]
            pans = await draw_free(cards, claim, filling)
            rows = [
                PanRow(life(card.card_id), "data-1", b"", fingerprints().of_number(ISSUER, pan))
                for card, pan in zip(cards, pans, strict=True)
                if pan is not None
            ]
            await store_pans(connection, rows, claims)
        return len(rows)

    issued = [await issue(lane) for lane in range(16)]
    assert issued == [7] * 14 + [2, 0]
    assert len(await stored(pool)) == number_range.size
    assert await pool.fetchval("SELECT count(*) FROM pan") == number_range.size
    assert (filling.share(number_range) or 0) > 0.5
