"""Waits for a condition, with a limit and a name for what was waited for."""

import asyncio
import time
from collections.abc import Awaitable, Callable

SECONDS_MAX = 300.0
"""How long a test waits for what must come. No test is about how fast it comes: the limit only ends
a wait that would last for ever, on a machine that does ten other things too."""
_LOOK_EVERY_SECONDS = 0.02


async def until(
    condition: Callable[[], Awaitable[bool]], what: str, *, seconds_max: float = SECONDS_MAX
) -> None:
    """Wait until `condition` is true.

    Raises:
        TimeoutError: it is not after `seconds_max`; the message says what was waited for.
    """
    deadline = time.monotonic() + seconds_max
    while not await condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds_max:.0f} s in vain for {what}")
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
