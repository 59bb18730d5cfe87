"""`retention`: which weeks of the log go, and why the others stay (G8)."""

from datetime import datetime
from typing import Annotated

import typer

from lifecycle.cli.exits import Exit, reaching_database, run
from lifecycle.cli.rendering import json_line, rows_table, show
from lifecycle.postgres.connection import open_pool
from lifecycle.postgres.retention import HELD_BACK, Week
from lifecycle.postgres.schema import check_schema
from lifecycle.settings import Settings


def retention(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go; drop nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Drop the weekly partitions whose time is over, as a worker does by itself.

    Those of `operation` go when every operation in them is over three calendar months old, those of
    `intake_batch` and `dead_letter` after the days of their topics; none before everything in it is
    published and read. Exit 1 when one is held back that should be gone: its line says by what.

    Example: `lifecycle retention --dry-run`
    """
    weeks = run(lambda settings: _weeks(settings, dry_run=dry_run))
    if as_json:
        for week, outcome in weeks:
            json_line(
                {
                    "table": week.table,
                    "partition": week.partition,
                    "startsAt": None if week.starts_at is None else week.starts_at.isoformat(),
                    "endsAt": week.ends_at.isoformat(),
                    "outcome": outcome,
                    "reason": week.reason,
                    "detail": week.detail,
                }
            )
    else:
        show(
            rows_table(
                ("partition", "from", "to", "outcome", "why"),
                (
                    (
                        *(week.partition, _day(week.starts_at), _day(week.ends_at)),
                        *(outcome, week.detail or "everything in it is over, published and read"),
                    )
                    for week, outcome in weeks
                ),
            )
        )
    if any(week.reason in HELD_BACK for week, _ in weeks):
        raise typer.Exit(Exit.FOUND_PROBLEM)


async def _weeks(settings: Settings, *, dry_run: bool) -> list[tuple[Week, str]]:
    # The worker's own way, and its metrics with it.
    from lifecycle.worker import retention as work  # noqa: PLC0415 - loads slowly

    with reaching_database(settings):
        async with await open_pool(settings) as pool:
            await check_schema(pool)
            weeks = await work.look(pool, settings)
            if dry_run:
                return [(week, "would go" if week.reason is None else "stays") for week in weeks]
            left = {week.partition: week for week in await work.drop_expired(pool, settings)}
            return [
                (left[week.partition], "stays") if week.partition in left else (week, "dropped")
                for week in weeks
            ]


def _day(moment: datetime | None) -> str:
    return "" if moment is None else moment.date().isoformat()
