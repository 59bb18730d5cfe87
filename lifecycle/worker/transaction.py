"""One batch, one transaction: take the records, lock, read, decide, append, store, commit.

The first statement moves the lane on from where we believe it to be. That makes intake exactly-once
and is the fence as well: whoever else owns the lane waits on that row until we are done, finds it
moved, and takes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from lifecycle.domain.sources import Partition, Source
from lifecycle.kafka.commands import RawRecord
from lifecycle.postgres import (
    cascades,
    lanes,
    operations,
    past_commands,
    pending,
    subjects,
    timers,
)
from lifecycle.postgres.connection import Connection, Pool
from lifecycle.postgres.durability import transaction
from lifecycle.postgres.operations import IntakeCount
from lifecycle.settings import Settings
from lifecycle.vault.drawing import Wanted
from lifecycle.worker.aside import aside, bytes_of
from lifecycle.worker.deciding import Deciding
from lifecycle.worker.numbers import NumbersNeededError, claim, settle
from lifecycle.worker.opening import Vault
from lifecycle.worker.reading import LanesNeededError, read
from lifecycle.worker.recording import Decided
from lifecycle.worker.subjects import Subjects
from lifecycle.worker.taken import Taken


class LaneMovedError(Exception):
    """A lane is not where this worker believes it to be: another owner took records since."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What a transaction recorded, and where its partitions stand now."""

    decided: Decided
    positions: dict[Partition, int]


def record_hash(record: RawRecord) -> bytes:
    """What tells a record of this topic from one at the same offset of a topic made again."""
    digest = sha256(record.timestamp.to_bytes(8, "big", signed=True))
    for part in (record.key, record.value):
        digest.update(b"\x00" if part is None else b"\x01" + len(part).to_bytes(8, "big") + part)
    return digest.digest()


async def commit_batch(
    pool: Pool,
    settings: Settings,
    vault: Vault | None,
    batch: Sequence[Taken],
    positions: Mapping[Partition, int],
) -> Committed:
    """Decide and record `batch`, whose partitions stand at `positions`, in one transaction.

    Raises:
        LaneMovedError: nothing was recorded; the lanes must be read again.
        NotAcknowledgedError: it is unknown what was recorded; the lanes tell when they are read
            again.
        asyncpg.PostgresError, OSError, TimeoutError: nothing was recorded, unless COMMIT itself
            failed, in which case it is unknown as well.
    """
    assert batch, "an empty batch takes nothing"
    lanes_needed = {lane for taken in batch for lane in taken.lanes}
    numbers_needed: dict[UUID, Wanted] = {}
    while True:
        try:
            return await _commit(
                pool, settings, vault, batch, positions, sorted(lanes_needed), numbers_needed
            )
        except LanesNeededError as needed:
            # They come before some that are locked already, and two that lock crosswise deadlock:
            # so all of them are let go first. Lanes are only added, and there are not many.
            lanes_needed |= needed.lanes
        except NumbersNeededError as needed:
            # A card can only be replaced as often as the batch says so: this comes to an end.
            numbers_needed |= needed.wanted


async def _commit(  # noqa: PLR0913, PLR0917 - all of it is one transaction
    pool: Pool,
    settings: Settings,
    vault: Vault | None,
    batch: Sequence[Taken],
    positions: Mapping[Partition, int],
    locked: Sequence[int],
    numbers_needed: Mapping[UUID, Wanted],
) -> Committed:
    advances = _advances(batch, positions)
    commit_seconds_max = settings.database_commit_timeout_ms / 1000
    async with transaction(pool, commit_seconds_max=commit_seconds_max) as connection:
        if not await lanes.advance_intake(connection, advances):
            raise LaneMovedError(
                f"partitions {[advance.partition for advance in advances]} moved meanwhile"
            )
        last_seq = await lanes.lock_lanes(connection, locked) if locked else {}
        assert len(last_seq) == len(locked), "ensure_lanes made a row for every lane"
        found, content_hashes = await read(
            connection,
            batch,
            locked,
            partition_count=settings.partitions,
        )
        numbers = await claim(connection, vault, batch, found, numbers_needed)
        deciding = Deciding(settings, found, content_hashes, last_seq, numbers)
        in_hand = bytes_of(taken.record for taken in batch)
        decided = await aside(in_hand, deciding.decide, batch)
        if numbers.missing:
            raise NumbersNeededError(numbers.missing)
        await settle(connection, numbers)
        await _store(connection, found, decided, advances)
    return Committed(decided, {advance.partition: advance.to_offset for advance in advances})


