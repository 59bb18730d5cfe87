"""The folder where the local servers keep their data: who may use it, and its ports.

Relies on flock(2). Two locks: `owner.lock` is held by the one process that uses the folder and
goes with it; `servers.lock` is handed to the keepers too, so it is free only when the servers of
an owner that was killed have ended.
"""

import asyncio
import errno
import fcntl
import json
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from lifecycle.local.waiting import (
    KEEPER_STOP_SECONDS_MAX,
    READY_POLL_SECONDS,
    LocalServerError,
    progress,
)

LOOPBACK = "127.0.0.1"
PORTS = range(20_000, 30_000)
"""Below the range from which systems take the ports of outgoing connections, so that a chosen
port is still free when its server comes up."""
PORT_TRIES_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Ports:
    """The loopback ports of the local servers."""

    kafka: int
    kafka_controller: int
    postgres: int


@dataclass(frozen=True, slots=True)
class HeldFolder:
    """A folder that nobody else uses while we do."""

    path: Path
    servers_lock: int
    """File descriptor for the keepers to hold."""


@asynccontextmanager
async def held_folder(path: Path, report: Callable[[str], None]) -> AsyncIterator[HeldFolder]:
    """Make the folder if need be and hold it for us alone.

    Raises:
        LocalServerError: another process uses it, or it belongs to another user.

    """
    path = path.absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LocalServerError(
            f"The folder {path} for the data of the local servers cannot be made: {error}."
            " Choose another with LIFECYCLE_LOCAL_DIR."
        ) from error
    owner = path.stat().st_uid
    if os.geteuid() not in (0, owner):
        raise LocalServerError(
            f"The folder {path} belongs to the user with the id {owner}: run as that user,"
            " or choose another folder with LIFECYCLE_LOCAL_DIR."
        )
    with (path / "owner.lock").open("a+") as owner_file, (path / "servers.lock").open("a") as lock:
        if not _locked(owner_file.fileno()):
            owner_file.seek(0)
            raise LocalServerError(
                f"The folder {path} is in use by process {owner_file.read().strip() or '?'}:"
                " stop that one, or choose another folder with LIFECYCLE_LOCAL_DIR."
            )
        owner_file.truncate(0)
        owner_file.write(str(os.getpid()))
        owner_file.flush()
        async with progress(report, "Waiting for the servers of an earlier run to stop"):
            await _locked_in_time(lock.fileno(), path)
        yield HeldFolder(path, lock.fileno())


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return False
    return True


async def _locked_in_time(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + KEEPER_STOP_SECONDS_MAX
    while not _locked(descriptor):
        if time.monotonic() > deadline:
            raise LocalServerError(
                f"Servers of an earlier run still use the folder {path} after"
                f" {KEEPER_STOP_SECONDS_MAX:.0f} s: end them (`ps -ef | grep {path}`), or choose"
                " another folder with LIFECYCLE_LOCAL_DIR."
            )
        await asyncio.sleep(READY_POLL_SECONDS)


def chosen_ports(folder: Path) -> Ports:
    """The ports of the last run, each replaced if someone else has taken it meanwhile."""
    remembered_in = folder / "ports.json"
    try:
        remembered = json.loads(remembered_in.read_text())
    except (FileNotFoundError, ValueError):  # The first run, or one that died while it wrote.
        remembered = {}
    if not isinstance(remembered, dict):
        remembered = {}
    taken: set[int] = set()
    for field in fields(Ports):
        port = remembered.get(field.name)
        if not isinstance(port, int) or port not in PORTS or port in taken or not is_free(port):
            port = free_port(taken)
        remembered[field.name] = port
        taken.add(port)
    ports = Ports(**{field.name: remembered[field.name] for field in fields(Ports)})
    remembered_in.write_text(json.dumps(asdict(ports)))
    return ports


def free_port(taken: set[int]) -> int:
    """A port of ours that is free now and not among the taken ones."""
    for _ in range(PORT_TRIES_MAX):
        # Drawn, so that several runs that start together hardly ever draw the same.
        port = random.choice(PORTS)  # noqa: S311 no secret
        if port not in taken and is_free(port):
            return port
    raise LocalServerError(
        f"No free port on {LOOPBACK} between {PORTS.start} and {PORTS.stop - 1}"
        f" in {PORT_TRIES_MAX} tries."
    )


def is_free(port: int) -> bool:
    """Whether a server could listen on the loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do: a connection of the last run in TIME_WAIT is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            return False
    return True
