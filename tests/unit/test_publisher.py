"""What others wait for from a lane's publisher comes, also when the publisher has died."""

import asyncio
from typing import Any, cast

import pytest

from lifecycle.domain.sources import Source
from lifecycle.postgres.operations import DeadLetterRow
from lifecycle.settings import Settings
from lifecycle.worker.publisher import LanePublisher, NotTakenOverError
from tests.support.waiting import SECONDS_MAX

_BYTES_MAX = 100_000


class _Broken(Exception):  # noqa: N818 - what no code of ours expects
    """A mistake in the publisher."""


def _publisher(heard: list[BaseException]) -> LanePublisher:
    nothing = cast("Any", None)  # no connection is opened before it runs
    settings = Settings(unpublished_bytes_max=_BYTES_MAX)
    return LanePublisher(settings, nothing, nothing, nothing, 0, heard.append)


def _letter(offset: int) -> DeadLetterRow:
    return DeadLetterRow(
        source=Source.COMMANDS,
        partition=0,
        command_offset=offset,
        code="NOT_JSON",
        error="It is none.",
        key=None,
        value=b"x" * _BYTES_MAX,
        headers=(),
    )


async def test_nobody_waits_for_a_publisher_that_has_died(monkeypatch: pytest.MonkeyPatch) -> None:
    died = asyncio.Event()

    async def dies(_: LanePublisher) -> None:
        await died.wait()
        raise _Broken

    monkeypatch.setattr(LanePublisher, "_run", dies)
    heard: list[BaseException] = []
    publisher = _publisher(heard)
    publisher.start()
    publisher.hand_over((), [_letter(0)])
    intake = asyncio.create_task(publisher.has_room())
    assignment = asyncio.create_task(publisher.taken_over())
    waiting = {intake, assignment}
    assert not (await asyncio.wait(waiting, timeout=0))[0], "memory is full, and nothing is known"
    died.set()
    done, _ = await asyncio.wait(waiting, timeout=SECONDS_MAX)
    assert done == waiting
    assert isinstance(assignment.exception(), NotTakenOverError)
    assert [type(error) for error in heard] == [_Broken]


async def test_what_does_not_fit_is_left_in_the_log_and_intake_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    until_stopped = asyncio.Event()

    async def publishes_nothing(_: LanePublisher) -> None:
        await until_stopped.wait()

    monkeypatch.setattr(LanePublisher, "_run", publishes_nothing)
    publisher = _publisher([])
    publisher.start()
    publisher._must_read_log = False  # noqa: SLF001 - it has been read to its end
    publisher.hand_over((), [_letter(0)])
    assert not publisher._dead_letters  # noqa: SLF001 - what memory holds
    assert publisher.has_unpublished
    intake = asyncio.create_task(publisher.has_room())
    assert not (await asyncio.wait({intake}, timeout=0))[0], "intake waits"
    until_stopped.set()
    await publisher.stop()
    await intake