def _advances(batch: Sequence[Taken], positions: Mapping[Partition, int]) -> list[lanes.Advance]:
    last: dict[Partition, RawRecord] = {}
    for taken in batch:
        record = taken.record
        previous = last.get(taken.partition)
        assert previous is None or previous.offset < record.offset, "records come in order"
        last[taken.partition] = record
    return [
        lanes.Advance(
            partition=partition,
            # The lane's position, not the first record's offset: offsets have holes.
            from_offset=positions[partition],
            to_offset=record.offset + 1,
            last_record_hash=record_hash(record),
        )
        for partition, record in sorted(last.items())
    ]


async def _store(
    connection: Connection,
    found: Subjects,
    decided: Decided,
    advances: Sequence[lanes.Advance],
) -> None:
    if decided.operations:
        await operations.copy_operations(connection, decided.operations)
        await lanes.store_last_seq(connection, decided.last_seq)
    if decided.past_commands:
        await past_commands.copy_past_commands(connection, decided.past_commands)
    await _store_subjects(connection, found)
    if decided.cascades:
        await cascades.insert_cascades(connection, decided.cascades)
    await timers.store_timers(connection, decided.timers.stored, decided.timers.dropped)
    if decided.pending:
        await pending.copy_pending(connection, decided.pending)
        await pending.copy_dispatches(connection, decided.dispatches)
    if decided.ended:
        await pending.delete_pending(connection, decided.ended)
    if decided.dead_letters:
        await operations.copy_dead_letters(connection, decided.dead_letters)
    await operations.copy_intake_counts(
        connection,
        [
            IntakeCount(
                partition=advance.partition,
                from_offset=advance.from_offset,
                to_offset=advance.to_offset,
                records=outcome.records,
                operations=outcome.operations,
                duplicates=outcome.duplicates,
                ignored=outcome.ignored,
                dead_letters=outcome.dead_letters,
                foreign_partition=outcome.foreign_partition,
            )
            for advance in advances
            if (outcome := decided.outcomes[advance.partition])
        ],
    )
    # Who takes commands of a lane publishes it; a reply may be taken by someone else.
    own = {
        advance.partition.number
        for advance in advances
        if advance.partition.source is Source.COMMANDS
    }
    lanes_to_publish = {row.event.lane for row in decided.operations}
    lanes_to_publish |= {letter.partition for letter in decided.dead_letters}
    elsewhere = sorted(lanes_to_publish - own)
    if elsewhere:
        await operations.notify_lanes(connection, elsewhere)


async def _store_subjects(connection: Connection, found: Subjects) -> None:
    created, changed, reborn = [], [], []
    for tracked in found.cards.values():
        if not tracked.has_changed:
            continue
        assert tracked.entity is not None, "an unknown card has nothing to store"
        if tracked.stored is None:
            created.append((tracked.entity, tracked.chain))
        elif tracked.stored.incarnation != tracked.entity.incarnation:
            reborn.append((tracked.entity, tracked.chain, tracked.read))
        else:
            changed.append((tracked.entity, tracked.chain, tracked.read))
    if reborn:
        await subjects.replace_cards(connection, reborn)
    if changed:
        await subjects.update_cards(connection, changed)
    if created:
        await subjects.insert_cards(connection, created)
    consumers = [
        (tracked.entity, tracked.chain, tracked.read)
        for tracked in found.consumers.values()
        if tracked.has_changed and tracked.entity is not None
    ]
    not_registered = [key for key, tracked in found.consumers.items() if tracked.entity is None]
    if consumers or not_registered:
        await subjects.store_consumers(connection, consumers, not_registered)
    products = [
        (tracked.entity, tracked.chain, tracked.read)
        for tracked in found.products.values()
        if tracked.has_changed and tracked.entity is not None
    ]
    if products:
        await subjects.store_products(connection, products)
