"""`watch`: the events as they are published."""

from dataclasses import dataclass
from typing import Annotated

import orjson
import typer

from lifecycle.cli.exits import Exit, reaching_kafka, run
from lifecycle.cli.rendering import console, event_line, raw_line
from lifecycle.kafka.records import RawRecord
from lifecycle.kafka.topics import topics_of
from lifecycle.kafka.watching import followed
from lifecycle.settings import Settings


def watch(
    *,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Everything that the topic still holds, first.")
    ] = False,
    issuer: Annotated[str | None, typer.Option(help="Only events of this issuer.")] = None,
    card: Annotated[str | None, typer.Option(help="Only events of this card.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many events.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Each event as published, one a line.")
    ] = False,
) -> None:
    """Show events as they come, until Ctrl-C.

    Example: `lifecycle watch --issuer BANK000001`

    Example: `lifecycle watch --from-beginning --card card-001 --json --limit 1`
    """
    run(
        lambda settings: _watch(
            settings,
            _Wanted(issuer=issuer, card=card),
            from_beginning=from_beginning,
            limit=limit,
            as_json=as_json,
        ),
        on_interrupt=Exit.OK,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """Whose events; None: everyone's."""

    issuer: str | None
    card: str | None

    def matches(self, record: RawRecord) -> bool:
        """By the key, which names the subject; consumers and products are no cards."""
        issuer, _, subject = (record.key or b"").decode(errors="replace").partition("/")
        return self.issuer in (None, issuer) and self.card in (None, subject)


async def _watch(
    settings: Settings,
    wanted: _Wanted,
    *,
    from_beginning: bool,
    limit: int | None,
    as_json: bool,
) -> None:
    shown = 0
    out = console()
    with reaching_kafka(settings):
        topic = topics_of(settings).events
        async with followed(settings, topic, from_beginning=from_beginning) as records:
            async for record in records:
                if not wanted.matches(record):
                    continue
                value = record.value or b""
                if as_json:
                    raw_line(value)
                else:
                    out.print(event_line(orjson.loads(value)))
                shown += 1
                if shown == limit:
                    return
