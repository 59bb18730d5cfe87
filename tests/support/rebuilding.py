"""G7: the rows of the cards, made again from what lies on the event topic and nothing else."""

import json
import re
from collections import defaultdict
from typing import Any

from tests.oracle.views import time_ms
from tests.support.evidence import Evidence, Json

# Personal. The last two are the memory of commands and not of the card: hashes of whole commands,
# with what is personal in them. The commands, decided again, rebuild it.
HIDDEN = frozenset({"name", "second_name", "recent_commands", "command_count"})

# Members of `card` whose column has another name, or another form.
_LISTS = ("locks", "suspensions")

_ENDED = frozenset({"RENEWED", "REPLACED", "DELETED"})


def verify_events_rebuild_the_cards(evidence: Evidence) -> None:
    """Every column of every card but the hidden ones follows from its events."""
    events = defaultdict(list)
    for records in evidence.events.values():
        for record in records:
            assert record.key is not None
            events[record.key.decode()].append(json.loads(record.value or b""))
    for row in evidence.cards:
        key = f"{row['issuer_id']}/{row['card_id']}"
        rebuilt = rebuilt_card(events[key])
        stored = {name: _read(name, value) for name, value in row.items() if name not in HIDDEN}
        assert stored == rebuilt, key


def rebuilt_card(events: list[Json]) -> dict[str, Any]:
    """The row of a card, without its hidden columns, from all of its events in their order."""
    row: dict[str, Any] = {"version": 0, "version_time_ms": None, "last_time_ms": None}
    for event in events:
        start_ms = time_ms(event["operation"]["startTime"])
        row["last_time_ms"] = max(start_ms, row["last_time_ms"] or start_ms)
        if event["version"] > row["version"]:
            row["version"] = event["version"]
            row["version_time_ms"] = max(start_ms, row["version_time_ms"] or start_ms)
        if event["card"] is not None:
            row["last_hash"] = bytes.fromhex(event["hash"])
            row |= _columns(event)
    return row


def _columns(event: Json) -> dict[str, Any]:
    card = dict(event["card"])
    usage = card.pop("usage")
    delete_at = card.pop("deleteAt")
    assert card.pop("form") == card["terms"]["form"]
    row = {_snake(name): value for name, value in card.items()}
    row |= {name: sorted(row[name]) for name in _LISTS}
    return row | {
        "issuer_id": event["issuerId"],
        "card_id": event["cardId"],
        "delete_at_ms": None if delete_at is None else time_ms(delete_at),
        "digital_cards_relinked": usage["digitalCards"] == "RELINKED",
        "has_ended": card["state"] in _ENDED,
        "terms": {_snake(name): value for name, value in row["terms"].items()},
    }


def _read(column: str, value: Any) -> Any:  # noqa: ANN401 - a column of any type
    if column in _LISTS:
        return sorted(value.split(",")) if value else []
    is_json = column in {"terms", "controls", "limits"} and value is not None
    return json.loads(value) if is_json else value


def _snake(name: str) -> str:
    return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)
