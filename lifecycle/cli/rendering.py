"""How things look: one-liners and tables for people, JSON lines for programs.

What comes from a topic may hold anything, escape sequences for the terminal among it: `printable`
stands between that and the screen.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

_STATUS_STYLE = {"SUCCESSFUL": "green", "FAILED": "red", "PENDING": "yellow"}
_SUBJECT_WIDTH = 34
_KIND_WIDTH = 22


_COLUMNS = 1_000
"""Wider than any screen: an id is never cut or folded inside its column, so it can be copied."""


def console() -> Console:
    """Standard output as it is now; long lines are left to the terminal."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=True, width=_COLUMNS)


def show(renderable: RenderableType) -> None:
    """Print a table; without the blanks behind its last column where nobody looks at a screen."""
    out = console()
    if out.is_terminal:
        out.print(renderable)
        return
    with out.capture() as captured:
        out.print(renderable)
    typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def printable(text: str) -> str:
    """`text` with everything that could move the cursor or colour the screen spelled out."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def json_line(value: object) -> None:
    """One object on one line, at once: a program may be waiting for it."""
    typer.echo(orjson.dumps(value))


def raw_line(value: bytes) -> None:
    """JSON as it was published, byte for byte."""
    typer.echo(value)


def event_line(event: Mapping[str, Any], *, subject_width: int = _SUBJECT_WIDTH) -> Text:
    """An event on one line: when, whom, what, from which state to which, and what is new."""
    operation = event["operation"]
    status = operation["status"]
    line = Text(no_wrap=True, overflow="ignore")
    time = operation["endTime"] or operation["startTime"]
    line.append(time[11:23] + "  ", "dim")
    line.append(f"{printable(subject_of(event)):{subject_width}} ")
    line.append(f"{operation['operation']:{_KIND_WIDTH}} ", "bold")
    line.append(f"{status:10} ", _STATUS_STYLE.get(status, ""))
    line.append(_change(event))
    return line


def subject_of(event: Mapping[str, Any]) -> str:
    """`<issuerId>/<cardId>`, with a word before the id of a consumer or product."""
    issuer = event["issuerId"]
    if event["cardId"] is not None:
        return f"{issuer}/{event['cardId']}"
    if "consumerId" in event:
        return f"{issuer}/consumer/{event['consumerId']}"
    return f"{issuer}/product/{event.get('cardProductId')}"


def _change(event: Mapping[str, Any]) -> Text:
    operation = event["operation"]
    before, after = event["previousState"], _state_after(event)
    text = Text()
    if operation["status"] == "FAILED":
        text.append(operation["errorCode"], "red")
        if after:
            text.append(f"  stays {after}", "dim")
        return text
    if after and before and before != after:
        text.append(f"{before} -> {after}")
    elif after:
        text.append(after)
    reason = operation.get("reasonCode")
    if reason:
        text.append(f"  {reason}", "dim")
    for name, value in _news(event).items():
        text.append(f"  {name} {printable(str(value))}", "dim")
    return text


def _news(event: Mapping[str, Any]) -> dict[str, object]:
    """What the operation tells of its kind; of a card's first one, what is on the card."""
    news: dict[str, object] = dict(event["operation"].get("details") or {})
    card = event.get("card")
    if card and event["previousState"] is None:
        news |= {name: card[name] for name in ("last4", "exp") if card.get(name)}
    return news


def _state_after(event: Mapping[str, Any]) -> str | None:
    shown = event.get("card") or event.get("consumer")
    if shown:
        return str(shown["state"])
    product = event.get("product")
    return f"{product['form']} {product['scheme']}" if product else None


def fields_table(fields: Mapping[str, object], title: str | None = None) -> Table:
    """Names and values below each other; what is absent is left out."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields.items():
        if value is not None and value not in ([], {}):
            table.add_row(name, Text(printable(_plain(value))))
    return table


def rows_table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    """Rows under columns, for people."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(
            *(
                Text(printable(_plain(value)), style=_STATUS_STYLE.get(str(value), ""))
                for value in row
            )
        )
    return table


def _plain(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
