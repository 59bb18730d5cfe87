"""What a command led to: the decision that is recorded as an operation (domain.md 5)."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from lifecycle.domain.cards import Card
from lifecycle.domain.commands import CardCommand, Requestor
from lifecycle.domain.consumers import Consumer, ConsumerState
from lifecycle.domain.credentials import Credentials
from lifecycle.domain.errors import ErrorCode
from lifecycle.domain.fields import Refusal
from lifecycle.domain.products import Product, ProductTerms


class OperationKind(StrEnum):
    """The kinds of domain.md 5 that are built."""

    CREATE = "CREATE"
    REGISTER = "REGISTER"
    ACTIVATE = "ACTIVATE"
    SUSPEND = "SUSPEND"
    RESUME = "RESUME"
    DELETE = "DELETE"
    RENEW = "RENEW"
    REPLACE = "REPLACE"
    LOCK = "LOCK"
    EXPIRE = "EXPIRE"
    PRODUCE = "PRODUCE"
    UPDATE_CONTROLS = "UPDATE_CONTROLS"
    UPDATE_LIMITS = "UPDATE_LIMITS"
    CLICK_TO_PAY_ENROLMENT = "CLICK_TO_PAY_ENROLMENT"
    CLICK_TO_PAY_UPDATE = "CLICK_TO_PAY_UPDATE"
    CLICK_TO_PAY_OPTOUT = "CLICK_TO_PAY_OPTOUT"
    RELINK = "RELINK"
    CONSUMER_REGISTER = "CONSUMER_REGISTER"
    CONSUMER_DEACTIVATE = "CONSUMER_DEACTIVATE"
    CONSUMER_REACTIVATE = "CONSUMER_REACTIVATE"
    CONSUMER_DELETE = "CONSUMER_DELETE"
    PRODUCT_DEFINE = "PRODUCT_DEFINE"


class Status(StrEnum):
    """PENDING waits for an outside party."""

    SUCCESSFUL = "SUCCESSFUL"
    PENDING = "PENDING"
    FAILED = "FAILED"


NO_DETAILS: Mapping[str, str] = MappingProxyType({})
"""The `details` of most operations."""


OUTSIDE_KINDS = frozenset(
    {
        OperationKind.RENEW,
        OperationKind.PRODUCE,
        OperationKind.CLICK_TO_PAY_ENROLMENT,
        OperationKind.CLICK_TO_PAY_UPDATE,
        OperationKind.CLICK_TO_PAY_OPTOUT,
    }
)
"""The kinds that may be PENDING; each has its own time-out (domain.md 5)."""


class Request(NamedTuple):
    """What an outside party is asked to do: `kind` and `data` of a request (design.md 2)."""

    kind: OperationKind
    data: Mapping[str, str]


class Reply(NamedTuple):
    """What an outside party answered; its `encryptedData`, if any, is in `Context.opened`.

    `error_code` is as sent, for an answer that is not successful.
    """

    is_successful: bool
    error_code: str | None = None


class Pending(NamedTuple):
    """A PENDING operation: what the decision that ends it must know of the one that began it.

    Times are milliseconds since the epoch. `incarnation` is the card's when the operation began.
    """

    command: CardCommand
    start_time_ms: int
    deadline_ms: int
    incarnation: int


class Context(NamedTuple):
    """Everything beside the subject that a decision may look at. All of it is read under locks.

    `start_time_ms`: when the operation starts, from the record (design.md 4), never a clock.
    `version_time_ms`: start of the operation that made the subject's current version, if any.
    `issuer_time_zone`: an IANA name; a card is usable through the last day of its expiry month
    there. `consumer_state`: of the card's consumer, or of the one that CREATE or REGISTER names;
    None when there is none. `product`: the terms that these two name, None when undefined; for a
    REPLACE or RENEW those that the card's product has now.

    `generated_card_id`: the id for the new card of a REPLACE, and whether it is taken.
    `generated_last4`: the last digits of the number drawn for the card that a CREATE, or a REPLACE
    of an issued card, makes; an error code when none could be drawn; None where the service keeps
    no numbers, so that the card has none.

    `opened`: what `encryptedData` holds, or why it does not open; None when nobody opened it.
    `pan_is_free`: the numbers in it never left with a card, and no live card of the issuer holds
    them but the one that is to get them. `card_cvv_matches`: whether the CVV in it is the card's,
    compared outside in constant time; None when it cannot be told.

    `predecessor`: the card that this one replaces. `new_card`: the holder of `newCardId`.
    `real_card`: the holder of `realCardId`, for a REPLACE or RENEW of the card's own one;
    `real_card_virtual_cards` counts the virtual cards of it that are not terminal.
    """

    start_time_ms: int
    version_time_ms: int | None = None
    issuer_time_zone: str = "UTC"
    consumer_state: ConsumerState | None = None
    product: ProductTerms | None = None
    generated_card_id: str | None = None
    generated_card_id_in_use: bool = False
    predecessor: Card | None = None
    generated_last4: str | ErrorCode | None = None
    opened: Credentials | Refusal | None = None
    pan_is_free: bool = False
    card_cvv_matches: bool | None = None
    new_card: Card | None = None
    real_card: Card | None = None
    real_card_virtual_cards: int = 0
    pending: Pending | None = None
    enrolment_is_pending: bool = False


class NumberChangeKind(StrEnum):
    """What becomes of the number of a card in the number vault.

    ASSIGN_GIVEN: it gets the one in `encryptedData`; ASSIGN_GENERATED: the one that was drawn. A
    number that the card had before is retired by either. KEEP_WITH_NEW_EXPIRY: only its expiry
    moves. RETIRE: it left with the card and never returns (domain.md 4).
    """

    ASSIGN_GIVEN = "ASSIGN_GIVEN"
    ASSIGN_GENERATED = "ASSIGN_GENERATED"
    KEEP_WITH_NEW_EXPIRY = "KEEP_WITH_NEW_EXPIRY"
    RETIRE = "RETIRE"


class NumberChange(NamedTuple):
    """One change of the number vault, to be made in the command's transaction, in their order."""

    kind: NumberChangeKind
    card_id: str


