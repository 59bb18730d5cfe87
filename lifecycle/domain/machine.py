"""The state machine of a card: the single definition of which trigger leads from where to where.

`MACHINE` is read, never run: `TABLE` (what `decide` uses, a thousand times faster) and the
diagram are derived from it, and a test drives `transitions` itself against the table. A row
refers to its conditions (`guards.py`) and its effect (`effects.py`) by name. Cells of the rule
book's table that hold nothing but an error code are not transitions; they are in `REFUSAL`.

Conditions are of two sorts. A *choice* (`given`, `unless`) selects the row among those of one
cell: exactly one row of a cell fits any card and command. A *requirement* (`needs`) refuses the
operation when it fails, with the code that `REQUIREMENT` names.
"""

from enum import IntEnum, StrEnum
from typing import NamedTuple

from transitions import Machine

from lifecycle.domain.cards import TERMINAL, State
from lifecycle.domain.errors import ErrorCode
from lifecycle.domain.operations import Ignored


class Trigger(StrEnum):
    """The rows of domain.md 2.1. RENEW_V1 keeps the card id, RENEW_MOVING is v1 under another."""

    CREATE = "CREATE"
    REGISTER = "REGISTER"
    ACTIVATE = "ACTIVATE"
    SUSPEND = "SUSPEND"
    RESUME = "RESUME"
    REPLACE = "REPLACE"
    RENEW = "RENEW"
    RENEW_V1 = "RENEW_V1"
    RENEW_MOVING = "RENEW_MOVING"
    DELETE = "DELETE"
    LOCK = "LOCK"
    CARD_PRESENT = "CARD_PRESENT"
    EXPIRE = "EXPIRE"
    AUTO_RENEW = "AUTO_RENEW"
    DELETE_DUE = "DELETE_DUE"
    PRODUCE = "PRODUCE"
    CLICK_TO_PAY_ENROLMENT = "CLICK_TO_PAY_ENROLMENT"
    CLICK_TO_PAY_UPDATE = "CLICK_TO_PAY_UPDATE"
    CLICK_TO_PAY_OPTOUT = "CLICK_TO_PAY_OPTOUT"
    UPDATE_CONTROLS = "UPDATE_CONTROLS"
    UPDATE_LIMITS = "UPDATE_LIMITS"


# A signal or timer that does not apply is ignored, whatever else is wrong with it (domain.md 8).
SIGNALS = frozenset(
    {
        Trigger.LOCK,
        Trigger.CARD_PRESENT,
        Trigger.EXPIRE,
        Trigger.AUTO_RENEW,
        Trigger.DELETE_DUE,
    }
)


class Stage(IntEnum):
    """When a requirement is judged: the numbers of design.md 5, "Which error"."""

    # Before all of them: does a signal or timer apply at all?
    APPLIES = 0
    EXISTENCE = 3
    STATE = 6
    # What comes after the fields that the card needs or forbids, which are still part of (6).
    AFTER_FIELDS = 7
    # (8), `encryptedData`, comes between: it is judged in `card_fields.py`.
    ANSWER = 9


class Requirement(NamedTuple):
    """What comes of an operation whose requirement fails, and when it is judged."""

    stage: Stage
    code: ErrorCode | Ignored


class Branch(NamedTuple):
    """One row of the machine, for the hot path: conditions and effect by name.

    `choices` are (name, value that it must have); `requirements` must all be true, and are judged
    in their order, stage by stage.
    """

    dest: State
    choices: tuple[tuple[str, bool], ...]
    requirements: tuple[str, ...]
    effect: str


