"""What a command led to: the decision that is recorded as an operation (domain.md 5)."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from lifecycle.domain.cards import Card
from lifecycle.domain.commands import Requestor
from lifecycle.domain.consumers import Consumer, ConsumerState
from lifecycle.domain.errors import ErrorCode
from lifecycle.domain.products import Product, ProductTerms


class OperationKind(StrEnum):
    """The kinds of domain.md 5 that are built."""

    CREATE = "CREATE"
    ACTIVATE = "ACTIVATE"
    SUSPEND = "SUSPEND"
    RESUME = "RESUME"
    DELETE = "DELETE"
    RENEW = "RENEW"
    REPLACE = "REPLACE"
    LOCK = "LOCK"
    RELINK = "RELINK"
    CONSUMER_REGISTER = "CONSUMER_REGISTER"
    CONSUMER_DEACTIVATE = "CONSUMER_DEACTIVATE"
    CONSUMER_REACTIVATE = "CONSUMER_REACTIVATE"
    PRODUCT_DEFINE = "PRODUCT_DEFINE"


class Status(StrEnum):
    """PENDING waits for an outside party."""

    SUCCESSFUL = "SUCCESSFUL"
    PENDING = "PENDING"
    FAILED = "FAILED"


NO_DETAILS: Mapping[str, str] = MappingProxyType({})
"""The `details` of most operations."""


class Context(NamedTuple):
    """Everything beside the subject that a decision may look at. All of it is read under locks.

    `start_time_ms`: when the operation starts, from the record (design.md 4), never a clock.
    `version_time_ms`: start of the operation that made the subject's current version, if any.
    `issuer_time_zone`: an IANA name; a card is usable through the last day of its expiry month
    there. `consumer_state`: of the card's consumer, or of the one that CREATE names; None when
    there is none. `product`: the terms that CREATE names; None when undefined.
    `generated_card_id`: the id for the new card of a REPLACE, and whether it is taken.
    """

    start_time_ms: int
    version_time_ms: int | None = None
    issuer_time_zone: str = "UTC"
    consumer_state: ConsumerState | None = None
    product: ProductTerms | None = None
    generated_card_id: str | None = None
    generated_card_id_in_use: bool = False
    predecessor: Card | None = None


class Caused(NamedTuple):
    """An operation on another card that the command's own transaction records (design.md 4).

    It is SUCCESSFUL, shares commandId, correlationId, requestor, and startTime with its cause.
    """

    kind: OperationKind
    card: Card
    details: Mapping[str, str] = NO_DETAILS


class Decision(NamedTuple):
    """What is recorded for a command, and the subject as it is afterwards.

    `subject` is the Card, Consumer or Product after the operation (the very same object when
    nothing changed, None when there is none). `requestor`, `reason_code`, `reason` and
    `correlation_id` are fit to be published: a value that broke its pattern is not among them.
    """

    kind: OperationKind
    status: Status
    requestor: Requestor
    subject: Card | Consumer | Product | None
    reason_code: str | None = None
    reason: str | None = None
    correlation_id: str | None = None
    details: Mapping[str, str] = NO_DETAILS
    error_code: ErrorCode | None = None
    error: str | None = None
    caused: tuple[Caused, ...] = ()
    registers_consumer: bool = False


class Ignored(StrEnum):
    """A signal that does not apply: nothing is recorded or remembered, only counted."""

    IGNORED = "IGNORED"