class Caused(NamedTuple):
    """An operation on another card that the command's own transaction records (design.md 4).

    It is SUCCESSFUL and shares commandId, correlationId and requestor with its cause.
    """

    kind: OperationKind
    card: Card
    details: Mapping[str, str] = NO_DETAILS


class Decision(NamedTuple):
    """What is recorded for a command, and the subject as it is afterwards.

    `subject` is the Card, Consumer or Product after the operation (the very same object when
    nothing changed, None when there is none). `requestor`, `reason_code`, `reason` and
    `correlation_id` are fit to be published: a value that broke its pattern is not among them.

    `registers_consumer`: the command's consumer is unknown and becomes ACTIVE. `numbers`: what the
    number vault has to do. `cascade_reason`: the subject has left for good, and each card of the
    consumer, or virtual card of the card, that is not terminal is to get a DELETE with this
    reasonCode (domain.md 8; its id is `timers.cascade_id`). `request`: what a PENDING operation
    asks of an outside party. `ends_pending`: this is the end of the PENDING operation, whose id,
    startTime, commandId and correlationId it keeps. `error_code` is an `ErrorCode`, or the outside
    party's own.
    """

    kind: OperationKind
    status: Status
    requestor: Requestor
    subject: Card | Consumer | Product | None
    reason_code: str | None = None
    reason: str | None = None
    correlation_id: str | None = None
    details: Mapping[str, str] = NO_DETAILS
    error_code: str | None = None
    error: str | None = None
    caused: tuple[Caused, ...] = ()
    registers_consumer: bool = False
    numbers: tuple[NumberChange, ...] = ()
    cascade_reason: str | None = None
    request: Request | None = None
    ends_pending: bool = False


class Ignored(StrEnum):
    """A signal or timer that does not apply: nothing is recorded or remembered, only counted."""

    IGNORED = "IGNORED"