REQUIREMENT: dict[str, Requirement] = {
    "first_use_activates": Requirement(Stage.APPLIES, Ignored.IGNORED),
    "new_plastic_is_used": Requirement(Stage.APPLIES, Ignored.IGNORED),
    "expiry_month_is_over": Requirement(Stage.APPLIES, Ignored.IGNORED),
    "automatic_renewal_is_due": Requirement(Stage.APPLIES, Ignored.IGNORED),
    "deletion_is_due": Requirement(Stage.APPLIES, Ignored.IGNORED),
    "card_id_is_reusable": Requirement(Stage.EXISTENCE, ErrorCode.CARD_ID_IN_USE),
    "product_is_defined": Requirement(Stage.EXISTENCE, ErrorCode.CARD_PRODUCT_NOT_FOUND),
    "consumer_may_get_a_card": Requirement(Stage.EXISTENCE, ErrorCode.CONSUMER_NOT_ACTIVE),
    "no_renewal_waits": Requirement(Stage.STATE, ErrorCode.RENEWAL_IN_PROGRESS),
    "card_can_be_renewed": Requirement(Stage.STATE, ErrorCode.REPLACEMENT_REQUIRED),
    "a_renewal_waits": Requirement(Stage.STATE, ErrorCode.CARD_EXPIRED),
    "replacement_is_due": Requirement(Stage.STATE, ErrorCode.CARD_EXPIRED),
    "reason_is_stronger": Requirement(Stage.STATE, ErrorCode.ALREADY_SUSPENDED),
    "product_may_have_a_real_card": Requirement(Stage.STATE, ErrorCode.FIELD_INVALID_VALUE),
    "real_card_is_active": Requirement(Stage.STATE, ErrorCode.CARD_NOT_ACTIVE),
    "real_card_has_room": Requirement(Stage.STATE, ErrorCode.VIRTUAL_CARD_LIMIT_REACHED),
    "new_card_id_is_free": Requirement(Stage.AFTER_FIELDS, ErrorCode.CARD_ID_IN_USE),
    "consumer_is_not_deleted": Requirement(Stage.AFTER_FIELDS, ErrorCode.CONSUMER_NOT_ACTIVE),
    "consumer_is_active": Requirement(Stage.AFTER_FIELDS, ErrorCode.CONSUMER_NOT_ACTIVE),
    "real_card_has_not_left": Requirement(Stage.AFTER_FIELDS, ErrorCode.CARD_NOT_ACTIVE),
    "card_can_be_resumed": Requirement(Stage.AFTER_FIELDS, ErrorCode.REPLACEMENT_REQUIRED),
    "reason_resumes": Requirement(Stage.AFTER_FIELDS, ErrorCode.INVALID_REASON),
    "answer_is_right": Requirement(Stage.ANSWER, ErrorCode.ACTIVATION_FAILED),
}

# The machine's name for "the issuer has no such card": None in `TABLE` and `REFUSAL`.
NO_CARD = "NO_CARD"

_Row = dict[str, object]


def _row(  # noqa: PLR0913 - a row of a table, its columns by name
    trigger: Trigger,
    source: State | str,
    dest: State,
    effect: str,
    *,
    given: tuple[str, ...] = (),
    unless: tuple[str, ...] = (),
    needs: tuple[str, ...] = (),
) -> _Row:
    return {
        "trigger": trigger.value,
        "source": source,
        "dest": dest,
        "conditions": [*given, *needs],
        "unless": [*unless],
        "before": effect,
    }


_INACTIVE, _ACTIVE, _SUSPENDED, _EXPIRED = (
    State.INACTIVE,
    State.ACTIVE,
    State.SUSPENDED,
    State.EXPIRED,
)
_CREATE_NEEDS = (
    "product_is_defined",
    "consumer_may_get_a_card",
    "product_may_have_a_real_card",
    "real_card_is_active",
    "real_card_has_room",
)
_REGISTER_AGAIN_NEEDS = ("card_id_is_reusable", *_CREATE_NEEDS)
_ACTIVATE_NEEDS = ("consumer_is_active", "answer_is_right")
_END_OF_RENEWAL_NEEDS = ("card_can_be_renewed", "a_renewal_waits", *_ACTIVATE_NEEDS)
_RENEW_NEEDS = ("no_renewal_waits", "card_can_be_renewed")
_NEW_CARD_NEEDS = ("new_card_id_is_free", "consumer_is_not_deleted", "real_card_has_not_left")
# Under another id also a lost card may be renewed (domain.md 2.1), unless it has EXPIRED (8).
_MOVE_NEEDS = ("no_renewal_waits", *_NEW_CARD_NEEDS)
_MOVE_EXPIRED_NEEDS = (*_RENEW_NEEDS, *_NEW_CARD_NEEDS)
_RESUME_NEEDS = ("consumer_is_active", "card_can_be_resumed", "reason_resumes")


def _create() -> list[_Row]:
    on = Trigger.CREATE
    asked = ("inactive_is_asked",)
    return [
        _row(on, NO_CARD, _INACTIVE, "issue", given=asked, needs=_CREATE_NEEDS),
        _row(on, NO_CARD, _ACTIVE, "issue", unless=asked, needs=_CREATE_NEEDS),
    ]


