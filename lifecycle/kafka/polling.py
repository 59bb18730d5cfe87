"""A consumer whose polls are bounded in plain bytes, and that says which partition can't be read.

aiokafka hands out as many records as it is asked for, however long they are in plain form, and
reads them out of their batches on the event loop. An error on one partition takes with it what the
same poll had read from the others, which is then skipped; and what a broker answers for ever is
only logged. `BoundedConsumer` polls in another way. It relies on private names of aiokafka 0.14.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchError, FetchResult
from aiokafka.errors import (
    ConsumerStoppedError,
    KafkaError,
    OffsetOutOfRangeError,
    RecordTooLargeError,
    for_code,
)
from aiokafka.protocol.fetch import FetchRequest

from lifecycle.kafka.records import HEADER_OVERHEAD_BYTES, RawRecord
from lifecycle.kafka.tolerant import RECORD_BYTES_MAX

log = structlog.get_logger(__name__)

POLL_BYTES_MIN = 2 * RECORD_BYTES_MAX
"""Smallest bound of a poll: with room for the longest record and for another one."""

_RECORDS_MAX = 10_000

# What was flipped on its way is right when it is fetched again; what lies wrong on a disk is not.
_ATTEMPTS_MAX = 3

# The answers of a broker for one partition that do not pass either: CORRUPT_MESSAGE,
# INVALID_FETCH_SIZE, MESSAGE_TOO_LARGE, INVALID_TOPIC, UNSUPPORTED_VERSION, INVALID_REQUEST,
# UNSUPPORTED_FOR_MESSAGE_FORMAT, UNSUPPORTED_COMPRESSION_TYPE, INVALID_RECORD.
_FINAL_ANSWERS = frozenset({2, 4, 10, 17, 35, 42, 43, 76, 87})
_NO_ERROR = 0
_READ_CPU_SECONDS_MAX = 0.5
# While this process was paused or busy, nobody owed it an answer.
_STEP_SECONDS_MAX = 1.0


class UnreadableError(Exception):
    """A partition can't be read on, and polling again will not mend it: a person must look."""


def _unreadable(tp: TopicPartition, offset: int, why: str) -> UnreadableError:
    return UnreadableError(
        f"{tp.topic}, partition {tp.partition}, can't be read at offset {offset}: {why}. Nothing is"
        " taken from there on, and nothing is skipped"
    )


class _Reading(NamedTuple):
    """What came out of one fetched buffer; `ended`: there is nothing left in it."""

    records: list[RawRecord]
    ended: bool
    error: Exception | None = None


def _read_all(buffers: Iterable[Iterator[Any]], bytes_max: int, records_max: int) -> list[_Reading]:
    """Read buffers one after the other, until a poll is full; those behind it are not begun.

    Runs on a thread. Sizes that aiokafka gives are -1 for what is null.
    """
    readings: list[_Reading] = []
    bytes_left, records_left = bytes_max, records_max
    until_seconds = time.thread_time() + _READ_CPU_SECONDS_MAX
    for buffer in buffers:
        if readings and time.thread_time() > until_seconds:
            break  # Decompressing may take long and give nothing.
        records: list[RawRecord] = []
        try:
            for record in buffer:
                records.append(record)
                records_left -= 1
                bytes_left -= record.serialized_key_size + record.serialized_value_size
                for name, content in record.headers:
                    bytes_left -= HEADER_OVERHEAD_BYTES + len(name) + len(content or b"")
                if bytes_left < RECORD_BYTES_MAX or not records_left:
                    readings.append(_Reading(records, ended=False))
                    return readings
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - of any kind: its partition can't be read on
            readings.append(_Reading(records, ended=True, error=error))
        else:
            readings.append(_Reading(records, ended=True))
    return readings


@dataclass(slots=True, kw_only=True)
class _Failure:
    """Why a partition was not read, and how often in a row at this offset."""

    offset: int
    why: str
    passes: bool
    is_of_broker: bool
    attempts: int = 1


