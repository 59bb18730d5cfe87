"""`operations`: what was done to a card, as its issuer may read it (domain.md 5)."""

from typing import Annotated, Any
from uuid import UUID

import orjson
import typer

from lifecycle.cli.exits import Problem, reaching_database, run
from lifecycle.cli.rendering import fields_table, json_line, rows_table
from lifecycle.cli.rendering import show as show_view
from lifecycle.domain.commands import Subject, SubjectKind
from lifecycle.kafka.partitioner import key_of
from lifecycle.postgres import views
from lifecycle.postgres.connection import open_pool
from lifecycle.postgres.schema import check_schema
from lifecycle.settings import Settings

operations = typer.Typer(no_args_is_help=True, help="Read the operations of a card.")

LIMIT_DEFAULT = 10
OFFSET_MAX = 2**31

Issuer = Annotated[str, typer.Argument(help="The issuerId.")]
CardId = Annotated[str, typer.Argument(help="The cardId.", metavar="CARD")]


@operations.command("list")
def list_(
    issuer: Issuer,
    card_id: CardId,
    *,
    offset: Annotated[
        int, typer.Option(min=0, max=OFFSET_MAX, help="So many of the newest are left out.")
    ] = 0,
    limit: Annotated[
        int, typer.Option(min=1, max=views.OPERATIONS_LISTED_MAX, help="At most so many.")
    ] = LIMIT_DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """List the operations of a card, newest first; those older than three months are gone.

    Example: `lifecycle operations list BANK000001 card-001 --limit 5`
    """
    page = run(lambda settings: _list(settings, issuer, card_id, offset, limit))
    events = [orjson.loads(event) for event in page.events]
    if as_json:
        json_line(
            {
                "operations": [_operation_view(event) for event in events],
                "remainingOperations": page.remaining,
            }
        )
        return
    show_view(
        rows_table(
            ("startTime", "operation", "status", "reason or error", "version", "operationId"),
            (
                (
                    *(operation["startTime"], operation["operation"], operation["status"]),
                    operation.get("errorCode") or operation["reasonCode"],
                    *(event["version"], operation["operationId"]),
                )
                for event in events
                if (operation := event["operation"])
            ),
        )
    )
    typer.echo(f"{len(events)} shown, {page.remaining} older")


async def _list(
    settings: Settings, issuer: str, card_id: str, offset: int, limit: int
) -> views.OperationsPage:
    with reaching_database(settings):
        async with await open_pool(settings) as pool:
            await check_schema(pool)
            return await views.list_operations(
                pool,
                issuer,
                _key(issuer, card_id),
                offset=offset,
                limit=limit,
                clock_offset_seconds=settings.clock_offset_seconds,
            )


@operations.command("show")
def show(
    issuer: Issuer,
    card_id: CardId,
    operation_id: Annotated[str, typer.Argument(help="The operationId.", metavar="OPERATION_ID")],
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="The event that tells it, as published.")
    ] = False,
) -> None:
    """Show one operation; exit 1 when the card has none with this id (any more).

    Example: `lifecycle operations show BANK000001 card-001 87f7f803-36bc-8f6a-b227-e0dca9649f15`
    """
    event = orjson.loads(run(lambda settings: _find(settings, issuer, card_id, operation_id)))
    if as_json:
        json_line(event)
        return
    show_view(fields_table(_operation_view(event) | {"card": event["card"]}))


async def _find(settings: Settings, issuer: str, card_id: str, operation_id: str) -> bytes:
    try:
        identity = UUID(operation_id)
    except ValueError:
        identity = None  # No operation has such an id: the answer is the same as for any other.
    with reaching_database(settings):
        async with await open_pool(settings) as pool:
            await check_schema(pool)
            event = identity and await views.find_operation(
                pool,
                issuer,
                _key(issuer, card_id),
                identity,
                clock_offset_seconds=settings.clock_offset_seconds,
            )
    if not event:
        raise Problem(f"Card {card_id} of issuer {issuer} has no operation {operation_id}.")
    return event


def _key(issuer: str, card_id: str) -> str:
    return key_of(Subject(SubjectKind.CARD, issuer, card_id)).decode()


def _operation_view(event: dict[str, Any]) -> dict[str, Any]:
    """The operation with what its event says beside it."""
    beside = ("version", "previousState", "commandId", "correlationId", "causationId")
    operation: dict[str, Any] = event["operation"]
    return operation | {name: event[name] for name in beside}