def _register() -> list[_Row]:
    """A REGISTER may begin a new life of an id whose card left for good (domain.md 4)."""
    on = Trigger.REGISTER
    asked = ("inactive_is_asked",)
    lives = [(NO_CARD, _CREATE_NEEDS), *((ended, _REGISTER_AGAIN_NEEDS) for ended in TERMINAL)]
    return [
        row
        for source, needs in lives
        for row in (
            _row(on, source, _INACTIVE, "register", given=asked, needs=needs),
            _row(on, source, _ACTIVE, "register", unless=asked, needs=needs),
        )
    ]


def _activate() -> list[_Row]:
    on = Trigger.ACTIVATE
    waits = ("renewal_is_pending",)
    held = ("suspended_before",)
    ends = _END_OF_RENEWAL_NEEDS
    return [
        _row(on, _INACTIVE, _ACTIVE, "activate", needs=_ACTIVATE_NEEDS),
        _row(on, _ACTIVE, _ACTIVE, "activate", given=waits, needs=_ACTIVATE_NEEDS),
        _row(on, _ACTIVE, _ACTIVE, "change_nothing", unless=waits, needs=("consumer_is_active",)),
        _row(on, _EXPIRED, _SUSPENDED, "activate", given=held, needs=ends),
        _row(on, _EXPIRED, _ACTIVE, "activate", unless=held, needs=ends),
    ]


def _suspend_and_resume() -> list[_Row]:
    stronger = ("reason_is_stronger",)
    return [
        _row(Trigger.SUSPEND, _ACTIVE, _SUSPENDED, "suspend"),
        _row(Trigger.SUSPEND, _SUSPENDED, _SUSPENDED, "suspend", needs=stronger),
        _row(Trigger.RESUME, _SUSPENDED, _ACTIVE, "resume", needs=_RESUME_NEEDS),
    ]


def _replace() -> list[_Row]:
    on = Trigger.REPLACE
    due = ("replacement_is_due", *_NEW_CARD_NEEDS)
    return [
        _row(on, _INACTIVE, State.REPLACED, "replace_card", needs=_NEW_CARD_NEEDS),
        _row(on, _ACTIVE, State.REPLACED, "replace_card", needs=_NEW_CARD_NEEDS),
        _row(on, _SUSPENDED, State.REPLACED, "replace_card", needs=_NEW_CARD_NEEDS),
        _row(on, _EXPIRED, State.REPLACED, "replace_card", needs=due),
    ]


def _renew() -> list[_Row]:
    on = Trigger.RENEW
    plastic = ("card_is_physical",)
    held = ("suspended_before",)
    idle, needs = ("no_renewal_waits",), _RENEW_NEEDS
    at_once, later = "renew_at_once", "start_renewal"
    return [
        _row(on, _ACTIVE, _ACTIVE, later, given=plastic, needs=idle),
        _row(on, _ACTIVE, _ACTIVE, at_once, unless=plastic, needs=idle),
        _row(on, _SUSPENDED, _SUSPENDED, later, given=plastic, needs=needs),
        _row(on, _SUSPENDED, _SUSPENDED, at_once, unless=plastic, needs=needs),
        _row(on, _EXPIRED, _EXPIRED, later, given=plastic, needs=needs),
        _row(on, _EXPIRED, _SUSPENDED, at_once, given=held, unless=plastic, needs=needs),
        _row(on, _EXPIRED, _ACTIVE, at_once, unless=(*plastic, *held), needs=needs),
    ]


def _renew_v1() -> list[_Row]:
    """In place, newCardId = cardId. A SUSPENDED card is renewed as by v2 (domain.md 8)."""
    on = Trigger.RENEW_V1
    plastic = ("card_is_physical",)
    held = ("suspended_before",)
    asked = ("inactive_is_asked",)
    idle, needs = ("no_renewal_waits",), _RENEW_NEEDS
    at_once, later = "renew_at_once", "start_renewal"
    return [
        _row(on, _ACTIVE, _INACTIVE, at_once, given=asked, needs=idle),
        _row(on, _ACTIVE, _ACTIVE, at_once, unless=asked, needs=idle),
        _row(on, _SUSPENDED, _SUSPENDED, later, given=plastic, needs=needs),
        _row(on, _SUSPENDED, _SUSPENDED, at_once, unless=plastic, needs=needs),
        _row(on, _EXPIRED, _SUSPENDED, at_once, given=held, needs=needs),
        _row(on, _EXPIRED, _INACTIVE, at_once, given=asked, unless=held, needs=needs),
        _row(on, _EXPIRED, _ACTIVE, at_once, unless=(*held, *asked), needs=needs),
    ]


