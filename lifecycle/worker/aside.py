"""Work that may take long, done beside the event loop: a record of a megabyte takes seconds.

Meanwhile the loop answers the group, the database, Kafka and `/healthz`. A thread, not a process:
what runs there is Python, which gives the interpreter up every 5 ms, in calls of C of some 10 ms.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from lifecycle.kafka.records import HEADER_OVERHEAD_BYTES, RawRecord

INLINE_BYTES_MAX = 32 * 1024
"""So much is done at once: a thread would take longer to wake than most of it takes, and the worst
that is known, a search through blanks and digits, takes 80 ms."""

_RECORD_OVERHEAD_BYTES = 256
"""What a record costs however short it is: 2,000 of one byte take 300 ms, as dead letters."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


async def aside(
    bytes_in_hand: int,
    work: Callable[Arguments, Result],
    *arguments: Arguments.args,
    **named: Arguments.kwargs,
) -> Result:
    """`work` on so many bytes, on a thread when they are many. Nobody else may touch them then."""
    if bytes_in_hand <= INLINE_BYTES_MAX:
        return work(*arguments, **named)
    return await asyncio.to_thread(work, *arguments, **named)


def bytes_of(records: Iterable[RawRecord]) -> int:
    """What `records` hold, roughly, and what each of them and of its headers costs beside that."""
    return sum(
        _RECORD_OVERHEAD_BYTES
        + len(record.value or b"")
        + HEADER_OVERHEAD_BYTES * len(record.headers)
        for record in records
    )
