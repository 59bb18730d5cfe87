"""The decision: a subject, a command and its context give the operation that is recorded.

Pure and total: whatever strings a command holds and whatever state its subject is in, the answer
is a value. The order of the checks is that of design.md 5, "Which error"; what each state allows
is in `machine.py`, compiled here into functions once, when the module is loaded. Consumers and
products, which have no machine, are decided in `decide_consumer.py` and `decide_product.py`.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from lifecycle.domain.card_fields import moves, refused_by_card, refused_by_credentials
from lifecycle.domain.cards import TERMINAL, Card, State
from lifecycle.domain.commands import CardCommand, CommandName, Renew, SetLock
from lifecycle.domain.decide_consumer import decide_consumer
from lifecycle.domain.decide_product import decide_product
from lifecycle.domain.defaults import default_reason_code
from lifecycle.domain.effects import EFFECTS, Outcome
from lifecycle.domain.errors import ErrorCode
from lifecycle.domain.fields import Judged, Refusal, judge
from lifecycle.domain.guards import GUARDS, Case, effective_state
from lifecycle.domain.machine import REFUSAL, REQUIREMENT, TABLE, Branch, Stage, Trigger
from lifecycle.domain.numbers import number_changes
from lifecycle.domain.operations import (
    NO_DETAILS,
    Caused,
    Context,
    Decision,
    Ignored,
    OperationKind,
    Status,
)
from lifecycle.domain.reasons import (
    ACCEPTED,
    ACCEPTED_BY_RENEW_V1,
    REAL_CARD_CASCADE_REASON,
    is_accepted,
    may_resume,
)
from lifecycle.domain.refusals import is_stale, refused

__all__ = ["decide_card", "decide_consumer", "decide_product", "effective_state"]

_Guard = Callable[[Case], bool]

_EXISTENCE_CODES = frozenset({ErrorCode.CARD_NOT_FOUND, ErrorCode.CARD_ID_IN_USE})


class _Row(NamedTuple):
    """A `Branch` with functions for names, and its requirements sorted by stage."""

    dest: State
    choices: tuple[tuple[_Guard, bool], ...]
    applies: tuple[_Guard, ...]
    existence: tuple[tuple[_Guard, ErrorCode], ...]
    state: tuple[tuple[_Guard, ErrorCode], ...]
    after_fields: tuple[tuple[_Guard, ErrorCode], ...]
    answer: tuple[tuple[_Guard, ErrorCode], ...]
    effect: Callable[[Case, State], Outcome]


class _Cell(NamedTuple):
    """A cell of domain.md 2.1: ignored, refused for what it is, or the rows of which one fits."""

    ignored: bool
    refusal: ErrorCode | None
    rows: tuple[_Row, ...]


class _Rule(NamedTuple):
    """What a trigger says of its command, whatever the state."""

    name: CommandName
    kind: OperationKind
    accepted_reasons: frozenset[str] | None


def _row(branch: Branch) -> _Row:
    def stage(wanted: Stage) -> tuple[tuple[_Guard, ErrorCode], ...]:
        return tuple(
            (GUARDS[name], code)
            for name in branch.requirements
            if REQUIREMENT[name].stage is wanted
            and isinstance(code := REQUIREMENT[name].code, ErrorCode)
        )

    return _Row(
        dest=branch.dest,
        choices=tuple((GUARDS[name], value) for name, value in branch.choices),
        applies=tuple(
            GUARDS[name] for name in branch.requirements if REQUIREMENT[name].stage is Stage.APPLIES
        ),
        existence=stage(Stage.EXISTENCE),
        state=stage(Stage.STATE),
        after_fields=stage(Stage.AFTER_FIELDS),
        answer=stage(Stage.ANSWER),
        effect=EFFECTS[branch.effect],
    )


# domain.md 8, "Operations and events".
_SHOWN_AS = {
    Trigger.CARD_PRESENT: OperationKind.ACTIVATE,
    Trigger.AUTO_RENEW: OperationKind.RENEW,
    Trigger.DELETE_DUE: OperationKind.DELETE,
}
_RENEW_V1 = _Rule(CommandName.RENEW, OperationKind.RENEW, ACCEPTED_BY_RENEW_V1)


def _rule(trigger: Trigger) -> _Rule:
    if trigger in (Trigger.RENEW_V1, Trigger.RENEW_MOVING):
        return _RENEW_V1
    name = CommandName(trigger.value)
    kind = _SHOWN_AS.get(trigger) or OperationKind(trigger.value)
    return _Rule(name, kind, ACCEPTED.get(name))


def _cell(state: State | None, trigger: Trigger) -> _Cell:
    refusal = REFUSAL.get((state, trigger))
    rows = tuple(_row(branch) for branch in TABLE.get((state, trigger), ()))
    if refusal is Ignored.IGNORED:
        return _Cell(ignored=True, refusal=None, rows=rows)
    return _Cell(ignored=False, refusal=refusal, rows=rows)


_CELLS: dict[tuple[State | None, Trigger], _Cell] = {
    (state, trigger): _cell(state, trigger) for state in (None, *State) for trigger in Trigger
}
_RULES: dict[Trigger, _Rule] = {trigger: _rule(trigger) for trigger in Trigger}
_TRIGGERS: dict[str, Trigger] = {
    trigger.value: trigger
    for trigger in Trigger
    if trigger not in (Trigger.RENEW_V1, Trigger.RENEW_MOVING)
}
_CREATION = frozenset({Trigger.CREATE, Trigger.REGISTER})


def decide_card(card: Card | None, command: CardCommand, context: Context) -> Decision | Ignored:
    """Decide a command about a card; `card` is None when the issuer has no such card.

    `Context` says what the caller serves for which command; what is not served counts as absent.
    """
    trigger = _TRIGGERS[command.command]
    if isinstance(command, Renew) and command.new_card_id is not None:
        trigger = Trigger.RENEW_MOVING if moves(command) else Trigger.RENEW_V1
    rule = _RULES[trigger]
    cell = _CELLS[_state_for(trigger, card, context), trigger]
    if cell.ignored:
        return Ignored.IGNORED

    judged = judge(command, rule.name, context.start_time_ms)
    reason_code = judged.reason_code
    if command.reason_code is None:
        reason_code = default_reason_code(rule.name, judged.requestor.type)
    case = Case(card, command, reason_code, context)
    row = _fitting_row(cell, case)
    if row is not None and not all(guard(case) for guard in row.applies):
        return Ignored.IGNORED
    refusal = _refused_by_command(rule, cell, row, case, judged)
    if refusal is None:
        if row is None:
            assert cell.refusal is not None, "a cell has rows or an error code"
            refusal = Refusal(cell.refusal)
        else:
            refusal = _refused_by_card(row, case)
    if refusal is not None:
        return refused(rule.kind, judged, refusal, card)

    assert row is not None, "a cell without rows has refused"
    after, caused = row.effect(case, row.dest)
    return Decision(
        kind=rule.kind,
        status=Status.SUCCESSFUL,
        requestor=judged.requestor,
        reason_code=reason_code,
        reason=judged.reason,
        correlation_id=judged.correlation_id,
        details=_details(rule.kind, command, after, caused),
        subject=after,
        caused=caused,
        registers_consumer=trigger in _CREATION and context.consumer_state is None,
        cascade_reason=_cascade_reason(card, after),
        numbers=number_changes(card, after, caused, is_given=_renews_number(command)),
    )


def _state_for(trigger: Trigger, card: Card | None, context: Context) -> State | None:
    """The state that the decision goes by; EXPIRE alone looks at the stored one (domain.md 8)."""
    if card is None:
        return None
    return card.state if trigger is Trigger.EXPIRE else effective_state(card, context)


def _cascade_reason(before: Card | None, after: Card) -> str | None:
    """The reason with which the virtual cards of a card that has left for good are deleted."""
    has_left = after.state in TERMINAL and before is not None and before.state not in TERMINAL
    return REAL_CARD_CASCADE_REASON if has_left else None


def _renews_number(command: CardCommand) -> bool:
    return isinstance(command, Renew) and command.encrypted_data is not None


def _details(
    kind: OperationKind, command: CardCommand, after: Card, caused: tuple[Caused, ...]
) -> Mapping[str, str]:
    """What the operation tells of its kind beside the card (domain.md 5, `details`)."""
    match kind:
        case OperationKind.LOCK:
            assert isinstance(command, SetLock)
            return {"lock": command.lock}
        case OperationKind.REPLACE:
            return {"newCardId": caused[0].card.card_id}
        case OperationKind.RENEW if isinstance(command, Renew) and moves(command):
            successor = caused[0].card
            return {"newCardId": successor.card_id, "newExp": successor.exp or ""}
        case OperationKind.RENEW:
            new_exp = after.pending_exp or after.exp
            return {} if new_exp is None else {"newExp": new_exp}
        case _:
            return NO_DETAILS


def _fitting_row(cell: _Cell, case: Case) -> _Row | None:
    """The one row whose choices fit; None in a cell that is an error code."""
    for row in cell.rows:
        for guard, value in row.choices:
            if guard(case) is not value:
                break
        else:
            return row
    assert not cell.rows, "the choices of a cell leave no case out"
    return None


def _refused_by_command(
    rule: _Rule, cell: _Cell, row: _Row | None, case: Case, judged: Judged
) -> Refusal | None:
    """Steps (3) to (5) of design.md 5, "Which error": before the card's state is looked at."""
    # (3) Does what the command names exist? An existing card stands in the way of CREATE.
    if cell.refusal is not None and cell.refusal in _EXISTENCE_CODES:
        return Refusal(cell.refusal)
    code = None if row is None else _unmet(row.existence, case)
    if code is not None:
        return Refusal(code)
    refusal = _refused_by_fields(rule, case, judged)
    if refusal is not None:
        return refusal
    # (5) Has the card changed since the command was meant?
    if is_stale(judged, case.context):
        return Refusal(ErrorCode.STALE_COMMAND)
    return None


