"""Sends what PENDING operations owe: requests to outside parties, and TIME_OUTs at their deadlines.

Each worker sends the requests of the command partitions that it owns; the owner of one certain
partition sends the TIME_OUTs. The database says what is owed until after Kafka has acknowledged it,
so whoever dies in between sends again, which is harmless: the ids are the same.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog
from prometheus_client import Counter

from lifecycle.kafka.at_least_once import AtLeastOnceSender, OwedRecord
from lifecycle.kafka.own_commands import time_out_command
from lifecycle.kafka.topics import topics_of
from lifecycle.postgres import pending
from lifecycle.postgres.connection import Pool
from lifecycle.settings import Settings
from lifecycle.worker.retrying import Patience, is_away

log = structlog.get_logger(__name__)

TIME_OUT_PARTITION = 0
"""The owner of this command partition sends the TIME_OUTs."""

RECORDS_AT_ONCE_MAX = 500
"""Records that are sent, and acknowledged, together."""

REQUESTS_SENT = Counter(
    "lifecycle_requests_sent", "Requests to outside parties that were sent; some more than once."
)
TIME_OUTS_SENT = Counter(
    "lifecycle_time_outs_sent", "TIME_OUT commands that were sent; some more than once."
)


class Asking:
    """Two loops of one worker. They end when they are cancelled, or by calling `on_failure`."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        owned: Callable[[], set[int]],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """`owned` tells the lanes of this worker. `on_failure` hears what no retry mends."""
        self._settings = settings
        self._pool = pool
        self._owned = owned
        self._on_failure = on_failure
        self._topics = topics_of(settings)
        self._asked = asyncio.Event()

    def ask_now(self) -> None:
        """Requests were committed here: they need not wait for the next look."""
        self._asked.set()

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._forever(self._send_requests, self._asked), name="requests")
            loops.create_task(
                self._forever(self._send_time_outs, asyncio.Event()), name="time-outs"
            )

    async def _forever(
        self, turn: Callable[[AtLeastOnceSender], Awaitable[bool]], woken: asyncio.Event
    ) -> None:
        """Take turns; rest when one found nothing to do."""
        patience = Patience(self._settings.retry_ms_max)
        sender = AtLeastOnceSender(self._settings)
        try:
            while True:
                woken.clear()
                try:
                    did_something = await turn(sender)
                except Exception as error:  # noqa: BLE001 - sorted below: none is swallowed
                    if not is_away(error) or patience.is_over():
                        self._on_failure(error)
                        return
                    log.warning("asking_interrupted", error=repr(error))
                    await patience.wait()
                    continue
                patience.reset()
                if not did_something:
                    await self._rest(woken)
        finally:
            await sender.close()

    async def _rest(self, woken: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(self._settings.sweep_interval_ms / 1000):
                await woken.wait()
        except TimeoutError:
            return  # nobody called; look all the same

    async def _send_requests(self, sender: AtLeastOnceSender) -> bool:
        """Send a batch of requests; whether there was one."""
        owned = sorted(self._owned())
        rows = await pending.load_dispatches(self._pool, owned, RECORDS_AT_ONCE_MAX)
        if not rows:
            return False
        await sender.send([OwedRecord(row.topic, row.key.encode(), row.value) for row in rows])
        REQUESTS_SENT.inc(len(rows))
        # Only now: dying before this line asks again, dying after it never.
        await pending.delete_dispatches(self._pool, rows)
        return True

    async def _send_time_outs(self, sender: AtLeastOnceSender) -> bool:
        """Send a batch of TIME_OUTs; whether one was taken off the list."""
        if TIME_OUT_PARTITION not in self._owned():
            return False
        offset_ms = self._settings.clock_offset_seconds * 1000
        now_ms = int(time.time() * 1000) + offset_ms
        due = await pending.load_due(self._pool, now_ms, RECORDS_AT_ONCE_MAX)
        if not due:
            return False
        times_ms = await sender.send(
            [
                time_out_command(
                    self._topics.commands, one.issuer_id, one.card_id, one.operation_id
                )
                for one in due
            ]
        )
        TIME_OUTS_SENT.inc(len(due))
        # A TIME_OUT is judged by its record's time, which is the broker's. If that is before the
        # deadline, because our clock is ahead, it is ignored: it must be sent again.
        in_time = [
            one
            for one, time_ms in zip(due, times_ms, strict=True)
            if time_ms + offset_ms >= one.deadline_ms
        ]
        if len(in_time) < len(due):
            log.warning("clock_ahead_of_broker", time_outs_too_early=len(due) - len(in_time))
        await pending.mark_timed_out(self._pool, in_time)
        return bool(in_time)
