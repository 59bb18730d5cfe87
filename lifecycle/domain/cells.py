"""The machine and the tables of commands, compiled into functions once, when it is loaded.

`machine.py` refers to conditions and effects by name; here each cell of domain.md 2.1 has the
functions themselves, its requirements sorted by the stage at which they are judged.
"""

from collections.abc import Callable
from typing import NamedTuple

from lifecycle.domain.card_fields import moves, refused_by_card, refused_by_credentials
from lifecycle.domain.cards import State
from lifecycle.domain.commands import CardCommand, CommandName, Renew
from lifecycle.domain.effects import EFFECTS, Outcome
from lifecycle.domain.errors import ErrorCode
from lifecycle.domain.fields import Refusal
from lifecycle.domain.guards import GUARDS, Case
from lifecycle.domain.machine import REFUSAL, REQUIREMENT, TABLE, Branch, Stage, Trigger
from lifecycle.domain.operations import Ignored, OperationKind
from lifecycle.domain.reasons import ACCEPTED, ACCEPTED_BY_RENEW_V1

Guard = Callable[[Case], bool]


class Row(NamedTuple):
    """A `Branch` with functions for names, and its requirements sorted by stage."""

    dest: State
    choices: tuple[tuple[Guard, bool], ...]
    applies: tuple[Guard, ...]
    existence: tuple[tuple[Guard, ErrorCode], ...]
    state: tuple[tuple[Guard, ErrorCode], ...]
    after_fields: tuple[tuple[Guard, ErrorCode], ...]
    answer: tuple[tuple[Guard, ErrorCode], ...]
    effect: Callable[[Case, State], Outcome]


class Cell(NamedTuple):
    """A cell of domain.md 2.1: ignored, refused for what it is, or the rows of which one fits."""

    ignored: bool
    refusal: ErrorCode | None
    rows: tuple[Row, ...]


class Rule(NamedTuple):
    """What a trigger says of its command, whatever the state."""

    name: CommandName
    kind: OperationKind
    accepted_reasons: frozenset[str] | None


def trigger_of(command: CardCommand) -> Trigger:
    """The row of domain.md 2.1 that the command is judged by."""
    if isinstance(command, Renew) and command.new_card_id is not None:
        return Trigger.RENEW_MOVING if moves(command) else Trigger.RENEW_V1
    return _TRIGGERS[command.command]


def fitting_row(cell: Cell, case: Case) -> Row | None:
    """The one row whose choices fit; None in a cell that is an error code."""
    for row in cell.rows:
        for guard, value in row.choices:
            if guard(case) is not value:
                break
        else:
            return row
    assert not cell.rows, "the choices of a cell leave no case out"
    return None


def refused_by_state(cell: Cell, row: Row | None, case: Case) -> Refusal | None:
    """Steps (6) to (9) of design.md 5, "Which error"."""
    if row is None:
        assert cell.refusal is not None, "a cell has rows or an error code"
        return Refusal(cell.refusal)
    # (6) What else the cell asks for; then the fields that this card needs, forbids or outgrows.
    code = unmet(row.state, case)
    if code is not None:
        return Refusal(code)
    refusal = refused_by_card(case)
    if refusal is not None:
        return refusal
    # (6) CARD_ID_IN_USE of the new card; (7) consumer, then reason matrix.
    code = unmet(row.after_fields, case)
    if code is not None:
        return Refusal(code)
    # (8) The number; (9) the answer.
    refusal = refused_by_credentials(case, is_answer_asked=bool(row.answer))
    if refusal is not None:
        return refusal
    code = unmet(row.answer, case)
    return None if code is None else Refusal(code)


def unmet(requirements: tuple[tuple[Guard, ErrorCode], ...], case: Case) -> ErrorCode | None:
    """The code of the first requirement that fails."""
    for guard, code in requirements:
        if not guard(case):
            return code
    return None


def _row(branch: Branch) -> Row:
    def stage(wanted: Stage) -> tuple[tuple[Guard, ErrorCode], ...]:
        return tuple(
            (GUARDS[name], code)
            for name in branch.requirements
            if REQUIREMENT[name].stage is wanted
            and isinstance(code := REQUIREMENT[name].code, ErrorCode)
        )

    return Row(
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
_RENEW_V1 = Rule(CommandName.RENEW, OperationKind.RENEW, ACCEPTED_BY_RENEW_V1)
_OF_RENEW_V1 = (Trigger.RENEW_V1, Trigger.RENEW_MOVING)


def _rule(trigger: Trigger) -> Rule:
    if trigger in _OF_RENEW_V1:
        return _RENEW_V1
    name = CommandName(trigger.value)
    kind = _SHOWN_AS.get(trigger) or OperationKind(trigger.value)
    return Rule(name, kind, ACCEPTED.get(name))


def _cell(state: State | None, trigger: Trigger) -> Cell:
    refusal = REFUSAL.get((state, trigger))
    rows = tuple(_row(branch) for branch in TABLE.get((state, trigger), ()))
    if refusal is Ignored.IGNORED:
        return Cell(ignored=True, refusal=None, rows=rows)
    return Cell(ignored=False, refusal=refusal, rows=rows)


CELLS: dict[tuple[State | None, Trigger], Cell] = {
    (state, trigger): _cell(state, trigger) for state in (None, *State) for trigger in Trigger
}
RULES: dict[Trigger, Rule] = {trigger: _rule(trigger) for trigger in Trigger}
_TRIGGERS: dict[str, Trigger] = {trigger.value: trigger for trigger in Trigger}
