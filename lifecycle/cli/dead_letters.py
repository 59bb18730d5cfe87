"""`dead-letters`: records that could not become commands, read from their topic."""

import re
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from heapq import heappush, heappushpop
from typing import Annotated

import typer

from lifecycle.cli.exits import Exit, Problem, reaching_kafka, run
from lifecycle.cli.rendering import fields_table, json_line, rows_table
from lifecycle.cli.rendering import show as show_view
from lifecycle.domain.sources import Source
from lifecycle.kafka.dead_letters import OWN_HEADERS
from lifecycle.kafka.events import instant
from lifecycle.kafka.records import RawRecord
from lifecycle.kafka.sending import CommandRecord, SendingStoppedError, send_commands
from lifecycle.kafka.topics import topics_of
from lifecycle.kafka.watching import read_all, record_at
from lifecycle.settings import Settings

dead_letters = typer.Typer(
    no_args_is_help=True, help="Read records that could not become commands, or send them again."
)

RESENT_FROM = "resent-from"
SHOWN_BY_DEFAULT_MAX = 50
LIMIT_MAX = 10_000
_WORDS = {Source.COMMANDS: ("command", "commands"), Source.REPLIES: ("reply", "replies")}
_ID = re.compile(r"([0-9]{1,4})-([0-9]{1,18})")

Ids = Annotated[list[str], typer.Argument(help="<partition>-<offset>, as listed.", metavar="ID...")]


@dataclass(frozen=True, slots=True)
class Letter:
    """A record of the dead-letter topic, and what its headers say of it."""

    record: RawRecord
    about: dict[str, str]
    """The headers that the service wrote."""

    @property
    def id(self) -> str:
        """The name of design.md 5: where it lies on the dead-letter topic."""
        return f"{self.record.partition}-{self.record.offset}"

    @property
    def is_value_left_out(self) -> bool:
        """It held a card number."""
        return "dlq-value-sha256" in self.about


def _letter(record: RawRecord) -> Letter:
    about = {
        name: (content or b"").decode(errors="replace")
        for name, content in record.headers
        if name in OWN_HEADERS
    }
    return Letter(record, about)


