"""The worker, with a watch on its event loop: how long it was away from it at a time.

Run as `python -m benchmarks.watched_worker FILE`, with the worker's settings. Once a second it
writes to FILE, as JSON, the longest stalls since it had its lanes. Two of them: by the clock, which
also counts what other programs of a busy machine took, and by the CPU time of the loop's thread.
"""

import asyncio
import json
import resource
import signal
import sys
import time
from pathlib import Path

import uvloop

from lifecycle.settings import load_settings
from lifecycle.telemetry import configure_logging
from lifecycle.worker.readiness import Readiness
from lifecycle.worker.service import run_worker

_TICK_SECONDS = 0.005
_WRITE_SECONDS = 1.0


async def _watch(readiness: Readiness, report: Path) -> None:
    while readiness.reasons:  # noqa: ASYNC110 - the worker has no event for it
        await asyncio.sleep(_TICK_SECONDS)
    stall = loop_cpu = 0.0
    tick, cpu = time.perf_counter(), time.thread_time()
    written = tick
    while True:
        await asyncio.sleep(_TICK_SECONDS)
        stall = max(stall, time.perf_counter() - tick - _TICK_SECONDS)
        loop_cpu = max(loop_cpu, time.thread_time() - cpu)
        if time.perf_counter() - written > _WRITE_SECONDS:
            written = time.perf_counter()
            found = {
                "stall_seconds": stall,
                "loop_cpu_seconds": loop_cpu,
                "rss_peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            }
            report.write_text(json.dumps(found))  # noqa: ASYNC240 - some bytes a second
        tick, cpu = time.perf_counter(), time.thread_time()


async def _work(report: Path) -> None:
    stop, readiness = asyncio.Event(), Readiness()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    watching = asyncio.create_task(_watch(readiness, report), name="watch")
    try:
        await run_worker(load_settings(), stop, readiness)
    finally:
        watching.cancel()


if __name__ == "__main__":
    configure_logging(load_settings())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_work(Path(sys.argv[1])))
