"""The worker process: polls in, batches committed, lanes published, until it is told to stop.

It ends for three reasons only: it was asked to, something was away for longer than it may wait, or
it found what a person must look at. Killed at any other point, another worker goes on where the
database says.
"""

import asyncio
import gc
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from lifecycle.domain.sources import Partition, Source
from lifecycle.kafka.commands import Broken, Parsed, parse
from lifecycle.kafka.intake import Intake
from lifecycle.kafka.records import DeadLetterCode, RawRecord
from lifecycle.kafka.requests import ParsedReply, parse_reply
from lifecycle.kafka.tails import TailReader
from lifecycle.kafka.topics import check_topics, source_topics
from lifecycle.postgres.connection import (
    CONNECTION_ERRORS,
    Pool,
    end_stalled_sessions,
    is_time_out,
    open_pool,
)
from lifecycle.postgres.durability import (
    DurableReads,
    NotAcknowledgedError,
    answers,
    seconds_without_standby,
)
from lifecycle.postgres.lanes import ensure_lanes
from lifecycle.postgres.operations import LANES_CHANNEL
from lifecycle.postgres.pans import ClaimError
from lifecycle.postgres.schema import check_schema, ensure_partitions, needless_rights
from lifecycle.postgres.subjects import ChainBrokenError
from lifecycle.settings import Settings, SettingsError
from lifecycle.supervision import supervised
from lifecycle.vault.keys import KeyRing, KeysError, load_keys
from lifecycle.vault.sealing import SealError
from lifecycle.worker.aside import aside, bytes_of
from lifecycle.worker.dispatcher import DUE_PARTITION, Dispatcher
from lifecycle.worker.failures import is_of_one_record
from lifecycle.worker.known_keys import keys_in_use
from lifecycle.worker.lanes import OwnedLanes
from lifecycle.worker.letters import letter_ahead, letter_of
from lifecycle.worker.metrics import BATCH_SECONDS, STANDSTILL_SECONDS, count_outcomes
from lifecycle.worker.opening import (
    Opening,
    Read,
    Vault,
    open_records,
    portion_of,
    vault_with,
    without_number_elsewhere,
)
from lifecycle.worker.readiness import Readiness
from lifecycle.worker.retention import retain
from lifecycle.worker.retrying import PartitionPatience, Patience, is_away, patiently
from lifecycle.worker.slowness import Suspicions, TooSlowError
from lifecycle.worker.standstill import LaneWork, Progress, Standstill
from lifecycle.worker.taken import Taken, take
from lifecycle.worker.transaction import Committed, LaneMovedError, commit_batch

log = structlog.get_logger(__name__)

_LAG_SECONDS = 1.0
_NOTIFICATIONS_MAX = 1_024
_STANDBY_LOOK_SECONDS = 1.0
_STANDBY_SECONDS_MAX = 2.0
_PARTITIONS_SECONDS = 3600.0
_CLOSE_SECONDS_MAX = 10.0
_LEAVE_SECONDS_MAX = 60.0
_CALLS_LOGGED_MAX = 5
# After so much of it a portion ends: the other lanes, and the group, wait for nothing longer.
_PORTION_CPU_SECONDS_MAX = 1.0
# Rows that are not as they were read under their lock: decided again on what is there now.
_MENDED_BY_READING_AGAIN = ChainBrokenError | ClaimError
_LANES = "lanes"
_STANDBY = "standby"
_COLLECTOR_THRESHOLDS = (100_000, 50, 100)


