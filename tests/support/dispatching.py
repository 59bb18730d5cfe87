"""What the service sends itself: waits for it, and moves the clock to where a timer is due."""

import json
import time

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
