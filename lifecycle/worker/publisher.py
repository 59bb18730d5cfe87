"""Publishes one event lane: its committed rows in order, and the dead letters of its partition.

The owner of command partition p publishes event lane p, so the consumer group elects the publisher.
Rows come from memory, straight from the transaction whose COMMIT was acknowledged; whatever is
missing there, because another worker appended it or this one started anew, is read from the log,
and waits until it can't be lost (`lifecycle.postgres.durability`).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import structlog

from lifecycle.kafka.events import headers_of, state_of
from lifecycle.kafka.producer import LaneProducer, OutgoingRecord
from lifecycle.kafka.tails import TailReader
from lifecycle.kafka.topics import topics_of
from lifecycle.postgres import lanes, operations
from lifecycle.postgres.connection import Pool
from lifecycle.postgres.durability import DurableReads
from lifecycle.postgres.operations import DeadLetterRow, OutboxRow
from lifecycle.settings import Settings
from lifecycle.supervision import supervised
from lifecycle.worker.metrics import (
    DEAD_LETTERS_PUBLISHED,
    PUBLISHED,
    UNPUBLISHED,
    UNPUBLISHED_BYTES,
)
from lifecycle.worker.retrying import Patience, is_away
from lifecycle.worker.take_over import NOTHING_PUBLISHED, Published, published_so_far

log = structlog.get_logger(__name__)


class NotTakenOverError(Exception):
    """A lane's publisher has ended before it knew where the lane stands."""


