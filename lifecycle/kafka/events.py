"""Events as they are published: the fact, its hash and its headers (design.md 4).

Everything is derived from what was recorded, so that rendering again gives the same bytes; no
clock and no randomness. The bytes rendered here are stored with the operation and published as
they are.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

import orjson

from lifecycle.domain.cards import Card, Lock, State, digital_cards
from lifecycle.domain.commands import Requestor, Subject, SubjectKind
from lifecycle.domain.consumers import Consumer
from lifecycle.domain.identifiers import event_id
from lifecycle.domain.operations import NO_DETAILS, OperationKind, Status
from lifecycle.domain.products import Product, ProductTerms

CONTENT_TYPE_JSON = "application/json"
HASH_BYTES = 32
SEQUENCE_DIGITS = 20

_SECONDS_REMEMBERED_MAX = 1_024
_TERMS_REMEMBERED_MAX = 10_000  # distinct products at hand, each some 300 bytes
_MILLISECONDS_PER_SECOND = 1_000


class Recorded(NamedTuple):
    """An operation whose status changed, with everything that its event tells.

    Times are milliseconds since the epoch; `end_time_ms` is None while PENDING and only then.
    `error_code` and `error` stand with FAILED and only then. `version` is 0, `after` and
    `previous_hash` None for an unknown subject. `command_partition` and `command_offset` say where
    the command lies. `after` is the subject after the operation, also when nothing changed.
    """

    operation_id: UUID
    subject: Subject
    kind: OperationKind
    status: Status
    start_time_ms: int
    end_time_ms: int | None
    requestor: Requestor
    command_id: str
    command_partition: int
    command_offset: int
    previous_hash: bytes | None
    version: int
    previous_state: str | None
    after: Card | Consumer | Product | None
    reason_code: str | None = None
    reason: str | None = None
    details: Mapping[str, str] = NO_DETAILS
    error_code: str | None = None
    error: str | None = None
    correlation_id: str | None = None
    causation_id: UUID | None = None


class Event(NamedTuple):
    """An event ready to be stored and published. `hash`: the 32 bytes that the next one names."""

    event_id: UUID
    type: str
    payload: bytes
    hash: bytes


EVENT_TYPE: dict[tuple[OperationKind, Status], str] = {
    (kind, status): f"cards.{kind.lower().replace('_', '-')}.{status.lower()}.v1"
    for kind in OperationKind
    for status in Status
}
"""The CloudEvents type; it begins with `cards.` whatever the topics' prefix (design.md 2)."""


_NO_CARD_ID: dict[str, object] = {"cardId": None}
_NO_CARD: dict[str, object] = {"card": None}


def render(recorded: Recorded) -> Event:
    """The event of `recorded`."""
    identifier = event_id(recorded.operation_id, recorded.status)
    previous_hash = recorded.previous_hash
    names, views = _subject_views(recorded.subject, recorded.after)
    payload: dict[str, object] = {
        "eventId": identifier,
        "issuerId": recorded.subject.issuer_id,
        **names,
        "version": recorded.version,
        "previousState": recorded.previous_state,
        "operation": _operation_view(recorded),
        **views,
        "commandId": recorded.command_id,
        "correlationId": recorded.correlation_id,
        "causationId": recorded.causation_id,
        "command": {
            "partition": recorded.command_partition,
            "offset": recorded.command_offset,
        },
        "previousHash": previous_hash.hex() if previous_hash is not None else None,
    }
    # orjson with sorted keys is RFC 8785 here: the names are ASCII, the only numbers are integers
    # far below 2^53, the texts hold no lone surrogates, and what a bank put into controls and
    # limits is RFC 8785 text as it is. A test compares it with another writer.
    digest = sha256(orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)).digest()
    payload["hash"] = digest.hex()
    return Event(
        identifier,
        EVENT_TYPE[recorded.kind, recorded.status],
        orjson.dumps(payload),
        digest,
    )


def state_of(payload: bytes) -> bytes:
    """The value of the state topic after an event that changed a card (design.md 2)."""
    event = orjson.loads(payload)
    assert event["card"] is not None, "only a change of a card is told on the state topic"
    return orjson.dumps({name: event[name] for name in ("issuerId", "cardId", "version", "card")})


def headers_of(  # noqa: PLR0913 -- one argument per header of design.md 4
    *,
    event_id: UUID,
    type: str,  # noqa: A002 -- the attribute's own name in CloudEvents
    issuer_id: str,
    subject_id_for_ce_subject: str,
    time: int,
    sequence: int,
    traceparent: str | None,
) -> list[tuple[str, bytes]]:
    """The headers of an event: CloudEvents binary mode (design.md 4).

    `subject_id_for_ce_subject` is the card's, consumer's or product's id. `time` is milliseconds
    since the epoch: the operation's end or, while PENDING, its start. `sequence` counts the event
    lane from 1.
    """
    assert sequence >= 1, "the events of a lane are counted from 1"
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", str(event_id).encode()),
        ("ce_type", type.encode()),
        ("ce_source", f"/issuers/{issuer_id}".encode()),
        ("ce_subject", subject_id_for_ce_subject.encode()),
        ("ce_time", instant(time).encode()),
        ("ce_sequence", b"%020d" % sequence),
        ("content-type", b"application/json"),
    ]
    if traceparent is not None:
        headers.append(("traceparent", traceparent.encode()))
    return headers


