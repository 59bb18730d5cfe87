"""Writes the files that are made from the code, or checks that they are as it would write them.

`python -m tools.generated` writes, `--check` compares and exits 1 naming each file that differs:
part of `make check`, so that docs and samples cannot fall behind.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import typer
from pydantic_core import PydanticUndefined
from typer.cli import get_docs_for_click

from lifecycle.cli.app import app
from lifecycle.domain.commands import CommandName
from lifecycle.domain.diagram import state_diagram
from lifecycle.kafka.schemas import command_schema
from lifecycle.postgres.roles import FUNCTIONS, TABLES, Role, role_name
from lifecycle.samples import record_line, sample_day
from lifecycle.settings import ENVIRONMENT_PREFIX, Settings
from tools.reference import errors_page, fields_page, reasons_page

ROOT = Path(__file__).resolve().parents[1]
_SETTINGS_INTRODUCTION = (
    "Environment variables, read once at start. A wrong value ends the command with exit code 2"
    " before anything is touched; an empty one counts as not set."
)
_ROLES_INTRODUCTION = (
    "What is not here, nobody else may do; what is recorded, not even the owner may change"
    " ([audit.md](audit.md)). Partitions are reached by the name of their table."
)
MADE_BY = "Made by `python -m tools.generated`; do not edit."


def main() -> int:
    """Write or check; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    is_check = parser.parse_args().check
    wanted = dict(_files())
    stale = [path for path, content in wanted.items() if _found(path) != content]
    # A schema or part of the day that is no longer made must not stay behind either.
    left_over = sorted(
        {
            path.relative_to(ROOT).as_posix()
            for pattern in ("docs/schemas/*.json", "samples/*.jsonl")
            for path in ROOT.glob(pattern)
        }
        - wanted.keys()
    )
    for path in stale:
        if not is_check:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_bytes(wanted[path])
        typer.echo(f"{path} {'differs' if is_check else 'written'}")
    for path in left_over:
        if not is_check:
            (ROOT / path).unlink()
        typer.echo(f"{path} {'is made by nothing' if is_check else 'removed'}")
    if is_check and (stale or left_over):
        typer.echo("Run `python -m tools.generated`.", err=True)
        return 1
    return 0


def _found(path: str) -> bytes | None:
    file = ROOT / path
    return file.read_bytes() if file.exists() else None


def _files() -> Iterator[tuple[str, bytes]]:
    yield "docs/state-diagram.md", _state_diagram().encode()
    yield "docs/settings.md", _settings().encode()
    yield "docs/cli.md", _command_line().encode()
    yield "docs/errors.md", errors_page(MADE_BY).encode()
    yield "docs/reasons.md", reasons_page(MADE_BY).encode()
    yield "docs/fields.md", fields_page(MADE_BY).encode()
    yield "docs/roles.md", _roles().encode()
    for name in CommandName:
        schema = json.dumps(command_schema(name), indent=2) + "\n"
        yield f"docs/schemas/{name.lower().replace('_', '-')}.json", schema.encode()
    # For the default partition count: the ids of successors depend on it.
    partitions: int = Settings.model_fields["partitions"].default
    for part in sample_day(partitions):
        lines = [record_line(sample.record, sample.expected) for sample in part.records]
        yield f"samples/{part.name}.jsonl", b"".join(lines)


def _state_diagram() -> str:
    return (
        f"# The states of a card\n\n{MADE_BY} From `lifecycle/domain/machine.py`, as `lifecycle"
        f" diagram` prints it.\n\n```mermaid\n{state_diagram()}```\n"
    )


def _roles() -> str:
    roles = [role for role in Role if role is not Role.OWNER]
    prefix: str = Settings.model_fields["database_role_prefix"].default
    names = " | ".join(f"`{role_name(prefix, role)}`" for role in roles)
    lines = [
        "# What each database role may do",
        "",
        f"{MADE_BY} From `lifecycle/postgres/roles.py`, as `lifecycle migrate` grants it.",
        "",
        f"`{role_name(prefix, Role.OWNER)}` owns everything. {_ROLES_INTRODUCTION}",
        "",
        f"| table or view | {names} |",
        "| --- |" + " --- |" * len(roles),
        *(
            f"| `{table}` | " + " | ".join(rights.get(role, "") for role in roles) + " |"
            for table, rights in TABLES.items()
        ),
        "",
        f"| function | {names} |",
        "| --- |" + " --- |" * len(roles),
        *(
            f"| `{function}` | "
            + " | ".join("EXECUTE" if role in callers else "" for role in roles)
            + " |"
            for function, callers in FUNCTIONS.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def _settings() -> str:
    lines = [
        "# Settings",
        "",
        f"{MADE_BY} From `lifecycle/settings.py`.",
        "",
        _SETTINGS_INTRODUCTION,
        "",
        "| variable | default | meaning |",
        "| --- | --- | --- |",
    ]
    for name, field in Settings.model_fields.items():
        default = field.default
        if field.default_factory is not None:
            default = "{}"
        shown = "" if default is PydanticUndefined or default in (None, ()) else f"`{default}`"
        meaning = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{ENVIRONMENT_PREFIX}{name.upper()}` | {shown} | {meaning} |")
    return "\n".join(lines) + "\n"


def _command_line() -> str:
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="lifecycle")
    text = get_docs_for_click(
        obj=command, ctx=context, name="lifecycle", title="The command line"
    ).strip()
    title, _, rest = text.partition("\n")
    return f"{title}\n\n{MADE_BY} As `lifecycle --help` and its like print it.\n{rest}\n"


if __name__ == "__main__":
    sys.exit(main())
