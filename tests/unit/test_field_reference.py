"""The reference tells the truth: every field has an entry, and every example is taken."""

import json
import re
from typing import Any

import pytest

from lifecycle.domain.commands import COMMAND_CLASS, Command, CommandName
from lifecycle.domain.fields import judge
from lifecycle.kafka.commands import Broken, Parsed, parse
from lifecycle.kafka.dead_letters import DeadLetterCode
from lifecycle.kafka.field_reference import FIELDS, field_entry
from lifecycle.kafka.schemas import command_schema
from tests.unit.wire_records import record

NOW_MS = 1_773_576_000_000  # 2026-03-15T12:00:00Z


def example_of(command: CommandName) -> dict[str, Any]:
    """A command with every field that it may have, each as the reference shows it."""
    names = command_schema(command)["properties"]
    return {name: field_entry(command, name).example for name in names} | {"command": command.value}


def taken(command: CommandName, body: dict[str, Any]) -> Command:
    issuer_id = body["issuerId"]
    subject = {
        "ConsumerCommand": f"consumer/{body.get('consumerId')}",
        "DefineProduct": f"product/{body.get('cardProductId')}",
    }.get(COMMAND_CLASS[command].__name__, body.get("cardId"))
    parsed = parse(record(json.dumps(body).encode(), key=f"{issuer_id}/{subject}".encode()))
    assert isinstance(parsed, Parsed), parsed
    return parsed.command


@pytest.mark.parametrize("command", CommandName)
def test_a_command_made_of_the_examples_is_refused_for_none_of_its_fields(
    command: CommandName,
) -> None:
    judged = judge(taken(command, example_of(command)), command, NOW_MS)
    assert judged.refusal is None


@pytest.mark.parametrize("command", CommandName)
def test_what_breaks_the_pattern_of_a_field_is_refused(command: CommandName) -> None:
    for name in command_schema(command)["properties"]:
        entry = field_entry(command, name)
        if entry.pattern is None:
            continue
        assert re.fullmatch(entry.pattern, str(entry.example)), name
        broken = example_of(command) | {name: "~"}
        outcome = parse(record(json.dumps(broken).encode(), key=b"BANK000001/card-1"))
        if isinstance(outcome, Broken):
            assert outcome.code in {
                DeadLetterCode.FIELD_INVALID_FORMAT,
                DeadLetterCode.KEY_MISMATCH,  # of a consumer or product: its key is another one
            }
        else:
            refusal = judge(outcome.command, command, NOW_MS).refusal
            assert refusal is not None
            assert refusal.field == name


def test_no_entry_is_left_over() -> None:
    named = {name for command in CommandName for name in command_schema(command)["properties"]}
    requestor = {f"requestor.{name}" for name in ("type", "id")}
    assert named | requestor == FIELDS.keys()


def test_records_of_connect_with_the_wrong_converters_end_as_the_guide_says() -> None:
    command = {"commandId": "c", "command": "SUSPEND", "issuerId": "BANK000001", "cardId": "card-1"}
    with_schema = json.dumps({"schema": {"type": "struct"}, "payload": command}).encode()
    outcome = parse(record(with_schema, key=b"BANK000001/card-1"))
    assert isinstance(outcome, Broken)
    assert outcome.code is DeadLetterCode.FIELD_MISSING
    outcome = parse(record(json.dumps(command).encode(), key=b'"BANK000001/card-1"'))
    assert isinstance(outcome, Broken)
    assert outcome.code is DeadLetterCode.KEY_MISMATCH
