"""Sends the commands that the service owes itself: the DELETEs of cascades, and due timers.

Each worker sends the cascades of the partitions that it owns; the owner of one certain partition
sends the timers. The database says what is owed until after Kafka has acknowledged it, so whoever
dies in between sends again, which is harmless: the ids are the same. So is a former owner that
does not know yet that it is none.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog
from prometheus_client import Counter, Gauge

from lifecycle.kafka.at_least_once import AtLeastOnceSender
from lifecycle.kafka.own_commands import cascade_delete, timer_command
from lifecycle.kafka.topics import topics_of
from lifecycle.postgres import cascades, timers
from lifecycle.postgres.cascades import OpenCascade
from lifecycle.postgres.connection import Pool
from lifecycle.settings import Settings
from lifecycle.worker.retrying import Patience, is_away

log = structlog.get_logger(__name__)

TIMER_PARTITION = 0
"""The owner of this command partition sends the timers."""

COMMANDS_AT_ONCE_MAX = 500
"""Commands that are sent, and acknowledged, together."""

CASCADES_AT_ONCE_MAX = 20
"""So many cascades take turns, a page of each, so that a large one does not hold up a small one."""

_COUNT_SECONDS = 10.0
_DUE_COUNTED_MAX = 1_000_000

TIMERS_FIRED = Counter(
    "lifecycle_timers_fired", "Timer commands that were sent; some more than once.", ["kind"]
)
TIMERS_WAITING = Gauge(
    "lifecycle_timers_waiting",
    "Timers that are due and not sent yet, counted every 10 s up to a million by the worker that"
    " sends them; 0 in all others.",
)
CASCADE_COMMANDS = Counter(
    "lifecycle_cascade_commands", "DELETEs of cascades that were sent; some more than once."
)
CASCADES_OPEN = Gauge(
    "lifecycle_cascades_open",
    f"Cascades of this worker's partitions that are not finished, up to {CASCADES_AT_ONCE_MAX}.",
)


class Pace:
    """Lets no more than so many commands a second pass, in the long run."""

    def __init__(self, per_second_max: int) -> None:
        """`at_once_max` commands take no longer than a second, so no wait does."""
        self._per_second_max = per_second_max
        self._free_at_seconds = 0.0
        self.at_once_max = min(COMMANDS_AT_ONCE_MAX, per_second_max)

    async def wait(self, commands: int) -> None:
        """Wait until there is room for `commands`, which are sent then."""
        assert commands <= self.at_once_max, "the caller bounds its batches"
        await asyncio.sleep(max(0.0, self._free_at_seconds - time.monotonic()))
        self._free_at_seconds = time.monotonic() + commands / self._per_second_max


class Dispatcher:
    """Two loops of one worker. They end when they are cancelled, or by calling `on_failure`."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        owned: Callable[[], set[int]],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """`owned` tells the partitions of this worker. `on_failure` hears what no retry mends."""
        self._settings = settings
        self._commands = topics_of(settings).commands
        self._pool = pool
        self._owned = owned
        self._on_failure = on_failure
        self._cascade_pace = Pace(settings.cascade_commands_per_second_max)
        self._timer_pace = Pace(settings.timer_commands_per_second_max)
        self._counted_at_seconds: float | None = None

    async def run(self) -> None:
        """Dispatch until cancelled."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._forever(self._dispatch_cascades), name="dispatch-cascades")
            loops.create_task(self._forever(self._dispatch_timers), name="dispatch-timers")

    async def _forever(self, turn: Callable[[AtLeastOnceSender], Awaitable[bool]]) -> None:
        """Take turns; rest when one found nothing to do."""
        patience = Patience(self._settings.retry_ms_max)
        sender = AtLeastOnceSender(self._settings)
        try:
            while True:
                try:
                    did_something = await turn(sender)
                except Exception as error:  # noqa: BLE001 - sorted below: none is swallowed
                    if not is_away(error) or patience.is_over():
                        self._on_failure(error)
                        return
                    log.warning("dispatch_interrupted", error=repr(error))
                    await patience.wait()
                    continue
                patience.reset()
                if not did_something:
                    await asyncio.sleep(self._settings.sweep_interval_ms / 1000)
        finally:
            await sender.close()

    async def _dispatch_cascades(self, sender: AtLeastOnceSender) -> bool:
        """Send a page of each open cascade; whether there was one."""
        found = await cascades.load_open(self._pool, sorted(self._owned()), CASCADES_AT_ONCE_MAX)
        CASCADES_OPEN.set(len(found))
        for cascade in found:
            await self._dispatch_page(sender, cascade)
        return bool(found)

    async def _dispatch_page(self, sender: AtLeastOnceSender, cascade: OpenCascade) -> None:
        cards_max = self._cascade_pace.at_once_max
        cards = await cascades.load_page(self._pool, cascade, cards_max)
        if cards:
            await self._cascade_pace.wait(len(cards))
            await sender.send(
                [
                    cascade_delete(
                        self._commands,
                        cascade.issuer_id,
                        card,
                        cascade.operation_id,
                        cascade.reason_code,
                    )
                    for card in cards
                ]
            )
            CASCADE_COMMANDS.inc(len(cards))
        # Only now: dying before this line tells the page's cards again, dying after it never.
        if len(cards) == cards_max:
            last_card_id, _ = cards[-1]
            await cascades.move_on(self._pool, cascade, last_card_id)
        else:
            await cascades.finish(self._pool, cascade)
            log.info("cascade_sent", cause=str(cascade.operation_id))

    async def _dispatch_timers(self, sender: AtLeastOnceSender) -> bool:
        """Send a batch of timers that are due; whether one was taken off the list."""
        if TIMER_PARTITION not in self._owned():
            TIMERS_WAITING.set(0)
            return False
        offset_ms = self._settings.clock_offset_seconds * 1000
        now_ms = int(time.time() * 1000) + offset_ms
        await self._count_waiting(now_ms)
        due = await timers.load_due(self._pool, now_ms, self._timer_pace.at_once_max)
        if not due:
            return False
        await self._timer_pace.wait(len(due))
        times_ms = await sender.send(
            [
                timer_command(
                    self._commands, timer.issuer_id, timer.card_id, timer.kind, timer.command_id
                )
                for timer in due
            ]
        )
        for timer in due:
            TIMERS_FIRED.labels(timer.kind).inc()
        # A timer is judged by its record's time, which is the broker's. If that is before the due
        # time, because our clock is ahead, the command is ignored: the timer must fire again.
        in_time = [
            timer
            for timer, time_ms in zip(due, times_ms, strict=True)
            if time_ms + offset_ms >= timer.due_ms
        ]
        if len(in_time) < len(due):
            log.warning("clock_ahead_of_broker", timers_too_early=len(due) - len(in_time))
        await timers.delete_sent(self._pool, in_time)
        return bool(in_time)

    async def _count_waiting(self, now_ms: int) -> None:
        """Tell how many are due: seldom, because counting looks at every one of them."""
        seconds = time.monotonic()
        last = self._counted_at_seconds
        if last is None or seconds - last >= _COUNT_SECONDS:
            self._counted_at_seconds = seconds
            TIMERS_WAITING.set(await timers.count_due(self._pool, now_ms, _DUE_COUNTED_MAX))
