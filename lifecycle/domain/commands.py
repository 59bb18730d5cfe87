"""The commands, each with its own list of fields (design.md 3): what the wire is parsed into.

A field that is not part of the subject's identity holds what was sent, if it has the right JSON
type: patterns and values are judged by `decide`, because breaking them is a FAILED operation and
not a broken record. The pydantic types only name JSON types; pydantic does no I/O.
"""

from dataclasses import dataclass
from enum import StrEnum

from pydantic import ConfigDict, StrictBool, StrictFloat, StrictInt, with_config
from pydantic.alias_generators import to_camel

_wire = with_config(ConfigDict(extra="forbid", alias_generator=to_camel))


class SubjectKind(StrEnum):
    """What a command is about; part of every derived id (design.md 4)."""

    CARD = "card"
    CONSUMER = "consumer"
    PRODUCT = "product"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a command is about. Idempotency, versions and hash chains are kept per subject."""

    kind: SubjectKind
    issuer_id: str
    id: str


class CommandName(StrEnum):
    """The value of the field `command`."""

    CREATE = "CREATE"
    REGISTER = "REGISTER"
    ACTIVATE = "ACTIVATE"
    SUSPEND = "SUSPEND"
    RESUME = "RESUME"
    REPLACE = "REPLACE"
    RENEW = "RENEW"
    DELETE = "DELETE"
    LOCK = "LOCK"
    CARD_PRESENT = "CARD_PRESENT"
    EXPIRE = "EXPIRE"
    AUTO_RENEW = "AUTO_RENEW"
    DELETE_DUE = "DELETE_DUE"
    TIME_OUT = "TIME_OUT"
    UPDATE_CONTROLS = "UPDATE_CONTROLS"
    UPDATE_LIMITS = "UPDATE_LIMITS"
    PRODUCE = "PRODUCE"
    CLICK_TO_PAY_ENROLMENT = "CLICK_TO_PAY_ENROLMENT"
    CLICK_TO_PAY_UPDATE = "CLICK_TO_PAY_UPDATE"
    CLICK_TO_PAY_OPTOUT = "CLICK_TO_PAY_OPTOUT"
    CONSUMER_REGISTER = "CONSUMER_REGISTER"
    CONSUMER_DEACTIVATE = "CONSUMER_DEACTIVATE"
    CONSUMER_REACTIVATE = "CONSUMER_REACTIVATE"
    CONSUMER_DELETE = "CONSUMER_DELETE"
    PRODUCT_DEFINE = "PRODUCT_DEFINE"


class RequestorType(StrEnum):
    """Who asks (domain.md 5)."""

    ISSUER = "ISSUER"
    USER = "USER"
    TSP = "TSP"
    CCI = "CCI"
    SYSTEM = "SYSTEM"


@_wire
@dataclass(frozen=True, slots=True, kw_only=True)
class Requestor:
    """Who asks, as sent: `type` may hold a word that is no RequestorType."""

    type: str
    id: str


@_wire
@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What every command may carry beside its subject."""

    command_id: str
    command: str
    issuer_id: str
    requestor: Requestor | None = None
    reason_code: str | None = None
    reason: str | None = None
    effective_date: str | None = None
    correlation_id: str | None = None


@_wire
@dataclass(frozen=True, slots=True, kw_only=True)
class CardCommand(Command):
    """A command about a card."""

    card_id: str


@_wire
@dataclass(frozen=True, slots=True, kw_only=True)
class Create(CardCommand):
    """CREATE: a card issued by this platform. `delete_at` is ISO 8601 UTC.

    `real_card_id` is the card that a card of a VIRTUAL product stands for (design.md 3).
    """

    consumer_id: str
    card_product_id: str
    state: str | None = None
    name: str | None = None
    second_name: str | None = None
    status_reason: str | None = None
    delete_at: str | None = None
    real_card_id: str | None = None


@_wire
@dataclass(frozen=True, slots=True, kw_only=True)
class Register(Create):
    """REGISTER: a card that the issuer manages, its number and expiry in `encrypted_data`."""

    encrypted_data: str


@_wire
@dataclass(frozen=True, slots=True, kw_only=True)
class Activate(CardCommand):
    """ACTIVATE, with the answer that the product's activation method asks for."""

    last4: str | None = None
    encrypted_data: str | None = None


@_wire
@dataclass(frozen=True, slots=True, kw_only=True)
class Suspend(CardCommand):
    """SUSPEND."""


@_wire
@dataclass(frozen=True, slots=True, kw_only=True)
class Resume(CardCommand):
    """RESUME."""


@_wire
@dataclass(frozen=True, slots=True, kw_only=True)
class Replace(CardCommand):
    """REPLACE. A registered card needs both fields, an issued one forbids them (domain.md 3)."""

    new_card_id: str | None = None
    encrypted_data: str | None = None


@_wire
@dataclass(frozen=True, slots=True, kw_only=True)
class Renew(CardCommand):
    """RENEW: v2 without `new_card_id`, v1 with `new_card_id` and `new_card_state`."""

    new_card_id: str | None = None
    new_card_state: str | None = None
    new_card_product_id: str | None = None
    new_exp: str | None = None
    new_auxiliary_exp: str | None = None
    encrypted_data: str | None = None


