"""`card`: a card as the database has it."""

from typing import Annotated

import orjson
import typer

from lifecycle.cli.exits import Problem, reaching_database, run
from lifecycle.cli.rendering import fields_table, json_line
from lifecycle.cli.rendering import show as show_view
from lifecycle.domain.cards import Card
from lifecycle.kafka.events import card_view
from lifecycle.postgres import views
from lifecycle.postgres.connection import open_pool
from lifecycle.postgres.schema import check_schema
from lifecycle.settings import Settings

card = typer.Typer(no_args_is_help=True, help="Look at a card.")


@card.command("show")
def show(
    issuer: Annotated[str, typer.Argument(help="The issuerId.")],
    card_id: Annotated[str, typer.Argument(help="The cardId.", metavar="CARD")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show a card as it is now; exit 1 when the issuer has no such card.

    Example: `lifecycle card show BANK000001 card-001`
    """
    found, version = run(lambda settings: _find(settings, issuer, card_id))
    view = orjson.loads(orjson.dumps(card_view(found)))
    if as_json:
        json_line({"issuerId": issuer, "cardId": card_id, "version": version, "card": view})
        return
    show_view(fields_table({"issuerId": issuer, "cardId": card_id, "version": version, **view}))


async def _find(settings: Settings, issuer: str, card_id: str) -> tuple[Card, int]:
    with reaching_database(settings):
        async with await open_pool(settings) as pool:
            await check_schema(pool)
            found = await views.find_card(pool, issuer, card_id)
    if found is None:
        raise Problem(f"Issuer {issuer} has no card {card_id}.")
    return found