class _Watch:
    """Which partitions can't be read, and which the broker does not send."""

    def __init__(self, silent_ms_max: int) -> None:
        self._silent_seconds_max = silent_ms_max / 1000 + _STEP_SECONDS_MAX
        self._silent_seconds: dict[TopicPartition, float] = {}
        self._failures: dict[TopicPartition, _Failure] = {}
        self._looked_at_seconds = time.monotonic()

    def answered(self, tp: TopicPartition) -> None:
        """The broker sent what it has of the partition, be it nothing."""
        self._silent_seconds.pop(tp, None)
        failure = self._failures.get(tp)
        if failure is not None and failure.is_of_broker:
            del self._failures[tp]

    def was_read(self, tp: TopicPartition) -> None:
        """Records of the partition could be read."""
        self._failures.pop(tp, None)

    def failed(self, tp: TopicPartition, failure: _Failure) -> None:
        """The partition could not be read, or was not sent."""
        known = self._failures.get(tp)
        if known is not None and (known.offset, known.why) == (failure.offset, failure.why):
            failure.attempts = known.attempts + 1
        else:
            log.warning(
                "partition_not_read",
                topic=tp.topic,
                partition=tp.partition,
                offset=failure.offset,
                error=failure.why,
            )
        self._failures[tp] = failure

    def look(
        self, positions: Mapping[TopicPartition, int], fetched: Iterable[TopicPartition]
    ) -> None:
        """See how it stands with the partitions that are to be read on, from `positions`.

        For those of them that are `fetched` nobody owes an answer.

        Raises:
            UnreadableError: one of them failed too often, or was not sent for too long.
        """
        now = time.monotonic()
        step = min(now - self._looked_at_seconds, _STEP_SECONDS_MAX)
        self._looked_at_seconds = now
        owed = positions.keys() - set(fetched)
        self._silent_seconds = {tp: self._silent_seconds.get(tp, 0.0) + step for tp in owed}
        for tp, failure in self._failures.items():
            if tp in positions and not failure.passes and failure.attempts >= _ATTEMPTS_MAX:
                why = f"{failure.why} ({failure.attempts} times in a row)"
                raise _unreadable(tp, failure.offset, why)
        for tp, seconds in self._silent_seconds.items():
            if seconds > self._silent_seconds_max:
                last = self._failures.get(tp)
                why = f"its broker has not sent it for {seconds:.0f} s"
                raise _unreadable(tp, positions[tp], f"{why}, {last.why}" if last else why)


