"""The work of a poll grows with its records, and not with their square.

Each poll is decided and committed on the real database, once with so many records and once with
twice as many; no function may take much more than twice the steps.
"""

import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest
from pydantic import SecretStr

from lifecycle.domain.sources import Partition, Source
from lifecycle.kafka.commands import Parsed, parse
from lifecycle.local import Servers
from lifecycle.postgres.connection import Pool, open_pool
from lifecycle.postgres.lanes import ensure_lanes, load_intake
from lifecycle.settings import Settings
from lifecycle.worker.opening import Vault, open_records, vault_with
from lifecycle.worker.taken import Taken, take
from lifecycle.worker.transaction import commit_batch
from tests.integration.test_card_numbers import register, transit_product
from tests.support import bank
from tests.support.bank import Message, card, consumer, create, define
from tests.support.ground import own_database, with_database
from tests.support.steps import Steps, counted_steps
from tests.unit.vault_keys import encrypted, write_keys

_SIZE = 60
# Where chance has a part, and what a poll costs however small it is.
_STEPS_OF_CHANCE = 2_000
_GROWTH_MAX = 2.3
_TURNS = ("SUSPEND", "RESUME")
_LANE = Partition(Source.COMMANDS, 0)


class _Record(NamedTuple):
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def _number(at: int) -> str:
    digits = f"400000{at:09}"
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[::-2])
    return f"{digits}{-(doubled + sum(map(int, digits[-2::-2]))) % 10}"


def _ended(size: int) -> list[Message]:
    """All of them have their number when the first one ends."""
    gone = {"reasonCode": "CLOSED_CARD"}
    return [
        *(create(f"card-{at}", cardProductId=bank.PHYSICAL) for at in range(size)),
        *(card(f"card-{at}", "DELETE", "delete", **gone) for at in range(size)),
    ]


def _replaced_in_turn(size: int) -> list[Message]:
    """Each replaces the card that the one before it made: its id can be worked out."""
    lost = {"reasonCode": "CARD_LOST", "reason": "lost"}
    messages, card_id = [create("card", cardProductId=bank.PHYSICAL)], "card"
    for at in range(size):
        messages.append(card(card_id, "ACTIVATE", f"activate-{at}"))
        messages.append(card(card_id, "REPLACE", f"replace-{at}", **lost))
        generated = _taken(0, messages[-1]).generated_card_id
        assert generated is not None
        card_id = generated
    return messages


def _number_changed(size: int) -> list[Message]:
    """One card in one life has one number after the other."""
    place = {"newCardId": "card", "newCardState": "ACTIVE"}
    messages = [register("card", _number(0))]
    for at in range(1, size):
        exp = f"{1 + at % 12:02}{30 + at // 12}"
        sealed = encrypted({"pan": _number(at), "exp": exp})
        fields = {**place, "newExp": exp, "encryptedData": sealed}
        messages.append(card("card", "RENEW", f"renew-{at}", **fields))
    return messages


def _of_one_card(size: int) -> list[Message]:
    turns = [card("card", _TURNS[at % 2], f"turn-{at}") for at in range(size)]
    return [create("card"), *turns, *turns]


def _virtual_of_one_card(size: int) -> list[Message]:
    """Each with a number of its own; beyond a hundred they are refused."""
    return [
        create("real", cardProductId=bank.PHYSICAL),
        card("real", "ACTIVATE", "activate"),
        *(create(f"virtual-{at}", realCardId="real") for at in range(size)),
        card("real", "DELETE", "delete", reasonCode="CLOSED_CARD"),
    ]


def _refused(size: int) -> list[Message]:
    return [card("nobody", "SUSPEND", f"early-{at}") for at in range(size)]


def _about_others(size: int) -> list[Message]:
    return [
        *(consumer(f"consumer-{at}", "CONSUMER_REGISTER", "register") for at in range(size)),
        *(consumer(f"consumer-{at}", "CONSUMER_DELETE", "delete") for at in range(size)),
        *(define(f"product-{at}", "VIRTUAL") for at in range(size)),
    ]


def _lives_of_one_card(size: int) -> list[Message]:
    return [
        message
        for at in range(size)
        for message in (
            create("card", f"create-{at}"),
            card("card", "DELETE", f"delete-{at}", reasonCode="CLOSED_CARD"),
        )
    ]


def _renewals_that_wait(size: int) -> list[Message]:
    moving = {"newCardState": "ACTIVE", "reasonCode": "USER_DECISION"}
    return [
        message
        for at in range(size)
        for message in (
            register(f"card-{at}", _number(at)),
            card(f"card-{at}", "RENEW", "renew", newCardId=f"new-{at}", **moving),
        )
    ]


_POLLS = (
    *(_ended, _replaced_in_turn, _number_changed, _of_one_card, _virtual_of_one_card),
    *(_refused, _about_others, _lives_of_one_card, _renewals_that_wait),
)


@pytest.mark.parametrize("poll", _POLLS, ids=lambda poll: poll.__name__.strip("_"))
async def test_the_work_of_a_poll_grows_with_its_records(
    servers: Servers, template: str, tmp_path: Path, poll: Callable[[int], list[Message]]
) -> None:
    vault = vault_with(write_keys(tmp_path / "keys.json"))
    small, large = [
        await _steps_of(servers, template, vault, poll(size)) for size in (_SIZE, 2 * _SIZE)
    ]
    assert small
    grown = {
        name: (small[name], steps)
        for name, steps in large.items()
        if steps > _GROWTH_MAX * small[name] + _STEPS_OF_CHANCE
    }
    assert not grown


async def _steps_of(
    servers: Servers, template: str, vault: Vault, messages: list[Message]
) -> Steps:
    async with own_database(servers, template) as name:
        url = SecretStr(with_database(servers.database_url, name))
        settings = Settings(database_url=url, partitions=1)
        pool = await open_pool(settings)
        try:
            await ensure_lanes(pool, settings.partitions)
            offsets = count()
            await _commit(pool, settings, vault, [(next(offsets), one) for one in _products()])
            numbered = [(next(offsets), message) for message in messages]
            with counted_steps() as steps:
                await _commit(pool, settings, vault, numbered)
            return steps
        finally:
            await pool.close()


def _products() -> list[Message]:
    return [*bank.PRODUCTS, transit_product()]


async def _commit(
    pool: Pool, settings: Settings, vault: Vault, messages: list[tuple[int, Message]]
) -> None:
    positions = await load_intake(pool, {_LANE: 0})
    records = [_record(offset, message) for offset, message in messages]
    parsed = [parse(record, max_command_bytes=settings.max_command_bytes) for record in records]
    openings = await open_records(vault, parsed)
    batch = [
        take(record, read, settings.partitions, opening)
        for record, read, opening in zip(records, parsed, openings, strict=True)
    ]
    assert all(isinstance(taken.parsed, Parsed) for taken in batch)
    committed = await commit_batch(
        pool, settings, vault, batch, {_LANE: positions[_LANE].next_offset}
    )
    assert committed.decided.operations


def _taken(offset: int, message: Message) -> Taken:
    record = _record(offset, message)
    return take(record, parse(record, max_command_bytes=2**16), 1)


def _record(offset: int, message: Message) -> _Record:
    now_ms = int(time.time() * 1000)
    return _Record("commands", 0, offset, now_ms, message.key, message.value, [])