@_wire
@dataclass(frozen=True, slots=True, kw_only=True)
class Delete(CardCommand):
    """DELETE: irreversible. `incarnation` is the life of the card id that is meant, if it is told.

    A cascade tells it: between its paging and this command the id may have begun another life.
    """

    incarnation: StrictInt | StrictFloat | None = None


@_wire
@dataclass(frozen=True, slots=True, kw_only=True)
class SetLock(CardCommand):
    """LOCK, from the authorisation system."""

    lock: str


@_wire
@dataclass(frozen=True, slots=True, kw_only=True)
class Signal(CardCommand):
    """CARD_PRESENT, from the authorisation system, and the timers EXPIRE, AUTO_RENEW, DELETE_DUE.

    They say no more than what they are about: what they do depends on the card and the time.
    """


@_wire
@dataclass(frozen=True, slots=True, kw_only=True)
class TimeOut(CardCommand):
    """TIME_OUT: nobody answered the PENDING operation `operation_id` in time."""

    operation_id: str


@_wire
@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateControls(CardCommand):
    """UPDATE_CONTROLS: the card's controls from now on, instead of those it had."""

    controls: dict[str, object]


@_wire
@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateLimits(CardCommand):
    """UPDATE_LIMITS: the card's limits from now on, instead of those it had."""

    limits: dict[str, object]


@_wire
@dataclass(frozen=True, slots=True, kw_only=True)
class Produce(CardCommand):
    """PRODUCE: the order of a plastic at the personalisation bureau."""

    distribution_channel: str


@_wire
@dataclass(frozen=True, slots=True, kw_only=True)
class ClickToPay(CardCommand):
    """CLICK_TO_PAY_ENROLMENT or CLICK_TO_PAY_UPDATE; `name` is the card holder's."""

    name: str


@_wire
@dataclass(frozen=True, slots=True, kw_only=True)
class ClickToPayOptout(CardCommand):
    """CLICK_TO_PAY_OPTOUT."""

    name: str | None = None


@_wire
@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerCommand(Command):
    """CONSUMER_REGISTER, CONSUMER_DEACTIVATE, CONSUMER_REACTIVATE or CONSUMER_DELETE."""

    consumer_id: str


@_wire
@dataclass(frozen=True, slots=True, kw_only=True)
class DefineProduct(Command):
    """PRODUCT_DEFINE. Absent fields take the defaults of `ProductTerms`."""

    card_product_id: str
    form: str
    scheme: str
    activation_method: str | None = None
    implicit_activation: StrictBool | None = None
    auto_renew: StrictBool | None = None
    auto_renew_days: StrictInt | StrictFloat | None = None
    transactions: StrictBool | None = None
    dynamic_cvv2: StrictBool | None = None
    validity_months: StrictInt | StrictFloat | None = None
    bin: str | None = None


COMMAND_CLASS: dict[CommandName, type[Command]] = {
    CommandName.CREATE: Create,
    CommandName.REGISTER: Register,
    CommandName.ACTIVATE: Activate,
    CommandName.SUSPEND: Suspend,
    CommandName.RESUME: Resume,
    CommandName.REPLACE: Replace,
    CommandName.RENEW: Renew,
    CommandName.DELETE: Delete,
    CommandName.LOCK: SetLock,
    CommandName.CARD_PRESENT: Signal,
    CommandName.EXPIRE: Signal,
    CommandName.AUTO_RENEW: Signal,
    CommandName.DELETE_DUE: Signal,
    CommandName.TIME_OUT: TimeOut,
    CommandName.UPDATE_CONTROLS: UpdateControls,
    CommandName.UPDATE_LIMITS: UpdateLimits,
    CommandName.PRODUCE: Produce,
    CommandName.CLICK_TO_PAY_ENROLMENT: ClickToPay,
    CommandName.CLICK_TO_PAY_UPDATE: ClickToPay,
    CommandName.CLICK_TO_PAY_OPTOUT: ClickToPayOptout,
    CommandName.CONSUMER_REGISTER: ConsumerCommand,
    CommandName.CONSUMER_DEACTIVATE: ConsumerCommand,
    CommandName.CONSUMER_REACTIVATE: ConsumerCommand,
    CommandName.CONSUMER_DELETE: ConsumerCommand,
    CommandName.PRODUCT_DEFINE: DefineProduct,
}


def subject_of(command: Command) -> Subject:
    """The card, consumer or product that `command` is about."""
    match command:
        case CardCommand():
            return Subject(SubjectKind.CARD, command.issuer_id, command.card_id)
        case ConsumerCommand():
            return Subject(SubjectKind.CONSUMER, command.issuer_id, command.consumer_id)
        case DefineProduct():
            return Subject(SubjectKind.PRODUCT, command.issuer_id, command.card_product_id)
    raise AssertionError(f"{type(command).__name__} has no subject")
