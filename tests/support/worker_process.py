"""The program of a worker process under test; the moments at which it may kill or pause itself.

Each moment is one where a crash could lose or repeat something. The process stops itself, so that
a test meets the moment every time and not by luck.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from asyncpg.connection import Connection
from prometheus_client import generate_latest

from lifecycle.domain.decide import decide_card
from lifecycle.kafka.producer import LaneProducer
from lifecycle.postgres import cascades, lanes, pending, timers
from lifecycle.settings import load_settings
from lifecycle.telemetry import configure_logging
from lifecycle.worker import deciding, service, transaction


class _Stop:
    def __init__(self) -> None:
        self._signal = signal.Signals[f"SIG{os.environ['TEST_STOP_SIGNAL']}"]
        self._times_left = int(os.environ["TEST_STOP_AFTER"])

    def here(self) -> None:
        self._times_left -= 1
        if self._times_left == 0:
            os.kill(os.getpid(), self._signal)


def _stop_after(
    stop: _Stop,
    owner: Any,  # noqa: ANN401 - a class or a module
    name: str,
) -> None:
    original: Callable[..., Awaitable[object]] = getattr(owner, name)

    async def stopping(*arguments: Any, **named: Any) -> object:  # noqa: ANN401
        result = await original(*arguments, **named)
        stop.here()
        return result

    setattr(owner, name, stopping)


def _stop_before(stop: _Stop, owner: Any, name: str, if_true: Callable[..., bool]) -> None:  # noqa: ANN401
    original: Callable[..., Awaitable[object]] = getattr(owner, name)

    async def stopping(*arguments: Any, **named: Any) -> object:  # noqa: ANN401
        if if_true(*arguments):
            stop.here()
        return await original(*arguments, **named)

    setattr(owner, name, stopping)


def _stop_at_first_row(stop: _Stop) -> None:
    copy_records = Connection.copy_records_to_table

    def stopping(records: Iterable[object]) -> Iterator[object]:
        stop.here()
        yield from records

    async def copying(self: Any, table: str, *, records: Any, **named: Any) -> object:  # noqa: ANN401
        return await copy_records(self, table, records=stopping(records), **named)

    Connection.copy_records_to_table = copying


def _prepare(moment: str, stop: _Stop) -> None:
    match moment:
        case "before-transaction":
            # A poll in hand, which by the time of its transaction may be someone else's.
            _stop_before(stop, service, "commit_batch", lambda *_: True)
        case "before-commit":
            # Everything is written, nothing is committed: all of it must be done again.
            _stop_after(stop, transaction, "_store")
        case "inside-copy":
            # The server waits for the rest of the rows, with every lock of the transaction.
            _stop_at_first_row(stop)
        case "before-hand-over":
            # Committed, and no publisher has heard of it: only the log knows.
            _stop_after(stop, service, "commit_batch")
        case "inside-kafka-transaction":
            # The broker has the records, but not their commit: they must be sent again.
            _stop_after(stop, LaneProducer, "_send_batches")
        case "before-published-note":
            # Published, and the database does not know: sending them again would repeat them.
            _stop_before(
                stop,
                lanes,
                "store_published",
                lambda _pool, _lane, seq, *letters: seq > 0 or max(letters) >= 0,
            )
        case _:
            _prepare_dispatch(moment, stop)


def _prepare_dispatch(moment: str, stop: _Stop) -> None:
    match moment:
        case "before-cascade-note":
            # A page of DELETEs is on the topic, and the cascade does not know.
            _stop_before(stop, cascades, "move_on", lambda _pool, told: bool(told))
        case "before-timer-note":
            # The timers fired, and are still on the list: they will fire again.
            _stop_before(stop, timers, "delete_sent", lambda *_: True)
        case "before-time-out-note":
            # The same of the TIME_OUTs of PENDING operations.
            _stop_before(stop, pending, "mark_timed_out", lambda *_: True)
        case "before-request-note":
            # An outside party is asked, and is still owed the request: it will be asked again.
            _stop_before(stop, pending, "delete_dispatches", lambda *_: True)
        case _:
            raise ValueError(f"{moment} is no moment")


def _fail_on(card_id: str) -> None:
    """A mistake in the rules whose error repeats what the command held, as those of Python do."""

    def failing(card: Any, command: Any, context: Any) -> Any:  # noqa: ANN401
        if command.card_id == card_id:
            raise KeyError(context.opened.pan, context.opened.cvv, context.opened, command)
        return decide_card(card, command, context)

    setattr(deciding, "decide_card", failing)  # noqa: B010 - the module does not export it


async def _work() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await service.run_worker(load_settings(), stop)


if __name__ == "__main__":
    configure_logging(load_settings())
    if "TEST_LOG_LEVEL" in os.environ:
        logging.getLogger().setLevel(os.environ["TEST_LOG_LEVEL"])
        logging.getLogger("lifecycle").setLevel(os.environ["TEST_LOG_LEVEL"])
    if "TEST_STOP_AT" in os.environ:
        _prepare(os.environ["TEST_STOP_AT"], _Stop())
    if "TEST_FAIL_ON_CARD" in os.environ:
        _fail_on(os.environ["TEST_FAIL_ON_CARD"])
    asyncio.run(_work())
    if "TEST_METRICS_FILE" in os.environ:
        Path(os.environ["TEST_METRICS_FILE"]).write_bytes(generate_latest())
