"""Everything on this machine, from the servers to the events of a sample day: what `dev` does.

`check_once` is a check that ends: new servers, or a topic prefix and a database of its own on the
given ones, and nothing of it is left. `stay_up` is to work with, until it is cancelled.
"""

import asyncio
import logging
import os
import secrets
import shlex
import socket
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeVar

from pydantic import SecretStr

from lifecycle.cli.day import (
    Summary,
    disagreements,
    send_day,
    summarised,
    summary_view,
    unexpected,
)
from lifecycle.cli.exits import Problem, database_address, kafka_addresses
from lifecycle.cli.flow import Flow
from lifecycle.cli.migration import migrated
from lifecycle.cli.rendering import console, show
from lifecycle.cli.worker_process import working
from lifecycle.http.monitoring import listening_socket, monitored
from lifecycle.kafka.temporary import temporary_topics
from lifecycle.kafka.topics import create_topics, topics_of
from lifecycle.kafka.watching import followed
from lifecycle.local import Servers, running_servers
from lifecycle.postgres import views
from lifecycle.postgres.connection import Pool, open_pool
from lifecycle.postgres.roles import Role, ensure_logins
from lifecycle.postgres.temporary import temporary_database
from lifecycle.samples import Part, first_operation, last_operation, sample_day
from lifecycle.samples.outside_parties import answer_requests
from lifecycle.settings import (
    DatabaseField,
    Settings,
    SettingsError,
    owner_field,
    required,
    variable_of,
)
from lifecycle.supervision import EndedUnaskedError, supervised
from lifecycle.telemetry import configure_logging
from lifecycle.vault.keys_file import DEVELOPMENT_FILE, ensure_file
from lifecycle.worker.readiness import Readiness
from lifecycle.worker.service import run_worker

WORKER_STOP_SECONDS_MAX = 25.0
ENVIRONMENT_FILE = "env"
REQUEST_MS_MAX = 60_000
"""A broker that has only just started, on a machine that does other things too, takes its time."""
LOGIN_PASSWORD_BYTES = 24
METRICS_PORT = 9464
"""Where OpenTelemetry's exporter for Prometheus serves unless it is told otherwise."""
TRY_COMMAND = (
    '{"commandId":"mine-1","command":"SUSPEND","issuerId":"BANK000001","cardId":"card-001"}'
)
TRY_NUMBER = '{"pan":"4000000000000002","exp":"1249"}'
TRY_REGISTER = (
    '{"commandId":"mine-2","command":"REGISTER","issuerId":"BANK000001","cardId":"mine",'
    '"consumerId":"me","cardProductId":"managed-physical","encryptedData":"\'$number\'"}'
)

_ADDRESSES: tuple[Literal["kafka_bootstrap_servers", "keys_file"] | DatabaseField, ...] = (
    "kafka_bootstrap_servers",
    "database_url",
    "database_owner_url",
    "keys_file",
)
"""What the file for other shells may hold."""

Result = TypeVar("Result")


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


def _on(servers: Servers, settings: Settings, keys_file: Path, **changes: object) -> Settings:
    """The settings, on these servers, with keys of their own unless some are set.

    What is started here is for trying out, whatever the environment: it speaks to nobody outside.
    """
    if settings.keys_file is None:
        ensure_file(keys_file)
    if settings.database_url is None:
        # An owner's address, if one is set, is that of another database.
        changes["database_owner_url"] = None
    return settings.model_copy(
        update={
            "environment": "development",
            "kafka_bootstrap_servers": servers.kafka_bootstrap_servers,
            "database_url": SecretStr(servers.database_url),
            "keys_file": settings.keys_file or keys_file,
            "kafka_request_timeout_ms": max(settings.kafka_request_timeout_ms, REQUEST_MS_MAX),
            **changes,
        }
    )


# --- dev --once


