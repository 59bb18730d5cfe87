"""How long this process waits for a database or a broker that is away, and how often it asks.

The limit counts from the first failure since the last progress, whichever calls failed in between;
a retry library counts within one call, and so would wait for ever between two that fail in turn.
What does not move must not be kept waiting by what does: partitions are counted each by itself.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

import structlog

from lifecycle.domain.sources import Partition
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

    def next_wait_seconds(self) -> float:
        """How long to wait now; each time longer."""
        seconds = self._wait_seconds
        self._wait_seconds = min(seconds * _GROWTH, _WAIT_SECONDS_MAX)
        return seconds

    async def wait(self) -> None:
        """Wait, each time longer."""
        await asyncio.sleep(self.next_wait_seconds())

    def reset(self) -> None:
        """Note a success."""
        self._failing_since = None
        self._wait_seconds = _FIRST_WAIT_SECONDS


class PartitionPatience:
    """Patience with each partition by itself: progress on one does not renew it for another."""

    def __init__(self, limit_ms: int) -> None:
        """`limit_ms` counts for each partition from its first failure after a success."""
        self._limit_ms = limit_ms
        self._failing: dict[Partition, Patience] = {}

    def is_over(self, partitions: Collection[Partition]) -> bool:
        """Note one more failure of each; whether one of them has failed for too long."""
        # Every one of them, before any is asked for its answer.
        over = [self._of(partition).is_over() for partition in partitions]
        return any(over)

    async def wait(self, partitions: Collection[Partition]) -> None:
        """Wait, each time longer for the same partitions."""
        await asyncio.sleep(
            max(self._of(partition).next_wait_seconds() for partition in partitions)
        )

    def reset(self, partitions: Collection[Partition]) -> None:
        """Note that these have moved."""
        for partition in partitions:
            self._failing.pop(partition, None)

    def keep_only(self, partitions: Collection[Partition]) -> None:
        """Forget the partitions that others have now."""
        self.reset(self._failing.keys() - set(partitions))

    def _of(self, partition: Partition) -> Patience:
        return self._failing.setdefault(partition, Patience(self._limit_ms))


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
