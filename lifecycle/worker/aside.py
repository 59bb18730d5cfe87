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
    """What `records` hold, roughly: their keys don't count, and each header counts for more."""
    return sum(
        len(record.value or b"") + HEADER_OVERHEAD_BYTES * len(record.headers) for record in records
    )
