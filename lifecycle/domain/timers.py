"""The timers of a card: which commands the service sends itself, when, and under which ids.

An id names what the timer is about (domain.md 8), so a timer that fires twice, or from two
workers, is one command. Whether it applies is judged again when it is taken, by its record's time.
"""

from typing import NamedTuple
from uuid import UUID

from lifecycle.domain import months
from lifecycle.domain.cards import TERMINAL, Card
from lifecycle.domain.commands import CommandName
from lifecycle.domain.guards import MAY_EXPIRE, renewal_window_opens_ms

_TIME_OUT_PREFIX = "TIME_OUT:"
_CASCADE_PREFIX = "CASCADE:"


class Timer(NamedTuple):
    """A command to be sent for the card from `due_ms` (since the epoch, UTC) on."""

    kind: CommandName
    due_ms: int
    command_id: str


def due_timers(card: Card, issuer_time_zone: str) -> tuple[Timer, ...]:
    """The timers that the card has, as it is now; each stays until the card changes.

    `issuer_time_zone` is an IANA name: months end, and days begin, there.
    """
    if card.state in TERMINAL:
        return ()
    timers = []
    opens_ms = renewal_window_opens_ms(card, issuer_time_zone)
    if opens_ms is not None:
        assert card.exp is not None
        if months.month_of_expiry(card.exp) < months.MONTH_MAX:
            timers.append(
                Timer(CommandName.AUTO_RENEW, opens_ms, auto_renew_id(card.exp, card.incarnation))
            )
    if card.exp is not None and card.state in MAY_EXPIRE:
        ends_ms = months.month_end_ms(card.exp, issuer_time_zone)
        timers.append(Timer(CommandName.EXPIRE, ends_ms, expire_id(card.exp, card.incarnation)))
    if card.delete_at_ms is not None:
        timers.append(
            Timer(
                CommandName.DELETE_DUE,
                card.delete_at_ms,
                delete_due_id(card.delete_at_ms, card.incarnation),
            )
        )
    return tuple(timers)


def expire_id(exp: str, incarnation: int) -> str:
    """`exp` is the month (`MMYY`) that is over."""
    return f"EXPIRE:{exp}:{incarnation}"


def auto_renew_id(exp: str, incarnation: int) -> str:
    """`exp` is the month (`MMYY`) that is renewed."""
    return f"AUTO_RENEW:{exp}:{incarnation}"


def delete_due_id(delete_at_ms: int, incarnation: int) -> str:
    """`delete_at_ms` is `deleteAt`, in milliseconds since the epoch."""
    return f"DELETE_DUE:{delete_at_ms}:{incarnation}"


def time_out_id(operation_id: UUID) -> str:
    """`operation_id` is the PENDING operation that nobody answered in time."""
    return f"{_TIME_OUT_PREFIX}{operation_id}"


def cascade_id(operation_id: UUID) -> str:
    """`operation_id` is the operation that deletes a card through another subject's end."""
    return f"{_CASCADE_PREFIX}{operation_id}"


def cause_of(command_id: str) -> UUID | None:
    """The `causationId` of a cascade's DELETE (domain.md 8); None for every other command."""
    if not command_id.startswith(_CASCADE_PREFIX):
        return None
    try:
        return UUID(command_id.removeprefix(_CASCADE_PREFIX))
    except ValueError:
        # Somebody else's id with our prefix: it names no operation.
        return None
