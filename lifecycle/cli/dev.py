"""`dev`: everything on this machine, from the servers to the events of a sample day.

With `--once` as a check that ends: new servers, or a topic prefix and a database of its own on the
given ones, and nothing of it is left. Otherwise to work with, until Ctrl-C.
"""

import asyncio
import logging
import os
import secrets
import shlex
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
import typer
from pydantic import SecretStr

from lifecycle.cli.day import (
    Summary,
    disagreements,
    send_day,
    summarised,
    summary_view,
    unexpected,
)
from lifecycle.cli.exits import Exit, Problem, database_address, kafka_addresses, run, working
from lifecycle.cli.rendering import console, event_line
from lifecycle.kafka.records import RawRecord
from lifecycle.kafka.temporary import temporary_topics
from lifecycle.kafka.topics import create_topics, topics_of
from lifecycle.kafka.watching import followed
from lifecycle.local import Servers, running_servers
from lifecycle.postgres import views
from lifecycle.postgres.connection import Pool, open_pool
from lifecycle.postgres.migrate import migrate
from lifecycle.postgres.temporary import temporary_database
from lifecycle.samples import Part, first_operation, last_operation, sample_day
from lifecycle.settings import ENVIRONMENT_PREFIX, Settings, required
from lifecycle.telemetry import configure_logging
from lifecycle.worker.service import run_worker

WORKER_STOP_SECONDS_MAX = 25.0
EVENTS_SHOWN_PER_PART_MAX = 25
"""The rest of a part is only counted, so that a person can read what goes by."""
_QUIET_SECONDS = 0.3
"""After this long without another event, what the database calls published has come by."""
ENVIRONMENT_FILE = "env"
TRY_COMMAND = (
    '{"commandId":"mine-1","command":"SUSPEND","issuerId":"BANK000001","cardId":"card-001"}'
)

Result = TypeVar("Result")


def dev(
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Send the sample day to fresh servers, check, and end.")
    ] = False,
    no_sample: Annotated[
        bool, typer.Option("--no-sample", help="Send no sample day, only run everything.")
    ] = False,
) -> None:
    """Start Kafka, PostgreSQL and a worker, send a sample day, and stay up until Ctrl-C.

    The servers are those of `LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS` and `LIFECYCLE_DATABASE_URL`, else
    of Docker, else they are installed by themselves; their data are kept in `LIFECYCLE_LOCAL_DIR`
    (`.local`). The sample day is sent to a database that is empty, so once.

    `--once` exits 0 only if every command has exactly one outcome, every operation its event, and
    every outcome is what the rule book says.

    Example: `lifecycle dev`

    Example: `lifecycle dev --once`
    """
    if once and no_sample:
        typer.echo("--once sends the sample day, --no-sample does not: give one of them.", err=True)
        raise typer.Exit(Exit.WRONG_USE)
    if once:
        run(_once, fast=True)
    else:
        run(
            lambda settings: _stay(settings, with_sample=not no_sample),
            fast=True,
            on_interrupt=Exit.OK,
        )


def _say(text: str = "") -> None:
    console().print(text, markup=False)


@asynccontextmanager
async def _servers(settings: Settings, *, fresh: bool) -> AsyncIterator[Servers]:
    if settings.kafka_bootstrap_servers is not None:
        kafka_addresses(settings)
    if settings.database_url is not None:
        database_address(settings)
    async with running_servers(
        kafka_bootstrap_servers=settings.kafka_bootstrap_servers,
        database_url=None
        if settings.database_url is None
        else settings.database_url.get_secret_value(),
        data_dir=settings.local_dir,
        fresh=fresh,
        report=_say,
    ) as servers:
        _say(f"{servers.kafka_from}.")
        _say(f"{servers.postgres_from}.")
        yield servers


def _on(servers: Servers, settings: Settings, **changes: object) -> Settings:
    """The settings, on these servers."""
    return settings.model_copy(
        update={
            "kafka_bootstrap_servers": servers.kafka_bootstrap_servers,
            "database_url": SecretStr(servers.database_url),
            **changes,
        }
    )


# --- dev --once