def _renew_moving() -> list[_Row]:
    """The card leaves, its successor has another id and number (domain.md 2.1).

    Without the number nothing changes until the issuer's CMS has sent it (domain.md 3.3).
    """
    on = Trigger.RENEW_MOVING
    there, lost = ("number_is_there",), ("reason_replaces",)
    found = (*there, *lost)
    sources = [(_ACTIVE, _MOVE_NEEDS), (_SUSPENDED, _MOVE_NEEDS), (_EXPIRED, _MOVE_EXPIRED_NEEDS)]
    return [
        row
        for source, needs in sources
        for row in (
            _row(on, source, source, "ask_outside", unless=there, needs=needs),
            _row(on, source, State.REPLACED, "renew_moving", given=found, needs=needs),
            _row(on, source, State.RENEWED, "renew_moving", given=there, unless=lost, needs=needs),
        )
    ]


def _settings_and_outside_parties() -> list[_Row]:
    """The state stays; what an outside party does is told by its reply."""
    known = ("scheme_may_know_the_card",)
    make, optout = Trigger.PRODUCE, Trigger.CLICK_TO_PAY_OPTOUT
    return [
        *(
            _row(on, source, source, effect)
            for on, effect in (
                (Trigger.UPDATE_CONTROLS, "set_controls"),
                (Trigger.UPDATE_LIMITS, "set_limits"),
            )
            for source in (_INACTIVE, _ACTIVE, _SUSPENDED)
        ),
        *(_row(make, source, source, "ask_outside") for source in (_INACTIVE, _ACTIVE)),
        _row(Trigger.CLICK_TO_PAY_ENROLMENT, _ACTIVE, _ACTIVE, "ask_outside"),
        _row(Trigger.CLICK_TO_PAY_UPDATE, _ACTIVE, _ACTIVE, "ask_outside"),
        *(_row(optout, source, source, "ask_outside", given=known) for source in State),
        *(_row(optout, source, source, "change_nothing", unless=known) for source in State),
    ]


def _delete_and_lock() -> list[_Row]:
    new = ("lock_is_new",)
    return [
        *(
            _row(Trigger.DELETE, source, State.DELETED, "delete")
            for source in (_INACTIVE, _ACTIVE, _SUSPENDED, _EXPIRED)
        ),
        _row(Trigger.LOCK, _ACTIVE, _SUSPENDED, "lock"),
        _row(Trigger.LOCK, _SUSPENDED, _SUSPENDED, "lock", given=new),
        _row(Trigger.LOCK, _SUSPENDED, _SUSPENDED, "change_nothing", unless=new),
    ]


def _signals_and_timers() -> list[_Row]:
    plastic = ("card_is_physical",)
    due = ("automatic_renewal_is_due",)
    present, renew = Trigger.CARD_PRESENT, Trigger.AUTO_RENEW
    return [
        _row(present, _INACTIVE, _ACTIVE, "activate", needs=("first_use_activates",)),
        _row(present, _ACTIVE, _ACTIVE, "activate", needs=("new_plastic_is_used",)),
        *(
            _row(Trigger.EXPIRE, source, _EXPIRED, "expire", needs=("expiry_month_is_over",))
            for source in (_INACTIVE, _ACTIVE, _SUSPENDED)
        ),
        _row(renew, _ACTIVE, _ACTIVE, "start_renewal", given=plastic, needs=due),
        _row(renew, _ACTIVE, _ACTIVE, "renew_at_once", unless=plastic, needs=due),
        *(
            _row(
                Trigger.DELETE_DUE,
                source,
                State.DELETED,
                "delete_when_due",
                needs=("deletion_is_due",),
            )
            for source in (_INACTIVE, _ACTIVE, _SUSPENDED, _EXPIRED)
        ),
    ]


MACHINE = Machine(
    model=None,
    # And the initial one.
    states=list(State),
    initial=NO_CARD,
    transitions=[
        *_create(),
        *_register(),
        *_activate(),
        *_suspend_and_resume(),
        *_replace(),
        *_renew(),
        *_renew_v1(),
        *_renew_moving(),
        *_delete_and_lock(),
        *_signals_and_timers(),
        *_settings_and_outside_parties(),
    ],
    auto_transitions=False,
)


def _state_of(name: str) -> State | None:
    return None if name == NO_CARD else State(name)


def _name(reference: object) -> str:
    """`transitions` takes names and functions; the rows above hold names only."""
    assert isinstance(reference, str)
    return reference


