"""What the worst input of any producer does to a worker: its event loop, its memory, its time.

`python -m benchmarks.worst_input` sends, one after the other, the inputs that were found to cost
the most for their bytes, each to a worker and a database of its own, and prints the longest stall
of the event loop, the most memory, and the time until every record had its outcome and every dead
letter was published. On servers of its own, or those of the settings. Exit code 1: an input was
not taken to its end.
"""

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from aiokafka import AIOKafkaProducer
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.ground import ground
from benchmarks.measuring import BenchmarkError, look_at_lanes, running_service
from lifecycle.kafka.clients import client_options
from lifecycle.kafka.partitioner import partition_of
from lifecycle.kafka.topics import topics_of
from lifecycle.local import LocalServerError, Servers, running_servers
from lifecycle.postgres.connection import open_pool
from lifecycle.settings import Settings, load_settings

_MB = 1_000_000
_COMMAND_BYTES = 64_000
_SECONDS_MAX = 180.0
_LOOK_SECONDS = 0.2
_TICK_SECONDS = 0.005
_REQUEST_BYTES_MAX = 64 * 1024 * 1024
_BATCH_BYTES_MAX = 900_000
# A topic just created has no leader for a while on a busy machine.
_SEND_MS_MAX = 60_000
_IN_FLIGHT_MAX = 16

Headers = Sequence[tuple[str, bytes | None]]

console = Console(width=None if sys.stdout.isatty() else 120)


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """`count` records; `value` gives that of each by its number."""

    name: str
    count: int
    value: Callable[[int], bytes]
    headers: Headers = ()
    compression: str | None = None
    is_of_one_card: bool = False


def _command(number: int, **fields: object) -> bytes:
    command = {"commandId": f"c{number}", "issuerId": "BANK000001", "cardId": "card-1", **fields}
    return json.dumps(command).encode()


