"""Drains a backlog of commands with the worker, and with a version that takes one at a time.

`python -m benchmarks.drain` is what `make bench` runs. On servers of its own, or those of the
settings; alternating, so that what disturbs the machine disturbs both. It asserts on sums and
never on speed: exit code 1 says that a command has no outcome or an operation no event.
"""

import argparse
import asyncio
import logging
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.ground import fill, ground, published_event_ids, query
from benchmarks.measuring import (
    BenchmarkError,
    Drained,
    drain,
    look_at_lanes,
    looking_at_group,
)
from benchmarks.workload import Workload, workload
from lifecycle.local import LocalServerError, Servers, running_servers
from lifecycle.settings import Settings, load_settings

_WORKER = [str(Path(sys.executable).with_name("lifecycle")), "worker"]
_ONE_AT_A_TIME = [sys.executable, "-m", "benchmarks.one_at_a_time"]
_PROCESSES = ("worker", "broker", "database")

# What is not a terminal would otherwise have 80 columns, which is too few for the table.
console = Console(width=None if sys.stdout.isatty() else 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One way to drain the topic. `foreign`: its commands lie on partitions not their own."""

    name: str
    command: Sequence[str]
    commands: int
    is_batching: bool
    foreign: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one run gave; `problems` is empty when the sums agree."""

    contestant: Contestant
    drained: Drained
    problems: list[str]


def _contestants(options: argparse.Namespace) -> list[Contestant]:
    worker = Contestant(name="worker", command=_WORKER, commands=options.commands, is_batching=True)
    if options.profile is not None:
        profiled = [sys.executable, "-m", "cProfile", "-o", str(options.profile), *_WORKER]
        return [
            Contestant(
                name="worker under cProfile",
                command=profiled,
                commands=options.commands,
                is_batching=True,
                foreign=options.foreign,
            )
        ]
    if options.foreign:
        return [
            worker,
            Contestant(
                name="worker, foreign partitions",
                command=_WORKER,
                commands=options.commands,
                is_batching=True,
                foreign=True,
            ),
        ]
    one_at_a_time = Contestant(
        name="one at a time",
        command=_ONE_AT_A_TIME,
        commands=options.share,
        is_batching=False,
    )
    return [worker, one_at_a_time]


async def _run(servers: Servers, contestant: Contestant) -> Result:
    work = workload(contestant.commands)
    async with ground(servers) as settings:
        drained = await _drain(settings, contestant, work)
        problems = await _problems(settings, contestant, work)
    return Result(contestant=contestant, drained=drained, problems=problems)


async def _drain(settings: Settings, contestant: Contestant, work: Workload) -> Drained:
    opening = len(work.opening)
    await fill(settings, work.opening, foreign=False)
    async with looking_at_group(settings) as look_at_group:
        look = look_at_lanes if contestant.is_batching else look_at_group
        # By the plain worker also when another one is profiled: it is not what is measured.
        command = _WORKER if contestant.is_batching else contestant.command
        await drain(settings, command, look, before=0, commands=opening)
        await fill(settings, work.commands, foreign=contestant.foreign)
        return await drain(
            settings, contestant.command, look, before=opening, commands=len(work.commands)
        )


async def _problems(settings: Settings, contestant: Contestant, work: Workload) -> list[str]:
    sent = len(work.opening) + len(work.commands)
    accepted = await query(settings, "SELECT count(*) FROM operation WHERE NOT caused")
    recorded = await query(settings, "SELECT count(*) FROM operation")
    published = await published_event_ids(settings)
    problems = []
    if accepted != sent - work.sent_twice:
        problems.append(
            f"{sent} commands were sent, {work.sent_twice} of them twice: {accepted} operations"
        )
    different = len(set(published))
    if len(published) != recorded or different != recorded:
        problems.append(
            f"{recorded} operations: {len(published)} events, {different} of them different"
        )
    if contestant.is_batching:
        outcomes = await query(
            settings,
            "SELECT sum(operations + duplicates + ignored + dead_letters)::bigint"
            " FROM intake_batch",
        )
        if outcomes != sent:
            problems.append(f"{sent} commands were sent: {outcomes} outcomes")
    return problems


# --- what is printed


def _print_results(results: Sequence[Result]) -> None:
    table = Table(
        title="In the order of the runs",
        box=box.SIMPLE_HEAD,
        caption="worker, broker, database: CPU seconds per 1,000 commands",
    )
    table.add_column("", no_wrap=True)
    for column in ("commands", "seconds", "per s", *_PROCESSES):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("sums", no_wrap=True)
    for result in results:
        drained = result.drained
        table.add_row(
            result.contestant.name,
            f"{drained.commands:,}",
            f"{drained.seconds:.2f}",
            f"{drained.commands_per_second:,.0f}",
            *(_figure(drained.cpu_seconds_per_1000(process)) for process in _PROCESSES),
            "agree" if not result.problems else "DIFFER",
        )
    console.print(table)
    for result in results:
        for problem in result.problems:
            console.print(f"{result.contestant.name}: {problem}", style="bold red")


def _figure(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.3f}"


def _print_ratios(results: Sequence[Result]) -> None:
    pairs = list(zip(results[::2], results[1::2], strict=True))
    first, second = pairs[0][0].contestant.name, pairs[0][1].contestant.name
    rates = [a.drained.commands_per_second / b.drained.commands_per_second for a, b in pairs]
    costs = [
        b.drained.cpu_seconds["worker"]
        / b.drained.commands
        / (a.drained.cpu_seconds["worker"] / a.drained.commands)
        for a, b in pairs
    ]
    for what, ratios in (("Commands/s", rates), ("Commands per CPU second of the worker", costs)):
        each = ", ".join(f"{ratio:.1f}" for ratio in ratios)
        console.print(
            f"{what}, {first} to {second}: median {statistics.median(ratios):.1f},"
            f" least {min(ratios):.1f}, most {max(ratios):.1f} (pairs: {each})"
        )


def _print_circumstances(servers: Servers, results: Sequence[Result]) -> None:
    settings = Settings()
    console.print(
        f"{os.cpu_count()} cores shared by worker, broker, database and this program;"
        f" {platform.platform()}; Python {platform.python_version()}.\n"
        f"{servers.kafka_from}.\n{servers.postgres_from}.\n"
        f"{settings.partitions} partitions, polls of up to {settings.poll_records_max},"
        f" publications of up to {settings.publish_rows_max}, publish={settings.publish}."
    )
    for contestant in {result.contestant.name: result.contestant for result in results}.values():
        if not contestant.is_batching:
            console.print(
                f"{contestant.name} drained a share of {contestant.commands:,} commands of the"
                " same kind, on a database that is as much smaller: all of them would take too"
                " long."
            )
    console.print(
        "The start of a process and the products and consumers that the cards need are not in"
        " the figures. Servers that the settings name have no CPU time here. Latency is not"
        " measured: in a backlog it is the length of the queue."
    )


# --- the command line


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.drain", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--commands", type=int, default=100_000, help="the worker's backlog")
    parser.add_argument("--share", type=int, default=4_000, help="the backlog of one at a time")
    parser.add_argument("--pairs", type=int, default=3, help="how often both take their turn")
    parser.add_argument(
        "--foreign",
        action="store_true",
        help="compare the worker with itself on commands that lie on other partitions",
    )
    parser.add_argument(
        "--profile", type=Path, metavar="FILE", help="one run of the worker alone, under cProfile"
    )
    options = parser.parse_args(arguments)
    if min(options.commands, options.share, options.pairs) < 1:
        parser.error("--commands, --share and --pairs must be at least 1")
    return options


async def _bench(options: argparse.Namespace) -> int:
    settings = load_settings()
    # A topic just created has no leader for a moment, of which aiokafka says every retry.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    contestants = _contestants(options)
    turns = contestants * (options.pairs if options.profile is None else 1)
    async with running_servers(
        kafka_bootstrap_servers=settings.kafka_bootstrap_servers,
        database_url=settings.database_url.get_secret_value() if settings.database_url else None,
        data_dir=settings.local_dir,
        fresh=True,
        report=console.print,
    ) as servers:
        results = []
        for number, contestant in enumerate(turns, start=1):
            console.print(
                f"{number}/{len(turns)} {contestant.name}: {contestant.commands:,} commands"
            )
            result = await _run(servers, contestant)
            console.print(f"    {result.drained.commands_per_second:,.0f} commands/s")
            results.append(result)
        _print_results(results)
        if options.profile is None:
            _print_ratios(results)
        _print_circumstances(servers, results)
    return 1 if any(result.problems for result in results) else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, and return the exit code."""
    options = _options(arguments)
    try:
        return asyncio.run(_bench(options))
    except (BenchmarkError, LocalServerError) as error:
        console.print(str(error), style="bold red", markup=False)
        return 1


if __name__ == "__main__":
    sys.exit(main())
