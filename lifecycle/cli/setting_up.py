"""`migrate` and `topics`: what must be there before a worker starts."""

from typing import Annotated

import typer

from lifecycle.cli.exits import Exit, Problem, reaching_kafka, run
from lifecycle.kafka.topics import TopicsError, check_topics, create_topics
from lifecycle.settings import Settings

topics = typer.Typer(no_args_is_help=True, help="Create the topics, or compare them.")


def migrate(
    *,
    with_roles: Annotated[
        bool,
        typer.Option(
            "--roles", help="Create the roles that are missing, and give the tables to the owner."
        ),
    ] = False,
) -> None:
    """Bring the database to the schema of this version, and every role to its rights.

    Safe to run again, and by several at once. It uses `LIFECYCLE_DATABASE_OWNER_URL`, else
    `LIFECYCLE_DATABASE_URL`. Where the tables belong to the owner role, it does everything as that
    role; without roles, all belongs to the one login that there is. Exit 2 when the login may not
    do what is needed.

    Example: `lifecycle migrate`

    Example: `lifecycle migrate --roles`
    """
    # SQLAlchemy and Alembic: half a second that no other command should wait for.
    from lifecycle.cli.migration import migrated  # noqa: PLC0415 - loads slowly

    before, after = run(lambda settings: migrated(settings, with_roles=with_roles))
    if before == after:
        typer.echo(f"The schema is {after} already.")
    else:
        typer.echo(f"The schema is {after} now, it was {before or 'empty'}.")


@topics.command("create")
def create() -> None:
    """Create the topics that are missing, with the partitions and retention of the settings.

    Example: `lifecycle topics create`
    """
    created = run(_create)
    for name in created:
        typer.echo(f"created {name}")
    if not created:
        typer.echo("Every topic was there already.")


async def _create(settings: Settings) -> list[str]:
    with reaching_kafka(settings):
        created = await create_topics(settings)
        if not created:
            await _check(settings)
        return created


@topics.command("check")
def check() -> None:
    """Compare the topics with the settings; exit 1 when they differ.

    Example: `lifecycle topics check`
    """
    run(_check)
    typer.echo("The topics are as the settings say.")


async def _check(settings: Settings) -> None:
    with reaching_kafka(settings):
        try:
            await check_topics(settings)
        except TopicsError as error:
            raise Problem(str(error), Exit.FOUND_PROBLEM) from None
