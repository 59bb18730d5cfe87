"""No long-lived task ends unheard, however it ends."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from lifecycle.supervision import EndedUnaskedError, supervised


async def _heard(work: Coroutine[Any, Any, None], *, may_end: bool = False) -> list[BaseException]:
    heard: list[BaseException] = []
    task = supervised(work, "work", heard.append, may_end=lambda: may_end)
    await asyncio.wait({task})
    return heard


async def test_an_error_is_heard() -> None:
    async def fails() -> None:
        raise OSError("the file of the authorities can't be read")

    heard = await _heard(fails())
    assert [type(error) for error in heard] == [OSError]


async def test_an_end_that_nobody_asked_for_is_heard() -> None:
    async def ends() -> None:
        pass

    heard = await _heard(ends())
    assert [str(error) for error in heard] == ["work has ended, and was not asked to"]


async def test_an_end_that_was_asked_for_is_none() -> None:
    async def ends() -> None:
        pass

    assert await _heard(ends(), may_end=True) == []


async def test_a_cancellation_by_a_library_is_heard() -> None:
    """What a task waits for may be cancelled by others; the task ends as if it had been itself."""

    async def waits_for_what_is_cancelled() -> None:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        answer.cancel()
        await answer

    heard = await _heard(waits_for_what_is_cancelled())
    assert [type(error) for error in heard] == [EndedUnaskedError]


async def test_a_cancellation_of_ours_is_not_heard() -> None:
    heard: list[BaseException] = []
    task = supervised(asyncio.Event().wait(), "work", heard.append)  # type: ignore[arg-type]  # never ends
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert heard == []


async def test_a_time_out_inside_a_task_is_no_cancellation_of_it() -> None:
    async def times_out_and_ends() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.Event().wait()

    heard = await _heard(times_out_and_ends())
    assert [type(error) for error in heard] == [EndedUnaskedError]
