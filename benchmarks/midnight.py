"""A million timers due at one moment: what other commands notice of it, and how long they take.

`python -m benchmarks.midnight`. The cards and their timers are copies of one card, made by SQL:
sending a million commands would take longer than what is measured. The worker runs three times on
the same ground: before the timers are due, while they are, and after the last was taken. Each time
it is offered a steady load, of which the latency is measured from the producer to the published
event, and then a backlog. Exit code 1 says that a timer did not fire or fired twice.
"""

import argparse
import asyncio
import logging
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.ground import fill, ground, query
from benchmarks.measuring import BenchmarkError, drain, look_at_lanes, running_service
from benchmarks.workload import Record
from lifecycle.domain.commands import CommandName as Do
from lifecycle.kafka.clients import client_options
from lifecycle.kafka.partitioner import partition_of
from lifecycle.kafka.sending import key_of_command
from lifecycle.kafka.topics import topics_of
from lifecycle.local import LocalServerError, Servers, running_servers
from lifecycle.postgres import timers
from lifecycle.settings import Settings, load_settings, required

_WORKER = [str(Path(sys.executable).with_name("lifecycle")), "worker"]
_ISSUER, _PRODUCT, _CONSUMER, _DUE_CARD = "BANK000001", "debit-virtual", "consumer-1", "due"
_ORDINARY_CARDS = 2_000
_MONTH_OVER = "0126"
_HOUR_SECONDS = 3_600
_CLAIM_ROWS = 500
_ALL_DUE_MS = 2**62
_SAMPLE_SECONDS = 10.0
_LOOK_SECONDS = 0.05
_TICK_SECONDS = 0.01
_SETTLE_SECONDS = 3.0
_LATE_SECONDS_MAX = 60.0
_STUCK_SECONDS = 120.0