def _refused_by_fields(rule: _Rule, case: Case, judged: Judged) -> Refusal | None:
    """Step (4): patterns and values, then the reason, then the text that a REPLACE must carry."""
    if judged.refusal is not None:
        return judged.refusal
    if not is_accepted(rule.accepted_reasons, case.reason_code) or (
        rule.name is CommandName.RESUME and not may_resume(judged.requestor.type, case.reason_code)
    ):
        return Refusal(ErrorCode.INVALID_REASON)
    if rule.name is CommandName.REPLACE and case.command.reason is None:
        return Refusal(ErrorCode.FIELD_MISSING, "reason")
    return None


def _refused_by_card(row: _Row, case: Case) -> Refusal | None:
    """Steps (6) to (9), in a cell that is not an error code."""
    # (6) What else the cell asks for; then the fields that this card needs, forbids or outgrows.
    code = _unmet(row.state, case)
    if code is not None:
        return Refusal(code)
    refusal = refused_by_card(case)
    if refusal is not None:
        return refusal
    # (6) CARD_ID_IN_USE of the new card; (7) consumer, then reason matrix.
    code = _unmet(row.after_fields, case)
    if code is not None:
        return Refusal(code)
    # (8) The number; (9) the answer.
    refusal = refused_by_credentials(case)
    if refusal is not None:
        return refusal
    code = _unmet(row.answer, case)
    return None if code is None else Refusal(code)


def _unmet(requirements: tuple[tuple[_Guard, ErrorCode], ...], case: Case) -> ErrorCode | None:
    """The code of the first requirement that fails."""
    for guard, code in requirements:
        if not guard(case):
            return code
    return None
