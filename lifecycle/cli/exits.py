"""How a command ends: the exit codes of design.md 10, and the sentence that goes with each.

Whatever a user can cause is a `Problem`; what is none shows its traceback, because it is our fault.
"""

import asyncio
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, TypeVar

import typer

from lifecycle.kafka.clients import KafkaError
from lifecycle.kafka.failures import is_unreachable
from lifecycle.kafka.topics import TopicsError
from lifecycle.local import LocalServerError
from lifecycle.postgres.connection import SessionError
from lifecycle.postgres.failures import (
    FAILURES,
    AddressError,
    address_of,
    is_refused,
)
from lifecycle.postgres.schema import SchemaError
from lifecycle.settings import (
    DatabaseField,
    Settings,
    SettingsError,
    load_settings,
    required,
    variable_of,
)

Result = TypeVar("Result")

_HOST_AND_PORT = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%]+\]):[0-9]{1,5}")


class Exit(IntEnum):
    """What a shell or an orchestrator sees."""

    OK = 0
    FOUND_PROBLEM = 1
    WRONG_USE = 2
    INTERRUPTED = 130
    """Ended by Ctrl-C before it was done, as shells count it."""


class Problem(Exception):  # noqa: N818 - not an error of the program: what it has to say
    """Ends the command with a sentence on standard error."""

    def __init__(self, message: str, exit_code: Exit = Exit.FOUND_PROBLEM) -> None:
        """`message` says what, where and what to do."""
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


@contextmanager
def explained() -> Iterator[None]:
    """Turn what a user can cause into its sentence and its exit code."""
    try:
        yield
    except Problem as problem:
        typer.echo(problem.message, err=True)
        raise typer.Exit(problem.exit_code) from None
    except (SettingsError, TopicsError, SchemaError, SessionError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(Exit.WRONG_USE) from None
    except LocalServerError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(Exit.FOUND_PROBLEM) from None
    except BrokenPipeError:
        # Whoever reads our output has seen enough: `lifecycle watch --json | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(Exit.OK) from None


@contextmanager
def reaching_kafka(settings: Settings) -> Iterator[None]:
    """Everything inside speaks to Kafka and to nobody else."""
    addresses = kafka_addresses(settings)
    try:
        yield
    except BrokenPipeError:
        raise
    except (KafkaError, OSError) as error:
        raise kafka_problem(addresses, error) from error


@contextmanager
def reaching_database(settings: Settings, field: DatabaseField = "database_url") -> Iterator[None]:
    """Everything inside speaks to PostgreSQL, at the address of `field`, and to nobody else."""
    address = database_address(settings, field)
    try:
        yield
    except BrokenPipeError:
        raise
    except FAILURES as error:
        raise database_problem(address, error, field) from error


def kafka_addresses(settings: Settings) -> str:
    """The addresses as they may be shown; wrong ones are refused before anything is touched."""
    addresses = required(settings, "kafka_bootstrap_servers")
    if not all(_HOST_AND_PORT.fullmatch(address) for address in addresses.split(",")):
        raise Problem(
            f"LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS: {addresses} is not host:port[,host:port…]",
            Exit.WRONG_USE,
        )
    return addresses


def database_address(settings: Settings, field: DatabaseField = "database_url") -> str:
    """The address as it may be shown; a wrong one is refused before anything is touched."""
    try:
        return address_of(settings, field)
    except AddressError as error:
        raise Problem(f"{variable_of(field)}: {error}", Exit.WRONG_USE) from None


def kafka_problem(addresses: str, error: BaseException) -> Problem:
    """An error of Kafka, with the address and the setting that it is about."""
    if is_unreachable(error):
        return Problem(
            f"Kafka can't be reached at {addresses} (LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS)."
        )
    return Problem(
        f"Kafka at {addresses} (LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS) does not do what was asked:"
        f" {told(error)}."
    )


def database_problem(
    address: str, error: BaseException, field: DatabaseField = "database_url"
) -> Problem:
    """An error of PostgreSQL, with the address and the setting that it is about."""
    where = f"at {address} ({variable_of(field)})"
    if is_refused(error):
        return Problem(f"The database {where} refuses us: {told(error)}.", Exit.WRONG_USE)
    if isinstance(error, OSError):
        return Problem(f"The database can't be reached {where}: {told(error)}.")
    return Problem(f"The database {where} does not do what was asked: {told(error)}.")


def told(error: BaseException) -> str:
    """The first line of what an error says."""
    text = str(error).strip().split("\n", 1)[0].rstrip(".")
    if isinstance(error, TimeoutError) and not text:
        return "no answer in time"
    return text or type(error).__name__


def run(
    work: Callable[[Settings], Coroutine[Any, Any, Result]],
    *,
    fast: bool = False,
    on_interrupt: Exit = Exit.INTERRUPTED,
) -> Result:
    """Load the settings and run `work` to its end; Ctrl-C and SIGTERM cancel it, in order.

    `fast`: on uvloop, where there is one. `on_interrupt`: for commands that end in no other way.
    """
    with explained():
        settings = load_settings()
        # What a library would say of a server that is away, the sentence of the error says.
        logging.basicConfig(handlers=[logging.NullHandler()], force=True)
        with asyncio.Runner(loop_factory=fast_loop() if fast else None) as runner:
            try:
                return runner.run(_cancelled_by_signals(work(settings)))
            except (_InterruptedError, KeyboardInterrupt):
                raise typer.Exit(on_interrupt) from None


class _InterruptedError(Exception):
    """A signal ended the work; a cancellation of any other origin would be a fault of ours."""


async def _cancelled_by_signals(work: Coroutine[Any, Any, Result]) -> Result:
    task = asyncio.ensure_future(work)
    received: list[signal.Signals] = []

    def on_signal(name: signal.Signals) -> None:
        received.append(name)
        task.cancel()

    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, on_signal, name)
    try:
        return await task
    except asyncio.CancelledError:
        if not received:
            raise
        raise _InterruptedError from None
    finally:
        # From here on a second Ctrl-C ends us in any case.
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(name)


def fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where it runs; the standard one otherwise."""
    try:
        import uvloop  # noqa: PLC0415 - not on every system
    except ImportError:
        return None
    return uvloop.new_event_loop
