"""What is read from the log to be published is bounded in bytes, whatever the rows hold."""

from datetime import UTC, datetime
from uuid import uuid4

from lifecycle.domain.sources import Source
from lifecycle.postgres.connection import Pool, open_pool
from lifecycle.postgres.operations import (
    DeadLetterRow,
    OperationRow,
    OutboxRow,
    copy_dead_letters,
    copy_operations,
    load_dead_letters,
    load_outbox,
)
from lifecycle.settings import Settings

_LANE = 0
_BYTES_MAX = 100_000
_NOW = datetime.now(UTC)


def _operation(seq: int, payload_bytes: int) -> OperationRow:
    return OperationRow(
        event=OutboxRow(
            lane=_LANE,
            seq=seq,
            event_id=uuid4(),
            key="BANK000001/card-1",
            event_type="cards.suspend.successful.v1",
            event_time_ms=1,
            payload=b"x" * payload_bytes,
            traceparent=None,
            changes_card=True,
        ),
        aggregate_type="card",
        issuer_id="BANK000001",
        operation_id=uuid4(),
        caused=False,
        content_hash=b"hash",
        status="SUCCESSFUL",
        start_time=_NOW,
        expires_at=_NOW,
    )


def _letter(offset: int, **parts: object) -> DeadLetterRow:
    values: dict[str, object] = {"key": None, "value": None, "headers": (), **parts}
    return DeadLetterRow(
        source=Source.COMMANDS,
        partition=_LANE,
        command_offset=offset,
        code="NOT_JSON",
        error="It is none.",
        **values,  # type: ignore[arg-type]  # one of three, by its name
    )


async def test_a_page_of_events_ends_with_the_one_that_exceeds_its_bytes(ground: Settings) -> None:
    sizes = [10, 30_000, 30_000, 30_000, 30_000, 200_000, 10, 10]
    async with await open_pool(ground) as pool:
        async with pool.acquire() as connection:
            await copy_operations(
                connection, [_operation(seq, size) for seq, size in enumerate(sizes, 1)]
            )
        assert await _pages_of_events(pool) == [[1, 2, 3, 4, 5], [6], [7, 8]]


async def _pages_of_events(pool: Pool) -> list[list[int]]:
    pages: list[list[int]] = []
    after = 0
    while rows := await load_outbox(pool, _LANE, after, rows_max=100, bytes_max=_BYTES_MAX):
        # How a publisher sees whether there is more.
        held = sum(row.bytes_held for row in rows)
        assert held - rows[-1].bytes_held <= _BYTES_MAX
        pages.append([row.seq for row in rows])
        after = rows[-1].seq
    return pages


async def test_a_page_of_dead_letters_counts_keys_values_and_headers(ground: Settings) -> None:
    """A header of two bytes on the topic takes a hundred times that in memory."""
    letters = [
        _letter(0, key=b"k" * 60_000),
        _letter(1, value=b"v" * 60_000),
        _letter(2, headers=(("name", b"h" * 60_000),)),
        _letter(3, headers=(("x" * 60_000, None),)),
        *(_letter(offset, headers=(("x", b""),) * 250) for offset in range(4, 10)),
        _letter(10, headers=(("x", b""),) * 10_000),
        _letter(11),
    ]
    async with await open_pool(ground) as pool:
        async with pool.acquire() as connection:
            await copy_dead_letters(connection, letters)
        found: list[DeadLetterRow] = []
        pages = []
        while page := await load_dead_letters(
            pool,
            _LANE,
            found[-1].command_offset if found else -1,
            -1,
            rows_max=100,
            bytes_max=_BYTES_MAX,
        ):
            assert sum(one.bytes_held for one in page[:-1]) <= _BYTES_MAX
            found += page
            pages.append(len(page))
    assert found == letters
    assert pages == [2, 2, 2, 2, 2, 1, 1]
