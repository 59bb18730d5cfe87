"""What a batch means for the timers of its cards: pure, from the cards as they were and as left.

Most operations change no timer. A timer that fired too early, because the time zone of its issuer
was set anew meanwhile, is ignored by the card and dated again here: it must not be lost.
"""

from collections.abc import Mapping
from typing import NamedTuple

from lifecycle.domain.commands import CommandName
from lifecycle.domain.timers import due_timers
from lifecycle.postgres.subjects import Key
from lifecycle.postgres.timers import TimerKey, TimerRow
from lifecycle.worker.subjects import Subjects

TIMER_COMMANDS = frozenset(
    {CommandName.EXPIRE.value, CommandName.AUTO_RENEW.value, CommandName.DELETE_DUE.value}
)


class TimerChanges(NamedTuple):
    """Timers to keep, in place of others of their kind, and timers that are no more."""

    stored: list[TimerRow]
    dropped: list[TimerKey]


def timer_changes(
    subjects: Subjects, ignored_at_ms: Mapping[Key, int], issuer_time_zones: Mapping[str, str]
) -> TimerChanges:
    """Compare the timers of every card before and after its batch.

    `ignored_at_ms`: the cards for which a timer was ignored, and when. Those of their timers that
    are due later are stored in any case. One that was due then was ignored for good: stored again
    it would be sent for ever.
    """
    changes = TimerChanges([], [])
    for key, tracked in subjects.cards.items():
        before, after = tracked.stored, tracked.entity
        ignored_ms = ignored_at_ms.get(key)
        if after is None or (after is before and ignored_ms is None):
            continue
        zone = issuer_time_zones.get(after.issuer_id, "UTC")
        then = {timer.kind: timer for timer in due_timers(before, zone)} if before else {}
        now = {timer.kind: timer for timer in due_timers(after, zone)}
        changes.stored.extend(
            TimerRow(after.issuer_id, after.card_id, kind.value, timer.due_ms, timer.command_id)
            for kind, timer in now.items()
            if timer != then.get(kind) or (ignored_ms is not None and timer.due_ms > ignored_ms)
        )
        changes.dropped.extend(
            TimerKey(after.issuer_id, after.card_id, kind.value) for kind in then if kind not in now
        )
    return changes
