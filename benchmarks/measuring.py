"""Runs a service as a process of its own until it has drained its topic, and measures that.

Time is the database's clock, from the first recorded batch to the sight of the last publication;
CPU time is the operating system's, of the same span.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import asyncpg
import psutil
from aiokafka.admin import AIOKafkaAdminClient
from pydantic import SecretStr

from lifecycle.kafka.clients import client_options
from lifecycle.settings import ENVIRONMENT_PREFIX, Settings, required

_LOOK_SECONDS = 0.05
_STUCK_SECONDS = 60.0
_STOP_SECONDS_MAX = 30.0
_LOG_CHARACTERS_SHOWN = 4_000
# How our own servers show among our descendants (design.md 10).
_SERVERS = {"java": "broker", "postgres": "database"}


class BenchmarkError(Exception):
    """A service did not do its work; the message says what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """`taken` counts commands from the first one ever sent. `database_time` is when it was so."""

    taken: int
    is_published: bool
    database_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What it took. `cpu_seconds` by process: worker, and broker and database where ours."""

    commands: int
    seconds: float
    cpu_seconds: dict[str, float]

    @property
    def commands_per_second(self) -> float:
        """The rate."""
        return self.commands / self.seconds

    def cpu_seconds_per_1000(self, process: str) -> float | None:
        """CPU seconds for 1,000 commands; None for a server that is not ours."""
        spent = self.cpu_seconds.get(process)
        return None if spent is None else spent / self.commands * 1000


Look = Callable[[asyncpg.Connection], Awaitable[Progress]]


async def drain(
    settings: Settings, command: Sequence[str], look: Look, *, before: int, commands: int
) -> Drained:
    """Start a service, wait until it took `commands` more than `before`, and stop it.

    Raises:
        BenchmarkError: it ended, or stood still for a minute.
    """
    connection = await asyncpg.connect(required(settings, "database_url"))
    try:
        begun: datetime = await connection.fetchval("SELECT clock_timestamp()")
        async with running_service(settings, command) as process:
            cpu_before, cpu_after, ended = await _watch(
                process, lambda: look(connection), before=before, target=before + commands
            )
        first: datetime = await connection.fetchval(
            "SELECT min(recorded_at) FROM operation WHERE recorded_at >= $1", begun
        )
    finally:
        await connection.close()
    return Drained(
        commands=commands,
        seconds=(ended - first).total_seconds(),
        cpu_seconds={
            name: cpu_after[name] - cpu_before[name] for name in cpu_after if name in cpu_before
        },
    )


async def _watch(
    process: psutil.Popen, look: Callable[[], Awaitable[Progress]], *, before: int, target: int
) -> tuple[dict[str, float], dict[str, float], datetime]:
    """CPU times right before the first command was taken and after the last, and when that was."""
    servers = _own_servers()
    cpu_before = _cpu_seconds(process, servers)
    taken, moved_at = before, time.monotonic()
    while True:
        progress = await look()
        if progress.taken >= target and progress.is_published:
            return cpu_before, _cpu_seconds(process, servers), progress.database_time
        if progress.taken == before:
            cpu_before = _cpu_seconds(process, servers)
        if progress.taken != taken:
            taken, moved_at = progress.taken, time.monotonic()
        if process.poll() is not None:
            raise BenchmarkError(f"the service ended with {process.returncode}")
        if time.monotonic() - moved_at > _STUCK_SECONDS:
            raise BenchmarkError(f"{taken} of {target} taken, and nothing for {_STUCK_SECONDS} s")
        await asyncio.sleep(_LOOK_SECONDS)


@asynccontextmanager
async def running_service(
    settings: Settings, command: Sequence[str]
) -> AsyncIterator[psutil.Popen]:
    """A service as a process of its own, stopped in order at the end.

    Raises:
        BenchmarkError: it did not end, or the body raised one; with what the service said.
    """
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)
    }
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        shown = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        environment[f"{ENVIRONMENT_PREFIX}{name.upper()}"] = shown
    with tempfile.NamedTemporaryFile(prefix="benchmark-", suffix=".log") as log:
        process = psutil.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield process
            process.terminate()
            await asyncio.to_thread(process.wait, _STOP_SECONDS_MAX)
        except (BenchmarkError, psutil.TimeoutExpired) as error:
            said = Path(log.name).read_text()[-_LOG_CHARACTERS_SHOWN:]  # noqa: ASYNC240 - at the end
            raise BenchmarkError(f"{' '.join(command)}: {error}. It said:\n{said}") from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _own_servers() -> dict[str, list[psutil.Process]]:
    """The processes of servers that run below this one; none when the settings name others."""
    found: dict[str, list[psutil.Process]] = {}
    for child in psutil.Process().children(recursive=True):
        name = _SERVERS.get(child.name())
        if name is not None:
            found.setdefault(name, []).append(child)
    return found


def _cpu_seconds(
    worker: psutil.Popen, servers: dict[str, list[psutil.Process]]
) -> dict[str, float]:
    spent = {"worker": _spent(worker)}
    for name, processes in servers.items():
        roots = [p for p in processes if p.is_running()]
        spent[name] = sum(_spent_by_tree(root) for root in roots if _is_root(root, roots))
    return spent


def _is_root(process: psutil.Process, processes: Sequence[psutil.Process]) -> bool:
    return process.ppid() not in {other.pid for other in processes}


def _spent_by_tree(root: psutil.Process) -> float:
    """With children that come and go, as the database's do: those that went are in the times."""
    total = _spent(root, with_ended_children=True)
    for child in root.children(recursive=True):
        try:
            total += _spent(child, with_ended_children=True)
        except psutil.NoSuchProcess:
            continue  # It ended between the two calls; the next sample has it.
    return total


def _spent(process: psutil.Process, *, with_ended_children: bool = False) -> float:
    times = process.cpu_times()
    spent = times.user + times.system
    if with_ended_children:
        spent += times.children_user + times.children_system
    return float(spent)


async def look_at_lanes(connection: asyncpg.Connection) -> Progress:
    """How far our worker is: its lanes say it."""
    row = await connection.fetchrow("""
        SELECT (SELECT coalesce(sum(records), 0) FROM intake_batch),
            NOT EXISTS (
                SELECT FROM lane_out JOIN lane_pub USING (partition) WHERE last_seq > published_seq
            ) AND NOT EXISTS (
                SELECT FROM dead_letter JOIN lane_pub USING (partition)
                WHERE source = 'commands' AND command_offset > dead_letter_offset
            ),
            clock_timestamp()
    """)
    return Progress(taken=row[0], is_published=row[1], database_time=row[2])


@asynccontextmanager
async def looking_at_group(settings: Settings) -> AsyncIterator[Look]:
    """How far a service is that commits its offsets after it published."""
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()

    async def look(connection: asyncpg.Connection) -> Progress:
        offsets = await admin.list_consumer_group_offsets(settings.consumer_group)
        now: datetime = await connection.fetchval("SELECT clock_timestamp()")
        taken = sum(max(0, position.offset) for position in offsets.values())
        return Progress(taken=taken, is_published=True, database_time=now)

    try:
        yield look
    finally:
        await admin.close()
