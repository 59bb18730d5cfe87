"""What outside parties are asked, and what they answer (design.md 2): the records of both topics.

A reply is read as strictly as a command and with the same codes; it names its operation, so that it
needs no id of its own. Headers do not count. Parsing is pure, bounded and never raises.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, NamedTuple
from uuid import UUID

import orjson
from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError, with_config
from pydantic.alias_generators import to_camel

from lifecycle.domain import patterns
from lifecycle.domain.commands import Subject, SubjectKind
from lifecycle.domain.operations import Reply, Request, Status
from lifecycle.kafka import sensitive
from lifecycle.kafka.commands import ENCRYPTED_DATA, Broken, RawRecord
from lifecycle.kafka.partitioner import key_of
from lifecycle.kafka.records import DeadLetterCode, RefusedError, shown
from lifecycle.kafka.refusing import bounded, refuse_card_numbers, refuse_fields
from lifecycle.kafka.sensitive import Suspect
from lifecycle.kafka.strict_json import parse_object


class ParsedReply(NamedTuple):
    """A reply that is fit to be decided; `operation_id` is None when it can name no operation.

    `sent` is the whole of one with `encrypted_data`. `suspects` may be card numbers in identifiers.
    """

    subject: Subject
    operation_id: UUID | None
    reply: Reply
    encrypted_data: str | None
    sent: Mapping[str, object] | None = None
    suspects: tuple[Suspect, ...] = ()


@with_config(ConfigDict(extra="forbid", alias_generator=to_camel))
@dataclass(frozen=True, slots=True, kw_only=True)
class _Wire:
    operation_id: Annotated[str, StringConstraints(pattern=rf"^{patterns.OPERATION_ID}\z")]
    issuer_id: Annotated[str, StringConstraints(pattern=rf"^{patterns.ISSUER_ID}\z")]
    card_id: Annotated[str, StringConstraints(pattern=rf"^{patterns.CARD_ID}\z")]
    result: Annotated[str, StringConstraints(pattern=r"^(SUCCESSFUL|FAILED)\z")]
    error_code: str | None = None
    data: dict[str, object] | None = None


_WIRE = TypeAdapter(_Wire)


def request_value(subject: Subject, operation_id: UUID, request: Request) -> bytes:
    """The value of a request; its key is the card's."""
    return orjson.dumps(
        {
            "operationId": str(operation_id),
            "issuerId": subject.issuer_id,
            "cardId": subject.id,
            "kind": request.kind,
            "data": dict(request.data),
        }
    )


def parse_reply(
    record: RawRecord, *, max_reply_bytes: int, strict_identifiers: bool = False
) -> ParsedReply | Broken:
    """The reply that `record` holds, or what is wrong with it."""
    try:
        return _parse(record, max_reply_bytes, strict_identifiers=strict_identifiers)
    except RefusedError as refused:
        return Broken(refused.code, refused.error)


def _parse(record: RawRecord, max_reply_bytes: int, *, strict_identifiers: bool) -> ParsedReply:
    value = bounded(record.value, max_reply_bytes)
    body = parse_object(value)
    try:
        wire = _WIRE.validate_python(body)
    except ValidationError as problems:
        refuse_fields(problems, _CODE_OF_PROBLEM, _ADVICE, _name)
    encrypted_data = (wire.data or {}).get(ENCRYPTED_DATA)
    if encrypted_data is not None and not isinstance(encrypted_data, str):
        raise RefusedError(
            DeadLetterCode.FIELD_TYPE, f"Field data.{ENCRYPTED_DATA} must be a string."
        )
    subject = Subject(SubjectKind.CARD, wire.issuer_id, wire.card_id)
    if record.key != key_of(subject):
        raise RefusedError(
            DeadLetterCode.KEY_MISMATCH,
            "The record's key is not <issuerId>/<cardId> of the body; send that key.",
        )
    suspects: tuple[Suspect, ...] = ()
    if sensitive.is_suspicious(value):
        pieces = sensitive.pieces_of(body)
        refuse_card_numbers(sensitive.places_in(pieces, strict=strict_identifiers))
        suspects = tuple(sensitive.suspects_in(pieces))
    return ParsedReply(
        subject,
        _operation_id(wire.operation_id),
        Reply(wire.result == Status.SUCCESSFUL, wire.error_code),
        encrypted_data,
        sent=None if encrypted_data is None else body,
        suspects=suspects,
    )


def _name(location: tuple[int | str, ...]) -> str:
    return shown(str(location[0]))


def _operation_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        # Not one of ours: as any other unknown operation (domain.md 8).
        return None


# Of several things that are wrong with the fields, the first in this order is told.
_CODE_OF_PROBLEM = {
    "missing": DeadLetterCode.FIELD_MISSING,
    "unexpected_keyword_argument": DeadLetterCode.FIELD_UNKNOWN,
    "string_pattern_mismatch": DeadLetterCode.FIELD_INVALID_FORMAT,
}
_ADVICE: Mapping[DeadLetterCode, str] = {
    DeadLetterCode.FIELD_MISSING: "is missing; send it",
    DeadLetterCode.FIELD_UNKNOWN: "is not one of a reply; leave it out",
    DeadLetterCode.FIELD_TYPE: "has the wrong JSON type",
    DeadLetterCode.FIELD_INVALID_FORMAT: "does not have the format or value asked for",
}