console = Console(width=None if sys.stdout.isatty() else 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Noticed:
    """What other commands noticed in one phase. `timers_per_second` fired beside them."""

    phase: str
    latencies_ms: list[float]
    backlog_per_second: float
    timers_per_second: float

    def latency_ms(self, percent: int) -> float:
        """So many percent of the commands had their event within this."""
        return statistics.quantiles(self.latencies_ms, n=100)[percent - 1]


class _Ordinary:
    """Commands of other cards: each is suspended and resumed in turn."""

    def __init__(self) -> None:
        self._numbers = count()

    def next(self) -> tuple[str, Record]:
        """Id and record of the next command."""
        number = next(self._numbers)
        turn, card = divmod(number, _ORDINARY_CARDS)
        command_id = f"ordinary-{number}"
        command = Do.RESUME if turn % 2 else Do.SUSPEND
        return command_id, _record(command, command_id, cardId=f"ordinary-{card}")


def _record(command: Do, command_id: str, **fields: object) -> Record:
    body = {"commandId": command_id, "command": command, "issuerId": _ISSUER, **fields}
    return key_of_command(body), orjson.dumps(body)


# --- the ground


async def _prepare(settings: Settings, timers_due: int) -> None:
    """A product, the other cards, and the cards that are due an hour from now."""
    product = _record(Do.PRODUCT_DEFINE, "p", cardProductId=_PRODUCT, form="VIRTUAL", scheme="VISA")
    names = [_DUE_CARD, *(f"ordinary-{number}" for number in range(_ORDINARY_CARDS))]
    fields = {"cardProductId": _PRODUCT, "consumerId": _CONSUMER}
    cards = [_record(Do.CREATE, "create", cardId=name, **fields) for name in names]
    taken = 0
    for part in ([product], cards):
        await fill(settings, part, foreign=False)
        await drain(settings, _WORKER, look_at_lanes, before=taken, commands=len(part))
        taken += len(part)
    console.print(f"Copying {timers_due:,} cards and their timers")
    connection = await asyncpg.connect(required(settings, "database_url"))
    try:
        await connection.execute(
            """
            INSERT INTO card SELECT copy.* FROM card, generate_series(1, $2) AS number,
                jsonb_populate_record(card, jsonb_build_object(
                    'card_id', card.card_id || '-' || number, 'exp', $3::text)) AS copy
            WHERE card.card_id = $1
            """,
            _DUE_CARD,
            timers_due,
            _MONTH_OVER,
        )
        await connection.execute(
            """
            INSERT INTO timer SELECT issuer_id, card_id, 'EXPIRE', $1, 'EXPIRE:' || exp || ':1'
            FROM card WHERE exp = $2
            """,
            int((time.time() + _HOUR_SECONDS) * 1000),
            _MONTH_OVER,
        )
        await connection.execute("VACUUM ANALYZE card, timer")
    finally:
        await connection.close()


# --- what is measured


async def _notice(
    settings: Settings, phase: str, ordinary: _Ordinary, options: argparse.Namespace
) -> Noticed:
    left, begun = await _timers_left(settings), time.monotonic()
    latencies_ms = await _latencies_ms(settings, ordinary, options)
    backlog_per_second = await _backlog_per_second(settings, ordinary, options.backlog)
    fired = left - await _timers_left(settings)
    noticed = Noticed(
        phase=phase,
        latencies_ms=latencies_ms,
        backlog_per_second=backlog_per_second,
        timers_per_second=fired / (time.monotonic() - begun),
    )
    console.print(
        f"{phase}: p50 {noticed.latency_ms(50):.0f} ms, p99 {noticed.latency_ms(99):.0f} ms"
    )
    return noticed


async def _latencies_ms(
    settings: Settings, ordinary: _Ordinary, options: argparse.Namespace
) -> list[float]:
    """From the producer to the published event, at a steady rate whatever the worker does."""
    sent_at: dict[str, float] = {}
    latencies_ms: list[float] = []
    topic = topics_of(settings).commands
    producer = AIOKafkaProducer(**client_options(settings), acks="all")
    async with _reading_events(settings, sent_at, latencies_ms), producer:
        begun = time.monotonic()
        while (elapsed := time.monotonic() - begun) < options.seconds:
            for _ in range(int(elapsed * options.rate) - len(sent_at)):
                command_id, (key, value) = ordinary.next()
                sent_at[command_id] = time.monotonic()
                partition = partition_of(key, settings.partitions)
                await producer.send(topic, key=key, value=value, partition=partition)
            await asyncio.sleep(_TICK_SECONDS)
        try:
            async with asyncio.timeout(_LATE_SECONDS_MAX):
                while len(latencies_ms) < len(sent_at):  # noqa: ASYNC110 - a reader fills it
                    await asyncio.sleep(_TICK_SECONDS)
        except TimeoutError:
            missing = len(sent_at) - len(latencies_ms)
            raise BenchmarkError(f"{missing} commands had no event in time") from None
    return latencies_ms


@asynccontextmanager
async def _reading_events(
    settings: Settings, sent_at: dict[str, float], latencies_ms: list[float]
) -> AsyncIterator[None]:
    consumer = AIOKafkaConsumer(
        **client_options(settings),
        group_id=None,
        isolation_level="read_committed",
        enable_auto_commit=False,
        fetch_max_wait_ms=5,
    )
    topic = topics_of(settings).events
    partitions = [TopicPartition(topic, number) for number in range(settings.partitions)]

    async def read() -> None:
        async for record in consumer:
            if dict(record.headers)["ce_type"].startswith(b"cards.expire."):
                continue
            command_id = orjson.loads(record.value)["commandId"]
            latencies_ms.append((time.monotonic() - sent_at[command_id]) * 1000)

    async with consumer:
        consumer.assign(partitions)
        await consumer.seek_to_end(*partitions)
        for partition in partitions:
            await consumer.position(partition)
        reading = asyncio.create_task(read())
        try:
            yield
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading


async def _backlog_per_second(settings: Settings, ordinary: _Ordinary, commands: int) -> float:
    """How fast so many are taken that come at once; what lies among them is taken as well."""
    begun = time.monotonic()
    await fill(settings, [ordinary.next()[1] for _ in range(commands)], foreign=False)
    ends = await _command_ends(settings)
    connection = await asyncpg.connect(required(settings, "database_url"))
    try:
        async with asyncio.timeout(_STUCK_SECONDS):
            while not await _are_taken(connection, ends):  # noqa: ASYNC110 - asked for
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        raise BenchmarkError(f"a backlog of {commands} is not taken in time") from None
    finally:
        await connection.close()
    return commands / (time.monotonic() - begun)


async def _command_ends(settings: Settings) -> dict[int, int]:
    topic = topics_of(settings).commands
    partitions = [TopicPartition(topic, number) for number in range(settings.partitions)]
    async with AIOKafkaConsumer(**client_options(settings)) as consumer:
        ends = await consumer.end_offsets(partitions)
    return {tp.partition: end for tp, end in ends.items()}


async def _are_taken(connection: asyncpg.Connection, ends: dict[int, int]) -> bool:
    rows = await connection.fetch(
        "SELECT partition, next_offset FROM lane_in WHERE source = 'commands'"
    )
    taken = dict(rows)
    return all(taken.get(partition, 0) >= end for partition, end in ends.items())


async def _timers_left(settings: Settings) -> int:
    return int(
        await query(settings, "SELECT count(*) FROM timer WHERE command_id = 'EXPIRE:0126:1'")
    )


@dataclass(slots=True)
class Drained:
    """How long all timers took, and how long each look for the next of them."""

    seconds: float
    claims_ms: list[float]


async def _drain_timers(settings: Settings, begun: float) -> Drained:
    """Wait until the last timer was taken."""
    claims_ms: list[float] = []
    left, moved_at = await _timers_left(settings), time.monotonic()
    connection = await asyncpg.connect(required(settings, "database_url"))
    try:
        while left:
            await asyncio.sleep(_SAMPLE_SECONDS)
            asked = time.monotonic()
            await timers.load_due(connection, _ALL_DUE_MS, _CLAIM_ROWS)
            claims_ms.append((time.monotonic() - asked) * 1000)
            before, left = left, await _timers_left(settings)
            console.print(f"    {left:,} timers left")
            if left < before:
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at > _STUCK_SECONDS:
                raise BenchmarkError(f"{left} timers are left, and none fires")
        while not (await look_at_lanes(connection)).is_published:  # noqa: ASYNC110 - asked for
            await asyncio.sleep(_LOOK_SECONDS)
    finally:
        await connection.close()
    return Drained(time.monotonic() - begun, claims_ms)


async def _problems(settings: Settings, timers_due: int) -> list[str]:
    expired = await query(settings, "SELECT count(*) FROM card WHERE state = 'EXPIRED'")
    fired = await query(
        settings, "SELECT count(*) FROM operation WHERE type LIKE 'cards.expire.successful%'"
    )
    if expired == fired == timers_due:
        return []
    return [f"{timers_due} timers were due: {expired} cards are EXPIRED, by {fired} operations"]


# --- the three phases


async def _run(servers: Servers, options: argparse.Namespace) -> int:
    ordinary = _Ordinary()
    async with ground(servers) as fresh:
        before = fresh.model_copy(update={"environment": "development"})
        await _prepare(before, options.timers)
        midnight = before.model_copy(update={"clock_offset_seconds": 2 * _HOUR_SECONDS})
        phases = []
        async with running_service(before, _WORKER):
            await asyncio.sleep(_SETTLE_SECONDS)
            phases.append(await _notice(before, "before", ordinary, options))
        async with running_service(midnight, _WORKER):
            begun = await _fires(midnight)
            phases.append(await _notice(midnight, "while they are due", ordinary, options))
            drained = await _drain_timers(midnight, begun)
            phases.append(await _notice(midnight, "after the last", ordinary, options))
        problems = await _problems(midnight, options.timers)
    _print(phases, drained, options)
    for problem in problems:
        console.print(problem, style="bold red")
    return 1 if problems else 0


async def _fires(settings: Settings) -> float:
    """Wait until timers fire; when they began to."""
    due = await _timers_left(settings)
    async with asyncio.timeout(_STUCK_SECONDS):
        while await _timers_left(settings) == due:  # noqa: ASYNC110 - asked for
            await asyncio.sleep(_LOOK_SECONDS)
    return time.monotonic()


def _print(phases: Sequence[Noticed], drained: Drained, options: argparse.Namespace) -> None:
    table = Table(
        title=f"Other commands, {options.rate} a second, then {options.backlog:,} at once",
        box=box.SIMPLE_HEAD,
    )
    for column in ("", "p50 ms", "p99 ms", "most ms", "backlog per s", "timers per s"):
        table.add_column(column, justify="right", no_wrap=True)
    for phase in phases:
        table.add_row(
            phase.phase,
            *(f"{phase.latency_ms(percent):.0f}" for percent in (50, 99)),
            f"{max(phase.latencies_ms):.0f}",
            f"{phase.backlog_per_second:,.0f}",
            f"{phase.timers_per_second:,.0f}",
        )
    console.print(table)
    before, due, after = phases
    # Both, because what disturbs the machine may disturb one of them.
    for other in (before, after):
        console.print(
            f"{due.phase}, to {other.phase}:"
            f" p50 {due.latency_ms(50) / other.latency_ms(50):.1f} times,"
            f" p99 {due.latency_ms(99) / other.latency_ms(99):.1f} times,"
            f" backlog {due.backlog_per_second / other.backlog_per_second:.2f} times."
        )
    console.print(
        f"{options.timers:,} timers fired in {drained.seconds:,.0f} s,"
        f" {options.timers / drained.seconds:,.0f} a second; a look for the next {_CLAIM_ROWS}:"
        f" median {statistics.median(drained.claims_ms):.1f} ms,"
        f" most {max(drained.claims_ms):.1f} ms."
    )


# --- the command line


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.midnight", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--timers", type=int, default=1_000_000, help="that are due at once")
    parser.add_argument("--rate", type=int, default=200, help="other commands a second")
    parser.add_argument("--seconds", type=int, default=20, help="how long they are sent")
    parser.add_argument("--backlog", type=int, default=20_000, help="others that come at once")
    options = parser.parse_args(arguments)
    if min(options.timers, options.rate, options.seconds, options.backlog) < 1:
        parser.error("every number must be at least 1")
    return options


async def _bench(options: argparse.Namespace) -> int:
    settings = load_settings()
    # A topic just created has no leader for a moment, of which aiokafka says every retry.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    async with running_servers(
        kafka_bootstrap_servers=settings.kafka_bootstrap_servers,
        database_url=settings.database_url.get_secret_value() if settings.database_url else None,
        data_dir=settings.local_dir,
        fresh=True,
        report=console.print,
    ) as servers:
        return await _run(servers, options)


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
