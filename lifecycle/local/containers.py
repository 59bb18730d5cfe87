"""Kafka and PostgreSQL in Docker containers, through testcontainers.

Relies on a Docker engine that answers. Each container is held by a process of its own, under a
keeper like every server: pulling an image can be given up at any moment, and what a killed owner
leaves is stopped by the keeper, or at the latest by testcontainers' own reaper.
"""

import asyncio
import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from lifecycle.local.kafka_server import BROKER_SETTINGS, STARTED_LINE
from lifecycle.local.postgres_server import DATABASE, PASSWORD_BYTES, SERVER_SETTINGS, USER
from lifecycle.local.waiting import THIS_ROOM, Kept, Launch, kept, progress, until_ready

DOCKER_PING_SECONDS_MAX = 3
CONTAINER_START_SECONDS_MAX = 600.0
"""The first start pulls the image."""
SERVER_START_SECONDS_MAX = 120
"""From the start of the container until it serves."""

POSTGRES_IMAGE = "postgres:18"
POSTGRES_DATA = "/var/lib/postgresql"
KAFKA_DATA = "/var/lib/kafka/data"
PASSWORD_VARIABLE = "LIFECYCLE_LOCAL_CONTAINER_PASSWORD"  # noqa: S105 a name, no password
NOT_FOR_CONTAINERS = {"listen_addresses", "unix_socket_directories"}
"""The image listens inside its own network, and initialises itself over its socket."""


async def why_no_docker() -> str | None:
    """None if a Docker engine answers, else why not, in half a sentence."""
    try:
        await asyncio.wait_for(asyncio.to_thread(ping_docker), 2 * DOCKER_PING_SECONDS_MAX)
    except TimeoutError:
        return "the Docker engine does not answer in time"
    # Whatever goes wrong here, there is no Docker to use: it is told, and the next choice taken.
    except Exception as error:  # noqa: BLE001
        return f"no Docker engine answers ({type(error).__name__})"
    return None


def ping_docker() -> None:
    """Ask the engine for a sign of life."""
    from testcontainers.core.docker_client import DockerClient  # noqa: PLC0415 slow, seldom used

    client = DockerClient(timeout=DOCKER_PING_SECONDS_MAX).client
    try:
        client.ping()
    finally:
        client.close()


@asynccontextmanager
async def running_container(
    kind: str, folder: Path, launch: Launch, report: Callable[[str], None]
) -> AsyncIterator[tuple[Kept, str, str]]:
    """Start the container of `kafka` or `postgres`.

    Its data are in a named volume of the engine that `folder` remembers; without, they go with
    the container.

    Yields:
        The process that holds it, where it is reached (host:port or a URL), and what it is.

    Raises:
        LocalServerError: it did not come up.

    """
    folder.mkdir(exist_ok=True)
    is_throw_away = bool(launch.remove_at_end)
    address_file = folder / "address.json"
    address_file.unlink(missing_ok=True)
    volume = () if is_throw_away else ("--volume", remembered(folder / "volume", kind))
    launch = replace(
        launch,
        name=f"{kind.capitalize()} in Docker",
        folder=folder,
        command=(*THIS_ROOM, "hold", kind, str(address_file), *volume),
        environment={PASSWORD_VARIABLE: remembered(folder / "password", "")},
    )

    async def is_ready() -> bool:
        return address_file.exists()

    async with kept(launch) as process:
        async with progress(report, f"Starting {launch.name} (the first time pulls its image)"):
            await until_ready(process, is_ready, CONTAINER_START_SECONDS_MAX)
        address = json.loads(address_file.read_text())
        yield process, address["address"], f"the image {address['image']} in Docker"


def remembered(path: Path, prefix: str) -> str:
    """A random word that starts with the prefix, the same on each run; for us alone to read."""
    try:
        return path.read_text()
    except FileNotFoundError:
        word = "-".join(filter(None, ("card-lifecycle", prefix, secrets.token_hex(PASSWORD_BYTES))))
        unfinished = path.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        unfinished.touch(mode=0o600)
        unfinished.write_text(word)
        unfinished.rename(path)
        return word


def hold_kafka(volume: str | None, tell: Callable[[str, str], None]) -> None:
    """Run the Kafka container until a signal ends this process."""
    from testcontainers.community.kafka import KafkaContainer  # noqa: PLC0415 slow, seldom used

    container = KafkaContainer().with_kraft()
    for name, value in BROKER_SETTINGS.items():
        container = container.with_env(f"KAFKA_{name.upper().replace('.', '_')}", value)
    if volume is not None:
        container = container.with_volume_mapping(volume, KAFKA_DATA, mode="rw")
    try:
        container.start(timeout=SERVER_START_SECONDS_MAX)
        assert STARTED_LINE.decode() in container.wait_for.pattern
        tell(container.get_bootstrap_server(), container.image)
        signal.pause()
    finally:
        container.stop()


def hold_postgres(volume: str | None, tell: Callable[[str, str], None]) -> None:
    """Run the PostgreSQL container until a signal ends this process."""
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415 the same

    password = os.environ[PASSWORD_VARIABLE]
    container = PostgresContainer(
        POSTGRES_IMAGE, username=USER, password=password, dbname=DATABASE, driver=None
    )
    settings = {k: v for k, v in SERVER_SETTINGS.items() if k not in NOT_FOR_CONTAINERS}
    container = container.with_command(
        ["postgres", *(option for item in settings.items() for option in ("-c", "=".join(item)))]
    )
    if volume is not None:
        container = container.with_volume_mapping(volume, POSTGRES_DATA, mode="rw")
    try:
        container.start()
        host = container.get_container_host_ip()
        port = container.get_exposed_port(container.port)
        tell(f"postgresql://{USER}:{quote(password)}@{host}:{port}/{DATABASE}", container.image)
        signal.pause()
    finally:
        container.stop()


def hold(kind: str, address_file: Path, volume: str | None) -> None:
    """Run one container until a signal ends this process; say where it is in the file."""
    # The keeper's signal unwinds through the container's own stop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

    def tell(address: str, image: str) -> None:
        unfinished = address_file.with_suffix(".unfinished")
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps({"address": address, "image": image}))
        unfinished.rename(address_file)

    (hold_kafka if kind == "kafka" else hold_postgres)(volume, tell)
