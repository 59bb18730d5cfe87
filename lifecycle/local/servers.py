"""Which Kafka and which PostgreSQL to use, and how both come and go together (design.md 10).

Relies on the rooms beside it for each way to get one. What the settings give is used as it is and
never touched.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lifecycle.local.containers import running_container, why_no_docker
from lifecycle.local.folder import LOOPBACK, HeldFolder, Ports, chosen_ports, free_port, held_folder
from lifecycle.local.kafka_server import running_kafka
from lifecycle.local.postgres_server import running_postgres
from lifecycle.local.waiting import Kept, Launch, LocalServerError


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the two servers are, and which they are, in a sentence for people."""

    kafka_bootstrap_servers: str
    database_url: str = field(repr=False)  # It may hold a password.
    kafka_from: str
    postgres_from: str


@dataclass(frozen=True, slots=True)
class Found:
    """One of the two."""

    address: str
    origin: str
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """What the servers of one run have in common."""

    folder: HeldFolder | None
    """None: throw-away servers."""
    ports: Ports
    no_docker: str | None
    report: Callable[[str], None]


@asynccontextmanager
async def running_servers(
    *,
    kafka_bootstrap_servers: str | None,
    database_url: str | None,
    data_dir: Path,
    fresh: bool = False,
    report: Callable[[str], None],
) -> AsyncIterator[Servers]:
    """Provide Kafka and PostgreSQL, and stop what was started.

    Args:
        kafka_bootstrap_servers: the setting; given, that Kafka is used.
        database_url: the setting; given, that PostgreSQL is used.
        data_dir: keeps the data of servers of our own from run to run.
        fresh: servers of our own are new and empty, and nothing of them is kept.
        report: told in a sentence what takes longer than a second.

    Raises:
        LocalServerError: a server did not come up, or the folder is in use.

    """
    async with AsyncExitStack() as stack:
        if kafka_bootstrap_servers is not None and database_url is not None:
            place = None
        else:
            place = await stack.enter_async_context(_place(data_dir, fresh=fresh, report=report))
        try:
            async with asyncio.TaskGroup() as group:
                # In parallel. Each that came up is on the stack, also if the other fails.
                kafka = group.create_task(
                    stack.enter_async_context(_kafka(kafka_bootstrap_servers, place))
                )
                postgres = group.create_task(
                    stack.enter_async_context(_postgres(database_url, place))
                )
        # Not `except*`: what that raises is a group again on some Pythons 3.11.
        except BaseExceptionGroup as errors:
            expected, unexpected = errors.split(LocalServerError)
            if expected is None or unexpected is not None:
                raise
            raise LocalServerError(_messages(expected)) from None
        for found in (kafka.result(), postgres.result()):
            if found.kept is not None:
                # Leaving the stack begins with these: both stop at the same time.
                stack.callback(found.kept.request_stop)
        yield Servers(
            kafka_bootstrap_servers=kafka.result().address,
            database_url=postgres.result().address,
            kafka_from=kafka.result().origin,
            postgres_from=postgres.result().origin,
        )


def _messages(errors: BaseExceptionGroup[LocalServerError]) -> str:
    return "\n".join(
        _messages(error) if isinstance(error, BaseExceptionGroup) else str(error)
        for error in errors.exceptions
    )


@asynccontextmanager
async def _place(
    data_dir: Path, *, fresh: bool, report: Callable[[str], None]
) -> AsyncIterator[Place]:
    no_docker = await why_no_docker()
    if fresh:
        taken: set[int] = set()
        for _ in range(3):
            taken.add(free_port(taken))
        yield Place(None, Ports(*taken), no_docker, report)
        return
    async with held_folder(data_dir, report) as folder:
        yield Place(folder, chosen_ports(folder.path), no_docker, report)


@asynccontextmanager
async def _launch(place: Place, name: str) -> AsyncIterator[tuple[Path, Launch]]:
    """The folder of one server, and what all its processes have in common."""
    if place.folder is not None:
        folder = place.folder.path
        log = folder / f"{name}.log"
        yield folder / name, Launch(name, (), log, folder, held_file=place.folder.servers_lock)
        return
    folder = Path(tempfile.mkdtemp(prefix=f"lifecycle-{name}-"))
    if os.geteuid() == 0:
        # PostgreSQL, which then runs as another user, must be able to pass.
        folder.chmod(0o711)
    try:
        yield (
            folder / name,
            Launch(name, (), folder / f"{name}.log", folder, remove_at_end=(folder,)),
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def _kafka(setting: str | None, place: Place | None) -> AsyncIterator[Found]:
    if setting is not None:
        yield Found(
            setting, f"Kafka at {setting}, because LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS says so"
        )
        return
    assert place is not None
    unset = "LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS is not set"
    async with _launch(place, "kafka") as (home, launch):
        if place.no_docker is None:
            async with running_container("kafka", _beside(home), launch, place.report) as started:
                process, address, what = started
                yield Found(address, f"Kafka is {what}, because {unset}", process)
            return
        async with running_kafka(home, place.ports, launch, place.report) as (process, what):
            yield Found(
                f"{LOOPBACK}:{place.ports.kafka}",
                f"Kafka is {what}, because {unset} and {place.no_docker}",
                process,
            )


@asynccontextmanager
async def _postgres(setting: str | None, place: Place | None) -> AsyncIterator[Found]:
    if setting is not None:
        # Without the address: it may hold a password.
        yield Found(setting, "PostgreSQL is the one that LIFECYCLE_DATABASE_URL names")
        return
    assert place is not None
    unset = "LIFECYCLE_DATABASE_URL is not set"
    async with _launch(place, "postgres") as (home, launch):
        if place.no_docker is None:
            async with running_container(
                "postgres", _beside(home), launch, place.report
            ) as started:
                process, address, what = started
                yield Found(address, f"PostgreSQL is {what}, because {unset}", process)
            return
        async with running_postgres(home, place.ports, launch, place.report) as started:
            process, address, what = started
            yield Found(
                address,
                f"PostgreSQL is {what}, because {unset} and {place.no_docker}",
                process,
            )


def _beside(home: Path) -> Path:
    """The folder of a server in Docker: its data are others than those of the server without."""
    return home.with_name(f"{home.name}-docker")
