"""Why a worker can't take commands at this moment: for those who ask from outside.

The worker notes what it waits for and strikes it out again; nothing of its work depends on it.
"""

_STARTING = "start"


class Readiness:
    """Reasons by what they are about. Not ready before the first lanes were taken."""

    def __init__(self) -> None:
        """Not ready: the worker has only begun to start."""
        self._reasons = {_STARTING: "the worker has not joined its group yet"}

    @property
    def reasons(self) -> tuple[str, ...]:
        """Sentences; none when the worker is ready. They name no address and no content."""
        return tuple(self._reasons.values())

    def joined(self) -> None:
        """The group has given the worker its lanes, perhaps none, and it has taken them."""
        self._reasons.pop(_STARTING, None)

    def waits(self, what: str, reason: str) -> None:
        """Something is not as it should be; it is named once, whatever happens to it later."""
        self._reasons[what] = reason

    def has(self, what: str) -> None:
        """It is as it should be again."""
        self._reasons.pop(what, None)
