"""Finds the record on which the database times out, by committing fewer and fewer at a time.

A time-out of a database that otherwise answers says that something in the batch is too slow. When
it comes twice for the same records, each of their partitions is committed by itself, and one that
times out again in portions of half the size, down to a single record. That one ends the worker: it
may be good, so it is not buried, and who waits for it would wait for ever.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lifecycle.domain.sources import Partition
from lifecycle.kafka.records import RawRecord

TIME_OUTS_MAX = 2
"""So many on the same records are no chance."""

PartitionRecord = tuple[Partition, RawRecord]


class TooSlowError(Exception):
    """The database answers, but does not get through with one certain record."""


@dataclass(frozen=True, slots=True)
class _Suspicion:
    """A partition that stands at `position` and whose records up to `until` timed out together.

    `records_max`: so many of them are committed at a time.
    """

    position: int
    until: int
    time_outs: int
    records_max: int

    @property
    def is_alone(self) -> bool:
        return self.time_outs >= TIME_OUTS_MAX


class Suspicions:
    """The partitions whose records may be too slow; those that move on are above suspicion."""

    def __init__(self) -> None:
        """Suspect nothing."""
        self._of: dict[Partition, _Suspicion] = {}
        self._turn = 0
        self._last_turns: dict[Partition | None, int] = {}

    def portion(
        self, poll: Sequence[PartitionRecord]
    ) -> tuple[list[RawRecord], dict[Partition, int]]:
        """What of a poll is to be committed together, in its order.

        Each partition that is committed by itself has its turn, and all others together have one.
        Also says from which offset each partition that waits is to be read again.
        """
        suspects = [
            partition
            for partition in dict.fromkeys(partition for partition, _ in poll)
            if partition in self._of and self._of[partition].is_alone
        ]
        if not suspects:
            return [record for _, record in poll], {}
        others = [found for found in poll if found[0] not in suspects]
        candidates: list[Partition | None] = [*suspects, *([None] if others else [])]
        chosen = min(candidates, key=lambda one: self._last_turns.get(one, 0))
        self._turn += 1
        self._last_turns[chosen] = self._turn
        if chosen is None:
            together = others
        else:
            own = [found for found in poll if found[0] == chosen]
            together = own[: self._of[chosen].records_max]
        last = {partition: record.offset for partition, record in together}
        put_back: dict[Partition, int] = {}
        for partition, record in poll:
            if record.offset > last.get(partition, -1):
                put_back.setdefault(partition, record.offset)
        return [record for _, record in together], put_back

    def timed_out(
        self, batch: Sequence[PartitionRecord], positions: Mapping[Partition, int]
    ) -> None:
        """Note that a batch timed out whose partitions stand at `positions`.

        Raises:
            TooSlowError: it was a single record, and not for the first time.
        """
        is_together = len({partition for partition, _ in batch}) > 1
        for partition in dict.fromkeys(partition for partition, _ in batch):
            records = [record for own, record in batch if own == partition]
            known = self._of.get(partition)
            is_known = known is not None and known.position == positions[partition]
            time_outs = 1 + (known.time_outs if known is not None and is_known else 0)
            if time_outs >= TIME_OUTS_MAX and len(batch) == 1:
                raise TooSlowError(
                    f"{records[0].topic}, partition {records[0].partition}, offset"
                    f" {records[0].offset}: the database answers, but does not get through with"
                    " this record within LIFECYCLE_DATABASE_STATEMENT_TIMEOUT_MS"
                )
            is_halved = time_outs >= TIME_OUTS_MAX and not is_together
            self._of[partition] = _Suspicion(
                position=positions[partition],
                until=records[-1].offset + 1,
                time_outs=time_outs,
                records_max=(len(records) + 1) // 2 if is_halved else len(records),
            )

    def moved_to(self, positions: Mapping[Partition, int]) -> None:
        """Note where partitions stand now."""
        for partition, position in positions.items():
            suspicion = self._of.get(partition)
            if suspicion is None or position == suspicion.position:
                continue
            if position >= suspicion.until:
                del self._of[partition]
                self._last_turns.pop(partition, None)
            else:
                self._of[partition] = replace(suspicion, position=position)