def instant(time_ms: int) -> str:
    """ISO 8601, UTC, with milliseconds: `2026-11-22T09:57:01.123Z`."""
    seconds, milliseconds = divmod(time_ms, _MILLISECONDS_PER_SECOND)
    return f"{_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=_SECONDS_REMEMBERED_MAX)
def _second(seconds: int) -> str:
    # Records come in the order of time, so that a second is formatted once for its thousands.
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


def card_view(card: Card) -> dict[str, object]:
    """The object `card` of events and of the state topic (design.md 2, 4; domain.md 2.4).

    It shows everything of a card but its names, which are personal, and its numbers (G7).
    """
    may_use = "YES" if card.state is State.ACTIVE else "NO"
    delete_at_ms = card.delete_at_ms
    return {
        "state": card.state,
        "stateReason": card.state_reason,
        "locks": [lock for lock in Lock if lock in card.locks] if card.locks else [],
        "ongoingOperation": card.ongoing_operation,
        "exp": card.exp,
        "pendingExp": card.pending_exp,
        "last4": card.last4,
        "consumerId": card.consumer_id,
        "cardProductId": card.card_product_id,
        "origin": card.origin,
        "form": card.terms.form,
        "incarnation": card.incarnation,
        "predecessorCardId": card.predecessor_card_id,
        "successorCardId": card.successor_card_id,
        "deleteAt": instant(delete_at_ms) if delete_at_ms is not None else None,
        "usage": {
            "authorisations": may_use,
            "digitise": may_use,
            "digitalCards": digital_cards(card),
        },
        "realCardId": card.real_card_id,
        "controls": _settings(card.controls),
        "limits": _settings(card.limits),
        "clickToPay": card.click_to_pay,
        "realCardIncarnation": card.real_card_incarnation,
        "suspensions": sorted(card.suspensions) if card.suspensions else [],
        "terms": _terms(card.terms),
        "hasAuxiliaryPan": card.has_auxiliary_pan,
        "auxiliaryExp": card.auxiliary_exp,
        "pendingAuxiliaryExp": card.pending_auxiliary_exp,
    }


def _settings(text: str | None) -> orjson.Fragment | None:
    """Controls or limits: RFC 8785 text already, the one place where an event holds fractions."""
    return orjson.Fragment(text) if text is not None else None


@lru_cache(maxsize=_TERMS_REMEMBERED_MAX)
def _terms(terms: ProductTerms) -> orjson.Fragment:
    """The terms that a card keeps, rendered once for all cards of a product: RFC 8785 text."""
    return orjson.Fragment(orjson.dumps(terms_view(terms), option=orjson.OPT_SORT_KEYS))


def terms_view(terms: ProductTerms) -> dict[str, object]:
    """The terms of a product under the names of PRODUCT_DEFINE (design.md 3)."""
    return {
        "form": terms.form,
        "scheme": terms.scheme,
        "activationMethod": terms.activation_method,
        "implicitActivation": terms.implicit_activation,
        "autoRenew": terms.auto_renew,
        "autoRenewDays": terms.auto_renew_days,
        "transactions": terms.transactions,
        "dynamicCvv2": terms.dynamic_cvv2,
        "validityMonths": terms.validity_months,
        "bin": terms.bin,
    }


def _subject_views(
    subject: Subject, after: Card | Consumer | Product | None
) -> tuple[dict[str, object], dict[str, object]]:
    """How an event names its subject, and how it shows it; null when there is none."""
    match subject.kind:
        case SubjectKind.CARD:
            assert after is None or isinstance(after, Card), "a card's operation leaves a card"
            return {"cardId": subject.id}, {"card": card_view(after) if after else None}
        case SubjectKind.CONSUMER:
            assert after is None or isinstance(after, Consumer), "a consumer stays a consumer"
            consumer = {"state": after.state} if after else None
            return _NO_CARD_ID | {"consumerId": subject.id}, _NO_CARD | {"consumer": consumer}
        case SubjectKind.PRODUCT:
            assert after is None or isinstance(after, Product), "a product stays a product"
            product = terms_view(after.terms) if after else None
            return _NO_CARD_ID | {"cardProductId": subject.id}, _NO_CARD | {"product": product}


def _operation_view(recorded: Recorded) -> dict[str, object]:
    end_time_ms = recorded.end_time_ms
    requestor = recorded.requestor
    is_failed = recorded.status is Status.FAILED
    assert (recorded.status is Status.PENDING) == (end_time_ms is None), "PENDING has no end"
    assert is_failed == (recorded.error_code is not None), "only FAILED has an error"
    view: dict[str, object] = {
        "operationId": recorded.operation_id,
        "operation": recorded.kind,
        "status": recorded.status,
        "startTime": instant(recorded.start_time_ms),
        "endTime": instant(end_time_ms) if end_time_ms is not None else None,
        "requestorType": requestor.type,
        "requestorId": requestor.id,
        "reasonCode": recorded.reason_code,
        "reason": recorded.reason,
        "details": dict(recorded.details),
    }
    if is_failed:
        view["errorCode"] = recorded.error_code
        view["error"] = recorded.error
    return view
