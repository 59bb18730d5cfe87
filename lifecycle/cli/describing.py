"""`diagram` and `schema`: what the service does and takes, from its own definitions."""

import json
from typing import Annotated

import typer

from lifecycle.domain.commands import CommandName
from lifecycle.domain.diagram import state_diagram
from lifecycle.kafka.schemas import command_schema


def diagram() -> None:
    """Print the state diagram of a card, as Mermaid text.

    Example: `lifecycle diagram`
    """
    typer.echo(state_diagram(), nl=False)


def schema(
    command: Annotated[
        CommandName | None, typer.Argument(help="One command; all of them, if not given.")
    ] = None,
) -> None:
    """Print the JSON Schema of a command, or of all of them in one object.

    Example: `lifecycle schema SUSPEND`
    """
    shown = (
        command_schema(command)
        if command is not None
        else {name.value: command_schema(name) for name in CommandName}
    )
    typer.echo(json.dumps(shown, indent=2))
