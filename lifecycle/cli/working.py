"""`worker`: the process that runs in production."""

import asyncio
import signal

import typer

from lifecycle.cli.exits import Exit, Problem, explained, fast_loop, working
from lifecycle.settings import Settings, load_settings
from lifecycle.telemetry import configure_logging
from lifecycle.worker.service import run_worker
from lifecycle.worker.take_over import OutOfStepError

STOP_SECONDS_MAX = 25.0
"""From SIGTERM to the end: below the 30 s after which orchestrators kill."""


def worker() -> None:
    """Take commands, keep cards, publish events; until SIGTERM or Ctrl-C.

    Any number of workers may run at once; they share the partitions. Exit codes: 0 after SIGTERM
    or Ctrl-C, 1 when the database or Kafka was away for longer than `LIFECYCLE_RETRY_MS_MAX` or
    when the two tell different stories, 2 on wrong settings, topics or schema.

    Example: `lifecycle migrate && lifecycle topics create && lifecycle worker`
    """
    with explained():
        settings = load_settings()
        configure_logging(settings)
        with (
            working(settings),
            asyncio.Runner(loop_factory=fast_loop()) as runner,
        ):
            runner.run(_until_stopped(settings))


async def _until_stopped(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    work = asyncio.create_task(run_worker(settings, stop), name="worker")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    # A worker that still waits for a server to appear, or for one that has gone, is not waited for.
    _, late = await asyncio.wait({work}, timeout=STOP_SECONDS_MAX if stop.is_set() else None)
    if late:
        work.cancel()
        await asyncio.wait({work}, timeout=STOP_SECONDS_MAX)
        typer.echo(
            f"The worker was stopped after {STOP_SECONDS_MAX:.0f} s in the middle of its work;"
            " the next one goes on where the database says.",
            err=True,
        )
        return
    try:
        work.result()
    except OutOfStepError as error:
        raise Problem(
            f"Database and topics tell different stories, nothing was published: {error}."
            " See docs/operate.md.",
            Exit.FOUND_PROBLEM,
        ) from error
