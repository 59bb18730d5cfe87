"""Sends what the database owes to topics: cascades, timers, TIME_OUTs, requests to outside parties.

Each worker sends the cascades and the requests of the partitions that it owns; the owner of one
certain partition sends what is due. The database says what is owed until after Kafka has
acknowledged it, so whoever dies in between sends again, which is harmless: the ids are the same.
So is a former owner that does not know yet that it is none. What is read waits until it can't be
lost (`lifecycle.postgres.durability`): a DELETE must not outlive its cause.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import structlog
from prometheus_client import Counter, Gauge

from lifecycle.kafka.at_least_once import Appended, AtLeastOnceSender, OwedRecord
from lifecycle.kafka.own_commands import Cause, cascade_delete, time_out_command, timer_command
from lifecycle.kafka.topics import topics_of
from lifecycle.postgres import cascades, lanes, pending, timers
from lifecycle.postgres.cascades import LivingCard, OpenCascade
from lifecycle.postgres.connection import Connection, Pool
from lifecycle.postgres.durability import DurableReads
from lifecycle.settings import Settings
from lifecycle.worker.pacing import Pace
from lifecycle.worker.retrying import Patience, is_away

log = structlog.get_logger(__name__)

DUE_PARTITION = 0
"""The owner of this command partition sends timers and TIME_OUTs."""

CASCADES_AT_ONCE_MAX = 50
"""So many cascades share a round, so that a large one does not hold up a small one."""

REQUESTS_AT_ONCE_MAX = 500
"""Requests that are sent, and acknowledged, together."""

_MS_PER_SECOND = 1_000
_AT_ONCE = 0.0
_LOOK_SECONDS = 0.02
_COUNT_SECONDS = 10.0
_COUNTED_MAX = 1_000_000

_COUNTED = f"counted every {_COUNT_SECONDS:.0f} s, up to a million"
_BY_ONE = f"{_COUNTED}, by the worker that sends what is due; 0 in all others"
_OF_WORKER = f"of this worker's partitions, {_COUNTED}"

TIMERS_FIRED = Counter(
    "lifecycle_timers_fired", "Timer commands that were sent; some more than once.", ["kind"]
)
TIMERS_WAITING = Gauge(
    "lifecycle_timers_waiting", f"Timers that are due and not sent yet, {_BY_ONE}."
)
TIME_OUTS_SENT = Counter(
    "lifecycle_time_outs_sent", "TIME_OUT commands that were sent; some more than once."
)
TIME_OUTS_WAITING = Gauge(
    "lifecycle_time_outs_waiting", f"TIME_OUTs that are due and not sent yet, {_BY_ONE}."
)
PENDING_OPEN = Gauge("lifecycle_pending_operations_open", f"PENDING operations, {_BY_ONE}.")
CASCADE_COMMANDS = Counter(
    "lifecycle_cascade_commands", "DELETEs of cascades that were sent; some more than once."
)
CASCADES_OPEN = Gauge(
    "lifecycle_cascades_open", f"Cascades that are not told to all of their cards, {_OF_WORKER}."
)
REQUESTS_SENT = Counter(
    "lifecycle_requests_sent", "Requests to outside parties that were sent; some more than once."
)
REQUESTS_WAITING = Gauge(
    "lifecycle_requests_waiting", f"Requests to outside parties that are owed, {_OF_WORKER}."
)


class _Due(Protocol):
    @property
    def due_ms(self) -> int: ...


_DueRow = TypeVar("_DueRow", bound=_Due)
_Turn = Callable[[AtLeastOnceSender], Awaitable[float]]


class Dispatcher:
    """One loop for each kind. They run until cancelled, or raise what no retry mends."""

    def __init__(
        self, settings: Settings, pool: Pool, reads: DurableReads, owned: Callable[[], set[int]]
    ) -> None:
        """`owned` tells the partitions of this worker."""
        self._settings = settings
        self._commands = topics_of(settings).commands
        self._pool = pool
        self._reads = reads
        self._owned = owned
        self._idle_seconds = settings.sweep_interval_ms / 1000
        self._cascade_pace = Pace(settings.cascade_commands_per_second_max)
        self._timer_pace = Pace(settings.timer_commands_per_second_max)
        self._time_out_pace = Pace(settings.timer_commands_per_second_max)
        self._requests_committed = asyncio.Event()

    def requests_committed(self) -> None:
        """Requests were committed here: they need not wait for the next look."""
        self._requests_committed.set()

    def loops(self) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        """What is to be run, each as a task of its own with this name."""
        never = asyncio.Event()
        return [
            (f"dispatch-{name}", self._forever(turn, woken))
            for name, turn, woken in (
                ("cascades", self._send_cascades, never),
                ("timers", self._send_timers, never),
                ("time-outs", self._send_time_outs, never),
                ("requests", self._send_requests, self._requests_committed),
                ("counts", self._count, never),
            )
        ]

    async def _forever(self, turn: _Turn, woken: asyncio.Event) -> None:
        """Take turns; each says for how many seconds to rest then, unless woken."""
        patience = Patience(self._settings.retry_ms_max)
        sender = AtLeastOnceSender(self._settings)
        try:
            while True:
                woken.clear()
                try:
                    rest_seconds = await turn(sender)
                except Exception as error:
                    if not is_away(error) or patience.is_over():
                        raise
                    log.warning("dispatch_interrupted", error=repr(error))
                    await patience.wait()
                    continue
                patience.reset()
                await _rest(woken, rest_seconds)
        finally:
            await sender.close()

    # --- cascades

    async def _send_cascades(self, sender: AtLeastOnceSender) -> float:
        """Send one round, in which each open cascade has a page."""
        if not await self._is_taken(self._cascade_pace):
            return _LOOK_SECONDS
        told = await self._reads.read(self._load_pages)
        if not told:
            return self._idle_seconds
        cards_max = self._cards_of_page_max(len(told))
        commands = [
            cascade_delete(
                self._commands,
                cascade.issuer_id,
                card,
                Cause(cascade.operation_id, cascade.correlation_id, cascade.traceparent),
                cascade.reason_code,
            )
            for cascade, page in told
            for card in page
        ]
        if commands:
            await self._send_round(sender, self._cascade_pace, commands)
            CASCADE_COMMANDS.inc(len(commands))
        # Only now: dying before this line tells the pages' cards again, dying after it never.
        await cascades.move_on(
            self._pool,
            [(cascade, page[-1].card_id) for cascade, page in told if len(page) == cards_max],
        )
        finished = [cascade for cascade, page in told if len(page) < cards_max]
        await cascades.finish(self._pool, finished)
        for cascade in finished:
            log.info(
                "cascade_sent",
                cause=str(cascade.operation_id),
                correlation_id=cascade.correlation_id,
            )
        return _AT_ONCE

    async def _load_pages(
        self, connection: Connection
    ) -> list[tuple[OpenCascade, list[LivingCard]]]:
        cascades_max = min(CASCADES_AT_ONCE_MAX, self._cascade_pace.round_max)
        found = await cascades.load_open(connection, sorted(self._owned()), cascades_max)
        if not found:
            return []
        pages = await cascades.load_pages(connection, found, self._cards_of_page_max(len(found)))
        return list(zip(found, pages, strict=True))

    def _cards_of_page_max(self, cascades_of_round: int) -> int:
        return self._cascade_pace.round_max // cascades_of_round

    # --- what is due

    async def _send_timers(self, sender: AtLeastOnceSender) -> float:
        """Send one round of timers that are due, the oldest."""
        if DUE_PARTITION not in self._owned():
            return self._idle_seconds
        if not await self._is_taken(self._timer_pace):
            return _LOOK_SECONDS
        now_ms, timers_max = self._now_ms(), self._timer_pace.round_max
        due = await self._reads.read(
            lambda connection: timers.load_due(connection, now_ms, timers_max)
        )
        if not due:
            return self._idle_seconds
        commands = [
            timer_command(
                self._commands, timer.issuer_id, timer.card_id, timer.kind, timer.command_id
            )
            for timer in due
        ]
        sent = await self._send_round(sender, self._timer_pace, commands)
        for timer in due:
            TIMERS_FIRED.labels(timer.kind).inc()
        in_time = self._in_time(due, sent)
        await timers.delete_sent(self._pool, in_time)
        return _AT_ONCE if in_time else self._idle_seconds

    async def _send_time_outs(self, sender: AtLeastOnceSender) -> float:
        """Send one round of TIME_OUTs, those that are due for longest."""
        if DUE_PARTITION not in self._owned():
            return self._idle_seconds
        if not await self._is_taken(self._time_out_pace):
            return _LOOK_SECONDS
        now_ms, operations_max = self._now_ms(), self._time_out_pace.round_max
        due = await self._reads.read(
            lambda connection: pending.load_due(connection, now_ms, operations_max)
        )
        if not due:
            return self._idle_seconds
        commands = [
            time_out_command(self._commands, one.issuer_id, one.card_id, one.operation_id)
            for one in due
        ]
        sent = await self._send_round(sender, self._time_out_pace, commands)
        TIME_OUTS_SENT.inc(len(due))
        in_time = self._in_time(due, sent)
        await pending.mark_timed_out(self._pool, in_time)
        return _AT_ONCE if in_time else self._idle_seconds

    def _in_time(self, due: Sequence[_DueRow], sent: Sequence[Appended]) -> list[_DueRow]:
        """Those whose command got a time at or after the due time.

        What is due is judged by its record's time, which is the broker's. If that is too early,
        because our clock is ahead, the command is ignored: it must be sent again.
        """
        offset_ms = self._settings.clock_offset_seconds * _MS_PER_SECOND
        in_time = [
            row for row, one in zip(due, sent, strict=True) if one.time_ms + offset_ms >= row.due_ms
        ]
        if len(in_time) < len(due):
            log.warning("clock_ahead_of_broker", sent_too_early=len(due) - len(in_time))
        return in_time

    def _now_ms(self) -> int:
        return int((time.time() + self._settings.clock_offset_seconds) * _MS_PER_SECOND)

    # --- requests

    async def _send_requests(self, sender: AtLeastOnceSender) -> float:
        """Send a batch of requests. Nobody's commands wait behind them: they are not paced."""
        owned = sorted(self._owned())
        rows = await self._reads.read(
            lambda connection: pending.load_dispatches(connection, owned, REQUESTS_AT_ONCE_MAX)
        )
        if not rows:
            return self._idle_seconds
        await sender.send([OwedRecord(row.topic, row.key.encode(), row.value) for row in rows])
        REQUESTS_SENT.inc(len(rows))
        # Only now: dying before this line asks again, dying after it never.
        await pending.delete_dispatches(self._pool, rows)
        return _AT_ONCE

    # --- rounds

    async def _is_taken(self, pace: Pace) -> bool:
        """Whether intake has taken the last round, or it is not waited for any longer."""
        if pace.awaited:
            pace.taken(await lanes.load_taken(self._pool, sorted(pace.awaited)))
        return not pace.awaited

    async def _send_round(
        self, sender: AtLeastOnceSender, pace: Pace, commands: Sequence[OwedRecord]
    ) -> list[Appended]:
        await pace.wait(len(commands))
        sent = await sender.send(commands)
        pace.note(sent)
        return sent

    # --- counts

    async def _count(self, _: AtLeastOnceSender) -> float:
        """Tell what waits: seldom, because counting looks at every one."""
        owned = sorted(self._owned())
        CASCADES_OPEN.set(await cascades.count_open(self._pool, owned, _COUNTED_MAX))
        REQUESTS_WAITING.set(await pending.count_dispatches(self._pool, owned, _COUNTED_MAX))
        if DUE_PARTITION in owned:
            now_ms = self._now_ms()
            TIMERS_WAITING.set(await timers.count_due(self._pool, now_ms, _COUNTED_MAX))
            TIME_OUTS_WAITING.set(await pending.count_due(self._pool, now_ms, _COUNTED_MAX))
            PENDING_OPEN.set(await pending.count_open(self._pool, _COUNTED_MAX))
        else:
            for gauge in (TIMERS_WAITING, TIME_OUTS_WAITING, PENDING_OPEN):
                gauge.set(0)
        return _COUNT_SECONDS


async def _rest(woken: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):  # nobody called; look all the same
        async with asyncio.timeout(seconds):
            await woken.wait()