async def run_worker(
    settings: Settings, stop: asyncio.Event, readiness: Readiness | None = None
) -> None:
    """Work until `stop` is set; what the worker waits for meanwhile is noted in `readiness`.

    Raises:
        TopicsError, SchemaError, SettingsError: something is set up wrongly; nothing was touched.
        OutOfStepError: database and topics tell different stories.
        TooSlowError: the database does not get through with one record.
        UnreadableError: a partition can't be read on.
        KafkaError, asyncpg.PostgresError, OSError, TimeoutError: away for too long.
    """
    # A batch makes some ten thousand short-lived objects and no cycles. With Python's own limits
    # the collector walks everything that was ever imported, again and again, and finds nothing.
    gc.freeze()
    gc.set_threshold(*_COLLECTOR_THRESHOLDS)
    ring = _load_keys(settings)
    vault: Vault | None = None
    patience = Patience(settings.retry_ms_max)
    pool = await patiently(patience, lambda: open_pool(settings))
    try:
        await patiently(patience, lambda: check_schema(pool))
        if settings.environment == "production":
            await patiently(patience, lambda: _tell_needless_rights(pool))
        ring = await patiently(patience, lambda: _keys_in_use(settings, pool, ring))
        vault = None if ring is None else vault_with(ring)
        await patiently(patience, lambda: check_topics(settings))
        # Another worker may hold rows that these wait for, paused inside a transaction.
        await patiently(patience, lambda: ensure_partitions(pool))
        await patiently(patience, lambda: ensure_lanes(pool, settings.partitions))
        async with TailReader(settings) as tails:
            await _Worker(settings, pool, tails, vault, readiness or Readiness()).run(stop)
    finally:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS_MAX):
                await pool.close()
        except TimeoutError:
            pool.terminate()
        if vault is not None:
            vault.opener.close()


async def _tell_needless_rights(pool: Pool) -> None:
    if rights := await needless_rights(pool):
        log.warning(
            "needless_database_rights",
            login=rights,
            consequence="whoever takes over this process may drop what is recorded",
            mend="LIFECYCLE_DATABASE_URL with a login of the worker role, see docs/operate.md",
        )


def _load_keys(settings: Settings) -> KeyRing | None:
    """The keys of the file; None without one, which production refuses.

    Raises:
        SettingsError: there is none and must be one, or it can't be used.
    """
    if settings.keys_file is None:
        if settings.environment == "production":
            raise SettingsError(
                "LIFECYCLE_KEYS_FILE is not set: without keys cards get no numbers and nothing"
                " encrypted opens. `lifecycle keys generate FILE` makes some; to try things out"
                " without, LIFECYCLE_ENVIRONMENT=development."
            )
        log.warning("no_keys", consequence="cards get no numbers, and nothing encrypted opens")
        return None
    try:
        return load_keys(settings.keys_file)
    except KeysError as error:
        raise SettingsError(f"LIFECYCLE_KEYS_FILE: {error}") from error


async def _keys_in_use(settings: Settings, pool: Pool, ring: KeyRing | None) -> KeyRing | None:
    try:
        return await keys_in_use(pool, ring)
    except KeysError as error:
        named = (
            "LIFECYCLE_KEYS_FILE" if ring is None else f"LIFECYCLE_KEYS_FILE: {settings.keys_file}"
        )
        raise SettingsError(f"{named}: {error}.") from error


