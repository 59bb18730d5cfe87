"""`send`: commands from a file or a pipe, checked as a whole before the first is sent."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import orjson
import typer

from lifecycle.cli.exits import Exit, Problem, kafka_addresses, reaching_kafka, run
from lifecycle.kafka.sending import (
    CommandRecord,
    NoKeyError,
    SendingStoppedError,
    key_of_command,
    send_commands,
)
from lifecycle.kafka.topics import COMMAND_MESSAGE_BYTES_MAX
from lifecycle.samples import RecordLineError, read_record_line
from lifecycle.settings import Settings, required

INPUT_BYTES_MAX = 256 * 1024 * 1024
_LINES_NAMED_MAX = 10
_COMPRESSED_BEGINS = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
# Kafka counts key, headers and its own fields too.
_VALUE_BYTES_MAX = COMMAND_MESSAGE_BYTES_MAX - 16 * 1024


def send(
    file: Annotated[str, typer.Argument(help="A file, or - for standard input.", metavar="FILE|-")],
    *,
    records: Annotated[
        bool,
        typer.Option(
            "--records",
            help="Each line is a record with key, headers and value, as in samples/; an"
            " encryptedData that is an object is encrypted for our own keys.",
        ),
    ] = False,
) -> None:
    """Send commands, one JSON object a line; the key is made from each.

    A line that is no JSON object, or has not the ids that make its key, is named and nothing is
    sent (exit 2); nor is a file that is compressed or no UTF-8. Whatever else may be wrong with a
    command, the service says. Sending a file again is harmless: what was taken before is a
    duplicate.

    Example: `lifecycle send commands.jsonl`

    Example: `echo '{"commandId":"c1","command":"SUSPEND","issuerId":"BANK000001",
    "cardId":"card-001"}' | lifecycle send -`
    """
    sent = run(lambda settings: _send(settings, file, are_records=records))
    typer.echo(f"sent {sent} command{'' if sent == 1 else 's'}")


async def _send(settings: Settings, file: str, *, are_records: bool) -> int:
    kafka_addresses(settings)  # Before the input is read, which may take a while from a pipe.
    content = _input(file)
    _see_that_it_is_utf8(file, content)
    commands = list(_commands(content, read_record_line if are_records else _command))
    if are_records:
        commands = _encrypted(settings, commands)
    with reaching_kafka(settings):
        try:
            await send_commands(settings, commands)
        except SendingStoppedError as error:
            raise Problem(str(error)) from error
    return len(commands)


def _encrypted(settings: Settings, commands: list[CommandRecord]) -> list[CommandRecord]:
    """The commands, with what samples hold in clear encrypted for the service's own keys."""
    # The libraries of the vault: no other command should wait for them.
    from lifecycle.samples.credentials import encrypted, needs_encryption  # noqa: PLC0415 - above
    from lifecycle.vault.keys import KeysError, load_keys  # noqa: PLC0415 - see above

    if not any(map(needs_encryption, commands)):
        return commands
    try:
        ring = load_keys(Path(required(settings, "keys_file")))
        return [encrypted(command, ring) for command in commands]
    except KeysError as error:
        raise Problem(f"LIFECYCLE_KEYS_FILE: {error}", Exit.WRONG_USE) from error


def _input(file: str) -> bytes:
    try:
        with sys.stdin.buffer if file == "-" else Path(file).open("rb") as source:
            content = source.read(INPUT_BYTES_MAX + 1)
    except OSError as error:
        raise Problem(f"{file} can't be read: {error.strerror}", Exit.WRONG_USE) from error
    if len(content) > INPUT_BYTES_MAX:
        raise Problem(
            f"{file} has more than {INPUT_BYTES_MAX} bytes, nothing was sent: split it.",
            Exit.WRONG_USE,
        )
    return content


def _see_that_it_is_utf8(file: str, content: bytes) -> None:
    """Say of a file that is something else what it is; its lines would only be called no JSON."""
    compressed = next(
        (name for magic, name in _COMPRESSED_BEGINS.items() if content.startswith(magic)), None
    )
    encoding = json.detect_encoding(content)
    if compressed is not None:
        problem = f"is compressed ({compressed}): unpack it"
    elif encoding == "utf-8-sig":
        problem = "begins with a byte order mark: save it as UTF-8 without one"
    elif encoding != "utf-8":
        problem = f"is {encoding.upper()}: save it as UTF-8"
    else:
        try:
            content.decode()
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            problem = f"is no UTF-8 in line {line}, perhaps Latin-1: save it as UTF-8"
        else:
            return
    name = "The input" if file == "-" else file
    raise Problem(f"{name} {problem}. Nothing was sent.", Exit.WRONG_USE)


def _commands(content: bytes, read: Callable[[bytes], CommandRecord]) -> Iterator[CommandRecord]:
    problems: list[str] = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            command = read(line.strip())
        except (NoKeyError, RecordLineError) as error:
            problems.append(f"line {number}: {error}")
            continue
        if len(command.value or b"") > _VALUE_BYTES_MAX:
            problems.append(f"line {number}: has more than {_VALUE_BYTES_MAX} bytes")
        yield command
    if problems:
        more = len(problems) - _LINES_NAMED_MAX
        named = problems[:_LINES_NAMED_MAX] + ([f"and {more} more lines"] if more > 0 else [])
        raise Problem("\n".join([*named, "Nothing was sent."]), Exit.WRONG_USE)


def _command(line: bytes) -> CommandRecord:
    try:
        command = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise NoKeyError("is no JSON") from error
    if not isinstance(command, dict):
        raise NoKeyError("is JSON, but no object")
    return CommandRecord(key=key_of_command(command), value=line)
