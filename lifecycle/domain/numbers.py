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
    changes = []
    if before is None or before.incarnation != after.incarnation:
        changes += _assigned(after)
    elif before.last4 is not None:
        if after.state in TERMINAL:
            # Its number leaves before the successor's comes: a vault that looks for clashes row
            # by row finds none that is not there at the end.
            changes += [NumberChange(NumberChangeKind.RETIRE, after.card_id)]
        elif is_given:
            changes += _assigned(after)
        elif (before.exp, before.auxiliary_exp) != (after.exp, after.auxiliary_exp):
            changes += [NumberChange(NumberChangeKind.KEEP_WITH_NEW_EXPIRY, after.card_id)]
    for one in caused:
        if one.kind in (OperationKind.CREATE, OperationKind.REGISTER):
            changes += _assigned(one.card)
    return tuple(changes)


def _assigned(card: Card) -> list[NumberChange]:
    if card.last4 is None:
        return []
    is_issued = card.origin is Origin.ISSUED
    kind = NumberChangeKind.ASSIGN_GENERATED if is_issued else NumberChangeKind.ASSIGN_GIVEN
    return [NumberChange(kind, card.card_id)]
