"""Records what was decided: the log's rows with their events, and the subjects as they are now.

The second half of `deciding.py`, in memory as well. Whatever is recorded for a command is recorded
here: its operation, those that it caused, what an outside party is asked, its end, its dead letter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from lifecycle.domain.cards import TERMINAL, Card
from lifecycle.domain.chain import Chain, ids_and_hashes, remember_command
from lifecycle.domain.commands import (
    Command,
    Create,
    Delete,
    Subject,
    SubjectKind,
)
from lifecycle.domain.consumers import Consumer, ConsumerState
from lifecycle.domain.identifiers import caused_operation_id
from lifecycle.domain.operations import Caused, Decision, OperationKind, Status
from lifecycle.domain.products import Product
from lifecycle.domain.retention import start_and_expiry
from lifecycle.domain.sources import Partition
from lifecycle.domain.timers import cause_of
from lifecycle.kafka.commands import Broken, Parsed
from lifecycle.kafka.events import Recorded, render
from lifecycle.kafka.partitioner import key_of, partition_of
from lifecycle.postgres.cascades import CascadeRow
from lifecycle.postgres.operations import DeadLetterRow, OperationRow, OutboxRow
from lifecycle.postgres.past_commands import PastCommand
from lifecycle.postgres.pending import DispatchRow, OperationKey, PendingRow
from lifecycle.settings import Settings
from lifecycle.worker.letters import letter_of
from lifecycle.worker.numbers import Numbers
from lifecycle.worker.opening import Opening
from lifecycle.worker.pending import (
    command_of,
    pending_row,
    request_row,
    waiting_for,
)
from lifecycle.worker.subjects import Subjects, Tracked
from lifecycle.worker.taken import Taken
from lifecycle.worker.timers import TimerChanges


@dataclass(slots=True)
class Outcome:
    """What became of the records of one partition; they add up to the records (G1)."""

    records: int = 0
    operations: int = 0
    duplicates: int = 0
    ignored: int = 0
    dead_letters: int = 0
    foreign_partition: int = 0


@dataclass(slots=True)
class Decided:
    """What one transaction stores beside the subjects themselves."""

    operations: list[OperationRow] = field(default_factory=list)
    past_commands: list[PastCommand] = field(default_factory=list)
    dead_letters: list[DeadLetterRow] = field(default_factory=list)
    outcomes: dict[Partition, Outcome] = field(default_factory=dict)
    last_seq: dict[int, int] = field(default_factory=dict)
    cascades: list[CascadeRow] = field(default_factory=list)
    timers: TimerChanges = field(default_factory=lambda: TimerChanges([], []))
    pending: list[PendingRow] = field(default_factory=list)
    ended: list[OperationKey] = field(default_factory=list)
    dispatches: list[DispatchRow] = field(default_factory=list)


class _Told(NamedTuple):
    """What every operation of one command shares; `end_time_ms` is None while it is PENDING.

    Of the end of a PENDING operation all of it but the decision is as it was when it began.
    """

    decision: Decision
    command: Command
    content_hash: bytes
    traceparent: str | None
    command_partition: int
    command_offset: int
    start_time_ms: int
    end_time_ms: int | None


class Recording:
    """What one transaction stores, put together record by record in `decided`."""

    def __init__(
        self,
        settings: Settings,
        subjects: Subjects,
        last_seq: Mapping[int, int],
        numbers: Numbers,
    ) -> None:
        """Start from what was read under the locks; `last_seq` has every lane that is locked."""
        self.decided = Decided(last_seq=dict(last_seq))
        self._settings = settings
        self._subjects = subjects
        self._numbers = numbers

    def begin(
        self,
        taken: Taken,
        parsed: Parsed,
        tracked: Tracked[Any],
        decision: Decision,
        start_time_ms: int,
    ) -> None:
        """Record the operation of a command, and what an outside party is asked for it."""
        identity = taken.operation_id
        assert identity is not None
        command = parsed.command
        if decision.registers_consumer:
            assert isinstance(command, Create)
            consumer = self._subjects.consumers[command.issuer_id, command.consumer_id]
            consumer.entity = Consumer(
                issuer_id=command.issuer_id,
                consumer_id=command.consumer_id,
                state=ConsumerState.ACTIVE,
            )
            consumer.has_changed = True
        chain = tracked.chain
        recent, leaving = remember_command(
            chain.recent_commands,
            identity.bytes,
            parsed.content_hash,
            recent_commands_max=self._settings.recent_commands_max,
        )
        tracked.chain = Chain(
            version=chain.version,
            version_time_ms=chain.version_time_ms,
            last_time_ms=chain.last_time_ms,
            last_hash=chain.last_hash,
            command_count=chain.command_count + 1,
            recent_commands=recent,
        )
        self._keep(leaving, parsed.subject)
        told = _Told(
            decision=decision,
            command=command,
            content_hash=parsed.content_hash,
            traceparent=parsed.traceparent,
            command_partition=taken.record.partition,
            command_offset=taken.record.offset,
            start_time_ms=start_time_ms,
            end_time_ms=start_time_ms if decision.request is None else None,
        )
        self._record_with_caused(told, parsed.subject, identity, taken.opening)
        if decision.request is not None:
            assert decision.status is Status.PENDING, "who is asked has not answered yet"
            assert isinstance(decision.subject, Card), "only operations on cards wait"
            self.decided.pending.append(
                pending_row(
                    taken,
                    decision,
                    start_time_ms,
                    incarnation=decision.subject.incarnation,
                    settings=self._settings,
                )
            )
            self.decided.dispatches.append(
                request_row(taken, parsed.subject, decision.request, self._settings)
            )
            self._count_enrolment(decision, parsed.subject, 1)

    def keep_commands_of_unknown(self) -> None:
        """Keep the commands that the batch refused for subjects that are unknown at its end.

        They have no row that would remember them, nor when the last of them was.
        """
        for subject, tracked in self._subjects.all():
            if tracked.entity is None:
                self._keep(tracked.chain.recent_commands, subject, tracked.chain.last_time_ms)

    def _keep(self, commands: bytes, subject: Subject, last_time_ms: int | None = None) -> None:
        """Keep commands apart from their subject's row; `last_time_ms` of one that has none."""
        self.decided.past_commands.extend(
            PastCommand(
                issuer_id=subject.issuer_id,
                operation_id=UUID(bytes=identity),
                content_hash=content_hash,
                subject_key=None if last_time_ms is None else key_of(subject).decode(),
                last_time_ms=last_time_ms,
            )
            for identity, content_hash in ids_and_hashes(commands)
        )

    def end(
        self, taken: Taken, tracked: Tracked[Any], decision: Decision, end_time_ms: int
    ) -> None:
        """Record the end of a PENDING operation: a second row of the log under the same id."""
        row = waiting_for(taken, self._subjects.pending)
        assert row is not None, "what has ended does not end again"
        del self._subjects.pending[row.key]
        self.decided.ended.append(row.key)
        subject = Subject(SubjectKind.CARD, row.issuer_id, row.card_id)
        told = _Told(
            decision=decision,
            command=command_of(row),
            content_hash=row.content_hash,
            traceparent=row.traceparent,
            command_partition=row.command_partition,
            command_offset=row.command_offset,
            start_time_ms=row.start_time_ms,
            end_time_ms=end_time_ms,
        )
        assert tracked is self._subjects.of(subject), "a reply is about the operation's card"
        self._record_with_caused(told, subject, row.operation_id, taken.opening)
        self._count_enrolment(decision, subject, -1)

    def _count_enrolment(self, decision: Decision, subject: Subject, change: int) -> None:
        key = (subject.issuer_id, subject.id)
        if decision.kind is OperationKind.CLICK_TO_PAY_ENROLMENT and (
            key in self._subjects.enrolments
        ):
            self._subjects.enrolments[key] += change

    def _record_with_caused(
        self, told: _Told, subject: Subject, identity: UUID, opening: Opening | None
    ) -> None:
        """Record an operation, then those that it caused, in their order."""
        decision = told.decision
        tracked = self._subjects.of(subject)
        self._record(told, subject, tracked, identity, decision.subject, None)
        cards = {}
        if isinstance(decision.subject, Card):
            cards[decision.subject.card_id] = decision.subject
        cards |= {caused.card.card_id: caused.card for caused in decision.caused}
        self._numbers.apply(decision.numbers, cards, opening, identity)
        if decision.cascade_reason is not None:
            ended = decision.subject
            self.decided.cascades.append(
                CascadeRow(
                    partition=told.command_partition,
                    issuer_id=subject.issuer_id,
                    operation_id=identity,
                    consumer_id=ended.consumer_id if isinstance(ended, Consumer) else None,
                    real_card_id=ended.card_id if isinstance(ended, Card) else None,
                    real_card_incarnation=ended.incarnation if isinstance(ended, Card) else None,
                    reason_code=decision.cascade_reason,
                    correlation_id=decision.correlation_id,
                    traceparent=told.traceparent,
                )
            )
        for ordinal, caused in enumerate(decision.caused, start=1):
            other = Subject(SubjectKind.CARD, caused.card.issuer_id, caused.card.card_id)
            tracked_other = self._subjects.of(other)
            assert told.end_time_ms is not None, "what waits has caused nothing yet"
            # It begins with the record, also when the operation that caused it began long before.
            time_ms = max(told.end_time_ms, tracked_other.chain.last_time_ms or 0)
            self._record(
                told._replace(start_time_ms=time_ms, end_time_ms=time_ms),
                other,
                tracked_other,
                caused_operation_id(identity, ordinal),
                caused.card,
                (identity, caused),
            )

    def _record(  # noqa: PLR0913, PLR0917 - all of it is one operation
        self,
        told: _Told,
        subject: Subject,
        tracked: Tracked[Any],
        identity: UUID,
        after: Card | Consumer | Product | None,
        cause: tuple[UUID, Caused] | None,
    ) -> None:
        """Append one operation and its event to the log, and move its subject on."""
        command, decision, chain = told.command, told.decision, tracked.chain
        is_change = after is not tracked.entity and after != tracked.entity
        version = chain.version + 1 if is_change else chain.version
        assert after is not None or (version == 0 and not is_change), "a subject never vanishes"
        previous_state = getattr(tracked.entity, "state", None)
        event = render(
            Recorded(
                operation_id=identity,
                subject=subject,
                kind=decision.kind if cause is None else cause[1].kind,
                status=decision.status if cause is None else Status.SUCCESSFUL,
                requestor=decision.requestor,
                reason_code=decision.reason_code if cause is None else None,
                reason=decision.reason if cause is None else None,
                details=decision.details if cause is None else cause[1].details,
                error_code=decision.error_code if cause is None else None,
                error=decision.error if cause is None else None,
                correlation_id=decision.correlation_id,
                start_time_ms=told.start_time_ms,
                end_time_ms=told.end_time_ms,
                command_id=command.command_id,
                causation_id=_cause_of(command) if cause is None else cause[0],
                command_partition=told.command_partition,
                command_offset=told.command_offset,
                previous_hash=chain.last_hash,
                version=version,
                previous_state=previous_state,
                after=after,
            )
        )
        key = key_of(subject)
        lane = partition_of(key, self._settings.partitions)
        seq = self.decided.last_seq[lane] + 1
        self.decided.last_seq[lane] = seq
        start_time, expires_at = start_and_expiry(told.start_time_ms)
        # What ends later than it starts does so after operations that started in between.
        last_time_ms = max(told.start_time_ms, chain.last_time_ms or 0)
        self.decided.operations.append(
            OperationRow(
                event=OutboxRow(
                    lane=lane,
                    seq=seq,
                    event_id=event.event_id,
                    key=key.decode(),
                    event_type=event.type,
                    event_time_ms=told.start_time_ms
                    if told.end_time_ms is None
                    else told.end_time_ms,
                    payload=event.payload,
                    traceparent=told.traceparent,
                    changes_card=is_change and subject.kind is SubjectKind.CARD,
                ),
                aggregate_type=subject.kind,
                issuer_id=subject.issuer_id,
                operation_id=identity,
                caused=cause is not None,
                content_hash=told.content_hash if cause is None else b"",
                status=decision.status if cause is None else Status.SUCCESSFUL,
                start_time=start_time,
                expires_at=expires_at,
            )
        )
        if after is None:
            # Unknown as before: its event stands outside every chain.
            tracked.chain = chain._replace(last_time_ms=last_time_ms)
            return
        if isinstance(after, Card):
            self._count_virtual_card(tracked.entity, after)
        tracked.entity = after
        tracked.has_changed = True
        tracked.chain = Chain(
            version=version,
            version_time_ms=max(told.start_time_ms, chain.version_time_ms or 0)
            if is_change
            else chain.version_time_ms,
            last_time_ms=last_time_ms,
            last_hash=event.hash,
            command_count=chain.command_count,
            recent_commands=chain.recent_commands,
        )

    def _count_virtual_card(self, before: Card | None, after: Card) -> None:
        """Keep count of the virtual cards that are not terminal, as the batch goes on."""
        if after.real_card_id is None or after.real_card_incarnation is None:
            return
        life = (after.issuer_id, after.real_card_id, after.real_card_incarnation)
        was_there = before is not None and before.state not in TERMINAL
        is_there = after.state not in TERMINAL
        self._subjects.virtual_cards[life] += is_there - was_there

    def bury(self, taken: Taken, broken: Broken, known: Sequence[str] = ()) -> None:
        """Record a dead letter, which in most cases was rendered before the transaction.

        What holds one of the `known` card numbers, or that of its own `encryptedData`, is left out.
        """
        letter = taken.letter
        if letter is None or known:
            own = taken.opening.numbers if taken.opening is not None else ()
            letter = letter_of(taken.source, taken.record, broken, [*own, *known])
        self.decided.dead_letters.append(letter)


def _cause_of(command: Command) -> UUID | None:
    """The operation that a cascade's DELETE names as its cause (domain.md 8)."""
    return cause_of(command.command_id) if isinstance(command, Delete) else None