async def _once(settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(_servers(settings, fresh=True))
        name = f"lifecycle-day-{secrets.token_hex(4)}"
        # Also on servers of our own: on given ones, nothing of others may be touched or counted.
        own = _on(servers, settings, topic_prefix=name, consumer_group=name)
        with working(own):
            url = await stack.enter_async_context(
                temporary_database(
                    servers.database_url,
                    name,
                    connect_seconds_max=settings.database_connect_timeout_ms / 1000,
                )
            )
            own = own.model_copy(update={"database_url": SecretStr(url)})
            await asyncio.to_thread(migrate, own)
            await stack.enter_async_context(temporary_topics(own))
            parts = sample_day(own.partitions)
            async with _worker(own) as worker, await open_pool(own) as pool:
                sent = await _or_worker_fails(worker, _whole_day(own, pool, parts))
                summary = await summarised(own, pool)
    _show_summary(summary, sent)
    problems = disagreements(summary, sent) + unexpected(summary.totals, parts)
    if problems:
        raise Problem("\n".join(["The sums do not agree:", *problems]))
    _say("The sums agree.")


async def _whole_day(settings: Settings, pool: Pool, parts: list[Part]) -> int:
    async def went() -> None:
        """Nothing is shown in between."""

    return await send_day(settings, pool, parts, began=_announce, went=went)


def _announce(part: Part) -> None:
    _say(f"Sending {part.name}: {len(part.records)} commands")


def _show_summary(summary: Summary, sent: int | None) -> None:
    _say()
    console().print(summary_view(summary, sent))
    _say()


# --- dev, until Ctrl-C


async def _stay(settings: Settings, *, with_sample: bool) -> None:
    async with _servers(settings, fresh=False) as servers:
        own = _on(servers, settings)
        with working(own):
            before, after = await asyncio.to_thread(migrate, own)
            if before != after:
                _say(f"Database: schema {after}.")
            created = await create_topics(own)
            if created:
                _say(f"Topics: created {', '.join(created)}.")
            environment = _write_environment(own, settings)
            topic = topics_of(own).events
            async with (
                followed(own, topic, from_beginning=False) as records,
                _worker(own) as worker,
                await open_pool(own) as pool,
            ):
                _say("A worker runs.")
                await _or_worker_fails(
                    worker, _show_all(own, pool, records, environment, with_sample=with_sample)
                )


async def _show_all(
    settings: Settings,
    pool: Pool,
    records: AsyncIterator[RawRecord],
    environment: Path | None,
    *,
    with_sample: bool,
) -> None:
    flow = _Flow()
    showing = asyncio.create_task(flow.show(records), name="events")
    try:
        if with_sample:
            await _sample(settings, pool, flow)
        _say(_what_next(environment))
        flow.shown_max = None
        await showing
    finally:
        showing.cancel()
        await asyncio.wait({showing})


async def _sample(settings: Settings, pool: Pool, flow: "_Flow") -> None:
    if await views.knows_operation(pool, *last_operation()):
        _say("The sample day was sent to this database before.")
        return
    begun = await views.knows_operation(pool, *first_operation())
    if not begun and await views.has_operations(pool):
        _say("The database holds other operations: no sample day is sent to it.")
        return

    def began(part: Part) -> None:
        _announce(part)
        flow.begin_part()

    async def went() -> None:
        await flow.end_part()

    sent = await send_day(settings, pool, sample_day(settings.partitions), began=began, went=went)
    _show_summary(await summarised(settings, pool), sent)


class _Flow:
    """The events on the screen: of each part of the day the first ones, later all of them."""

    def __init__(self) -> None:
        self.shown_max: int | None = 0
        self._events = 0

    async def show(self, records: AsyncIterator[RawRecord]) -> None:
        out = console()
        async for record in records:
            self._events += 1
            if self.shown_max is None or self._events <= self.shown_max:
                out.print(event_line(orjson.loads(record.value or b"null")))

    def begin_part(self) -> None:
        self._events = 0
        self.shown_max = EVENTS_SHOWN_PER_PART_MAX

    async def end_part(self) -> None:
        """Wait until what is published has come by; say how much of it was not shown."""
        events_before = -1
        while events_before != self._events:
            events_before = self._events
            await asyncio.sleep(_QUIET_SECONDS)
        not_shown = self._events - (self.shown_max or 0)
        if not_shown > 0:
            _say(f"… and {not_shown} more events")


# --- what both have in common


@asynccontextmanager
async def _worker(settings: Settings) -> AsyncIterator[asyncio.Task[None]]:
    """A worker in this process; stopped in order, within a limit."""
    # On this screen are the events; of the worker only what needs attention, in its own words.
    configure_logging(settings.model_copy(update={"log_format": "console"}))
    logging.getLogger("lifecycle").setLevel(logging.WARNING)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    stop = asyncio.Event()
    worker = asyncio.create_task(run_worker(settings, stop), name="worker")
    try:
        yield worker
    finally:
        stop.set()
        _, late = await asyncio.wait({worker}, timeout=WORKER_STOP_SECONDS_MAX)
        if late:
            worker.cancel()
            await asyncio.wait({worker}, timeout=WORKER_STOP_SECONDS_MAX)


async def _or_worker_fails(worker: asyncio.Task[None], work: Coroutine[Any, Any, Result]) -> Result:
    """`work` to its end, unless the worker ends before it: then its error."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task, worker}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            worker.result()
            raise AssertionError("nobody asked the worker to stop")
        return task.result()
    finally:
        task.cancel()
        await asyncio.wait({task})


# --- what to try next


def _write_environment(own: Settings, settings: Settings) -> Path | None:
    """A file that gives other shells our addresses; None when they have them from the settings."""
    addresses = {
        name: value
        for name, value in (
            ("kafka_bootstrap_servers", required(own, "kafka_bootstrap_servers")),
            ("database_url", required(own, "database_url")),
        )
        if getattr(settings, name) is None
    }
    if not addresses:
        return None
    path = settings.local_dir / ENVIRONMENT_FILE
    lines = [
        f"export {ENVIRONMENT_PREFIX}{name.upper()}={shlex.quote(value)}\n"
        for name, value in addresses.items()
    ]
    # For ourselves alone: the address of the database may hold a password.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write("".join(lines))
    return path


def _what_next(environment: Path | None) -> str:
    program = Path(sys.argv[0])
    command = _for_a_shell(program) if program.name == "lifecycle" else "lifecycle"
    lines = ["Try next, in another shell in this folder:", ""]
    if environment is not None:
        lines.append(f"  . {_for_a_shell(environment)}")
    lines += [
        f"  {command} watch --from-beginning --issuer BANK000001",
        f"  {command} card show BANK000001 card-001",
        f"  {command} operations list BANK000001 card-001",
        f"  {command} dead-letters list",
        f"  echo '{TRY_COMMAND}' | {command} send -",
        "",
        "Everything runs. Events show here as they come; Ctrl-C stops it all.",
    ]
    return "\n".join(lines)


def _for_a_shell(path: Path) -> str:
    """As short as it works from this folder. Without a slash a shell would look on the PATH."""
    absolute, folder = path.absolute(), Path.cwd()
    if not absolute.is_relative_to(folder):
        return shlex.quote(str(absolute))
    shown = str(absolute.relative_to(folder))
    return shlex.quote(shown if "/" in shown else f"./{shown}")
