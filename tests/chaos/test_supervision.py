"""Whatever of a worker dies, the worker ends and says why; what passes by itself is waited for."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from lifecycle.kafka import producer
from lifecycle.kafka.clients import client_options
from lifecycle.kafka.intake import Intake
from lifecycle.kafka.polling import BoundedConsumer
from lifecycle.kafka.producer import LaneProducer
from lifecycle.settings import Settings
from lifecycle.supervision import EndedUnaskedError
from lifecycle.worker.dispatcher import Dispatcher
from lifecycle.worker.lanes import OwnedLanes
from lifecycle.worker.publisher import LanePublisher
from lifecycle.worker.service import _Worker
from tests.support import bank
from tests.support.bank import create
from tests.support.fixtures import NewGround
from tests.support.guarantees import verify_all
from tests.support.reading import until_settled, until_taken
from tests.support.waiting import until
from tests.support.worker import running_worker

_NEVER = 1_000_000


class _AuthoritiesFile:
    """The file with the authorities of the brokers' certificates, read for each new producer.

    The brokers of the tests speak in clear; so it is read as it would be, and not used.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self._path = path
        self.asked_in_vain = 0
        path.write_text("certificates")
        monkeypatch.setattr(producer, "client_options", self._options)

    def _options(self, settings: Settings) -> dict[str, Any]:
        try:
            self._path.read_bytes()
        except OSError:
            self.asked_in_vain += 1
            raise
        return client_options(settings)

    def take_away(self) -> None:
        self._path.unlink()

    def put_back(self) -> None:
        self._path.write_text("certificates")


def _fail_next_publication(monkeypatch: pytest.MonkeyPatch) -> None:
    send_batches = LaneProducer._send_batches  # noqa: SLF001 - between begin and commit
    left = [KafkaConnectionError("the broker is away")]

    async def failing_once(*arguments: Any) -> None:  # noqa: ANN401
        if left:
            raise left.pop()
        await send_batches(*arguments)

    monkeypatch.setattr(LaneProducer, "_send_batches", failing_once)


async def test_a_file_that_is_being_replaced_when_a_producer_is_built_anew_is_waited_for(
    new_ground: NewGround, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """G9: a secret that is rotated is away for a moment."""
    ground = await new_ground(partitions=1)
    authorities = _AuthoritiesFile(monkeypatch, tmp_path / "ca.pem")
    async with running_worker(ground):
        await bank.send(ground, bank.PRODUCTS)
        await until_settled(ground)
        authorities.take_away()
        _fail_next_publication(monkeypatch)
        await bank.send(ground, [create("card-1")])

        async def was_missed() -> bool:
            return authorities.asked_in_vain >= 3

        await until(was_missed, "the publisher to miss the file")
        authorities.put_back()
        await verify_all(ground)


async def test_a_file_that_stays_away_ends_the_worker(
    new_ground: NewGround, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ground = await new_ground(partitions=1, retry_ms_max=500)
    authorities = _AuthoritiesFile(monkeypatch, tmp_path / "ca.pem")
    async with running_worker(ground):
        await bank.send(ground, bank.PRODUCTS)
        await until_settled(ground)

    async def work_until_it_is_away_for_too_long() -> None:
        async with running_worker(ground):
            await until_settled(ground)
            authorities.take_away()
            _fail_next_publication(monkeypatch)
            await bank.send(ground, [create("card-1")])
            await until_taken(ground, _NEVER)

    with pytest.raises(FileNotFoundError, match=r"ca\.pem"):
        await work_until_it_is_away_for_too_long()
    authorities.put_back()
    async with running_worker(ground):
        await verify_all(ground)


class _Broken(Exception):  # noqa: N818 - what no code of ours expects
    """A mistake somewhere in a worker."""


async def _raises(*_: object, **__: object) -> None:
    raise _Broken


async def _is_cancelled(*_: object, **__: object) -> None:
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    answer.cancel()  # as a library does with what it can't answer any more
    await answer


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (LanePublisher, "_read_log"),
        (LanePublisher, "_note"),
        (LaneProducer, "__init__"),
        (LaneProducer, "open"),
        (OwnedLanes, "look"),
        (OwnedLanes, "take"),
        (Dispatcher, "_send_cascades"),
        (Dispatcher, "_send_timers"),
        (Dispatcher, "_send_time_outs"),
        (Dispatcher, "_send_requests"),
        (Dispatcher, "_count"),
        (_Worker, "_listen_on_one_connection"),
        (_Worker, "_watch_for_standstill"),
        (BoundedConsumer, "getmany"),
    ],
)
@pytest.mark.parametrize("how", [_raises, _is_cancelled])
async def test_whatever_fails_in_a_worker_ends_it(
    new_ground: NewGround,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    name: str,
    how: Callable[..., Awaitable[None]],
) -> None:
    """Its lanes go to others, an orchestrator starts it anew; nobody waits for it in vain."""
    ground = await new_ground(partitions=1)
    if name == "__init__":

        def fails(*_: object) -> None:
            raise _Broken

        monkeypatch.setattr(owner, name, fails)
    else:
        monkeypatch.setattr(owner, name, how)
    await bank.send(ground, bank.PRODUCTS)
    with pytest.raises((_Broken, EndedUnaskedError)):
        async with running_worker(ground):
            await until_taken(ground, _NEVER)


async def test_a_worker_that_can_not_leave_its_group_ends_all_the_same(
    ground: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it waits for there, the group gives its lanes to others."""
    stop = Intake.stop

    async def stops_and_waits_for_ever(self: Intake) -> None:
        await stop(self)
        await asyncio.Event().wait()

    monkeypatch.setattr(Intake, "stop", stops_and_waits_for_ever)
    monkeypatch.setattr("lifecycle.worker.service._LEAVE_SECONDS_MAX", 2.0)
    await bank.send(ground, bank.PRODUCTS)
    async with running_worker(ground):
        await until_settled(ground)
    monkeypatch.undo()
    async with running_worker(ground):
        await verify_all(ground)
