"""The table that decisions are made with is what `transitions` itself does with the machine."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from transitions import MachineError

from lifecycle.domain.cards import TERMINAL, State
from lifecycle.domain.cells import RULES
from lifecycle.domain.diagram import state_diagram
from lifecycle.domain.effects import EFFECTS
from lifecycle.domain.errors import ErrorCode
from lifecycle.domain.guards import GUARDS
from lifecycle.domain.machine import (
    MACHINE,
    NO_CARD,
    REFUSAL,
    REQUIREMENT,
    SIGNALS,
    TABLE,
    Branch,
    Trigger,
)
from lifecycle.domain.operations import OUTSIDE_KINDS, Ignored

PAIRS = [(state, trigger) for state in (None, *State) for trigger in Trigger]


def _names(branches: tuple[Branch, ...]) -> list[str]:
    """Every condition that the branches of a cell refer to."""
    used = {name for branch in branches for name, _ in branch.choices}
    return sorted(used | {name for branch in branches for name in branch.requirements})


def _holds(branch: Branch, truth: dict[str, bool]) -> bool:
    return all(truth[name] is value for name, value in branch.choices) and all(
        truth[name] for name in branch.requirements
    )


class _RealCard:
    """A model for `transitions`: conditions answer from `truth`, effects are written down."""

    state: object

    def __init__(self, truth: dict[str, bool]) -> None:
        self.effects: list[str] = []
        for name, value in truth.items():
            setattr(self, name, lambda value=value: value)
        for name in EFFECTS:
            setattr(self, name, lambda name=name: self.effects.append(name))


def _driven(state: State | None, trigger: Trigger, truth: dict[str, bool]) -> tuple[Any, ...]:
    """Where the machine itself goes, and by which effect; () when it does not move."""
    card = _RealCard(truth)
    MACHINE.add_model(card, initial=state or NO_CARD)
    try:
        # The model gets its `trigger` method from the machine.
        moved = getattr(card, "trigger")(trigger.value)  # noqa: B009
    except MachineError:
        return ()
    finally:
        MACHINE.remove_model(card)
    return (card.state, *card.effects) if moved else ()


@pytest.mark.parametrize(("state", "trigger"), PAIRS)
def test_the_table_goes_where_the_machine_goes_under_every_condition(
    state: State | None, trigger: Trigger
) -> None:
    branches = TABLE.get((state, trigger), ())
    names = _names(branches)
    for values in product((False, True), repeat=len(names)):
        truth = dict(zip(names, values, strict=True))
        fitting = [branch for branch in branches if _holds(branch, truth)]
        expected = (fitting[0].dest, fitting[0].effect) if fitting else ()
        assert _driven(state, trigger, truth) == expected


@pytest.mark.parametrize(("state", "trigger"), PAIRS)
def test_the_choices_of_a_cell_fit_exactly_one_row(state: State | None, trigger: Trigger) -> None:
    branches = TABLE.get((state, trigger), ())
    names = sorted({name for branch in branches for name, _ in branch.choices})
    for values in product((False, True), repeat=len(names)):
        truth = dict(zip(names, values, strict=True))
        fitting = [b for b in branches if all(truth[n] is value for n, value in b.choices)]
        assert len(fitting) == (1 if branches else 0)


@pytest.mark.parametrize(("state", "trigger"), PAIRS)
def test_each_cell_is_a_transition_or_a_refusal(state: State | None, trigger: Trigger) -> None:
    assert ((state, trigger) in TABLE) is not ((state, trigger) in REFUSAL)


@pytest.mark.parametrize(("state", "trigger"), PAIRS)
def test_an_effect_that_sets_no_state_stands_in_rows_that_say_so(
    state: State | None, trigger: Trigger
) -> None:
    for branch in TABLE.get((state, trigger), ()):
        if branch.effect in ("change_nothing", "ask_outside", "set_controls", "set_limits"):
            assert branch.dest is state
        if branch.effect in ("suspend", "lock"):
            assert branch.dest is State.SUSPENDED


def test_each_condition_and_effect_of_the_machine_exists_and_is_used() -> None:
    used = {name for branches in TABLE.values() for name in _names(branches)}
    assert used == set(GUARDS)
    assert {branch.effect for branches in TABLE.values() for branch in branches} == set(EFFECTS)
    assert set(REQUIREMENT) <= used


# A REGISTER begins a new life, an opt-out of Click to Pay is always SUCCESSFUL.
OUT_OF_TERMINAL = (Trigger.REGISTER, Trigger.CLICK_TO_PAY_OPTOUT)


@pytest.mark.parametrize("state", sorted(TERMINAL))
@pytest.mark.parametrize("trigger", [one for one in Trigger if one not in OUT_OF_TERMINAL])
def test_nothing_but_a_new_life_leads_out_of_a_terminal_state(
    state: State, trigger: Trigger
) -> None:
    expected: ErrorCode | Ignored = {
        State.RENEWED: ErrorCode.CARD_RENEWED,
        State.REPLACED: ErrorCode.CARD_REPLACED,
        State.DELETED: ErrorCode.CARD_DELETED,
    }[state]
    if trigger in SIGNALS:
        expected = Ignored.IGNORED
    if trigger is Trigger.CREATE:
        expected = ErrorCode.CARD_ID_IN_USE
    assert REFUSAL[state, trigger] is expected


def test_the_machine_has_the_states_and_triggers_of_the_book_and_no_others() -> None:
    assert set(MACHINE.states) == {NO_CARD, *State}
    assert set(MACHINE.events) == {trigger.value for trigger in Trigger}
    assert MACHINE.models == []


def test_what_may_wait_is_what_asks_an_outside_party() -> None:
    asking = {
        RULES[trigger].kind
        for (_, trigger), branches in TABLE.items()
        if "ask_outside" in {branch.effect for branch in branches}
    }
    assert asking == OUTSIDE_KINDS


def test_the_diagram_of_the_docs_is_that_of_the_machine() -> None:
    page = Path(__file__).parents[2] / "docs" / "state-diagram.md"
    assert f"```mermaid\n{state_diagram()}```\n" in page.read_text()


def test_the_diagram_shows_each_pair_of_states_that_a_trigger_joins() -> None:
    drawn = state_diagram().splitlines()
    assert drawn[0] == "stateDiagram-v2"
    assert "    DELETED --> [*]" in drawn
    for (source, trigger), branches in TABLE.items():
        for branch in branches:
            arrow = f"    {source or '[*]'} --> {branch.dest} : "
            (line,) = [line for line in drawn if line.startswith(arrow)]
            assert trigger.value in line.removeprefix(arrow).split(", ")
