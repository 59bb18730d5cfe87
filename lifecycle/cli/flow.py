"""The events on the screen of `dev`: of each part of the sample day its tales, later all of them.

A tale is a card that stands for all those that live the same story. The parts mix their cards as a
day does; told one after the other, each can be followed at a glance.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import orjson
import typer

from lifecycle.cli.rendering import console, event_line, subject_of
from lifecycle.kafka.records import RawRecord
from lifecycle.samples import Part, Tale

_QUIET_SECONDS = 0.3
"""After this long without another event, what the database calls published has come by."""

Event = Mapping[str, Any]


class Flow:
    """Events as they come, held back while a part of the day goes on."""

    def __init__(self) -> None:
        """Hold back until `go_live`."""
        self._held: list[Event] | None = []

    async def show(self, records: AsyncIterator[RawRecord]) -> None:
        """Take events until cancelled."""
        async for record in records:
            event = orjson.loads(record.value or b"null")
            if self._held is None:
                console().print(event_line(event))
            else:
                self._held.append(event)

    def go_live(self) -> None:
        """Show what is held back, and every event from now on."""
        held, self._held = self._held or [], None
        for event in held:
            console().print(event_line(event))

    async def tell(self, part: Part) -> None:
        """Wait until what is published has come by; show it."""
        assert self._held is not None, "a part ends before the flow is live"
        events_before = -1
        while events_before != len(self._held):
            events_before = len(self._held)
            await asyncio.sleep(_QUIET_SECONDS)
        shown = sum(_told(tale, self._held) for tale in part.tales)
        typer.echo(f"\n  … and {len(self._held) - shown} more events")
        self._held.clear()


def _told(tale: Tale, events: Sequence[Event]) -> int:
    """Print a tale; how many events it has."""
    own = causes_first([event for event in events if subject_of(event) in tale.keys])
    others = f" (one of {tale.cards} cards)" if tale.cards > 1 else ""
    typer.echo(f"\n  {tale.title[0].upper()}{tale.title[1:]}{others}")
    width = max((len(subject_of(event)) for event in own), default=0)
    for event in own:
        console().print("    ", event_line(event, subject_width=width), sep="")
    return len(own)


def causes_first(events: Sequence[Event]) -> list[Event]:
    """As they came, but what was caused on another lane not before its cause."""
    came = {event["operation"]["operationId"]: place for place, event in enumerate(events)}

    def place(numbered: tuple[int, Event]) -> tuple[int, bool]:
        own, event = numbered
        cause = came.get(event["causationId"], own)
        return max(own, cause), cause > own

    return [event for _, event in sorted(enumerate(events), key=place)]