class _Worker:
    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        tails: TailReader,
        vault: Vault | None,
        readiness: Readiness,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._vault = vault
        self._readiness = readiness
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        reads = DurableReads(pool, settings)
        self._lanes = OwnedLanes(settings, pool, reads, tails, self._fail)
        self._dispatcher = Dispatcher(settings, pool, reads, lambda: self._lanes.owned)
        self._waits_for_standby = False
        self._sources = {topic: source for source, topic in source_topics(settings).items()}
        self._patience = PartitionPatience(settings.retry_ms_max)
        self._suspicions = Suspicions()
        self._standstill = Standstill()
        self._told_standstills: set[LaneWork] = set()
        # A poll and a revocation exclude each other: a lane is given up between two batches.
        self._between_batches = asyncio.Lock()
        self._intake = Intake(
            settings,
            on_poll=self._on_poll,
            on_assigned=self._on_assigned,
            on_revoked=self._on_revoked,
            on_failure=self._fail,
        )

    async def run(self, stop: asyncio.Event) -> None:
        await patiently(Patience(self._settings.retry_ms_max), self._intake.start)
        background = [
            supervised(self._every(seconds, name, work), name, self._fail)
            for name, seconds, work in (
                ("sweep", self._settings.sweep_interval_ms / 1000, self._lanes.look),
                ("lag", _LAG_SECONDS, self._follow_for_lag_tools),
                ("standstill", _LAG_SECONDS, self._watch_for_standstill),
                ("partitions", _PARTITIONS_SECONDS, self._ensure_partitions),
                ("standby-look", _STANDBY_LOOK_SECONDS, self._look_for_standby),
                ("retention", self._settings.retention_interval_seconds, self._retain),
                (
                    "stalled",
                    self._settings.database_statement_timeout_ms / 1000,
                    self._end_stalled_sessions,
                ),
            )
        ]
        background.append(supervised(self._listen(), "listen", self._fail))
        background += [
            supervised(work, name, self._fail) for name, work in self._dispatcher.loops()
        ]
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            ends: set[asyncio.Future[Any]] = {stopping, self._failure}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._readiness.waits("stop", "the worker stops")
            for task in (stopping, *background):
                task.cancel()
            await asyncio.wait({stopping, *background}, timeout=_CLOSE_SECONDS_MAX)
            await self._leave()
        if self._failure.done():
            self._failure.result()
        log.info("worker_stopped")

    async def _leave(self) -> None:
        """Give everything up in order, if that can be done in time; if not, others take it."""
        try:
            async with asyncio.timeout(_LEAVE_SECONDS_MAX):
                # Leave the group first, so that no poll comes in; then publish what is in flight.
                await self._intake.stop()
                await self._lanes.release_all()
        except TimeoutError:
            log.warning("left_in_the_middle", seconds=_LEAVE_SECONDS_MAX)
        except Exception as error:  # noqa: BLE001 - told by `run`, unless there was one before
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self._failure.done():
            if self._waits_for_standby and is_away(error):
                # Whatever it was that lost patience, behind it is this.
                cause, error = error, NotAcknowledgedError("it waits for its synchronous standby")
                error.__cause__ = cause
            # First of all: where memory is at its end, even a line of the log may fail.
            self._failure.set_exception(error)
            log.error("worker_failed", error=repr(error))

    async def _on_assigned(self, partitions: set[Partition]) -> None:
        try:
            self._patience.keep_only(partitions)
            patience = Patience(self._settings.retry_ms_max)
            await patiently(patience, lambda: self._take(partitions))
            self._readiness.joined()
            self._readiness.has(_LANES)
        except Exception as error:  # noqa: BLE001 - aiokafka would only log it and go on
            self._fail(error)

    async def _take(self, partitions: set[Partition]) -> None:
        async with self._between_batches:
            await self._lanes.take(partitions)
            self._intake.resume(
                {partition: self._lanes.positions[partition] for partition in partitions}
            )

    async def _on_revoked(self, partitions: set[Partition]) -> None:
        self._readiness.waits(_LANES, "the group gives out the lanes anew")
        try:
            async with self._between_batches:
                await self._lanes.release(partitions)
        except Exception as error:  # noqa: BLE001 - aiokafka would only log it and go on
            self._fail(error)

    async def _on_poll(self, records: Sequence[RawRecord]) -> None:
        """Commit a poll; never raises, because FastStream would lose the poll."""
        try:
            await self._lanes.have_room({record.partition for record in records})
            # Not under the lock: a revocation need not wait for what takes long and needs none.
            batch, waits = await self._prepared(records)
            async with self._between_batches:
                taken_back = await self._commit_poll(batch, waits)
            if taken_back:
                await self._take_again(taken_back)
        except Exception as error:  # noqa: BLE001 - see above
            self._fail(error)

    async def _take_again(self, before: Mapping[Partition, int]) -> None:
        """Read lanes anew after a failure, as far as they are still ours then.

        `before` tells where they stood.

        The wait is outside the lock: a revocation need not wait for a database that is away.
        """
        while ours := before.keys() & self._lanes.assigned:
            self._readiness.waits(_LANES, "lanes are taken again after a failure")
            await self._patience.wait(ours)
            try:
                async with self._between_batches:
                    ours = before.keys() & self._lanes.assigned
                    await self._lanes.take(ours)
                    now = {partition: self._lanes.positions[partition] for partition in ours}
                    self._suspicions.moved_to(now)
                    # A COMMIT whose outcome was unknown may have been one.
                    self._patience.reset({one for one in ours if now[one] != before[one]})
                    self._intake.resume(now)
            except Exception as error:
                if not is_away(error) or self._patience.is_over(ours):
                    raise
                log.warning("lanes_not_taken", partitions=sorted(ours), error=repr(error))
            else:
                self._readiness.has(_LANES)
                return

    async def _prepared(
        self, records: Sequence[RawRecord]
    ) -> tuple[list[Taken], dict[Partition, int]]:
        """What of a poll is ours, ready for its transaction; and which partitions wait, from where.

        A portion of the poll when it has many texts to open, takes long to read, or has records
        that may be too slow for the database.
        """
        ours = [record for record in records if self._is_ours(record)]
        together, put_back = self._suspicions.portion(
            [(self._partition_of(record), record) for record in ours]
        )
        in_hand = bytes_of(together)
        portion, waits = await aside(
            in_hand,
            portion_of,
            together,
            self._read,
            self._settings.opened_per_transaction_max,
            _PORTION_CPU_SECONDS_MAX,
        )
        openings = await open_records(self._vault, [read.parsed for read in portion])
        batch = await aside(in_hand, self._taken, portion, openings)
        waiting = {
            Partition(self._sources[topic], number): offset
            for (topic, number), offset in waits.items()
        }
        # What waits of a portion lies before what was put back of its partition.
        return batch, {**put_back, **waiting}

    async def _commit_poll(
        self, prepared: Sequence[Taken], waits: Mapping[Partition, int]
    ) -> dict[Partition, int]:
        """Commit what of a poll is still ours.

        Returns:
            The partitions that must be read again, if any, and where they stood.
        """
        if self._failure.done():
            return {}
        positions = self._lanes.positions
        batch = [taken for taken in prepared if self._is_ours(taken.record)]
        partitions = {taken.partition for taken in batch} | waits.keys()
        before = {one: positions[one] for one in partitions if one in positions}
        if batch and not await self._is_committed(batch):
            # Whatever the outcome of COMMIT was, the lanes know it; nothing in memory does.
            self._intake.hold(set(before))
            self._lanes.forget_positions(before)
            return before
        self._intake.resume(
            {
                partition: max(offset, positions[partition])
                for partition, offset in waits.items()
                if partition in positions
            }
        )
        return {}

    def _is_ours(self, record: RawRecord) -> bool:
        """Whether the lane of a record is ours, and stands at it or before it.

        aiokafka may hand out records that it fetched before a seek or a revocation.
        """
        position = self._lanes.positions.get(self._partition_of(record))
        return position is not None and record.offset >= position

    async def _is_committed(self, batch: Sequence[Taken]) -> bool:
        """Commit a batch; False when its lanes must be read again."""
        try:
            await self._commit_or_halve(batch)
        except LaneMovedError as moved:
            log.warning("lane_moved", error=str(moved))
            return False
        except Exception as error:
            if is_time_out(error) and await answers(self._settings):
                self._suspect(batch, error)
                return False
            away = is_away(error) or isinstance(error, _MENDED_BY_READING_AGAIN)
            if not away or self._patience.is_over({taken.partition for taken in batch}):
                raise
            log.warning("batch_interrupted", records=len(batch), error=repr(error))
            return False
        self._patience.reset({taken.partition for taken in batch})
        self._suspicions.moved_to(self._lanes.positions)
        return True

    def _suspect(self, batch: Sequence[Taken], error: Exception) -> None:
        """Note that the database timed out on what of a batch is not committed, but answers.

        Raises:
            TooSlowError: that is a single record, and not for the first time.
        """
        positions = self._lanes.positions
        left = [
            (taken.partition, taken.record)
            for taken in batch
            if taken.record.offset >= positions[taken.partition]
        ]
        try:
            self._suspicions.timed_out(left, positions)
        except TooSlowError as too_slow:
            raise too_slow from error
        log.warning("batch_timed_out", records=len(left), error=repr(error))
        self._patience.reset({partition for partition, _ in left})

    def _taken(self, portion: Sequence[Read], openings: Sequence[Opening | None]) -> list[Taken]:
        batch = []
        for (record, read, letter), opening in zip(portion, openings, strict=True):
            source = self._partition_of(record).source
            parsed = without_number_elsewhere(read, opening)
            taken = take(record, parsed, self._settings.partitions, opening, source)
            numbers = () if opening is None else opening.numbers
            if numbers or parsed is not read:
                # What it must leave out was not known when it was read.
                letter = letter_ahead(source, record, parsed, numbers)  # noqa: PLW2901 - see above
            batch.append(taken._replace(letter=letter))
        return batch

    def _partition_of(self, record: RawRecord) -> Partition:
        return Partition(self._sources[record.topic], record.partition)

    def _read(self, record: RawRecord) -> Read:
        bytes_max = self._settings.max_command_bytes
        strict = self._settings.sensitive_identifiers == "strict"
        source = self._partition_of(record).source
        parsed: Parsed | ParsedReply | Broken
        if source is Source.REPLIES:
            parsed = parse_reply(record, max_reply_bytes=bytes_max, strict_identifiers=strict)
        else:
            parsed = parse(record, max_command_bytes=bytes_max, strict_identifiers=strict)
        return Read(record, parsed, letter_ahead(source, record, parsed))

    async def _commit_or_halve(self, batch: Sequence[Taken]) -> None:
        """Commit a batch; if one command breaks it, find that one and bury it alone."""
        try:
            committed = await self._commit(batch)
        except Exception as error:
            if not is_of_one_record(error) or isinstance(
                error, LaneMovedError | SealError | _MENDED_BY_READING_AGAIN
            ):
                raise
            if len(batch) == 1:
                await self._bury(batch[0], error)
                return
            middle = len(batch) // 2
            await self._commit_or_halve(batch[:middle])
            await self._commit_or_halve(batch[middle:])
        else:
            if committed.decided.dispatches:
                self._dispatcher.requests_committed()

    async def _commit(self, batch: Sequence[Taken]) -> Committed:
        with BATCH_SECONDS.time():
            committed = await commit_batch(
                self._pool, self._settings, self._vault, batch, self._lanes.positions
            )
        count_outcomes(committed.decided.outcomes)
        self._lanes.committed(committed)
        return committed

    async def _bury(self, taken: Taken, error: Exception) -> None:
        """Commit the one record that can't be committed as a dead letter INTERNAL."""
        record = taken.record
        log.error(
            "record_failed",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            error=type(error).__name__,
            raised_in=_innermost_calls(error),
        )
        broken = Broken(
            DeadLetterCode.INTERNAL,
            "The service failed on this record; its log names this partition and offset.",
        )
        numbers = taken.opening.numbers if taken.opening is not None else ()
        letter = await aside(bytes_of([record]), letter_of, taken.source, record, broken, numbers)
        buried = take(record, broken, self._settings.partitions, taken.opening, taken.source)
        await self._commit([buried._replace(letter=letter)])

    async def _every(
        self, seconds: float, name: str, work: Callable[[], Awaitable[object]]
    ) -> None:
        # An idle worker must notice as well that its database or its broker is away for good.
        patience = Patience(self._settings.retry_ms_max)
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
                patience.reset()
                self._readiness.has(name)
            except Exception as error:
                if not is_away(error) or patience.is_over():
                    raise
                self._readiness.waits(name, f"database or broker away ({type(error).__name__})")
                log.warning("background_work_interrupted", error=repr(error))

    async def _follow_for_lag_tools(self) -> None:
        async with asyncio.timeout(self._settings.kafka_request_timeout_ms / 1000):
            await self._intake.commit(self._lanes.positions)

    async def _watch_for_standstill(self) -> None:
        """Tell which lanes have work and do not move, whatever the reason."""
        positions = self._lanes.positions
        async with asyncio.timeout(self._settings.kafka_request_timeout_ms / 1000):
            seen = {
                LaneWork(partition.number, partition.source.value): Progress(
                    positions.get(partition),
                    waits=await self._intake.has_waiting(partition, positions.get(partition)),
                )
                for partition in self._lanes.assigned
            }
        seen |= {
            LaneWork(lane, "events"): progress for lane, progress in self._lanes.publication.items()
        }
        self._tell_standstills(self._standstill.seconds(seen, time.monotonic()))

    def _tell_standstills(self, seconds: Mapping[LaneWork, float]) -> None:
        for gone in self._told_standstills - seconds.keys():
            STANDSTILL_SECONDS.remove(*gone)
            self._readiness.has(_standstill_of(gone))
        self._told_standstills = set(seconds)
        limit_seconds = self._settings.lane_standstill_ms / 1000
        for work, stands_seconds in seconds.items():
            STANDSTILL_SECONDS.labels(*work).set(stands_seconds)
            if stands_seconds < limit_seconds:
                self._readiness.has(_standstill_of(work))
            else:
                self._readiness.waits(
                    _standstill_of(work),
                    f"lane {work.lane}: {work.work} wait, and for {limit_seconds:g} s or more none"
                    f" was {'published' if work.work == 'events' else 'taken'}",
                )

    async def _ensure_partitions(self) -> None:
        await ensure_partitions(self._pool)

    async def _look_for_standby(self) -> None:
        """Tell when COMMITs, ours or another worker's, wait for a synchronous standby."""
        seconds = await seconds_without_standby(self._pool)
        waited_before, self._waits_for_standby = (
            self._waits_for_standby,
            seconds >= _STANDBY_SECONDS_MAX,
        )
        if not self._waits_for_standby:
            self._readiness.has(_STANDBY)
            return
        self._readiness.waits(
            _STANDBY,
            f"COMMIT has waited for the database's synchronous standby for {seconds:.0f} s",
        )
        if not waited_before:
            log.warning("standby_awaited", seconds=round(seconds))

    async def _retain(self) -> None:
        """One worker is enough; two at once, for a moment of a rebalance, are harmless."""
        if DUE_PARTITION in self._lanes.owned:
            await retain(self._pool, self._settings)

    async def _end_stalled_sessions(self) -> None:
        if ended := await end_stalled_sessions(self._pool, self._settings):
            log.warning("stalled_sessions_ended", sessions=ended)

    async def _listen(self) -> None:
        """Hear at once of rows that another worker appended to a lane of ours.

        The sweep would find them too, but later.
        """
        while True:
            try:
                await self._listen_on_one_connection()
            except Exception as error:
                if not is_away(error):
                    raise
                log.warning("listening_interrupted", error=repr(error))
            await asyncio.sleep(_LAG_SECONDS)

    async def _listen_on_one_connection(self) -> None:
        heard: asyncio.Queue[int | None] = asyncio.Queue(_NOTIFICATIONS_MAX)

        def on_notification(*arguments: object) -> None:
            _offer(heard, int(str(arguments[3])))

        async with self._pool.acquire() as connection:
            connection.add_termination_listener(lambda _: _offer(heard, None))
            await connection.add_listener(LANES_CHANNEL, on_notification)
            try:
                while (lane := await heard.get()) is not None:
                    await self._lanes.look([lane])
            finally:
                # A connection that has ended has no listener any more; its saying so must not take
                # the place of a cancellation, or this task would not end with the worker.
                with suppress(*CONNECTION_ERRORS):
                    await connection.remove_listener(LANES_CHANNEL, on_notification)


def _standstill_of(work: LaneWork) -> str:
    return f"standstill of {work.work} on lane {work.lane}"


def _innermost_calls(error: BaseException) -> list[str]:
    """Where an error comes from; not its message, which may repeat what a command held (G10)."""
    calls = traceback.extract_tb(error.__traceback__, limit=-_CALLS_LOGGED_MAX)
    return [f"{Path(call.filename).name}:{call.lineno} {call.name}" for call in calls]


def _offer(heard: asyncio.Queue[int | None], lane: int | None) -> None:
    # A full queue may drop one: the sweep looks at every lane anyway.
    if not heard.full():
        heard.put_nowait(lane)