def _derived_table() -> dict[tuple[State | None, Trigger], tuple[Branch, ...]]:
    """Every row of `MACHINE`, by state and trigger, in the machine's order."""
    table: dict[tuple[State | None, Trigger], tuple[Branch, ...]] = {}
    for trigger in Trigger:
        for source, rows in MACHINE.events[trigger.value].transitions.items():
            table[_state_of(source), trigger] = tuple(
                Branch(
                    dest=State(_name(row.dest)),
                    choices=tuple(
                        (_name(condition.func), condition.target)
                        for condition in row.conditions
                        if condition.func not in REQUIREMENT
                    ),
                    requirements=tuple(
                        _name(condition.func)
                        for condition in row.conditions
                        if condition.func in REQUIREMENT
                    ),
                    effect=_name(row.before[0]),
                )
                for row in rows
            )
    return table


TABLE = _derived_table()

_NOT_FOUND_OR_TERMINAL: dict[State | None, ErrorCode | Ignored] = {
    None: ErrorCode.CARD_NOT_FOUND,
    State.RENEWED: ErrorCode.CARD_RENEWED,
    State.REPLACED: ErrorCode.CARD_REPLACED,
    State.DELETED: ErrorCode.CARD_DELETED,
}

_NOT_ACTIVE: dict[State | None, ErrorCode | Ignored] = dict.fromkeys(
    (_INACTIVE, _SUSPENDED, _EXPIRED), ErrorCode.CARD_NOT_ACTIVE
)

# The cells of domain.md 2.1 that are an error code whatever the command says, row by row. A cell
# whose code depends on the card is in the machine, and its code in `REQUIREMENT`.
_REFUSAL_ROWS: dict[Trigger, dict[State | None, ErrorCode | Ignored]] = {
    Trigger.CREATE: dict.fromkeys(State, ErrorCode.CARD_ID_IN_USE),
    Trigger.REGISTER: dict.fromkeys(
        (_INACTIVE, _ACTIVE, _SUSPENDED, _EXPIRED), ErrorCode.CARD_ID_IN_USE
    ),
    Trigger.ACTIVATE: {_SUSPENDED: ErrorCode.OPERATION_NOT_ALLOWED},
    Trigger.SUSPEND: {_INACTIVE: ErrorCode.NOT_ACTIVATED, _EXPIRED: ErrorCode.CARD_EXPIRED},
    Trigger.RESUME: {
        _INACTIVE: ErrorCode.NOT_ACTIVATED,
        _ACTIVE: ErrorCode.NOT_SUSPENDED,
        _EXPIRED: ErrorCode.CARD_EXPIRED,
    },
    Trigger.REPLACE: {},
    Trigger.RENEW: {_INACTIVE: ErrorCode.NOT_ACTIVATED},
    Trigger.RENEW_V1: {_INACTIVE: ErrorCode.NOT_ACTIVATED},
    Trigger.RENEW_MOVING: {_INACTIVE: ErrorCode.NOT_ACTIVATED},
    Trigger.DELETE: {},
    Trigger.PRODUCE: dict.fromkeys((_SUSPENDED, _EXPIRED), ErrorCode.OPERATION_NOT_ALLOWED),
    Trigger.CLICK_TO_PAY_ENROLMENT: _NOT_ACTIVE,
    Trigger.CLICK_TO_PAY_UPDATE: _NOT_ACTIVE,
    Trigger.CLICK_TO_PAY_OPTOUT: {None: ErrorCode.CARD_NOT_FOUND},
    Trigger.UPDATE_CONTROLS: {_EXPIRED: ErrorCode.OPERATION_NOT_ALLOWED},
    Trigger.UPDATE_LIMITS: {_EXPIRED: ErrorCode.OPERATION_NOT_ALLOWED},
    **{
        signal: dict.fromkeys(
            (state for state in (None, *State) if (state, signal) not in TABLE), Ignored.IGNORED
        )
        for signal in SIGNALS
    },
}

# Triggers for which an unknown card or a terminal state is nothing special. Nor is it for a signal,
# whose row says so of each state by itself.
_RULED_WHOLE = frozenset({Trigger.CREATE, Trigger.REGISTER, Trigger.CLICK_TO_PAY_OPTOUT})

REFUSAL: dict[tuple[State | None, Trigger], ErrorCode | Ignored] = {
    (state, trigger): code
    for trigger, row in _REFUSAL_ROWS.items()
    for state, code in (row if trigger in _RULED_WHOLE else _NOT_FOUND_OR_TERMINAL | row).items()
}

assert TABLE.keys().isdisjoint(REFUSAL), "a cell is a transition or a refusal"
assert TABLE.keys() | REFUSAL.keys() == {
    (state, trigger) for state in (None, *State) for trigger in Trigger
}, "each cell of state and trigger is ruled"
