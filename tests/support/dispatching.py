"""What the service sends itself: waits for it, and moves the clock to where a timer is due."""

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest

from lifecycle.kafka.at_least_once import Appended, AtLeastOnceSender, OwedRecord
from lifecycle.kafka.topics import topics_of
from lifecycle.settings import Settings
from tests.support.evidence import Evidence, Json
from tests.support.ground import connected
from tests.support.reading import read_topic, until_settled
from tests.support.waiting import until


async def until_dispatched(settings: Settings, *, timers: bool = False) -> None:
    """Wait until no cascade is open, and with `timers` none is due; then until all is settled."""
    async with connected(settings) as connection:

        async def is_dispatched() -> bool:
            return not await connection.fetchval(
                "SELECT EXISTS (SELECT FROM cascade)"
                " OR ($1 AND EXISTS (SELECT FROM timer WHERE due_ms <= $2))",
                timers,
                now_ms(settings),
            )

        await until(is_dispatched, "all cascades and due timers to be sent")
    await until_settled(settings)


def now_ms(settings: Settings) -> int:
    """What the clock of these settings says."""
    return int(time.time() * 1000) + settings.clock_offset_seconds * 1000


def at(settings: Settings, due_ms: int, *, later_seconds: int = 0) -> Settings:
    """The same ground at the time `due_ms`, or so much later; a little past it rather than not."""
    offset_seconds = due_ms // 1000 - int(time.time()) + 1 + later_seconds
    return settings.model_copy(update={"clock_offset_seconds": offset_seconds})


async def copy_card(settings: Settings, card_id: str, copies: int) -> None:
    """Make `copies` of a card by SQL: sending a command for each would take most of a test's time.

    A copy has no operations of its own before the first command that it takes.
    """
    async with connected(settings) as connection:
        await connection.execute(
            """
            INSERT INTO card SELECT copy.* FROM card, generate_series(1, $2) AS number,
                jsonb_populate_record(
                    card, jsonb_build_object('card_id', card.card_id || '-' || number)) AS copy
            WHERE card.card_id = $1
            """,
            card_id,
            copies,
        )


def watch_rounds(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    before_round: Mapping[int, Callable[[], Awaitable[None]]],
) -> list[int]:
    """How many of its own commands lie untaken on the topic, each time that a worker here sends.

    With those that it sends then. `before_round` is called right before the round of that number,
    from 1 on, is sent; the worker waits for it, and fails with it.
    """
    send = AtLeastOnceSender.send
    sent: list[Appended] = []
    untaken: list[int] = []

    async def watched(self: AtLeastOnceSender, records: Sequence[OwedRecord]) -> list[Appended]:
        async with connected(settings) as connection:
            taken = dict(
                await connection.fetch(
                    "SELECT partition, next_offset FROM lane_in WHERE source = 'commands'"
                )
            )
        sent[:] = [one for one in sent if one.offset >= taken.get(one.partition, 0)]
        untaken.append(len(sent) + len(records))
        if len(untaken) in before_round:
            await before_round[len(untaken)]()
        appended = await send(self, records)
        sent.extend(appended)
        return appended

    monkeypatch.setattr(AtLeastOnceSender, "send", watched)
    return untaken


async def timers_of(settings: Settings, card_id: str) -> dict[str, int]:
    """When the timers of a card are due, by their kind."""
    async with connected(settings) as connection:
        return dict(
            await connection.fetch("SELECT kind, due_ms FROM timer WHERE card_id = $1", card_id)
        )


async def sent_ids(settings: Settings, prefix: str) -> list[str]:
    """The ids of the commands on the topic that start with `prefix`, with repeats."""
    records = await read_topic(settings, topics_of(settings).commands)
    ids = [
        json.loads(record.value)["commandId"]
        for partition in records.values()
        for record in partition
        if record.value is not None
    ]
    return [command_id for command_id in ids if command_id.startswith(prefix)]


def last_event(evidence: Evidence, key: str) -> Json:
    """The newest event of a subject."""
    return evidence.by_subject[key][-1].event
