"""The commands under their names.

Only the names stand here: `lifecycle COMMAND --help` says the rest, and `docs/cli.md` is made
from the same words.
"""

import typer

from lifecycle.cli import (
    cards,
    dead_letters,
    describing,
    dev,
    keys,
    operations,
    retention,
    sending,
    setting_up,
    watching,
    worker,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,  # locals may hold what nobody may see (G10)
    help=(
        "The card lifecycle service: card commands from Kafka become operations in PostgreSQL and"
        " events on Kafka.\n\nSettings are environment variables with the prefix `LIFECYCLE_`, see"
        " docs/settings.md. Exit codes: 0 ok, 1 found a problem, 2 wrong use or wrong settings."
    ),
)
app.command("dev")(dev.dev)
app.command("worker")(worker.worker)
app.command("migrate")(setting_up.migrate)
app.add_typer(setting_up.topics, name="topics")
app.command("send")(sending.send)
app.command("watch")(watching.watch)
app.add_typer(cards.card, name="card")
app.add_typer(operations.operations, name="operations")
app.add_typer(dead_letters.dead_letters, name="dead-letters")
app.command("retention")(retention.retention)
app.add_typer(keys.keys, name="keys")
app.command("encrypt")(keys.encrypt)
app.command("diagram")(describing.diagram)
app.command("schema")(describing.schema)
