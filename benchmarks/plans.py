"""How PostgreSQL answers each statement of the service when there are ten million cards.

`python -m benchmarks.plans --cards 10000000`. Fills a database by SQL, about 16 GB and half an hour
for ten million cards, explains every statement as for a poll at its limit, and drops the database.
Once by the plan for the very arguments, once by the one for any: a worker may get either. Only
PostgreSQL is needed: that of the settings, or one of its own. Exit code 1 says that a statement
of the worker read a week of the log from end to end, or looked into more than a few of them.
"""

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.explaining import Plan
from benchmarks.hot_path import plans_of_hot_path
from benchmarks.large_database import CARDS_MIN, large_database
from lifecycle.local import LocalServerError, running_servers
from lifecycle.settings import load_settings

WEEKS = 22
WEEKS_PROBED_MAX = 3
MAY_LOOK_ANYWHERE = ("views.", "operations.load_dead_letters")
"""The operations of a card that a person asks for may lie in any week, and so may the next dead
letter of a lane, since there are few."""

console = Console(width=None if sys.stdout.isatty() else 150)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plans", description=__doc__)
    parser.add_argument("--cards", type=int, default=1_000_000, help="at least 10,000")
    parser.add_argument("--weeks", type=int, default=WEEKS, help="weekly partitions of the log")
    options = parser.parse_args(arguments)
    if options.cards < CARDS_MIN:
        parser.error(f"--cards must be at least {CARDS_MIN}")
    return options


async def _bench(options: argparse.Namespace) -> int:
    settings = load_settings()
    given = settings.database_url
    async with running_servers(
        # A Kafka that is given is not started, and nothing here asks for one.
        kafka_bootstrap_servers="none.invalid:9092",
        database_url=None if given is None else given.get_secret_value(),
        data_dir=settings.local_dir,
        fresh=True,
        report=console.print,
    ) as servers:
        console.print(servers.postgres_from)
        console.print(f"Filling {options.cards:,} cards and {options.weeks} weeks of the log")
        async with large_database(
            servers.database_url, cards=options.cards, weeks=options.weeks
        ) as connection:
            plans = await plans_of_hot_path(connection)
    console.print(_table(plans))
    problems = [
        name
        for name, of_function in plans.items()
        for plan in of_function
        if not name.startswith(MAY_LOOK_ANYWHERE)
        and (plan.rows_scanned_of_log or plan.weeks_probed > WEEKS_PROBED_MAX)
    ]
    if problems:
        console.print(f"These look through the log: {', '.join(problems)}", style="bold red")
    return 1 if problems else 0


def _table(plans: Mapping[str, Sequence[Plan]]) -> Table:
    table = Table(box=box.SIMPLE)
    for heading in ("function", "plan"):
        table.add_column(heading)
    for heading in ("ms", "buffers", "rows looked at", "weeks probed"):
        table.add_column(heading, justify="right")
    table.add_column("read from end to end")
    for name, of_function in plans.items():
        for plan in of_function:
            table.add_row(
                name,
                "any" if plan.is_generic else "these",
                f"{plan.milliseconds:.1f}",
                f"{plan.buffers:,}",
                f"{plan.rows_looked_at:,}",
                str(plan.weeks_probed or ""),
                ", ".join(f"{table} ({rows:,})" for table, rows in plan.scanned.items() if rows),
            )
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, and return the exit code."""
    options = _options(arguments)
    try:
        return asyncio.run(_bench(options))
    except LocalServerError as error:
        console.print(str(error), style="bold red", markup=False)
        return 1


if __name__ == "__main__":
    sys.exit(main())
