"""What a decision means for the number vault: who gets a number, whose expiry moves, who loses it.

The vault itself is kept outside: a card never holds its number (domain.md 4).
"""

from lifecycle.domain.cards import TERMINAL, Card, Origin
from lifecycle.domain.operations import Caused, NumberChange, NumberChangeKind, OperationKind


def number_changes(
    before: Card | None, after: Card, caused: tuple[Caused, ...], *, is_given: bool
) -> tuple[NumberChange, ...]:
    """The changes that lead from `before` to `after` and to the cards of `caused`, in order.

    `is_given`: a renewal, or the reply to it, brought a number.
    """
    if after is before:
        return ()
    makes_a_card = (OperationKind.CREATE, OperationKind.REGISTER)
    new = [change for one in caused if one.kind in makes_a_card for change in _assigned(one.card)]
    # The old number leaves before the successor's comes: a vault that looks for clashes row by row
    # finds none that is not there at the end.
    return (*_own_changes(before, after, is_given=is_given), *new)


def _own_changes(before: Card | None, after: Card, *, is_given: bool) -> list[NumberChange]:
    if before is None or before.incarnation != after.incarnation:
        return _assigned(after)
    if before.last4 is None:
        return []
    if after.state in TERMINAL:
        return [NumberChange(NumberChangeKind.RETIRE, after.card_id)]
    if is_given:
        return _assigned(after)
    if (before.exp, before.auxiliary_exp) != (after.exp, after.auxiliary_exp):
        return [NumberChange(NumberChangeKind.KEEP_WITH_NEW_EXPIRY, after.card_id)]
    return []


def _assigned(card: Card) -> list[NumberChange]:
    if card.last4 is None:
        return []
    is_issued = card.origin is Origin.ISSUED
    kind = NumberChangeKind.ASSIGN_GENERATED if is_issued else NumberChangeKind.ASSIGN_GIVEN
    return [NumberChange(kind, card.card_id)]
