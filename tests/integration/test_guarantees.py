"""The guarantees of design.md 6 over a day of commands, without anything going wrong around it.

And the judge of all scenarios judged: whatever is taken from, added to or changed in what this day
left behind, it must notice.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import pytest_asyncio

from lifecycle.local import Servers
from tests.support import bank
from tests.support.bank import Place
from tests.support.evidence import Evidence
from tests.support.ground import open_ground
from tests.support.guarantees import verify_all, verify_evidence
from tests.support.reading import Record, until_settled
from tests.support.worker import running_worker

_SENT = bank.day(1, cards=40, commands_of_a_card=12)


@pytest_asyncio.fixture(scope="module")
async def evidence(servers: Servers, template: str) -> Evidence:
    async with open_ground(servers, template) as ground, running_worker(ground):
        await bank.send(ground, bank.PRODUCTS)
        await until_settled(ground)
        await bank.send(ground, _SENT)
        return await verify_all(ground)


def test_a_day_of_commands_keeps_every_guarantee(evidence: Evidence) -> None:
    """G1, G2, G4, G5, G6, and the day has something of everything."""
    assert evidence.count("records") == len(_SENT) + len(bank.PRODUCTS)
    outcomes = set(
        evidence.outcomes(
            [Place(record.partition, record.offset) for record in evidence.all_commands()]
        )
    )
    assert {"SUCCESSFUL", "NOTHING", "IDEMPOTENCY_CONFLICT", "NOT_JSON", "NULL_VALUE"} <= outcomes
    assert {"CARD_NOT_FOUND", "ALREADY_SUSPENDED", "CARD_REPLACED"} <= outcomes
    assert evidence.count("ignored") > 0
    assert evidence.count("duplicates") > 0
    assert any(row.caused for row in evidence.log)


Records = dict[int, list[Record]]


def _edited(records: Records, edit: Callable[[list[Record]], list[Record]]) -> Records:
    """The records with those of the longest partition edited."""
    longest = max(records, key=lambda partition: len(records[partition]))
    return {**records, longest: edit(records[longest])}


def _swapped(records: list[Record]) -> list[Record]:
    return [records[1], records[0], *records[2:]]


_WRONG: dict[str, Callable[[Evidence], Evidence]] = {
    "an event is missing": lambda true: replace(
        true, events=_edited(true.events, lambda records: records[:-1])
    ),
    "an event is repeated": lambda true: replace(
        true, events=_edited(true.events, lambda records: [*records, records[-1]])
    ),
    "two events changed places": lambda true: replace(true, events=_edited(true.events, _swapped)),
    "an event lies on another partition": lambda true: replace(
        true, events={0: true.events[1], 1: true.events[0], 2: true.events[2]}
    ),
    "a byte of an event changed": lambda true: replace(
        true,
        events=_edited(
            true.events,
            lambda records: [
                replace(records[0], value=(records[0].value or b"") + b" "),
                *records[1:],
            ],
        ),
    ),
    "an uncommitted reader misses one": lambda true: replace(
        true, events_uncommitted=_edited(true.events_uncommitted, lambda records: records[1:])
    ),
    "an operation is missing": lambda true: replace(true, log=true.log[:-1]),
    "an operation is recorded twice": lambda true: replace(true, log=[*true.log, true.log[-1]]),
    "an operation has another id": lambda true: replace(
        true, log=[replace(true.log[0], operation_id=true.log[1].operation_id), *true.log[1:]]
    ),
    "a batch is missing": lambda true: replace(true, batches=true.batches[:-1]),
    "a batch is counted twice": lambda true: replace(
        true, batches=[*true.batches, true.batches[-1]]
    ),
    "a command was not taken": lambda true: replace(
        true,
        commands=_edited(
            true.commands,
            lambda records: [*records, replace(records[-1], offset=records[-1].offset + 1)],
        ),
    ),
    "a dead letter is missing": lambda true: replace(
        true, dead_letters=_edited(true.dead_letters, lambda letters: letters[1:])
    ),
    "a dead letter is repeated": lambda true: replace(
        true, dead_letters=_edited(true.dead_letters, lambda letters: [letters[0], *letters])
    ),
    "a dead letter lost a header": lambda true: replace(
        true,
        dead_letters=_edited(
            true.dead_letters,
            lambda letters: [replace(letters[0], headers=letters[0].headers[:-1]), *letters[1:]],
        ),
    ),
    "a card is not stored": lambda true: replace(true, cards=true.cards[1:]),
}


@pytest.mark.parametrize("wrong", _WRONG)
def test_the_judge_notices_whatever_is_wrong(evidence: Evidence, wrong: str) -> None:
    with pytest.raises(AssertionError):
        verify_evidence(_WRONG[wrong](evidence))
