"""How a command of the sample day is sent, and records that are broken on purpose.

As plain JSON, or in one of the two modes of CloudEvents (design.md 3); what is broken says which
dead letter it should become.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import orjson

from lifecycle.domain.commands import CommandName
from lifecycle.kafka.cloudevents import command_type
from lifecycle.kafka.records import DeadLetterCode
from lifecycle.kafka.sending import CommandRecord, key_of_command

# The number that card schemes publish for tests.
_TEST_CARD_NUMBER = "4111 1111 1111 1111"

Command = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRecord:
    """A record, and what should become of it: a status with its error code, or what else it is."""

    record: CommandRecord
    expected: str


def dead_letter(code: DeadLetterCode) -> str:
    """The outcome of a record that is broken."""
    return f"DEAD_LETTER {code}"


def plain(command: Command, expected: str) -> SampleRecord:
    """The command as it is."""
    return SampleRecord(
        record=CommandRecord(key=key_of_command(command), value=orjson.dumps(command)),
        expected=expected,
    )


def _attributes(command: Command) -> dict[str, str]:
    return {
        "specversion": "1.0",
        "id": str(command["commandId"]),
        "type": command_type(CommandName(str(command["command"]))),
        "source": f"/core-banking/{command['issuerId']}",
    }


def binary(command: Command, expected: str) -> SampleRecord:
    """CloudEvents binary mode: id and command only in the headers."""
    data = {name: value for name, value in command.items() if name not in {"commandId", "command"}}
    headers = [(f"ce_{name}", value.encode()) for name, value in _attributes(command).items()]
    return SampleRecord(
        record=CommandRecord(
            key=key_of_command(command),
            value=orjson.dumps(data),
            headers=(*headers, ("content-type", b"application/json")),
        ),
        expected=expected,
    )


def structured(command: Command, expected: str) -> SampleRecord:
    """CloudEvents structured mode: the command is the event's data."""
    event = {**_attributes(command), "datacontenttype": "application/json", "data": command}
    return SampleRecord(
        record=CommandRecord(
            key=key_of_command(command),
            value=orjson.dumps(event),
            headers=(("content-type", b"application/cloudevents+json"),),
        ),
        expected=expected,
    )


def broken_records(suspend: Command) -> Iterator[SampleRecord]:
    """Everything that can be wrong with `suspend` before it is a command."""
    key = key_of_command(suspend)

    def broken(value: bytes | None, code: DeadLetterCode) -> SampleRecord:
        return SampleRecord(record=CommandRecord(key=key, value=value), expected=dead_letter(code))

    def changed(code: DeadLetterCode, **fields: object) -> SampleRecord:
        return broken(orjson.dumps(suspend | fields), code)

    yield broken(b'{"commandId": "cut off', DeadLetterCode.NOT_JSON)
    yield broken(b"\xff\xfe{\x00}\x00", DeadLetterCode.NOT_UTF8)
    yield broken(b'["SUSPEND", "card-001"]', DeadLetterCode.NOT_AN_OBJECT)
    yield broken(None, DeadLetterCode.NULL_VALUE)
    yield changed(DeadLetterCode.FIELD_UNKNOWN, colour="blue")
    yield changed(DeadLetterCode.FIELD_TYPE, reason=42)
    yield changed(DeadLetterCode.FIELD_INVALID_FORMAT, commandId="not a good id")
    yield changed(DeadLetterCode.UNKNOWN_COMMAND, command="POLISH")
    yield changed(DeadLetterCode.KEY_MISMATCH, cardId="card-002")
    yield changed(DeadLetterCode.SENSITIVE_DATA, reason=f"Card {_TEST_CARD_NUMBER} was lost")
    missing = {name: value for name, value in suspend.items() if name != "command"}
    yield broken(orjson.dumps(missing), DeadLetterCode.FIELD_MISSING)
    yield SampleRecord(
        record=CommandRecord(
            key=key, value=orjson.dumps(suspend), headers=(("content-type", b"text/xml"),)
        ),
        expected=dead_letter(DeadLetterCode.CONTENT_TYPE),
    )
    event = structured(suspend, dead_letter(DeadLetterCode.CLOUDEVENT_INVALID))
    value = (event.record.value or b"").replace(b'"specversion":"1.0"', b'"specversion":"0.3"')
    yield replace(event, record=replace(event.record, value=value))
