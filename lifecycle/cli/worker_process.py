"""The worker as a process: signals, and how it ends.

Imported by the commands that need it only, because it brings half of the libraries with it.
"""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

import structlog
import typer

from lifecycle.cli.exits import (
    Problem,
    database_address,
    database_problem,
    fast_loop,
    kafka_addresses,
    kafka_problem,
    told,
)
from lifecycle.http.monitoring import listening_socket, monitored
from lifecycle.kafka.clients import KafkaError
from lifecycle.kafka.polling import UnreadableError
from lifecycle.postgres.durability import NotAcknowledgedError
from lifecycle.postgres.failures import FAILURES
from lifecycle.settings import Settings
from lifecycle.telemetry import configure_logging
from lifecycle.worker.readiness import Readiness
from lifecycle.worker.service import run_worker
from lifecycle.worker.slowness import TooSlowError
from lifecycle.worker.take_over import OutOfStepError

log = structlog.get_logger(__name__)

STOP_SECONDS_MAX = 25.0
"""From SIGTERM to the end: below the 30 s after which orchestrators kill."""


def run_until_stopped(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT.

    Raises:
        Problem: database or Kafka were away for too long, or do not fit each other.
        TopicsError, SchemaError: something is set up wrongly; nothing was touched.
    """
    configure_logging(settings)
    with working(settings), asyncio.Runner(loop_factory=fast_loop()) as runner:
        runner.run(_monitored(settings))


@contextmanager
def working(settings: Settings) -> Iterator[None]:
    """What is inside speaks to Kafka and to the database; an error may be of either."""
    addresses = kafka_addresses(settings)
    address = database_address(settings)
    try:
        yield
    except OutOfStepError as error:
        raise Problem(
            f"Database and topics tell different stories, nothing was published: {error}."
            " See docs/operate.md."
        ) from error
    except TooSlowError as error:
        raise Problem(
            f"{error}. Nothing of it was recorded, and it is not skipped. See docs/operate.md."
        ) from error
    except UnreadableError as error:
        raise Problem(
            f"{error}. Starting again mends nothing: see docs/operate.md,"
            " 'A partition that can't be read'."
        ) from error
    except KafkaError as error:
        raise kafka_problem(addresses, error) from error
    except NotAcknowledgedError as error:
        raise Problem(
            f"The database at {address} (LIFECYCLE_DATABASE_URL) has acknowledged no COMMIT for too"
            f" long: {told(error)}. What is committed but not acknowledged was not published. See"
            " docs/operate.md, 'A synchronous standby'."
        ) from error
    except OSError as error:
        raise Problem(
            f"Kafka at {addresses} (LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS) or the database at {address}"
            f" (LIFECYCLE_DATABASE_URL) was away for too long: {told(error)}."
        ) from error
    except FAILURES as error:
        raise database_problem(address, error) from error


async def _monitored(settings: Settings) -> None:
    readiness = Readiness()
    failures: list[BaseException] = []
    stop = asyncio.Event()

    def fail(error: BaseException) -> None:
        failures.append(error)
        stop.set()

    async with AsyncExitStack() as stack:
        if settings.metrics_port is not None:
            listening = listening_socket(settings, settings.metrics_port)
            url = await stack.enter_async_context(monitored(listening, readiness, fail))
            log.info("monitoring", url=url)
        await _until_stopped(settings, readiness, stop)
    if failures:
        raise failures[0]


async def _until_stopped(settings: Settings, readiness: Readiness, stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    work = asyncio.create_task(run_worker(settings, stop, readiness), name="worker")
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
    work.result()
