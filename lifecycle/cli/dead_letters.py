"""`dead-letters`: records that could not become commands, read from their topic."""

import re
from base64 import b64encode
from collections import deque
from dataclasses import dataclass
from typing import Annotated

import typer

from lifecycle.cli.exits import Exit, Problem, reaching_kafka, run
from lifecycle.cli.rendering import fields_table, json_line, rows_table
from lifecycle.cli.rendering import show as show_view
from lifecycle.domain.sources import Source
from lifecycle.kafka.dead_letters import OWN_HEADER_PREFIX
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
_ID = re.compile(r"([0-9]{1,4})-([0-9]{1,18})")

Ids = Annotated[list[str], typer.Argument(help="<partition>-<offset>, as listed.", metavar="ID...")]


@dataclass(frozen=True, slots=True)
class Letter:
    """A record of the dead-letter topic, and what its headers say of it."""

    record: RawRecord
    about: dict[str, str]
    """The `dlq-` headers, without the prefix."""

    @property
    def id(self) -> str:
        """The name of design.md 5: where it lies on the dead-letter topic."""
        return f"{self.record.partition}-{self.record.offset}"

    @property
    def is_value_left_out(self) -> bool:
        """It held a card number."""
        return "value-sha256" in self.about


def _letter(record: RawRecord) -> Letter:
    about = {
        name.removeprefix(OWN_HEADER_PREFIX): (content or b"").decode(errors="replace")
        for name, content in record.headers
        if name.startswith(OWN_HEADER_PREFIX)
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
    newest: deque[Letter] = deque(maxlen=limit or SHOWN_BY_DEFAULT_MAX)
    count = 0
    with reaching_kafka(settings):
        async for record in read_all(settings, topics_of(settings).dead_letters):
            count += 1
            letter = _letter(record)
            if as_json and limit is None:
                json_line(_summary(letter))
            else:
                newest.append(letter)
    letters = sorted(newest, key=lambda letter: letter.record.timestamp)
    if as_json:
        for letter in letters:
            json_line(_summary(letter))
        return
    rows = [_summary(letter) for letter in letters]
    show_view(
        rows_table(
            ("id", "time", "code", "key", "error"),
            ((row["id"], row["time"], row["code"], row["key"], row["error"]) for row in rows),
        )
    )
    typer.echo(f"{len(letters)} of {count} dead letters")


def _summary(letter: Letter) -> dict[str, object]:
    about, record = letter.about, letter.record
    return {
        "id": letter.id,
        "time": instant(record.timestamp),
        "code": about.get("error-code"),
        "error": about.get("error"),
        "key": _text(record.key),
        "command": {
            "topic": about.get("topic"),
            "partition": _number(about.get("partition")),
            "offset": _number(about.get("offset")),
            "timestamp": _number(about.get("timestamp")),
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
            if not name.startswith(OWN_HEADER_PREFIX)
        ]
    }
    if letter.is_value_left_out:
        return content | {"value": None, "valueLeftOutSha256": letter.about["value-sha256"]}
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
    typer.echo(f"sent {sent} command{'' if sent == 1 else 's'} again")


async def _resend(settings: Settings, ids: list[str]) -> int:
    replies_topic = topics_of(settings).replies
    by_source: dict[Source, list[CommandRecord]] = {}
    for letter in await _find_all(settings, ids):
        was_reply = letter.about.get("topic") == replies_topic
        source = Source.REPLIES if was_reply else Source.COMMANDS
        by_source.setdefault(source, []).append(_command(letter))
    with reaching_kafka(settings):
        try:
            for source, records in by_source.items():
                await send_commands(settings, records, source=source)
        except SendingStoppedError as error:
            raise Problem(str(error)) from error
    return sum(map(len, by_source.values()))


def _command(letter: Letter) -> CommandRecord:
    record = letter.record
    if letter.is_value_left_out:
        raise Problem(
            f"{letter.id} is SENSITIVE_DATA: its value held a card number and was left out, so"
            " there is nothing to send. Nothing was sent; its sender must send it without the"
            " number."
        )
    if record.key is None and letter.about.get("error-code") == "SENSITIVE_DATA":
        raise Problem(
            f"{letter.id} is SENSITIVE_DATA: its key was left out, so no command can be made of it."
            " Nothing was sent."
        )
    if record.key is None and record.value is None:
        raise Problem(f"{letter.id} has neither key nor value. Nothing was sent.")
    kept = [
        (name, content)
        for name, content in record.headers
        if not name.startswith(OWN_HEADER_PREFIX) and name != RESENT_FROM
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
