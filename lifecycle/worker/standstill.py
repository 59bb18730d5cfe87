"""For how long lanes have had work and have not moved."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Work = Literal["commands", "replies", "events"]


class LaneWork(NamedTuple):
    """What a worker does on a lane: take its commands, take its replies, publish its events."""

    lane: int
    work: Work


class Progress(NamedTuple):
    """Where it stands, None while that is not known, and whether something waits to be done."""

    position: object
    waits: bool


class Standstill:
    """Remembers since when each has stood where it stands, with something to do."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self._since: dict[LaneWork, tuple[object, float]] = {}

    def seconds(
        self, seen: Mapping[LaneWork, Progress], now_seconds: float
    ) -> dict[LaneWork, float]:
        """How long each of `seen` has not moved; what is not among them is forgotten."""
        since: dict[LaneWork, tuple[object, float]] = {}
        for work, (position, waits) in seen.items():
            before = self._since.get(work)
            if before is None:
                since[work] = (position, now_seconds)
            elif position is None:
                # It is being read again, after a failure: that is no progress.
                since[work] = before
            elif waits and position == before[0]:
                since[work] = before
            else:
                since[work] = (position, now_seconds)
        self._since = since
        return {work: now_seconds - began for work, (_, began) in since.items()}