async def check_once(settings: Settings) -> None:
    """Send the sample day to what is fresh, print the sums.

    Raises:
        Problem: they do not agree, or the day was not through in time.
        TopicsError, SchemaError, LocalServerError: something could not be set up.
    """
    settings = _without_own_addresses(settings)
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(_servers(settings, fresh=True))
        name = f"lifecycle-day-{secrets.token_hex(4)}"
        # Also on servers of our own: on given ones, nothing of others may be touched or counted.
        folder = Path(stack.enter_context(TemporaryDirectory()))
        own = _on(
            servers,
            settings,
            folder / DEVELOPMENT_FILE,
            topic_prefix=name,
            consumer_group=name,
        )
        with working(own):
            url = await stack.enter_async_context(
                temporary_database(
                    required(own, owner_field(own)),
                    name,
                    connect_seconds_max=settings.database_connect_timeout_ms / 1000,
                )
            )
            # On a given server that one login does everything in its database.
            own = own.model_copy(
                update={"database_url": SecretStr(url), "database_owner_url": None}
            )
            _, _, own = await _migrated(own, settings)
            await stack.enter_async_context(temporary_topics(own))
            parts = sample_day(own.partitions)
            async with (
                _worker(own) as worker,
                await open_pool(own) as pool,
                _outside_parties(own),
            ):
                sent = await _unless_ended({worker}, _whole_day(own, pool, parts))
                summary = await summarised(own, pool)
    _show_summary(summary)
    problems = disagreements(summary, sent) + unexpected(summary.totals, parts)
    if problems:
        raise Problem("\n".join(["The sums do not agree:", *problems]))
    _say("The sums agree.")


async def _whole_day(settings: Settings, pool: Pool, parts: list[Part]) -> int:
    async def went(_: Part) -> None:
        """Nothing is shown in between."""

    return await send_day(settings, pool, parts, began=_announce, went=went)


def _announce(part: Part) -> None:
    _say()
    _say(f"Sending {part.name}: {len(part.records)} commands")


def _show_summary(summary: Summary) -> None:
    _say()
    show(summary_view(summary))
    _say()


# --- dev, until Ctrl-C


async def stay_up(settings: Settings, *, with_sample: bool) -> None:
    """Run everything and show the events, until cancelled; then stop all that was started.

    Raises:
        Problem: a server or the worker failed.
        TopicsError, SchemaError, LocalServerError: something could not be set up.
    """
    settings = _without_own_addresses(settings)
    async with _servers(settings, fresh=False) as servers:
        own = _on(servers, settings, settings.local_dir / DEVELOPMENT_FILE)
        with working(own):
            before, after, own = await _migrated(own, settings)
            if before != after:
                _say(f"Database: schema {after}.")
            created = await create_topics(own)
            if created:
                _say(f"Topics: created {', '.join(created)}.")
            environment = _write_environment(own, settings)
            topic = topics_of(own).events
            readiness = Readiness()
            failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def fail(error: BaseException) -> None:
                if not failure.done():
                    failure.set_exception(error)

            async with (
                monitored(_metrics_socket(own), readiness, fail) as url,
                followed(own, topic, from_beginning=False) as records,
                _worker(own, readiness) as worker,
                await open_pool(own) as pool,
                _outside_parties(own),
            ):
                _say("A worker runs; the outside parties are simulated.")
                _say(f"Its metrics: {url}/metrics, how it is: {url}/readyz.")
                flow = Flow()
                showing = supervised(flow.show(records), "events", fail)
                try:
                    await _unless_ended(
                        {worker, failure},
                        _stay(own, pool, flow, environment, with_sample=with_sample),
                    )
                finally:
                    showing.cancel()
                    await asyncio.wait({showing})


async def _stay(
    settings: Settings, pool: Pool, flow: Flow, environment: Path | None, *, with_sample: bool
) -> None:
    if with_sample:
        await _sample(settings, pool, flow)
    _say(_what_next(environment))
    flow.go_live()
    await asyncio.Event().wait()  # until cancelled


async def _sample(settings: Settings, pool: Pool, flow: Flow) -> None:
    if await views.knows_operation(pool, *last_operation()):
        _say("The sample day was sent to this database before.")
        return
    begun = await views.knows_operation(pool, *first_operation())
    if not begun and await views.has_operations(pool):
        _say("The database holds other operations: no sample day is sent to it.")
        return

    await send_day(settings, pool, sample_day(settings.partitions), began=_announce, went=flow.tell)
    _show_summary(await summarised(settings, pool))


def _metrics_socket(settings: Settings) -> socket.socket:
    """On the port of the settings, else on dev's own or, if that is taken, on any."""
    if settings.metrics_port is not None:
        return listening_socket(settings, settings.metrics_port)
    try:
        return listening_socket(settings, METRICS_PORT)
    except SettingsError:
        # Nobody asked for this port; another `dev` has it.
        return listening_socket(settings, 0)


# --- what both have in common


