"""The decision: a subject, a command and its context give the operation that is recorded.

Pure and total: whatever strings a command holds and whatever state its subject is in, the answer
is a value. The order of the checks is that of design.md 5, "Which error"; what each state allows
is in `machine.py`, compiled in `cells.py`. Consumers and products, which have no machine, are
decided in `decide_consumer.py` and `decide_product.py`, what ends a PENDING operation in
`decide_pending.py`.
"""

from lifecycle.domain.cards import Card, State
from lifecycle.domain.carrying_out import carried_out
from lifecycle.domain.cells import (
    CELLS,
    RULES,
    Cell,
    Row,
    Rule,
    fitting_row,
    refused_by_state,
    trigger_of,
    unmet,
)
from lifecycle.domain.commands import CardCommand, CommandName, Delete, TimeOut
from lifecycle.domain.decide_consumer import decide_consumer
from lifecycle.domain.decide_pending import decide_reply, decide_time_out
from lifecycle.domain.decide_product import decide_product
from lifecycle.domain.defaults import default_reason_code
from lifecycle.domain.errors import ErrorCode
from lifecycle.domain.fields import Judged, Refusal, judge
from lifecycle.domain.guards import Case, effective_state
from lifecycle.domain.machine import Trigger
from lifecycle.domain.operations import Context, Decision, Ignored
from lifecycle.domain.reasons import is_accepted, may_resume
from lifecycle.domain.refusals import is_stale, refused

__all__ = ["decide_card", "decide_consumer", "decide_product", "decide_reply", "effective_state"]

_EXISTENCE_CODES = frozenset({ErrorCode.CARD_NOT_FOUND, ErrorCode.CARD_ID_IN_USE})


def decide_card(card: Card | None, command: CardCommand, context: Context) -> Decision | Ignored:
    """Decide a command about a card; `card` is None when the issuer has no such card.

    `Context` says what the caller serves for which command; what is not served counts as absent.
    """
    if isinstance(command, TimeOut):
        return decide_time_out(card, context)
    trigger = trigger_of(command)
    rule = RULES[trigger]
    cell = CELLS[_state_for(trigger, card, context), trigger]
    if cell.ignored:
        return Ignored.IGNORED

    judged = judge(command, rule.name, context.start_time_ms)
    reason_code = judged.reason_code
    if command.reason_code is None:
        reason_code = default_reason_code(rule.name, judged.requestor.type)
    case = Case(card, command, reason_code, context)
    row = fitting_row(cell, case)
    if row is not None and not all(guard(case) for guard in row.applies):
        return Ignored.IGNORED
    refusal = _refused_by_command(rule, cell, row, case, judged)
    if refusal is None:
        refusal = refused_by_state(cell, row, case)
    if refusal is not None:
        return refused(rule.kind, judged, refusal, card)
    assert row is not None, "a cell without rows has refused"
    return carried_out(rule, judged, case, row)


def _state_for(trigger: Trigger, card: Card | None, context: Context) -> State | None:
    """The state that the decision goes by; EXPIRE alone looks at the stored one (domain.md 8)."""
    if card is None:
        return None
    return card.state if trigger is Trigger.EXPIRE else effective_state(card, context)


def _refused_by_command(
    rule: Rule, cell: Cell, row: Row | None, case: Case, judged: Judged
) -> Refusal | None:
    """Steps (3) to (5) of design.md 5, "Which error": before the card's state is looked at."""
    # (3) Does what the command names exist? An existing card stands in the way of CREATE.
    if cell.refusal in _EXISTENCE_CODES:
        return Refusal(cell.refusal)
    code = None if row is None else unmet(row.existence, case)
    if code is not None:
        return Refusal(code)
    refusal = _refused_by_fields(rule, case, judged)
    if refusal is not None:
        return refusal
    # (5) Has the card changed since the command was meant, or is it about an earlier life of it?
    if is_stale(judged, case.context) or _is_of_another_life(case):
        return Refusal(ErrorCode.STALE_COMMAND)
    return None


def _is_of_another_life(case: Case) -> bool:
    command = case.command
    return (
        isinstance(command, Delete)
        and command.incarnation is not None
        and command.incarnation != case.existing.incarnation
    )


def _refused_by_fields(rule: Rule, case: Case, judged: Judged) -> Refusal | None:
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
