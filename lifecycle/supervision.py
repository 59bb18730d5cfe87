"""Starts what runs for as long as its process does, so that none of it ends unheard.

An asyncio task that raises keeps its error to itself until somebody asks; here it is told at once.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)


class EndedUnaskedError(Exception):
    """Something that should run on has ended without an error, and nobody had asked it to."""


def supervised(
    work: Coroutine[Any, Any, None],
    name: str,
    on_failure: Callable[[BaseException], None],
    *,
    may_end: Callable[[], bool] = lambda: False,
) -> asyncio.Task[None]:
    """Start `work` as a task; `on_failure` hears of its error, or of an end that was not asked for.

    Who ends it cancels it, or makes `may_end` true before it returns.
    """
    task = asyncio.create_task(work, name=name)
    tell_of_end(task, on_failure, may_end=may_end)
    return task


def tell_of_end(
    task: asyncio.Task[Any],
    on_failure: Callable[[BaseException], None],
    *,
    may_end: Callable[[], bool] = lambda: False,
) -> None:
    """The same, of a task that somebody else has started."""

    def ended(_: object) -> None:
        error = None if task.cancelled() else task.exception()
        # A library may cancel what its caller waits for: then nobody has cancelled this task.
        was_asked = task.cancelling() > 0
        if error is not None and was_asked:
            log.warning("failed_while_ending", task=task.get_name(), error=repr(error))
        elif error is not None:
            on_failure(error)
        elif not was_asked and not may_end():
            on_failure(EndedUnaskedError(f"{task.get_name()} has ended, and was not asked to"))

    task.add_done_callback(ended)