@dead_letters.command("list")
def list_(
    *,
    limit: Annotated[
        int | None,
        typer.Option(min=1, max=LIMIT_MAX, help="Only the newest; for people 50, if not given."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object a line.")] = False,
) -> None:
    """List the dead letters that the topic holds.

    Example: `lifecycle dead-letters list`

    Example: `lifecycle dead-letters list --json`
    """
    run(lambda settings: _list(settings, limit, as_json=as_json))


async def _list(settings: Settings, limit: int | None, *, as_json: bool) -> None:
    with reaching_kafka(settings):
        records = read_all(settings, topics_of(settings).dead_letters)
        if as_json and limit is None:
            async for record in records:
                json_line(_summary(_letter(record)))
            return
        rows, count = await newest_of(records, limit or SHOWN_BY_DEFAULT_MAX)
    if as_json:
        for row in rows:
            json_line(row)
        return
    show_view(
        rows_table(
            ("id", "time", "code", "key", "error"),
            ((row["id"], row["time"], row["code"], row["key"], row["error"]) for row in rows),
        )
    )
    typer.echo(f"{len(rows)} of {count} dead letters")


async def newest_of(
    records: AsyncIterator[RawRecord], limit: int
) -> tuple[list[dict[str, object]], int]:
    """What is listed of the newest `limit` of `records`, oldest first, and how many there are.

    They come partition by partition, so that any of them may be among the newest. Only so many are
    kept, and nothing of their values.
    """
    newest: list[tuple[int, int, int, dict[str, object]]] = []
    count = 0
    async for record in records:
        count += 1
        # No two lie at the same place: what is listed of them is never compared.
        ranked = (record.timestamp, record.partition, record.offset, _summary(_letter(record)))
        if len(newest) < limit:
            heappush(newest, ranked)
        else:
            heappushpop(newest, ranked)
    return [listed for *_, listed in sorted(newest)], count


def _summary(letter: Letter) -> dict[str, object]:
    about, record = letter.about, letter.record
    return {
        "id": letter.id,
        "time": instant(record.timestamp),
        "code": about.get("dlq-error-code"),
        "error": about.get("dlq-error"),
        "key": _text(record.key),
        "command": {
            "topic": about.get("dlq-topic"),
            "partition": _number(about.get("dlq-partition")),
            "offset": _number(about.get("dlq-offset")),
            "timestamp": _number(about.get("dlq-timestamp")),
        },
    }


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode(errors="replace")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


@dead_letters.command("show")
def show(
    letter_id: Annotated[str, typer.Argument(help="<partition>-<offset>.", metavar="ID")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show one dead letter with its headers and its value.

    Example: `lifecycle dead-letters show 3-0`
    """
    letter = run(lambda settings: _find_all(settings, [letter_id]))[0]
    view = _summary(letter) | _content(letter)
    if as_json:
        json_line(view)
        return
    show_view(fields_table(view))


def _content(letter: Letter) -> dict[str, object]:
    """Headers and value: as text, or in Base64 where they are none."""
    value = letter.record.value
    content: dict[str, object] = {
        "headers": [
            [name, _text(content)]
            for name, content in letter.record.headers
            if name not in OWN_HEADERS
        ]
    }
    if letter.is_value_left_out:
        return content | {"value": None, "valueLeftOutSha256": letter.about["dlq-value-sha256"]}
    try:
        return content | {"value": None if value is None else value.decode()}
    except UnicodeDecodeError:
        return content | {"valueBase64": b64encode(value or b"").decode()}


@dead_letters.command("resend")
def resend(ids: Ids) -> None:
    """Send dead letters to the topic that they came from again, as they came; all or none.

    Each carries the header `resent-from` with its id. What was wrong with a record is still wrong
    with it, unless the cause was elsewhere: an older version of the service, or a mistaken limit.

    Example: `lifecycle dead-letters resend 3-0 7-12`
    """
    sent = run(lambda settings: _resend(settings, ids))
    counted = [f"{count} {_WORDS[source][count > 1]}" for source, count in sorted(sent.items())]
    typer.echo(f"sent {' and '.join(counted)} again")


async def _resend(settings: Settings, ids: list[str]) -> dict[Source, int]:
    replies_topic = topics_of(settings).replies
    by_source: dict[Source, list[CommandRecord]] = {}
    for letter in await _find_all(settings, ids):
        was_reply = letter.about.get("dlq-topic") == replies_topic
        source = Source.REPLIES if was_reply else Source.COMMANDS
        by_source.setdefault(source, []).append(_command(letter))
    with reaching_kafka(settings):
        try:
            for source, records in by_source.items():
                await send_commands(settings, records, source=source)
        except SendingStoppedError as error:
            raise Problem(str(error)) from error
    return {source: len(records) for source, records in by_source.items()}


def _command(letter: Letter) -> CommandRecord:
    record = letter.record
    if letter.is_value_left_out:
        raise Problem(
            f"{letter.id} is SENSITIVE_DATA: its value held a card number and was left out, so"
            " there is nothing to send. Nothing was sent; its sender must send it without the"
            " number."
        )
    if record.key is None and letter.about.get("dlq-error-code") == "SENSITIVE_DATA":
        raise Problem(
            f"{letter.id} is SENSITIVE_DATA: its key was left out, so it can't be sent as it came."
            " Nothing was sent."
        )
    if record.key is None and record.value is None:
        raise Problem(f"{letter.id} has neither key nor value. Nothing was sent.")
    kept = [
        (name, content)
        for name, content in record.headers
        if name not in OWN_HEADERS and name != RESENT_FROM
    ]
    return CommandRecord(
        key=record.key,
        value=record.value,
        headers=(*kept, (RESENT_FROM, letter.id.encode())),
    )


async def _find_all(settings: Settings, ids: list[str]) -> list[Letter]:
    places = []
    for letter_id in ids:
        found = _ID.fullmatch(letter_id)
        if found is None:
            raise Problem(
                f"{letter_id} names no dead letter: an id is <partition>-<offset>, such as 3-0.",
                Exit.WRONG_USE,
            )
        places.append((int(found[1]), int(found[2])))
    letters = []
    topic = topics_of(settings).dead_letters
    with reaching_kafka(settings):
        for letter_id, (partition, offset) in zip(ids, places, strict=True):
            record = await record_at(settings, topic, partition, offset)
            if record is None:
                raise Problem(f"{topic} has no dead letter {letter_id} (any more).")
            letters.append(_letter(record))
    return letters
