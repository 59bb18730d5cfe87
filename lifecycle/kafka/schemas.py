"""JSON Schemas of the commands, made from the very classes that the wire is parsed into.

They say which fields there are, of which JSON type, and what each means. A pattern is a rule of the
schema only where breaking it makes a dead letter, in the fields that identify; breaking any other
one is a FAILED operation and not a broken record (design.md 5), so it stands in the description.
"""

from typing import Any

from pydantic import TypeAdapter

from lifecycle.domain.commands import COMMAND_CLASS, CommandName, ConsumerCommand, DefineProduct
from lifecycle.kafka.field_reference import FIELDS, FieldEntry, field_entry, form_in_words

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"

_IDENTITY = frozenset({"commandId", "issuerId", "cardId"})
_IDENTITY_OF = {ConsumerCommand: {"consumerId"}, DefineProduct: {"cardProductId"}}


def command_schema(name: CommandName) -> dict[str, Any]:
    """The JSON Schema of one command's value."""
    command_class = COMMAND_CLASS[name]
    schema = _without_titles(TypeAdapter(command_class).json_schema())
    identity = _IDENTITY | _IDENTITY_OF.get(command_class, set())
    for field, part in schema["properties"].items():
        entry = field_entry(name, field)
        if field in identity:
            part["pattern"] = f"^{entry.pattern}$"
        _describe(part, entry, is_judged=field not in identity)
    for field, part in schema["$defs"]["Requestor"]["properties"].items():
        _describe(part, FIELDS[f"requestor.{field}"], is_judged=True)
    command = schema["properties"]["command"]
    command |= {"const": name.value, "examples": [name.value]}
    schema.pop("description", None)
    return {"$schema": SCHEMA_DIALECT, **schema, "title": name.value}


def _describe(part: dict[str, Any], entry: FieldEntry, *, is_judged: bool) -> None:
    sentences = [entry.meaning]
    form = form_in_words(entry)
    if form and is_judged:
        sentences.append(f"Form: {form.removesuffix('.')}; another one is a FAILED operation.")
    if entry.unit is not None:
        sentences.append(f"Unit: {entry.unit}.")
    part |= {"description": " ".join(sentences), "examples": [entry.example]}


def _without_titles(schema: dict[str, Any]) -> dict[str, Any]:
    """Pydantic gives each field a title that repeats its name; a field of that name stays."""
    return {
        name: _without_titles(part) if isinstance(part, dict) else part
        for name, part in schema.items()
        if not (name == "title" and isinstance(part, str))
    }
