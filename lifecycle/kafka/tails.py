"""Reads the ends of partitions, without a group: what the last owner of a lane got published.

The records of a topic are the only witness of what Kafka accepted; a lane's row in the database
may be behind them when a worker died between the acknowledgement and its note of it.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from aiokafka import TopicPartition

from lifecycle.kafka.clients import client_options
from lifecycle.kafka.polling import BoundedConsumer
from lifecycle.kafka.records import RawRecord
from lifecycle.settings import Settings

_FIRST_WINDOW_RECORDS = 64
_WINDOW_GROWTH = 8
# Short: while a fetch waits for more records, the broker answers nothing else on the connection.
_FETCH_WAIT_MS = 5
_POLL_MS = 100
# Few records are wanted; the default of 1 MiB would be parsed to read one of them.
_FETCH_BYTES_MAX = 64 * 1024


class TailReader:
    """Reads single records and the newest records of partitions, committed ones only."""

    def __init__(self, settings: Settings) -> None:
        """Prepare a reader; nothing is connected before it is entered."""
        self._seconds_max = settings.rebalance_timeout_ms / 1000
        self._consumer = BoundedConsumer(
            **client_options(settings),
            poll_bytes_max=settings.poll_bytes_max,
            unanswered_ms_max=max(settings.retry_ms_max, settings.kafka_request_timeout_ms),
            group_id=None,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            max_partition_fetch_bytes=_FETCH_BYTES_MAX,
        )
        # One consumer serves every caller of the process, and it reads one partition at a time.
        self._one_at_a_time = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Connect."""
        await self._consumer.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnect."""
        await self._consumer.stop()

    async def bounds(self, topic: str, partitions: list[int]) -> dict[int, tuple[int, int]]:
        """The first offset that is kept and the one behind the last, for each partition."""
        wanted = [TopicPartition(topic, partition) for partition in partitions]
        first = await self._consumer.beginning_offsets(wanted)
        end = await self._consumer.end_offsets(wanted)
        return {tp.partition: (first[tp], end[tp]) for tp in wanted}

    async def record_at(self, topic: str, partition: int, offset: int) -> RawRecord | None:
        """The record at `offset`; None when there is none (any more)."""
        async with self._one_at_a_time:
            bounds = await self.bounds(topic, [partition])
            first, end = bounds[partition]
            if not first <= offset < end:
                return None
            records = await self._read(TopicPartition(topic, partition), offset, offset + 1)
        return next((record for record in records if record.offset == offset), None)

    async def newest_until(
        self, topic: str, partition: int, stop: Callable[[RawRecord], bool]
    ) -> list[RawRecord]:
        """The newest records in their order, from the last one for which `stop` is true on.

        All records that are kept, when `stop` is true for none of them.

        Raises:
            TimeoutError: the end of the partition could not be read in time.
        """
        tp = TopicPartition(topic, partition)
        async with self._one_at_a_time:
            bounds = await self.bounds(topic, [partition])
            first, end = bounds[partition]
            newest: list[RawRecord] = []
            window = _FIRST_WINDOW_RECORDS
            while end > first:
                start = max(first, end - window)
                newest = await self._read(tp, start, end) + newest
                stops = [at for at, record in enumerate(newest) if stop(record)]
                if stops:
                    return newest[stops[-1] :]
                end, window = start, window * _WINDOW_GROWTH
            return newest

    async def _read(self, tp: TopicPartition, start: int, end: int) -> list[RawRecord]:
        """The records with `start <= offset < end`; markers and aborted records are not among."""
        self._consumer.assign([tp])
        self._consumer.seek(tp, start)
        found: list[RawRecord] = []
        async with asyncio.timeout(self._seconds_max):
            while await self._consumer.position(tp) < end:
                batches = await self._consumer.getmany(tp, timeout_ms=_POLL_MS)
                found.extend(batches.get(tp, ()))
        self._consumer.unsubscribe()  # or it would go on fetching what no one reads
        return [record for record in found if record.offset < end]
