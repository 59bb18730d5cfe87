"""How long this process waits for a database or a broker that is away, and how often it asks.

The limit counts from the first failure since the last progress, whichever calls failed in between;
a retry library counts within one call, and so would wait for ever between two that fail in turn.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from lifecycle.kafka.clients import KafkaError
from lifecycle.postgres.connection import is_transient

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

_FIRST_WAIT_SECONDS = 0.1
_WAIT_SECONDS_MAX = 5.0
_GROWTH = 2.0


class Patience:
    """Growing waits within a limit; every success starts the limit anew."""

    def __init__(self, limit_ms: int) -> None:
        """`limit_ms` counts from the first failure after a success."""
        self._limit_seconds = limit_ms / 1000
        self._failing_since: float | None = None
        self._wait_seconds = _FIRST_WAIT_SECONDS

    def is_over(self) -> bool:
        """Note one more failure; whether they have gone on for longer than the limit."""
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        return now - self._failing_since >= self._limit_seconds

    async def wait(self) -> None:
        """Wait, each time longer."""
        await asyncio.sleep(self._wait_seconds)
        self._wait_seconds = min(self._wait_seconds * _GROWTH, _WAIT_SECONDS_MAX)

    def reset(self) -> None:
        """Note a success."""
        self._failing_since = None
        self._wait_seconds = _FIRST_WAIT_SECONDS


def is_away(error: BaseException) -> bool:
    """Whether a database or a broker is away, and may be back when it is asked again."""
    return isinstance(error, KafkaError) or is_transient(error)


async def patiently(patience: Patience, attempt: Callable[[], Awaitable[Result]]) -> Result:
    """`attempt` until it succeeds, its error is no absence, or patience is over.

    Raises:
        Exception: the error of the last attempt.
    """
    while True:
        try:
            return await attempt()
        except Exception as error:
            if not is_away(error) or patience.is_over():
                raise
            log.warning("waiting_for_database_or_broker", error=repr(error))
            await patience.wait()
