"""The reference pages, as text: errors, reasons and fields, each from the tables of the code."""

import json
from collections.abc import Collection, Iterable

from lifecycle.domain.commands import COMMAND_CLASS, CardCommand, CommandName, RequestorType
from lifecycle.domain.defaults import default_reason_code
from lifecycle.domain.errors import ADVICE, RAISED_BY, SENTENCE, ErrorCode
from lifecycle.domain.reasons import (
    ACCEPTED,
    ACCEPTED_BY_RENEW_V1,
    LOCK_REASON,
    RESUMED_BY,
    STRENGTH,
    Reason,
)
from lifecycle.kafka.dead_letter_reference import DEAD_LETTERS, OF_COMMANDS_ALONE
from lifecycle.kafka.field_reference import FIELDS, FieldEntry, field_entry, form_in_words
from lifecycle.kafka.schemas import command_schema

_ABOUT_A_CARD = {name for name in CommandName if issubclass(COMMAND_CLASS[name], CardCommand)}

_ERRORS = """# Error codes

{made_by} From `lifecycle/domain/errors.py` and `lifecycle/kafka/dead_letter_reference.py`.

## Refused: `errorCode` of a FAILED operation

The rules refuse the command, and the card stays as it was. `error` says it in a sentence, which
names the field where the refusal is about one.

{refused}

## Broken: `dlq-error-code` of a dead letter

The record is no command, or one that may not be taken. Nothing of it was recorded.

{broken}
"""

_REASONS = """# Reasons

{made_by} From `lifecycle/domain/reasons.py` and `lifecycle/domain/defaults.py`.

A command that no row names takes no `reasonCode` at all; any other code is `INVALID_REASON`. A
suspension takes the place of a weaker one.

{reasons}

## What lifts a suspension

A card that is SUSPENDED for several reasons needs a reason that lifts each of them. A USER resumes
with `USER_DECISION` or `CARD_FOUND` only.

{undone}
"""

_FIELDS = """# Fields of commands

{made_by} From `lifecycle/kafka/field_reference.py`.

A form holds for the whole text. A field that identifies (`commandId`, `issuerId` and the id of the
subject) and breaks its form makes the record a dead letter, any other one a FAILED operation. An
optional field that is null counts as left out. Which fields a command must have, its
[schema](schemas) says.

{fields}
"""


def errors_page(made_by: str) -> str:
    """Every error code of a FAILED operation, and every code of a dead letter."""
    refused = [
        (f"`{code}`", SENTENCE[code], ADVICE[code], _commands(RAISED_BY[code]))
        for code in ErrorCode
    ]
    broken = [
        (
            f"`{code}`",
            entry.meaning,
            entry.advice,
            "commands" if code in OF_COMMANDS_ALONE else "commands, replies",
        )
        for code, entry in DEAD_LETTERS.items()
    ]
    return _ERRORS.format(
        made_by=made_by,
        refused=_table(("code", "what it means", "what to do", "commands"), refused),
        broken=_table(("code", "what it means", "what to do", "records"), broken),
    )


def reasons_page(made_by: str) -> str:
    """Every reason with the commands that take it, and what it does."""
    rows = [
        (f"`{reason}`", _taken_by(reason), _default_of(reason), str(STRENGTH.get(reason, "")))
        for reason in Reason
    ]
    undone = [
        (f"`{reason}`", ", ".join(f"`{by}`" for by in sorted(lifts)) or "nothing: `REPLACE` it")
        for reason, lifts in RESUMED_BY.items()
    ]
    return _REASONS.format(
        made_by=made_by,
        reasons=_table(("reason", "taken by", "default of", "strength as a suspension"), rows),
        undone=_table(("suspended with", "`RESUME` with"), undone),
    )


def _taken_by(reason: Reason) -> str:
    locks = [lock for lock, left in LOCK_REASON.items() if left is reason]
    if locks:
        return f"left by `LOCK` of {locks[0]}"
    commands = _commands({name for name, accepted in ACCEPTED.items() if reason in accepted})
    if reason in ACCEPTED_BY_RENEW_V1 - ACCEPTED[CommandName.RENEW]:
        commands += ", `RENEW` with `newCardId`"
    return commands


def _default_of(reason: Reason) -> str:
    by_issuer, by_user = (
        {name for name in CommandName if default_reason_code(name, requestor) == reason}
        for requestor in (RequestorType.ISSUER, RequestorType.USER)
    )
    return ", ".join(
        f"`{name}`"
        + (" (of a USER)" if name not in by_issuer else "")
        + (" (not of a USER)" if name not in by_user else "")
        for name in sorted(by_issuer | by_user)
    )


def fields_page(made_by: str) -> str:
    """Every field with its form, unit and an example, and the commands that have it."""
    commands_of: dict[tuple[str, int], list[CommandName]] = {}
    entries: dict[int, FieldEntry] = {}
    for command in CommandName:
        for name in command_schema(command)["properties"]:
            entry = field_entry(command, name)
            entries[id(entry)] = entry
            commands_of.setdefault((name, id(entry)), []).append(command)
    rows = [
        _field_row(name, entries[key], commands) for (name, key), commands in commands_of.items()
    ]
    rows += [
        _field_row(name, entry, list(CommandName)) for name, entry in FIELDS.items() if "." in name
    ]
    head = ("field", "meaning", "form", "unit", "example", "commands")
    return _FIELDS.format(made_by=made_by, fields=_table(head, rows))


def _field_row(name: str, entry: FieldEntry, commands: Collection[CommandName]) -> tuple[str, ...]:
    return (
        f"`{name}`",
        entry.meaning,
        form_in_words(entry).replace("|", "\\|"),
        entry.unit or "",
        f"`{json.dumps(entry.example, ensure_ascii=False)}`",
        _commands(commands),
    )


def _commands(names: Collection[CommandName]) -> str:
    if len(names) == len(CommandName):
        return "all"
    if set(names) == _ABOUT_A_CARD:
        return "all about a card"
    return ", ".join(f"`{name}`" for name in CommandName if name in names)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
