"""The commands that the service sends itself: timers, time-outs, the DELETEs of a cascade.

They take the way of every other command, over the command topic, at least once (design.md 7.8):
their ids say what they are about, so that one that is sent again is a duplicate.
"""

from typing import NamedTuple
from uuid import UUID

import orjson

from lifecycle.domain.commands import CommandName, RequestorType, Subject, SubjectKind
from lifecycle.domain.defaults import SYSTEM_ID
from lifecycle.domain.timers import cascade_id, time_out_id
from lifecycle.kafka.at_least_once import OwedRecord
from lifecycle.kafka.partitioner import key_of


class Cause(NamedTuple):
    """What a cascade follows from, and hands on to each of its commands (domain.md 5)."""

    operation_id: UUID
    correlation_id: str | None
    traceparent: str | None


def cascade_delete(
    topic: str, issuer_id: str, card: tuple[str, int], cause: Cause, reason_code: str
) -> OwedRecord:
    """The DELETE of a card whose consumer or real card has left (domain.md 8).

    `card`: its id, and the life of it that is meant. It says no more than this, because whoever
    sends it again must send the same content.
    """
    card_id, incarnation = card
    correlation = {} if cause.correlation_id is None else {"correlationId": cause.correlation_id}
    record = _card_command(
        topic,
        issuer_id,
        card_id,
        CommandName.DELETE,
        cascade_id(cause.operation_id),
        requestor={"type": RequestorType.SYSTEM.value, "id": SYSTEM_ID},
        reasonCode=reason_code,
        incarnation=incarnation,
        **correlation,
    )
    if cause.traceparent is None:
        return record
    return record._replace(headers=(("traceparent", cause.traceparent.encode()),))


def timer_command(
    topic: str, issuer_id: str, card_id: str, kind: str, command_id: str
) -> OwedRecord:
    """A timer: its requestor is the system by default (design.md 3)."""
    return _card_command(topic, issuer_id, card_id, CommandName(kind), command_id)


def time_out_command(topic: str, issuer_id: str, card_id: str, operation_id: UUID) -> OwedRecord:
    """The TIME_OUT of a PENDING operation."""
    return _card_command(
        topic,
        issuer_id,
        card_id,
        CommandName.TIME_OUT,
        time_out_id(operation_id),
        operationId=str(operation_id),
    )


def _card_command(
    topic: str,
    issuer_id: str,
    card_id: str,
    name: CommandName,
    command_id: str,
    **fields: object,
) -> OwedRecord:
    body = {
        "commandId": command_id,
        "command": name.value,
        "issuerId": issuer_id,
        "cardId": card_id,
        **fields,
    }
    subject = Subject(SubjectKind.CARD, issuer_id, card_id)
    return OwedRecord(topic, key_of(subject), orjson.dumps(body))