class LanePublisher:
    """One lane, from its take-over to its revocation. All of it runs on one event loop."""

    def __init__(  # noqa: PLR0913, PLR0917 - both sides of the lane, and who hears of its end
        self,
        settings: Settings,
        pool: Pool,
        reads: DurableReads,
        tails: TailReader,
        lane: int,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """Prepare; `start` takes the lane over. `on_failure` hears of what no retry will mend."""
        self._settings = settings
        self._pool = pool
        self._reads = reads
        self._tails = tails
        self._topics = topics_of(settings)
        self._lane = lane
        self._on_failure = on_failure
        self._rows: deque[OutboxRow] = deque()
        self._dead_letters: deque[DeadLetterRow] = deque()
        # Up to where memory holds everything that is not published yet.
        self._held_to = self._published = NOTHING_PUBLISHED
        # What is in memory, and what was handed over and is only in the log, both unpublished.
        self._held_bytes = self._left_in_log_bytes = 0
        self._must_read_log = True
        self._missed_while_reading = False
        self._must_take_over = True
        self._stopping = False
        self._woken = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._taken_over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin: fence, look at the topic's end, publish what is missing, then what is handed."""
        assert self._task is None, "a lane is started once"
        self._task = supervised(
            self._run(),
            f"publish-lane-{self._lane}",
            self._on_failure,
            may_end=lambda: self._stopping,
        )

    async def taken_over(self) -> None:
        """Wait until the lane's position is known.

        Raises:
            NotTakenOverError: it never will be; why, `on_failure` has heard.
        """
        await self._set_or_ended(self._taken_over)
        if not (self._taken_over.is_set() or self._stopping):
            raise NotTakenOverError(f"lane {self._lane}: its publisher has ended")

    async def _set_or_ended(self, event: asyncio.Event) -> None:
        """Wait for what only this lane's task sets, as long as there is that task."""
        if event.is_set():
            return
        assert self._task is not None, "start comes first"
        waiting = asyncio.create_task(event.wait())
        try:
            await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()

    def hand_over(self, rows: Sequence[OutboxRow], dead_letters: Sequence[DeadLetterRow]) -> None:
        """Take rows of this lane whose COMMIT was acknowledged, in their order."""
        # The log may have been read between the COMMIT and this call: then memory has them.
        new_rows = [row for row in rows if row.seq > self._held_to.seq]
        new_letters = [letter for letter in dead_letters if not self._held_to.holds(letter)]
        size_bytes = _bytes_held(new_rows, new_letters)
        if self._must_read_log:
            self._missed_while_reading = True
            self._left_in_log_bytes += size_bytes
        elif (new_rows and new_rows[0].seq != self._held_to.seq + 1) or (
            self._held_bytes + size_bytes > self._settings.unpublished_bytes_max
        ):
            # Another worker appended to this lane in between, or memory is full: the log has all.
            self._must_read_log = True
            self._left_in_log_bytes += size_bytes
        else:
            self._hold(new_rows, new_letters, size_bytes)
        self._update_room()
        self._woken.set()

    def _hold(
        self, rows: Sequence[OutboxRow], letters: Sequence[DeadLetterRow], size_bytes: int
    ) -> None:
        self._rows.extend(rows)
        self._dead_letters.extend(letters)
        self._held_bytes += size_bytes
        self._held_to = self._held_to.with_more(rows, letters)

    def _update_room(self) -> None:
        waiting_bytes = self._held_bytes + self._left_in_log_bytes
        UNPUBLISHED_BYTES.labels(self._lane).set(waiting_bytes)
        if waiting_bytes < self._settings.unpublished_bytes_max:
            self._has_room.set()
        else:
            self._has_room.clear()

    @property
    def published(self) -> Published:
        """Up to where the lane is published."""
        return self._published

    @property
    def has_unpublished(self) -> bool:
        """Whether something waits to be published, as far as is known here."""
        return self._must_take_over or self._must_read_log or self._published != self._held_to

    def must_reach(self, end: Published) -> None:
        """Look at the log if it holds more than memory does: another worker appended it."""
        held = self._held_to
        if not self._must_take_over:
            # What was published since the database was asked would make it negative.
            UNPUBLISHED.labels(self._lane).set(max(0, end.seq - self._published.seq))
        if (
            end.seq > held.seq
            or end.dead_letter_offset > held.dead_letter_offset
            or end.reply_dead_letter_offset > held.reply_dead_letter_offset
        ):
            self._must_read_log = self._missed_while_reading = True
            self._woken.set()

    def take_over_again(self) -> None:
        """Start from the fence: someone else may have written to the lane or published it."""
        self._must_take_over = True
        self._taken_over.clear()
        self._woken.set()

    async def has_room(self) -> None:
        """Wait while so much waits for Kafka that intake had better wait too (G11)."""
        await self._set_or_ended(self._has_room)

    async def stop(self) -> None:
        """Publish no more; wait for what is in flight and its note in the database. Bounded."""
        self._stopping = True
        self._has_room.set()
        self._woken.set()
        if self._task is None:
            return
        seconds_max = self._settings.kafka_transaction_timeout_ms / 1000
        _, unfinished = await asyncio.wait({self._task}, timeout=seconds_max)
        if unfinished:
            # Nothing is lost: the next owner fences this one and reads the topic's end.
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=seconds_max)
        # Its next owner tells.
        UNPUBLISHED.remove(self._lane)
        UNPUBLISHED_BYTES.remove(self._lane)

    async def _run(self) -> None:
        patience = Patience(self._settings.retry_ms_max)
        while not self._stopping:
            producer = None
            try:
                producer = LaneProducer(self._settings, self._lane)
                await producer.open()
                published = await published_so_far(
                    self._pool, self._tails, self._topics, self._lane
                )
                self._begin_after(published)
                await self._note()
                await self._publish_while_ours(producer, patience)
            except Exception as error:
                if not is_away(error) or patience.is_over():
                    raise
                # Send nothing more with this producer: what it had in flight may or may not be in
                # the topic, and only the topic's end can tell.
                log.warning("lane_interrupted", lane=self._lane, error=repr(error))
                await patience.wait()
            finally:
                if producer is not None:
                    await producer.close()

    def _begin_after(self, published: Published) -> None:
        self._rows.clear()
        self._dead_letters.clear()
        self._published = self._held_to = published
        # Memory forgets it, but it waits all the same, and so does intake.
        self._left_in_log_bytes += self._held_bytes
        self._held_bytes = 0
        self._must_read_log = True
        self._must_take_over = False
        self._update_room()
        self._taken_over.set()
        log.info("lane_taken_over", lane=self._lane, published_seq=published.seq)

    async def _publish_while_ours(self, producer: LaneProducer, patience: Patience) -> None:
        while not (self._stopping or self._must_take_over):
            if not (self._rows or self._dead_letters):
                if self._must_read_log:
                    await self._read_log()
                else:
                    patience.reset()  # nothing is left to publish
                    await self._woken.wait()
                self._woken.clear()
                continue
            rows, letters = self._next_publication()
            assert not rows or rows[0].seq == self._published.seq + 1, "a lane has no gap"
            await producer.send(self._outgoing(rows, letters))
            self._published = self._published.with_more(rows, letters)
            self._held_bytes -= _bytes_held(rows, letters)
            PUBLISHED.inc(len(rows))
            DEAD_LETTERS_PUBLISHED.inc(len(letters))
            await self._note()
            patience.reset()
            self._update_room()

    def _next_publication(self) -> tuple[list[OutboxRow], list[DeadLetterRow]]:
        """The next rows and dead letters, as many as fit one Kafka transaction; at least one."""
        left_bytes = self._settings.publish_bytes_max
        rows: list[OutboxRow] = []
        letters: list[DeadLetterRow] = []
        while self._rows and len(rows) < self._settings.publish_rows_max:
            row = self._rows[0]
            # The state of the card, which is a part of the event, is sent beside it.
            left_bytes -= row.bytes_held * (2 if row.changes_card else 1)
            if left_bytes < 0 and rows:
                return rows, letters
            rows.append(self._rows.popleft())
        while self._dead_letters and len(letters) < self._settings.publish_rows_max:
            left_bytes -= self._dead_letters[0].bytes_held
            if left_bytes < 0 and (rows or letters):
                break
            letters.append(self._dead_letters.popleft())
        return rows, letters

    async def _read_log(self) -> None:
        """Fill memory, which is empty, from the log."""
        self._missed_while_reading = False
        rows_max = self._settings.publish_rows_max
        # Half of what may be held is rows and half is dead letters.
        bytes_max = min(self._settings.unpublished_bytes_max // 2, self._settings.publish_bytes_max)
        lane, published = self._lane, self._published
        rows = await self._reads.read(
            lambda connection: operations.load_outbox(
                connection, lane, published.seq, rows_max=rows_max, bytes_max=bytes_max
            )
        )
        letters = await self._reads.read(
            lambda connection: operations.load_dead_letters(
                connection,
                lane,
                published.dead_letter_offset,
                published.reply_dead_letter_offset,
                rows_max=rows_max,
                bytes_max=bytes_max,
            )
        )
        assert not self._rows, "nothing is held while the log is read"
        assert not self._dead_letters, "nothing is held while the log is read"
        self._held_to = self._published
        size_bytes = _bytes_held(rows, letters)
        self._hold(rows, letters, size_bytes)
        # A commit that these queries did not see, or more than they ask for: read once more.
        is_cut = len(rows) == rows_max or _bytes_held(rows, ()) > bytes_max or bool(letters)
        self._must_read_log = self._missed_while_reading or is_cut
        self._left_in_log_bytes = (
            max(0, self._left_in_log_bytes - size_bytes) if self._must_read_log else 0
        )
        self._update_room()

    async def _note(self) -> None:
        await lanes.store_published(
            self._pool,
            self._lane,
            self._published.seq,
            self._published.dead_letter_offset,
            self._published.reply_dead_letter_offset,
        )

    def _outgoing(
        self, rows: Sequence[OutboxRow], letters: Sequence[DeadLetterRow]
    ) -> Iterator[OutgoingRecord]:
        for row in rows:
            issuer_id, _, subject = row.key.partition("/")
            yield OutgoingRecord(
                topic=self._topics.events,
                key=row.key.encode(),
                value=row.payload,
                headers=headers_of(
                    event_id=row.event_id,
                    type=row.event_type,
                    issuer_id=issuer_id,
                    subject_id_for_ce_subject=subject.rpartition("/")[2],
                    time=row.event_time_ms,
                    sequence=row.seq,
                    traceparent=row.traceparent,
                ),
            )
        if self._settings.publish == "transactional":
            # In the events' own transaction, so that a reader of both never sees one without the
            # other. Of several changes of a card the last one wins, as in compaction.
            newest = {row.key: row for row in rows if row.changes_card}
            for row in newest.values():
                yield OutgoingRecord(
                    topic=self._topics.state,
                    key=row.key.encode(),
                    value=state_of(row.payload),
                    headers=[("content-type", b"application/json")],
                )
        for letter in letters:
            yield OutgoingRecord(
                topic=self._topics.dead_letters,
                key=letter.key,
                value=letter.value,
                headers=letter.headers,
            )


def _bytes_held(rows: Sequence[OutboxRow], letters: Sequence[DeadLetterRow]) -> int:
    return sum(row.bytes_held for row in rows) + sum(letter.bytes_held for letter in letters)
