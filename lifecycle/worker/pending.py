"""PENDING operations between the domain and their rows: pure, both ways.

A row holds the command as it was parsed, so that the decision that ends the operation looks at the
very command that began it, whatever has become of the log by then.
"""

from collections.abc import Mapping
from dataclasses import asdict
from uuid import UUID

import orjson

from lifecycle.domain.commands import (
    COMMAND_CLASS,
    CardCommand,
    CommandName,
    Requestor,
    Subject,
    TimeOut,
)
from lifecycle.domain.operations import Decision, Pending, Request
from lifecycle.kafka.commands import Broken, Parsed
from lifecycle.kafka.partitioner import key_of
from lifecycle.kafka.requests import ParsedReply, request_value
from lifecycle.kafka.topics import topics_of
from lifecycle.postgres.pending import DispatchRow, OperationKey, PendingRow
from lifecycle.settings import Settings
from lifecycle.worker.taken import Taken

_MS_PER_SECOND = 1_000


def named_operation(taken: Taken) -> OperationKey | None:
    """The PENDING operation that a reply or a TIME_OUT is about; None for everything else."""
    match taken.parsed:
        case ParsedReply(operation_id=UUID() as operation_id, subject=subject):
            return subject.issuer_id, operation_id
        case Parsed(command=TimeOut() as command):
            try:
                return command.issuer_id, UUID(command.operation_id)
            except ValueError:
                # Not one of ours: as any other unknown operation (domain.md 8).
                return None
    return None


def waiting_for(taken: Taken, pending: Mapping[OperationKey, PendingRow]) -> PendingRow | None:
    """The operation among `pending` that a reply or a TIME_OUT is about, if it is its card's.

    Of another card than the record's key, whose lane alone is locked, it is not this operation.
    """
    key = named_operation(taken)
    row = None if key is None else pending.get(key)
    if row is None or isinstance(taken.parsed, Broken) or taken.parsed.subject.id != row.card_id:
        return None
    return row


def command_of(row: PendingRow) -> CardCommand:
    """The command that began the operation."""
    values = orjson.loads(row.command)
    requestor = values.pop("requestor")
    command = COMMAND_CLASS[CommandName(values["command"])](
        **values, requestor=None if requestor is None else Requestor(**requestor)
    )
    assert isinstance(command, CardCommand), "only operations on cards wait"
    return command


def pending_of(row: PendingRow) -> Pending:
    """What a decision may know of it."""
    return Pending(
        command=command_of(row),
        start_time_ms=row.start_time_ms,
        deadline_ms=row.deadline_ms,
        incarnation=row.incarnation,
    )


def pending_row(
    taken: Taken, decision: Decision, start_time_ms: int, *, incarnation: int, settings: Settings
) -> PendingRow:
    """The row of an operation that has become PENDING with this decision."""
    assert isinstance(taken.parsed, Parsed)
    assert taken.operation_id is not None
    command = taken.parsed.command
    assert isinstance(command, CardCommand), "only operations on cards wait"
    assert getattr(command, "encrypted_data", None) is None, "what brings a number does not wait"
    timeout_seconds = settings.pending_timeout_seconds[decision.kind]
    return PendingRow(
        issuer_id=command.issuer_id,
        operation_id=taken.operation_id,
        card_id=command.card_id,
        kind=decision.kind,
        command=orjson.dumps(asdict(command)).decode(),
        content_hash=taken.parsed.content_hash,
        incarnation=incarnation,
        start_time_ms=start_time_ms,
        deadline_ms=start_time_ms + timeout_seconds * _MS_PER_SECOND,
        command_partition=taken.record.partition,
        command_offset=taken.record.offset,
        traceparent=taken.parsed.traceparent,
    )


def request_row(
    taken: Taken, subject: Subject, request: Request, settings: Settings
) -> DispatchRow:
    """What the outside party is sent once the operation is committed."""
    assert taken.operation_id is not None
    return DispatchRow(
        partition=taken.record.partition,
        command_offset=taken.record.offset,
        ordinal=1,
        topic=topics_of(settings).requests,
        key=key_of(subject).decode(),
        value=request_value(subject, taken.operation_id, request),
    )
