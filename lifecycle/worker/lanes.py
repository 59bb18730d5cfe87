"""Takes the lanes that the consumer group gives this worker, and gives them up again.

A lane is intake of one command partition and publication of the event lane of the same number.
Nothing of a lane is in memory that its rows and its topic's end do not tell as well.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

import structlog

from lifecycle.kafka.tails import TailReader
from lifecycle.kafka.topics import topics_of
from lifecycle.postgres import lanes
from lifecycle.postgres.connection import Pool
from lifecycle.postgres.operations import DeadLetterRow, OutboxRow
from lifecycle.settings import Settings
from lifecycle.worker.publisher import LanePublisher
from lifecycle.worker.take_over import OutOfStepError, Published
from lifecycle.worker.transaction import Committed, record_hash

log = structlog.get_logger(__name__)


class OwnedLanes:
    """The lanes of this worker: where their intake stands, and their publishers."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        tails: TailReader,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """Own nothing yet."""
        self._settings = settings
        self._pool = pool
        self._tails = tails
        self._on_failure = on_failure
        self._topics = topics_of(settings)
        self._publishers: dict[int, LanePublisher] = {}
        self.positions: dict[int, int] = {}

    @property
    def owned(self) -> set[int]:
        """The lanes that were taken and not released."""
        return set(self._publishers)

    def forget_positions(self, partitions: Iterable[int]) -> None:
        """Take no record of these partitions before their lanes were read again."""
        for partition in partitions:
            self.positions.pop(partition, None)

    async def take(self, partitions: Iterable[int]) -> None:
        """Read where intake of `partitions` stands, and take over their publication.

        Safe to call again for lanes that are ours: after a refused CAS, or after a COMMIT whose
        outcome is unknown, everything in memory is dropped and read anew.

        Raises:
            OutOfStepError: a lane and its topic tell different stories.
            KafkaError, asyncpg.PostgresError, OSError, TimeoutError: nothing was taken.
        """
        wanted = sorted(partitions)
        if not wanted:
            return
        bounds = await self._tails.bounds(self._topics.commands, wanted)
        positions = await lanes.load_intake(
            self._pool, {partition: first for partition, (first, _) in bounds.items()}
        )
        for partition in wanted:
            await self._check_topic(partition, positions[partition], bounds[partition])
        for partition in wanted:
            publisher = self._publishers.get(partition)
            if publisher is None:
                publisher = LanePublisher(
                    self._settings, self._pool, self._tails, partition, self._on_failure
                )
                self._publishers[partition] = publisher
                publisher.start()
            else:
                publisher.take_over_again()
        await asyncio.gather(*(self._publishers[lane].taken_over() for lane in wanted))
        for partition in wanted:
            self.positions[partition] = positions[partition].next_offset
        log.info("lanes_taken", partitions=wanted)

    async def _check_topic(
        self, partition: int, position: lanes.IntakePosition, bounds: tuple[int, int]
    ) -> None:
        """See that the topic is the one whose records the lane has taken."""
        first, end = bounds
        where = f"{self._topics.commands}, partition {partition}"
        if position.next_offset < first:
            raise OutOfStepError(
                f"commands were deleted before they were taken: {where} begins at {first}, the"
                f" lane stands at {position.next_offset}. Move lane_in by hand if they are given up"
            )
        made_again = position.next_offset > end
        if not made_again and position.last_record_offset is not None:
            record = await self._tails.record_at(
                self._topics.commands, partition, position.last_record_offset
            )
            made_again = record is not None and record_hash(record) != position.last_record_hash
        if made_again:
            raise OutOfStepError(
                f"the topic was made again: {where} does not hold the record at"
                f" {position.last_record_offset} that the lane has taken last. A new topic needs a"
                " new database, or the old topic must be restored"
            )

    async def release(self, partitions: Iterable[int]) -> None:
        """Give lanes up: publish what is in flight, note it, then own nothing of them."""
        publishers = []
        for partition in partitions:
            self.positions.pop(partition, None)
            publisher = self._publishers.pop(partition, None)
            if publisher is not None:
                publishers.append(publisher)
        await asyncio.gather(*(publisher.stop() for publisher in publishers))

    async def release_all(self) -> None:
        """Give every lane up."""
        await self.release(list(self._publishers))

    async def have_room(self, partitions: Iterable[int]) -> None:
        """Wait while the publishers of `partitions` are too far behind (G11)."""
        for partition in partitions:
            publisher = self._publishers.get(partition)
            if publisher is not None:
                await publisher.has_room()

    def committed(self, committed: Committed) -> None:
        """Move on behind a transaction whose COMMIT was acknowledged; hand its rows over."""
        self.positions.update(committed.positions)
        rows: dict[int, list[OutboxRow]] = {}
        letters: dict[int, list[DeadLetterRow]] = {}
        for operation in committed.decided.operations:
            rows.setdefault(operation.event.lane, []).append(operation.event)
        for letter in committed.decided.dead_letters:
            letters.setdefault(letter.partition, []).append(letter)
        for lane in rows.keys() | letters.keys():
            publisher = self._publishers.get(lane)
            # A lane of another worker: the transaction notified its owner.
            if publisher is not None:
                publisher.hand_over(rows.get(lane, ()), letters.get(lane, ()))

    async def look(self, only: Sequence[int] | None = None) -> None:
        """Ask the database which lanes hold more than was handed over here."""
        owned = sorted(self._publishers if only is None else self._publishers.keys() & set(only))
        if not owned:
            return
        for lane, (seq, offset) in (await lanes.lane_ends(self._pool, owned)).items():
            publisher = self._publishers.get(lane)
            if publisher is not None:
                publisher.must_reach(Published(seq=seq, dead_letter_offset=offset))