async def _migrated(own: Settings, settings: Settings) -> tuple[str | None, str | None, Settings]:
    """Bring the schema to the newest revision: before, after, and the settings to go on with.

    On a server of our own each role has a login, and the worker that of the worker. On a given one
    no role is created, since roles belong to the whole server.
    """
    if settings.database_url is not None:
        return *await migrated(own), own
    revisions = await migrated(own, with_roles=True)
    logins = await asyncio.to_thread(
        ensure_logins,
        required(own, "database_url"),
        own.database_role_prefix,
        secrets.token_urlsafe(LOGIN_PASSWORD_BYTES),
    )
    return *revisions, own.model_copy(
        update={
            "database_url": SecretStr(logins[Role.WORKER]),
            "database_owner_url": SecretStr(logins[Role.OWNER]),
        }
    )


@asynccontextmanager
async def _worker(
    settings: Settings, readiness: Readiness | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    """A worker in this process; stopped in order, within a limit."""
    # On this screen are the events; of the worker only what needs attention, in its own words.
    configure_logging(settings.model_copy(update={"log_format": "console"}))
    logging.getLogger("lifecycle").setLevel(logging.WARNING)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    stop = asyncio.Event()
    worker = asyncio.create_task(run_worker(settings, stop, readiness), name="worker")
    try:
        yield worker
    finally:
        stop.set()
        _, late = await asyncio.wait({worker}, timeout=WORKER_STOP_SECONDS_MAX)
        if late:
            worker.cancel()
            await asyncio.wait({worker}, timeout=WORKER_STOP_SECONDS_MAX)


@asynccontextmanager
async def _outside_parties(settings: Settings) -> AsyncIterator[None]:
    """Who answers requests here; without answers they time out, so its end is only told."""

    def tell(ended: asyncio.Task[None]) -> None:
        if not ended.cancelled() and ended.exception() is not None:
            _say(f"The simulated outside parties stopped: {ended.exception()!r}")

    answering = asyncio.create_task(answer_requests(settings), name="outside-parties")
    answering.add_done_callback(tell)
    try:
        yield
    finally:
        answering.cancel()
        await asyncio.wait({answering}, timeout=WORKER_STOP_SECONDS_MAX)


async def _unless_ended(
    others: set[asyncio.Future[None]], work: Coroutine[Any, Any, Result]
) -> Result:
    """`work` to its end, unless one of `others` ends before it: then its error."""
    task = asyncio.ensure_future(work)
    try:
        waited: set[asyncio.Future[Any]] = {task, *others}
        done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if task not in done:
            done.pop().result()
            raise EndedUnaskedError("the worker has ended, and was not asked to")
        return task.result()
    finally:
        task.cancel()
        await asyncio.wait({task})


# --- what to try next


def _without_own_addresses(settings: Settings) -> Settings:
    """The settings, but for what this shell has from the file that `dev` wrote for other shells.

    The servers that it names are dev's own. They are not given ones, which would have to run.
    """
    path = settings.local_dir / ENVIRONMENT_FILE
    if not path.exists():
        return settings
    written = dict(word.split("=", 1) for word in shlex.split(path.read_text()) if "=" in word)
    own = [
        name
        for name in _ADDRESSES
        if getattr(settings, name) is not None
        and written.get(variable_of(name)) == required(settings, name)
    ]
    if not own:
        return settings
    _say(f"This shell has its addresses from {path}: they are those of dev's own servers.")
    return settings.model_copy(update=dict.fromkeys(own))


def _write_environment(own: Settings, settings: Settings) -> Path | None:
    """A file that gives other shells our addresses; None when they have them from the settings."""
    addresses = {
        name: value
        for name, value in (
            ("kafka_bootstrap_servers", required(own, "kafka_bootstrap_servers")),
            ("database_url", required(own, "database_url")),
            ("keys_file", str(Path(required(own, "keys_file")).absolute())),
        )
        if getattr(settings, name) is None
    }
    if settings.database_url is None:
        addresses["database_owner_url"] = required(own, "database_owner_url")
    if not addresses:
        return None
    # As for the worker here: who speaks to servers of this machine is not in production.
    addresses["environment"] = own.environment
    path = settings.local_dir / ENVIRONMENT_FILE
    lines = [
        f"export {variable_of(name)}={shlex.quote(value)}\n" for name, value in addresses.items()
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
        f"  number=$(echo '{TRY_NUMBER}' | {command} encrypt)",
        f"  echo '{TRY_REGISTER}' | {command} send -",
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