def _conflict(number: int) -> bytes:
    """The same command id with another content each time; its text takes long to search."""
    text = f"{number}x " + "3 " * ((_COMMAND_BYTES - 200) // 2)
    return _command(0, command="SUSPEND", reason=text)


def _controls(number: int) -> bytes:
    members = {f"{name:05x}": 1e300 for name in range(_COMMAND_BYTES // 18)}
    return _command(number, command="UPDATE_CONTROLS", controls=members)


INPUTS = (
    Input(
        name="360 broken records of 1 MB, gzip",
        count=360,
        value=lambda _: b"{" + b"a" * _MB,
        compression="gzip",
    ),
    Input(
        name="4 records of 1 MB of spaced digits",
        count=4,
        value=lambda _: b"3 " * (_MB // 2),
    ),
    Input(
        name="4 records of 1 MB of JSON objects",
        count=4,
        value=lambda _: b'{"a":[' + b"{}," * (_MB // 3) + b"1]}",
        compression="gzip",
    ),
    Input(
        name="6 records of 490,000 headers",
        count=6,
        value=lambda _: b"",
        headers=[("", None)] * 490_000,
    ),
    Input(
        name="120 conflicts of 64 KB of spaced digits",
        count=40,
        value=_conflict,
        compression="gzip",
        is_of_one_card=True,
    ),
    Input(
        name="120 UPDATE_CONTROLS of 64 KB of numbers",
        count=40,
        value=_controls,
        compression="gzip",
        is_of_one_card=True,
    ),
    Input(
        name="100,000 broken records of 1 byte",
        count=100_000,
        value=lambda _: b"{",
        compression="gzip",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """`stall_seconds`: by the clock. `loop_cpu_seconds`: of the loop's thread, between two ticks.

    `idle_stall_seconds`: of this program's own loop, which does nothing: what the machine adds.
    `problem` says why the input was not taken to its end.
    """

    name: str
    seconds: float
    stall_seconds: float
    loop_cpu_seconds: float
    idle_stall_seconds: float
    rss_peak_mib: float
    largest_transaction_records: int
    problem: str | None


async def _send(settings: Settings, one: Input) -> None:
    producer = AIOKafkaProducer(
        **{**client_options(settings), "request_timeout_ms": _SEND_MS_MAX},
        acks="all",
        compression_type=one.compression,
        max_batch_size=_BATCH_BYTES_MAX,
        max_request_size=_REQUEST_BYTES_MAX,
        linger_ms=50,
    )
    topic = topics_of(settings).commands
    key = b"BANK000001/card-1"
    async with producer:
        waiting = []
        for number in range(one.count):
            partition = number % settings.partitions
            if one.is_of_one_card:
                partition = partition_of(key, settings.partitions)
            waiting.append(
                await producer.send(
                    topic, one.value(number), key, partition=partition, headers=one.headers
                )
            )
            if len(waiting) >= _IN_FLIGHT_MAX and one.count <= 1_000:  # noqa: PLR2004 - large ones
                await asyncio.gather(*waiting)
                waiting = []
        await asyncio.gather(*waiting)


async def _run(servers: Servers, one: Input) -> Result:
    async with ground(servers) as settings:
        await _send(settings, one)
        pool = await open_pool(settings)
        idle = _Idle()
        ticking = asyncio.create_task(idle.tick(), name="idle")
        try:
            with tempfile.NamedTemporaryFile(suffix=".json") as report:
                command = [sys.executable, "-m", "benchmarks.watched_worker", report.name]
                started = time.monotonic()
                problem = None
                try:
                    async with running_service(settings, command) as process:
                        async with pool.acquire() as connection:
                            problem = await _watched(process, connection, one.count)
                        seconds = time.monotonic() - started
                        await asyncio.sleep(1.5)  # the report is written once a second
                except BenchmarkError as error:
                    problem, seconds = str(error)[-500:], time.monotonic() - started
                found = _report(Path(report.name), is_done=problem is None)
            largest = await pool.fetchval("SELECT coalesce(max(records), 0) FROM intake_batch")
        finally:
            ticking.cancel()
            await pool.close()
    return Result(
        name=one.name,
        seconds=seconds,
        stall_seconds=found.get("stall_seconds", float("nan")),
        loop_cpu_seconds=found.get("loop_cpu_seconds", float("nan")),
        idle_stall_seconds=idle.stall_seconds,
        rss_peak_mib=found.get("rss_peak_kib", float("nan")) / 1024,
        largest_transaction_records=largest,
        problem=problem,
    )


@dataclass(slots=True)
class _Idle:
    """What a loop stands still for that has nothing to do."""

    stall_seconds: float = 0.0

    async def tick(self) -> None:
        tick = time.perf_counter()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self.stall_seconds = max(self.stall_seconds, time.perf_counter() - tick - _TICK_SECONDS)
            tick = time.perf_counter()


def _report(written: Path, *, is_done: bool) -> dict[str, float]:
    found: dict[str, float] = json.loads(written.read_text() or "{}")
    if not is_done:
        # A loop that stands still does not write it.
        silent_seconds = time.time() - written.stat().st_mtime
        found["stall_seconds"] = max(found.get("stall_seconds", 0.0), silent_seconds)
    return found


async def _watched(process: psutil.Popen, connection: object, records: int) -> str | None:
    until = time.monotonic() + _SECONDS_MAX
    while time.monotonic() < until:
        progress = await look_at_lanes(connection)
        if progress.taken >= records and progress.is_published:
            return None
        if process.poll() is not None:
            raise BenchmarkError(f"the worker ended with {process.returncode}")
        await asyncio.sleep(_LOOK_SECONDS)
    return f"{progress.taken} of {records} taken after {_SECONDS_MAX:.0f} s"


def _print(results: Sequence[Result]) -> None:
    table = Table(box=box.SIMPLE_HEAD, title="What the worst input does to a worker")
    table.add_column("", no_wrap=True)
    for column in ("seconds", "longest stall, ms", "CPU, ms", "idle, ms", "RSS, MiB"):
        table.add_column(column, justify="right")
    for result in results:
        table.add_row(
            result.name,
            f"{result.seconds:.1f}",
            f"{result.stall_seconds * 1000:,.0f}",
            f"{result.loop_cpu_seconds * 1000:,.0f}",
            f"{result.idle_stall_seconds * 1000:,.0f}",
            f"{result.rss_peak_mib:,.0f}",
        )
    console.print(table)
    for result in results:
        if result.problem is not None:
            console.print(f"{result.name}: {result.problem}", style="bold red", markup=False)
    console.print(
        "Stalls are those of the event loop, from the first lane on: by the clock, which on a busy"
        " machine counts what others took; as CPU time of the loop's thread between two ticks; and"
        " of a loop that did nothing meanwhile. The seconds count from the start of the process."
    )


async def _bench(options: argparse.Namespace) -> int:
    settings = load_settings()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    chosen = [one for one in INPUTS if options.only in one.name]
    async with running_servers(
        kafka_bootstrap_servers=settings.kafka_bootstrap_servers,
        database_url=settings.database_url.get_secret_value() if settings.database_url else None,
        data_dir=settings.local_dir,
        fresh=True,
        report=console.print,
    ) as servers:
        results = []
        for one in chosen:
            console.print(one.name)
            results.append(await _run(servers, one))
            _print(results[-1:])
    _print(results)
    return 1 if any(result.problem for result in results) else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.worst_input", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--only", default="", help="inputs whose name holds this")
    try:
        return asyncio.run(_bench(parser.parse_args(arguments)))
    except (BenchmarkError, LocalServerError) as error:
        console.print(str(error), style="bold red", markup=False)
        return 1


if __name__ == "__main__":
    sys.exit(main())
