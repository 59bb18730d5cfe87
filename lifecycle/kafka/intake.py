"""Commands and replies through FastStream: whole polls, in order, no record of which can be lost.

With FastStream's usual settings one record that can't be parsed takes its whole batch with it, and
a handler that raises once loses its message. So the parser and the decoder pass the poll through
as it came, the handler never raises, and no offset is acknowledged here: the lane rows in the
database say where intake stands, Kafka's committed offsets only follow for lag tools.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import ConsumerStoppedError, KafkaError
from aiokafka.structs import OffsetAndMetadata
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.message import StreamMessage
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from lifecycle.domain.sources import Partition
from lifecycle.kafka.clients import client_options
from lifecycle.kafka.polling import BoundedConsumer
from lifecycle.kafka.records import RawRecord
from lifecycle.kafka.topics import source_topics
from lifecycle.settings import Settings
from lifecycle.supervision import tell_of_end

log = structlog.get_logger(__name__)

_FETCH_WAIT_MS = 250
_PARTITION_FETCH_BYTES_MAX = 1024 * 1024
_STOP_SECONDS_MAX = 15.0

_SASL = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}


class Intake:
    """Polls commands and replies as a member of the consumer group.

    `on_poll` gets every non-empty poll, one at a time, and must not raise. `on_revoked` must give
    the lanes up before it returns, `on_assigned` must call `resume` for every partition that it
    wants to read; until then nothing is fetched from it. `on_failure` hears of what polling again
    will not mend: a partition that can't be read on, a group that lets nobody in. Nothing is polled
    after it.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_poll: Callable[[Sequence[RawRecord]], Awaitable[None]],
        on_assigned: Callable[[set[Partition]], Awaitable[None]],
        on_revoked: Callable[[set[Partition]], Awaitable[None]],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """Prepare; nothing is connected before `start`."""
        self._topics = source_topics(settings)
        self._sources = {topic: source for source, topic in self._topics.items()}
        self._on_poll = on_poll
        self._on_failure = on_failure
        self._is_stopping = False
        self._settings = settings
        # The offset of the first record of each partition, by topic and partition.
        self._in_hand: dict[tuple[str, int], int] = {}
        self._broker = KafkaBroker(
            client_options(settings)["bootstrap_servers"],
            security=_security(settings),
            request_timeout_ms=settings.kafka_request_timeout_ms,
            apply_types=False,
            serializer=None,
            logger=_Warnings(),
            graceful_timeout=_STOP_SECONDS_MAX,
        )
        self._subscriber = self._broker.subscriber(
            *self._topics.values(),
            batch=True,
            group_id=settings.consumer_group,
            ack_policy=AckPolicy.MANUAL,
            auto_offset_reset="none",
            isolation_level="read_committed",
            batch_timeout_ms=settings.poll_timeout_ms,
            max_records=settings.poll_records_max,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            max_partition_fetch_bytes=_PARTITION_FETCH_BYTES_MAX,
            fetch_max_bytes=settings.poll_bytes_max,
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=settings.session_timeout_ms // 3,
            rebalance_timeout_ms=settings.rebalance_timeout_ms,
            max_poll_interval_ms=settings.retry_ms_max + settings.rebalance_timeout_ms,
            listener=_Listener(self, on_assigned, on_revoked),
            parser=_pass_through,
            decoder=_raw_records,
            include_in_schema=False,
        )
        self._subscriber(self._handle)

    async def start(self) -> None:
        """Join the group.

        Raises:
            KafkaError, OSError: the brokers can't be reached.
        """
        await self._broker.connect()
        # FastStream has no parameter for the class of the consumer.
        config = self._broker.config.broker_config
        settings = self._settings
        config.builder = partial(
            _IntakeConsumer,
            **{
                **cast("partial[object]", config.builder).keywords,
                "on_failure": self._on_failure,
                "failing_ms_max": settings.retry_ms_max,
                "poll_bytes_max": settings.poll_bytes_max,
                # A request may take so long without an error.
                "unanswered_ms_max": max(settings.retry_ms_max, settings.kafka_request_timeout_ms),
            },
        )
        await self._broker.start()
        # FastStream starts it anew when it fails, for ever, and not at all when it was cancelled.
        for polling in self._subscriber.tasks:
            tell_of_end(polling, self._on_failure, may_end=lambda: self._is_stopping)

    async def stop(self) -> None:
        """Leave the group, after the poll in hand; bounded by FastStream's graceful time-out."""
        self._is_stopping = True
        await self._broker.stop()

    def hold(self, partitions: set[Partition]) -> None:
        """Fetch nothing from `partitions` until `resume` says from where.

        Without a position aiokafka would look for a committed offset, find none and raise; and it
        fetches on while the rebalance listener still waits for the database.
        """
        for partition in partitions:
            tp = self._topic_partition(partition)
            self._consumer.pause(tp)
            self._consumer.seek(tp, 0)

    def resume(self, positions: Mapping[Partition, int]) -> None:
        """Fetch on, from these offsets; a partition that is not assigned any more is left out."""
        assigned = self._consumer.assignment()
        for partition, offset in positions.items():
            tp = self._topic_partition(partition)
            if tp in assigned:
                self._consumer.seek(tp, offset)
                self._consumer.resume(tp)

    async def commit(self, positions: Mapping[Partition, int]) -> None:
        """Let Kafka's committed offsets follow `positions`, for lag tools only.

        They follow further than that over what is never handed out, such as the marker at the end
        of a transaction: no lane moves over it, and a lag that stays for ever would say nothing.

        Raises:
            KafkaError: nothing depends on it.
        """
        assigned = self._consumer.assignment()
        ours = {
            tp: offset
            for partition, offset in positions.items()
            if (tp := self._topic_partition(partition)) in assigned
        }
        offsets = {
            tp: OffsetAndMetadata(max(offset, await self._handed_out_before(tp)), "")
            for tp, offset in ours.items()
        }
        if offsets:
            await self._consumer.commit(offsets)

    async def _handed_out_before(self, tp: TopicPartition) -> int:
        """Below this offset no record waits to be taken.

        The consumer's own position moves in the same step of the event loop in which a poll comes
        into hand, and is 0 while a partition is held: the lane's is above it then.
        """
        first = self._in_hand.get(tp)
        position: int = await self._consumer.position(tp) if first is None else first
        return position

    async def has_waiting(self, partition: Partition, position: int | None) -> bool:
        """Whether records of a partition that stands at `position` wait to be taken.

        As far as the brokers have told when records were fetched; True where no position is known,
        because the lane is being read again.
        """
        tp = self._topic_partition(partition)
        if position is None or tp in self._in_hand:
            return True
        if tp not in self._consumer.assignment():
            return False
        end: int | None = self._consumer.last_stable_offset(tp)
        return end is not None and end > max(position, await self._handed_out_before(tp))

    def partitions_of(self, assigned: set[TopicPartition]) -> set[Partition]:
        """The partitions that aiokafka names."""
        return {Partition(self._sources[tp.topic], tp.partition) for tp in assigned}

    def _topic_partition(self, partition: Partition) -> TopicPartition:
        return TopicPartition(self._topics[partition.source], partition.number)

    @property
    def _consumer(self) -> Any:  # noqa: ANN401 - aiokafka ships no types
        consumer = self._subscriber.consumer
        if consumer is None:
            raise KafkaError("the consumer is not started")
        return consumer

    async def _handle(self, records: Sequence[RawRecord]) -> None:
        self._in_hand = {
            (record.topic, record.partition): record.offset for record in reversed(records)
        }
        try:
            await self._on_poll(records)
        finally:
            self._in_hand = {}