class BoundedConsumer(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka ships no types
    """Polls are bounded by the plain bytes of their records, whatever the compression.

    Batches are decompressed and read on a thread, one at a time. What has no room in a poll stays
    where it is, or is fetched again.
    """

    def __init__(
        self,
        *topics: str,
        poll_bytes_max: int,
        unanswered_ms_max: int,
        **options: Any,  # noqa: ANN401 - aiokafka ships no types
    ) -> None:
        """As aiokafka's. A partition that is not sent for `unanswered_ms_max` can't be read."""
        super().__init__(*topics, **options)
        self._poll_bytes_max = poll_bytes_max
        self._watch = _Watch(unanswered_ms_max)
        self._send = self._client.send
        self._client.send = self._send_and_note  # The fetcher only logs what it is answered.

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[RawRecord]]:
        """As aiokafka's, but bounded in bytes too; at most 1 MiB below or one long record above.

        Raises:
            UnreadableError: a partition can't be read on. What was read before, of this one and of
                others, was handed out.
            KafkaError: of the group; polling again may mend it.
        """
        if self._closed:
            raise ConsumerStoppedError
        self._coordinator.check_errors()
        loop = asyncio.get_running_loop()
        until_seconds = loop.time() + timeout_ms / 1000
        with self._subscription.fetch_context():
            while True:
                if self._subscription.reassignment_in_progress:
                    await self._subscription.wait_for_assignment()
                polled = await self._read_fetched(set(partitions), max_records or _RECORDS_MAX)
                left_seconds = until_seconds - loop.time()
                if polled or left_seconds <= 0 or self._closed:
                    return polled
                waiter = self._fetcher._create_fetch_waiter()  # noqa: SLF001 - see the module
                await asyncio.wait([waiter], timeout=left_seconds)
                if not waiter.done():
                    waiter.cancel()
                    return {}
                waiter.result()

    async def _read_fetched(
        self, partitions: set[TopicPartition], records_max: int
    ) -> dict[TopicPartition, list[RawRecord]]:
        self._look()
        found = self._readable(partitions)
        if not found:
            return {}
        buffers = [result._partition_records for _, result in found]  # noqa: SLF001 - see the module
        starts = [buffer.next_fetch_offset for buffer in buffers]
        readings = await asyncio.to_thread(_read_all, buffers, self._poll_bytes_max, records_max)
        polled = {}
        # The last of them may not have been begun.
        for (tp, result), start, reading in zip(found, starts, readings, strict=False):
            if not self._stands_at(tp, result, start):
                continue
            result._update_position()  # noqa: SLF001 - see the module
            if reading.records:
                polled[tp] = reading.records
                self._watch.was_read(tp)
            if reading.error is not None:
                at = result._partition_records.next_fetch_offset  # noqa: SLF001 - see the module
                why = _told(reading.error)
                failure = _Failure(offset=at, why=why, passes=False, is_of_broker=False)
                self._watch.failed(tp, failure)
            if reading.ended:
                self._fetch_on(tp)
        return polled

    def _readable(
        self, partitions: set[TopicPartition]
    ) -> list[tuple[TopicPartition, FetchResult]]:
        """What was fetched of `partitions`, or of all, and is still wanted, in its order.

        Raises:
            UnreadableError: an error came in place of the records.
        """
        fetched = self._fetcher._records  # noqa: SLF001 - see the module
        readable: list[tuple[TopicPartition, FetchResult]] = []
        for tp, result in list(fetched.items()):
            if partitions and tp not in partitions:
                if not self._subscription.is_assigned(tp):
                    del fetched[tp]
            elif isinstance(result, FetchError):
                if readable:
                    break  # These first: the error is told by the next poll.
                self._note_error(tp, result)
            elif result.check_assignment(tp) and result.has_more():
                readable.append((tp, result))
            else:
                self._fetch_on(tp)
        return readable

    def _note_error(self, tp: TopicPartition, found: FetchError) -> None:
        position = self._positions().get(tp, -1)
        try:
            found.check_raise()
        except OffsetOutOfRangeError as error:
            raise _unreadable(tp, position, "its topic does not hold that offset") from error
        except RecordTooLargeError as error:
            # aiokafka goes on behind it, by one offset, and so would skip its records.
            why = "the batch there is not whole"
            raise _unreadable(tp, position - 1, why) from error
        except KafkaError:
            self._fetch_on(tp)  # It was noted as the broker's answer.

    def _stands_at(self, tp: TopicPartition, result: FetchResult, start: int) -> bool:
        """Whether a buffer is still the one to read `tp` from; the loop went on meanwhile.

        If not, the partition was given away, sought or paused, and is fetched from its position.
        """
        fetched = self._fetcher._records  # noqa: SLF001 - see the module
        if fetched.get(tp) is not result:
            return False
        if self._positions().get(tp) != start:
            self._fetch_on(tp)
            return False
        return True

    def _fetch_on(self, tp: TopicPartition) -> None:
        fetcher = self._fetcher
        del fetcher._records[tp]  # noqa: SLF001 - see the module
        fetcher._notify(fetcher._wait_consume_future)  # noqa: SLF001 - see the module

    def _positions(self) -> dict[TopicPartition, int]:
        """From where the partitions are to be read on that are ours and not held."""
        subscription = self._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        if assignment is None or not assignment.active:
            return {}
        states = {tp: assignment.state_value(tp) for tp in assignment.tps}
        return {
            tp: state.position
            for tp, state in states.items()
            if state.has_valid_position and not state.paused
        }

    def _look(self) -> None:
        fetching = self._fetcher.error_future
        if fetching.done() and not fetching.cancelled():
            raise UnreadableError(
                f"Nothing is fetched any more: {_told(fetching.exception())}. Nothing is skipped"
            )
        fetched = self._fetcher._records.items()  # noqa: SLF001 - see the module
        self._watch.look(
            self._positions(), [tp for tp, result in fetched if isinstance(result, FetchResult)]
        )

    async def _send_and_note(self, node_id: int, request: Any, **named: Any) -> Any:  # noqa: ANN401 - aiokafka ships no types
        if not isinstance(request, FetchRequest):
            return await self._send(node_id, request, **named)
        offsets = {
            TopicPartition(topic, partition): offset
            for topic, partitions in request.topics
            for partition, offset, _ in partitions
        }
        try:
            response = await self._send(node_id, request, **named)
        except KafkaError as error:
            for tp, offset in offsets.items():
                failure = _Failure(offset=offset, why=_told(error), passes=True, is_of_broker=True)
                self._watch.failed(tp, failure)
            raise
        for topic, partitions in response.topics:
            for partition, code, *_ in partitions:
                tp = TopicPartition(topic, partition)
                if code == _NO_ERROR:
                    self._watch.answered(tp)
                else:
                    why = f"the broker answers {for_code(code).__name__} ({code})"
                    failure = _Failure(
                        offset=offsets[tp],
                        why=why,
                        passes=code not in _FINAL_ANSWERS,
                        is_of_broker=True,
                    )
                    self._watch.failed(tp, failure)
        return response


def _told(error: BaseException | None) -> str:
    """The kind of an error and what it says, which at this place is never of a record's content."""
    return f"{type(error).__name__}: {str(error).strip()}"
