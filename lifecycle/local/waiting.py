"""Starting processes that cannot outlive us, and waiting for them with a limit, not in silence.

Relies on the keeper for the stopping, so that a stop, a crash and a kill -9 are one thing.
"""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

THIS_ROOM = (sys.executable, "-m", "lifecycle.local")
"""Runs what can be given up only as a process of its own, see `__main__`."""
KEEPER = Path(__file__).with_name("keeper.py")

STOP_SECONDS_MAX = 15.0
"""After this long a server that was asked to stop is killed."""
KEEPER_STOP_SECONDS_MAX = STOP_SECONDS_MAX + 10.0
"""After this long the keeper itself, which kills the server, is killed with all it holds."""
SILENCE_SECONDS_MAX = 1.0
"""What takes longer is reported."""
REPORT_INTERVAL_SECONDS = 5.0
READY_POLL_SECONDS = 0.05
LOG_TAIL_LINES = 20
LOG_TAIL_BYTES_MAX = 16_384


class LocalServerError(Exception):
    """A server could not be provided: the message says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a process runs as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Launch:
    """A process to be kept, and all that it needs."""

    name: str
    command: Sequence[str]
    log: Path
    folder: Path
    """The working directory."""
    stop_signal: signal.Signals = signal.SIGTERM
    account: Account | None = None
    """None: as we are."""
    environment: Mapping[str, str] | None = None
    """Added to ours."""
    input: Path | None = None
    """Its standard input."""
    held_file: int | None = None
    """A file descriptor that stays open as long as the process may run: its lock is ours."""
    remove_at_end: tuple[Path, ...] = ()
    """The folders of a throw-away server, its log included; empty: the data are kept."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A kept process that was started; `request_stop` returns at once."""

    launch: Launch
    keeper: asyncio.subprocess.Process

    def request_stop(self) -> None:
        """Ask the keeper to stop the process."""
        assert self.keeper.stdin is not None
        self.keeper.stdin.close()


@asynccontextmanager
async def kept(launch: Launch) -> AsyncIterator[Kept]:
    """Start a process under a keeper; stop it at the end."""
    keeper_command = [
        *(sys.executable, "-I", "-S", str(KEEPER)),
        *("--stop-signal", launch.stop_signal.name),
        *("--stop-seconds-max", str(STOP_SECONDS_MAX)),
    ]
    if launch.account is not None:
        keeper_command += [
            *("--user", str(launch.account.uid)),
            *("--group", str(launch.account.gid)),
        ]
    if launch.input is not None:
        keeper_command += ["--input", str(launch.input)]
    for path in launch.remove_at_end:
        keeper_command += ["--remove", str(path)]
    with launch.log.open("wb") as log:
        keeper = await asyncio.create_subprocess_exec(
            *keeper_command,
            "--",
            *launch.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=log,
            stderr=asyncio.subprocess.STDOUT,
            cwd=launch.folder,
            env={**os.environ, **(launch.environment or {})},
            pass_fds=() if launch.held_file is None else (launch.held_file,),
            # A session of its own: Ctrl-C in the terminal reaches us, and we stop it in order.
            start_new_session=True,
        )
    process = Kept(launch, keeper)
    try:
        yield process
    finally:
        process.request_stop()
        try:
            await asyncio.wait_for(keeper.wait(), KEEPER_STOP_SECONDS_MAX)
        except TimeoutError:
            os.killpg(keeper.pid, signal.SIGKILL)
            await asyncio.wait_for(keeper.wait(), KEEPER_STOP_SECONDS_MAX)


async def finished(launch: Launch, seconds_max: float) -> None:
    """Run a process to its successful end.

    Raises:
        LocalServerError: it failed, or the limit has passed.

    """
    async with kept(launch) as process:
        try:
            exit_code = await asyncio.wait_for(process.keeper.wait(), seconds_max)
        except TimeoutError:
            raise failure(launch, f"was not done after {seconds_max:.0f} s") from None
    if exit_code != 0:
        raise failure(launch, f"ended with exit code {exit_code}")


async def until_ready(
    process: Kept, is_ready: Callable[[], Awaitable[bool]], seconds_max: float
) -> None:
    """Wait until the process serves.

    Raises:
        LocalServerError: it ended instead, or the limit has passed.

    """
    deadline = time.monotonic() + seconds_max
    while not await is_ready():
        exit_code = process.keeper.returncode
        if exit_code is not None:
            raise failure(process.launch, f"ended with exit code {exit_code} while starting")
        if time.monotonic() > deadline:
            raise failure(process.launch, f"was not ready after {seconds_max:.0f} s")
        await asyncio.sleep(READY_POLL_SECONDS)


def failure(launch: Launch, what: str) -> LocalServerError:
    """The error of a process that did not do its work, with the end of its log."""
    log = launch.log
    if launch.remove_at_end:
        # The folder of a throw-away server goes with it; its log is still wanted.
        descriptor, kept_log = tempfile.mkstemp(prefix="lifecycle-", suffix=f"-{log.name}")
        os.close(descriptor)
        shutil.copyfile(log, kept_log)
        log = Path(kept_log)
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES_MAX))
        lines = file.read().decode(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    tail = "\n".join(f"  | {line}" for line in lines) or "  | (nothing)"
    return LocalServerError(f"{launch.name} {what}. The end of its log, {log}:\n{tail}")


@asynccontextmanager
async def progress(report: Callable[[str], None], doing: str) -> AsyncIterator[None]:
    """Report what is being done once it takes longer than a second, and from then on regularly."""

    async def tell() -> None:
        started = time.monotonic()
        await asyncio.sleep(SILENCE_SECONDS_MAX)
        report(f"{doing} …")
        while True:
            await asyncio.sleep(REPORT_INTERVAL_SECONDS)
            report(f"{doing} … {time.monotonic() - started:.0f} s")

    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        telling.cancel()