class _IntakeConsumer(BoundedConsumer):
    """Tells the worker of what polling again does not mend: FastStream polls on, whatever it is."""

    def __init__(
        self,
        *topics: str,
        on_failure: Callable[[BaseException], None],
        failing_ms_max: int,
        **options: Any,  # noqa: ANN401 - aiokafka ships no types
    ) -> None:
        super().__init__(*topics, **options)
        self._on_failure = on_failure
        self._failing_seconds_max = failing_ms_max / 1000
        self._failing_since_seconds: float | None = None

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[RawRecord]]:
        try:
            polled = await super().getmany(
                *partitions, timeout_ms=timeout_ms, max_records=max_records
            )
        except ConsumerStoppedError:
            raise
        except Exception as error:
            if isinstance(error, KafkaError) and not self._fails_for_too_long():
                raise
            self._on_failure(error)
            # The one error at which FastStream stops to poll.
            raise ConsumerStoppedError from error
        if polled or self.assignment():
            self._failing_since_seconds = None
        return polled

    def _fails_for_too_long(self) -> bool:
        """Whether the group has answered errors ever since, and given no partition."""
        now = time.monotonic()
        if self._failing_since_seconds is None:
            self._failing_since_seconds = now
        return now - self._failing_since_seconds > self._failing_seconds_max


class _Warnings:
    """Stands where FastStream wants a logger."""

    def log(
        self, level: int, msg: object, /, *_args: object, exc_info: object = None, **_extra: object
    ) -> None:
        if level >= logging.WARNING:
            log.warning("poll_interrupted", message=str(msg), error=repr(exc_info))


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    def __init__(
        self,
        intake: Intake,
        on_assigned: Callable[[set[Partition]], Awaitable[None]],
        on_revoked: Callable[[set[Partition]], Awaitable[None]],
    ) -> None:
        self._intake = intake
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._on_revoked(self._intake.partitions_of(revoked))

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        partitions = self._intake.partitions_of(assigned)
        self._intake.hold(partitions)
        await self._on_assigned(partitions)


async def _pass_through(poll: tuple[RawRecord, ...]) -> StreamMessage[Any]:
    return StreamMessage(raw_message=poll, body=b"")


async def _raw_records(message: StreamMessage[Any]) -> Sequence[RawRecord]:
    records: Sequence[RawRecord] = message.raw_message
    return records


def _security(settings: Settings) -> BaseSecurity | None:
    options = client_options(settings)
    ssl_context = options.get("ssl_context")
    if "sasl_mechanism" in options:
        return _SASL[settings.kafka_sasl_mechanism](
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            ssl_context=ssl_context,
            use_ssl=ssl_context is not None,
        )
    return BaseSecurity(ssl_context=ssl_context) if ssl_context is not None else None
