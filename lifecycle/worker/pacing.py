"""How fast the service sends itself commands, so that those of others get through.

No more than so many a second, and one round at a time: the next is sent when intake has taken every
command of the last one. So no more than a round of them ever lies in front of somebody else's
command, however slow the workers are and however much is due.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping

from lifecycle.kafka.at_least_once import Appended

ROUND_COMMANDS_MAX = 100
"""Commands that are sent, and acknowledged, together: what a worker takes in some ten milliseconds,
because that is how long somebody else's command may have to wait for them."""

ROUND_SECONDS_MAX = 30.0
"""A round that is not taken for so long is not waited for: one lane that stands still, or has a
long queue of its own, does not hold up what is due in all others for ever."""


class Pace:
    """One sender's rate and its last round."""

    def __init__(self, per_second_max: int) -> None:
        """`round_max` commands take no longer than a second, so no wait does."""
        self._per_second_max = per_second_max
        self._free_at_seconds = 0.0
        self._ends: dict[int, int] = {}
        self.round_max = min(ROUND_COMMANDS_MAX, per_second_max)

    async def wait(self, commands: int) -> None:
        """Wait until there is room for `commands`, which are sent then."""
        assert commands <= self.round_max, "the caller bounds its rounds"
        await asyncio.sleep(max(0.0, self._free_at_seconds - time.monotonic()))
        self._free_at_seconds = time.monotonic() + commands / self._per_second_max

    def note(self, round_sent: Iterable[Appended]) -> None:
        """Note where the commands of a round lie."""
        self._ends = {}
        for sent in round_sent:
            self._ends[sent.partition] = max(self._ends.get(sent.partition, 0), sent.offset + 1)
        self._sent_at_seconds = time.monotonic()

    @property
    def awaited(self) -> set[int]:
        """The partitions with commands of the last round that are not known to be taken."""
        if self._ends and time.monotonic() - self._sent_at_seconds > ROUND_SECONDS_MAX:
            self._ends = {}
        return set(self._ends)

    def taken(self, positions: Mapping[int, int]) -> None:
        """Note how far intake has come; a partition that was never taken has no position."""
        self._ends = {
            partition: end
            for partition, end in self._ends.items()
            if positions.get(partition, 0) < end
        }
