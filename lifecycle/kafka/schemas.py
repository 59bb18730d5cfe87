"""JSON Schemas of the commands, made from the very classes that the wire is parsed into.

They say which fields there are and of which JSON type; patterns only of the fields that identify,
because breaking any other one is a FAILED operation and not a broken record (design.md 5).
"""

from typing import Any

from pydantic import TypeAdapter

from lifecycle.domain.commands import COMMAND_CLASS, CommandName

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"

_PATTERN = {
    "commandId": "^[A-Za-z0-9_.:-]{1,64}$",
    "issuerId": "^[A-Za-z0-9_-]{10}$",
    "cardId": "^[A-Za-z0-9_-]{1,48}$",
}
_PATTERN_OF_SUBJECT = {
    "ConsumerCommand": {"consumerId": "^[A-Za-z0-9_-]{1,64}$"},
    "DefineProduct": {"cardProductId": "^[A-Za-z0-9_-]{1,48}$"},
}


def command_schema(name: CommandName) -> dict[str, Any]:
    """The JSON Schema of one command's value."""
    command_class = COMMAND_CLASS[name]
    schema = TypeAdapter(command_class).json_schema()
    patterns = _PATTERN | _PATTERN_OF_SUBJECT.get(command_class.__name__, {})
    for field, pattern in patterns.items():
        if field in schema["properties"]:
            schema["properties"][field]["pattern"] = pattern
    schema["properties"]["command"]["const"] = name.value
    schema.pop("description", None)
    return {"$schema": SCHEMA_DIALECT, **_without_titles(schema), "title": name.value}


def _without_titles(schema: dict[str, Any]) -> dict[str, Any]:
    """Pydantic gives each field a title that repeats its name; a field of that name stays."""
    return {
        name: _without_titles(part) if isinstance(part, dict) else part
        for name, part in schema.items()
        if not (name == "title" and isinstance(part, str))
    }
