"""Takes the lanes that the consumer group gives this worker, and gives them up again.

A lane is intake of one command partition and publication of the event lane of the same number. A
partition of the replies is intake alone: what it leads to is published by the owner of its lane.
Nothing of a lane is in memory that its rows and its topic's end do not tell as well.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

import structlog

from lifecycle.domain.sources import Partition, Source
from lifecycle.kafka.tails import TailReader
from lifecycle.kafka.topics import source_topics
from lifecycle.postgres import lanes
from lifecycle.postgres.connection import Pool
from lifecycle.postgres.durability import DurableReads
from lifecycle.postgres.operations import DeadLetterRow, OutboxRow
from lifecycle.settings import Settings
from lifecycle.worker.metrics import LANES
from lifecycle.worker.publisher import LanePublisher
from lifecycle.worker.standstill import Progress
from lifecycle.worker.take_over import OutOfStepError, Published
from lifecycle.worker.transaction import Committed, record_hash

log = structlog.get_logger(__name__)


class OwnedLanes:
    """The lanes of this worker: where their intake stands, and their publishers."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        reads: DurableReads,
        tails: TailReader,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """Own nothing yet. `reads`: those of this process, whose rows are to be published."""
        self._settings = settings
        self._pool = pool
        self._reads = reads
        self._tails = tails
        self._on_failure = on_failure
        self._topics = source_topics(settings)
        self._publishers: dict[int, LanePublisher] = {}
        self._assigned: set[Partition] = set()
        self.positions: dict[Partition, int] = {}

    @property
    def owned(self) -> set[int]:
        """The lanes, by their number, that were taken and not released."""
        return set(self._publishers)

    @property
    def assigned(self) -> set[Partition]:
        """The partitions, of commands and of replies, that were taken and not released."""
        return set(self._assigned)

    @property
    def publication(self) -> dict[int, Progress]:
        """By lane, how far it is published, and whether something waits to be."""
        return {
            lane: Progress(publisher.published, waits=publisher.has_unpublished)
            for lane, publisher in self._publishers.items()
        }

    def forget_positions(self, partitions: Iterable[Partition]) -> None:
        """Take no record of these partitions before their lanes were read again."""
        for partition in partitions:
            self.positions.pop(partition, None)

    async def take(self, partitions: Iterable[Partition]) -> None:
        """Read where intake of `partitions` stands, and take over publication of their lanes.

        Safe to call again for lanes that are ours: after a refused CAS, or after a COMMIT whose
        outcome is unknown, everything in memory is dropped and read anew.

        Raises:
            OutOfStepError: a lane and its topic tell different stories.
            NotTakenOverError: a lane's publisher has ended meanwhile.
            KafkaError, asyncpg.PostgresError, OSError, TimeoutError: nothing was taken.
        """
        wanted = sorted(partitions)
        if not wanted:
            return
        self._assigned.update(wanted)
        bounds = await self._bounds(wanted)
        positions = await lanes.load_intake(
            self._pool, {partition: first for partition, (first, _) in bounds.items()}
        )
        for partition in wanted:
            await self._check_topic(partition, positions[partition], bounds[partition])
        wanted_lanes = [number for source, number in wanted if source is Source.COMMANDS]
        for lane in wanted_lanes:
            publisher = self._publishers.get(lane)
            if publisher is None:
                publisher = LanePublisher(
                    self._settings, self._pool, self._reads, self._tails, lane, self._on_failure
                )
                self._publishers[lane] = publisher
                publisher.start()
            else:
                publisher.take_over_again()
        await asyncio.gather(*(self._publishers[lane].taken_over() for lane in wanted_lanes))
        LANES.set(len(self._publishers))
        for partition in wanted:
            self.positions[partition] = positions[partition].next_offset
        log.info(
            "lanes_taken",
            partitions=wanted_lanes,
            of_replies=[number for source, number in wanted if source is Source.REPLIES],
        )

    async def _bounds(self, wanted: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
        found: dict[Partition, tuple[int, int]] = {}
        for source, topic in self._topics.items():
            numbers = [partition.number for partition in wanted if partition.source is source]
            if numbers:
                bounds = await self._tails.bounds(topic, numbers)
                found |= {Partition(source, number): bounds[number] for number in numbers}
        return found

    async def _check_topic(
        self, partition: Partition, position: lanes.IntakePosition, bounds: tuple[int, int]
    ) -> None:
        """See that the topic is the one whose records the lane has taken."""
        first, end = bounds
        topic = self._topics[partition.source]
        where = f"{topic}, partition {partition.number}"
        if position.next_offset < first:
            raise OutOfStepError(
                f"{partition.source} were deleted before they were taken: {where} begins at"
                f" {first}, the lane stands at {position.next_offset}. Move lane_in"
                " by hand if they are given up"
            )
        made_again = position.next_offset > end
        if not made_again and position.last_record_offset is not None:
            record = await self._tails.record_at(
                topic, partition.number, position.last_record_offset
            )
            made_again = record is not None and record_hash(record) != position.last_record_hash
        if made_again:
            raise OutOfStepError(
                f"the topic was made again: {where} does not hold the record at"
                f" {position.last_record_offset} that the lane has taken last. A new topic needs a"
                " new database, or the old topic must be restored"
            )

    async def release(self, partitions: Iterable[Partition]) -> None:
        """Give lanes up: publish what is in flight, note it, then own nothing of them."""
        publishers = []
        for partition in partitions:
            self.positions.pop(partition, None)
            self._assigned.discard(partition)
            if partition.source is not Source.COMMANDS:
                continue
            publisher = self._publishers.pop(partition.number, None)
            if publisher is not None:
                publishers.append(publisher)
        LANES.set(len(self._publishers))
        await asyncio.gather(*(publisher.stop() for publisher in publishers))

    async def release_all(self) -> None:
        """Give everything up."""
        await self.release(self._assigned.copy())

    async def have_room(self, lanes_of_records: Iterable[int]) -> None:
        """Wait while the publishers of these lanes are too far behind (G11)."""
        for lane in lanes_of_records:
            publisher = self._publishers.get(lane)
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
        ends = await lanes.lane_ends(self._pool, owned)
        for lane, (seq, offset, reply_offset) in ends.items():
            publisher = self._publishers.get(lane)
            if publisher is not None:
                publisher.must_reach(
                    Published(
                        seq=seq, dead_letter_offset=offset, reply_dead_letter_offset=reply_offset
                    )
                )
