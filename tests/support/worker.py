"""Starts workers: in this process where nothing is killed, else real processes of their own."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import psutil
from pydantic import SecretStr

from lifecycle.settings import ENVIRONMENT_PREFIX, Settings
from lifecycle.worker.readiness import Readiness
from lifecycle.worker.service import run_worker
from tests.support.waiting import SECONDS_MAX

Moment = Literal[
    "before-transaction",
    "before-commit",
    "inside-copy",
    "before-hand-over",
    "inside-kafka-transaction",
    "before-published-note",
]
"""Where a worker process may be told to stop; `worker_process.py` says what each one means."""

DispatchMoment = Literal[
    "before-cascade-note", "before-timer-note", "before-time-out-note", "before-request-note"
]
"""The same, of what the service sends itself: no other command leads there."""

_NOT_FOR_WORKERS = {"database_owner_url"}
_CHECKOUT = Path(__file__).parents[2]


@asynccontextmanager
async def running_worker(
    settings: Settings, readiness: Readiness | None = None
) -> AsyncIterator[None]:
    """A worker inside this process, asked to stop at the end; it must not have failed."""
    stop = asyncio.Event()
    working = asyncio.create_task(run_worker(settings, stop, readiness), name="worker")
    body = asyncio.current_task()
    assert body is not None, "a worker runs beside a task"

    def end_body_with_it(_: object) -> None:
        # Or the body would wait in vain for what a worker that has failed will never do.
        if not stop.is_set():
            body.cancel()

    working.add_done_callback(end_body_with_it)
    try:
        yield
    except asyncio.CancelledError:
        if not working.done():
            raise
        body.uncancel()
    finally:
        stop.set()
        await asyncio.wait({working}, timeout=SECONDS_MAX)
        working.cancel()
        await working


class WorkerProcess:
    """A worker process that can be killed, paused and asked to stop."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self.log = log

    def kill(self) -> None:
        """SIGKILL: no chance to do anything any more."""
        self._process.send_signal(signal.SIGKILL)

    def go_on(self) -> None:
        """SIGCONT, after it was paused."""
        self._process.send_signal(signal.SIGCONT)

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        self._process.send_signal(signal.SIGTERM)

    def is_paused(self) -> bool:
        """Whether it was stopped by a signal."""
        return bool(psutil.Process(self._process.pid).status() == psutil.STATUS_STOPPED)

    async def ended(self) -> int:
        """Wait for its end; its exit code, negative for a signal."""
        try:
            async with asyncio.timeout(SECONDS_MAX):
                return await self._process.wait()
        except TimeoutError:
            raise TimeoutError(f"the worker goes on:\n{self.log.read_text()}") from None

    async def stopped(self) -> None:
        """Ask it to stop; it must end with 0."""
        self.ask_to_stop()
        code = await self.ended()
        assert code == 0, f"ended with {code}:\n{self.log.read_text()}"


@asynccontextmanager
async def worker_process(
    settings: Settings,
    *,
    stop_at: Moment | DispatchMoment | None = None,
    with_signal: Literal["KILL", "STOP"] = "KILL",
    after: int = 1,
    more_environment: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[WorkerProcess]:
    """A worker process, killed at the end if it is still there.

    With `stop_at` it sends itself the signal at that moment, the `after`-th time it comes there.
    """
    environment = {**_without_settings(), **_as_environment(settings), **more_environment}
    if stop_at is not None:
        environment |= {
            "TEST_STOP_AT": stop_at,
            "TEST_STOP_SIGNAL": with_signal,
            "TEST_STOP_AFTER": str(after),
        }
    with tempfile.NamedTemporaryFile(suffix=".log", prefix="worker-") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.worker_process"),
            env=environment,
            cwd=_CHECKOUT,
            stdout=log,
            stderr=log,
        )
        try:
            yield WorkerProcess(process, Path(log.name))
        except BaseException as error:
            error.add_note(f"The worker said:\n{Path(log.name).read_text()[-8000:]}")
            raise
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def _without_settings() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)
    }


def _as_environment(settings: Settings) -> dict[str, str]:
    values: dict[str, Any] = {
        name: getattr(settings, name)
        for name in sorted(settings.model_fields_set - _NOT_FOR_WORKERS)
    }
    return {
        f"{ENVIRONMENT_PREFIX}{name.upper()}": value.get_secret_value()
        if isinstance(value, SecretStr)
        else json.dumps(value)
        if isinstance(value, dict)
        else ",".join(value)
        if isinstance(value, tuple)
        else str(value)
        for name, value in values.items()
    }
