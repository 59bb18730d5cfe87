"""A poll is bounded in plain bytes, and what is long is read beside the event loop."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from lifecycle.domain.sources import Partition
from lifecycle.kafka import polling
from lifecycle.kafka.polling import POLL_BYTES_MIN
from lifecycle.settings import Settings
from lifecycle.worker import deciding, letters, service, transaction
from lifecycle.worker.taken import Taken
from tests.support import bank
from tests.support.bank import Message, card, create
from tests.support.fixtures import NewGround
from tests.support.guarantees import verify_all
from tests.support.reading import until_settled
from tests.support.worker import running_worker
from tests.unit import evil_batches as evil

_PARTITIONS = 3
_LONG_BYTES = 500_000


class _Spy:
    """What each transaction takes, and on which threads the work before it was done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.transactions: list[list[Taken]] = []
        self.threads: dict[str, set[int]] = {}
        commit = transaction.commit_batch

        async def commit_batch(
            pool: Any,  # noqa: ANN401 - handed through
            settings: Settings,
            vault: Any,  # noqa: ANN401 - handed through
            batch: Sequence[Taken],
            positions: Mapping[Partition, int],
        ) -> transaction.Committed:
            self.transactions.append(list(batch))
            return await commit(pool, settings, vault, batch, positions)

        monkeypatch.setattr(service, "commit_batch", commit_batch)
        for owner, name in (
            (service, "parse"),
            (letters, "dead_letter"),
            (polling, "_read_all"),
            (deciding.Deciding, "decide"),
        ):
            self._watch(monkeypatch, owner, name)

    def _watch(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:  # noqa: ANN401 - a class or a module
        original = getattr(owner, name)
        threads = self.threads.setdefault(name, set())

        def watched(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - handed through
            threads.add(threading.get_ident())
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, watched)

    def largest_bytes(self) -> int:
        return max(
            sum(len(taken.record.key or b"") + len(taken.record.value or b"") for taken in batch)
            for batch in self.transactions
        )


async def test_long_records_of_a_few_compressed_bytes_are_taken_in_several_transactions(
    new_ground: NewGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    """24 MB in 24 KB on three partitions, and good commands between them."""
    ground = await new_ground(poll_bytes_max=POLL_BYTES_MIN, poll_records_max=1_000)
    spy = _Spy(monkeypatch)
    long = Message(b"key", b"{" + b"a" * _LONG_BYTES)
    messages = [long.on(number % _PARTITIONS) for number in range(48)]
    for number in range(12):
        messages.insert(number * 4, create(f"card-{number}"))
    await bank.send(ground, bank.PRODUCTS)
    async with running_worker(ground):
        await until_settled(ground)
    places = await bank.send(ground, messages, compression="gzip")
    async with running_worker(ground):
        evidence = await verify_all(ground)
    outcomes = evidence.outcomes(places)
    assert outcomes.count("TOO_LARGE") == 48
    assert outcomes.count("SUCCESSFUL") == 12
    assert spy.largest_bytes() <= POLL_BYTES_MIN
    assert len(spy.transactions) >= 48 * _LONG_BYTES // POLL_BYTES_MIN
    here = threading.get_ident()
    assert here not in spy.threads["dead_letter"] | spy.threads["_read_all"]


async def test_a_batch_that_decompresses_to_more_than_a_poll_is_taken_poll_by_poll(
    new_ground: NewGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20,000 records of 1 KB in one batch: what has no room stays where it is, in its order."""
    ground = await new_ground(partitions=1, poll_bytes_max=POLL_BYTES_MIN, poll_records_max=10_000)
    spy = _Spy(monkeypatch)
    payload = evil.compressed(evil.records([b"a" * 1_000] * 20_000), evil.ZSTD)
    await bank.send_batch(ground, evil.batch_to_send(payload, 20_000, evil.ZSTD), 0)
    async with running_worker(ground):
        await until_settled(ground)
    offsets = [taken.record.offset for batch in spy.transactions for taken in batch]
    assert offsets == list(range(20_000))
    assert spy.largest_bytes() <= POLL_BYTES_MIN


async def test_conflicts_of_long_commands_are_rendered_before_their_transaction(
    new_ground: NewGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search through 60 KB of digits and blanks takes as long as a whole poll does."""
    ground = await new_ground()
    spy = _Spy(monkeypatch)
    async with running_worker(ground):
        await bank.send(ground, bank.PRODUCTS)
        await until_settled(ground)
        spaced = "3 " * 30_000
        messages = [create("card-1")] + [
            card("card-1", "SUSPEND", "once", reason=f"{number}x {spaced}") for number in range(5)
        ]
        places = await bank.send(ground, messages, compression="gzip")
        evidence = await verify_all(ground)
    assert evidence.outcomes(places).count("IDEMPOTENCY_CONFLICT") == 4
    late = [
        taken
        for batch in spy.transactions
        for taken in batch
        if len(taken.record.value or b"") > 1_024 and taken.letter is None
    ]
    assert not late
    here = threading.get_ident()
    assert here not in spy.threads["dead_letter"]
    assert spy.threads["decide"] - {here}, "what is long is decided beside the loop as well"


async def test_a_poll_of_a_few_small_commands_leaves_the_loop_for_nothing_but_its_reading(
    new_ground: NewGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread would cost each of them more than it takes to parse."""
    ground = await new_ground()
    spy = _Spy(monkeypatch)
    async with running_worker(ground):
        await bank.send(ground, bank.PRODUCTS)
        await until_settled(ground)
    assert spy.threads["parse"] == spy.threads["decide"] == {threading.get_ident()}


async def test_many_short_records_are_not_rendered_on_the_loop(
    new_ground: NewGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2,000 dead letters of a byte take 300 ms: their number counts, not only their bytes."""
    ground = await new_ground(partitions=1, poll_records_max=2_000)
    spy = _Spy(monkeypatch)
    places = await bank.send(ground, [Message(b"key", b"{", (), 0)] * 1_000, compression="gzip")
    async with running_worker(ground):
        evidence = await verify_all(ground)
    assert evidence.outcomes(places) == ["NOT_JSON"] * 1_000
    assert spy.threads["dead_letter"] - {threading.get_ident()}
    assert max(len(batch) for batch in spy.transactions) > 128
    assert threading.get_ident() not in spy.threads["decide"]


async def test_a_record_of_half_a_million_headers_is_taken_alone_and_published_whole(
    new_ground: NewGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In memory it is sixty times as long as on the wire."""
    ground = await new_ground(partitions=1)
    spy = _Spy(monkeypatch)
    headers: list[tuple[str, bytes | None]] = [("", None)] * 400_000
    many = Message(b"key", b"{", headers, 0)
    places = await bank.send(ground, [many, Message(b"key", b"{", (), 0), many])
    async with running_worker(ground):
        evidence = await verify_all(ground)
    assert evidence.outcomes(places) == ["NOT_JSON"] * 3
    with_many = [batch for batch in spy.transactions if any(t.record.headers for t in batch)]
    assert [sum(bool(t.record.headers) for t in batch) for batch in with_many] == [1, 1]
