"""/healthz, /readyz and /metrics over real HTTP: true, bounded, and never the worker's burden."""

import asyncio
import json
import re
import signal
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor, wait
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from lifecycle.cli import worker_process  # also for every metric that a worker has
from lifecycle.http import monitoring
from lifecycle.http.monitoring import listening_socket, monitored
from lifecycle.settings import Settings, SettingsError
from lifecycle.supervision import EndedUnaskedError
from lifecycle.worker.readiness import Readiness
from tests.support.waiting import SECONDS_MAX, until


def _never(error: BaseException) -> None:
    raise error


@pytest_asyncio.fixture
async def readiness() -> Readiness:
    return Readiness()


@pytest_asyncio.fixture
async def url(readiness: Readiness) -> AsyncIterator[str]:
    async with monitored(listening_socket(Settings(), 0), readiness, _never) as url:
        yield url


def fetched(url: str, path: str) -> tuple[int, str]:
    """Status and body, or an error if there is no answer."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=SECONDS_MAX)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


async def fetch(url: str, path: str) -> tuple[int, str]:
    return await asyncio.to_thread(fetched, url, path)


async def test_a_worker_is_alive_before_it_is_ready(url: str, readiness: Readiness) -> None:
    assert (await fetch(url, "/healthz"))[0] == 200
    status, body = await fetch(url, "/readyz")
    assert (status, json.loads(body)["why"]) == (503, ["the worker has not joined its group yet"])
    assert "\n" not in body
    readiness.joined()
    assert await fetch(url, "/readyz") == (200, '{"status":"ready","why":[]}')


async def test_what_is_missing_makes_a_worker_unready_until_it_is_back(
    url: str, readiness: Readiness
) -> None:
    readiness.joined()
    readiness.waits("sweep", "database or broker away (OSError)")
    readiness.waits("sweep", "database or broker away (TimeoutError)")
    status, body = await fetch(url, "/readyz")
    assert (status, json.loads(body)["why"]) == (503, ["database or broker away (TimeoutError)"])
    assert (await fetch(url, "/healthz"))[0] == 200, "starting it anew would not mend that"
    readiness.has("sweep")
    assert (await fetch(url, "/readyz"))[0] == 200


async def test_metrics_are_served_as_prometheus_reads_them(url: str) -> None:
    status, body = await fetch(url, "/metrics")
    assert status == 200
    assert "# TYPE lifecycle_batch_seconds histogram" in body


def test_the_table_of_metrics_has_a_row_for_each_and_for_no_other() -> None:
    families = [family for family in REGISTRY.collect() if family.name.startswith("lifecycle_")]
    served = {family.name + "_total" * (family.type == "counter") for family in families}
    page = (Path(__file__).parents[2] / "docs/operate.md").read_text()
    assert set(re.findall(r"^\| `(lifecycle_[a-z_]+)", page, re.MULTILINE)) == served
    assert all(family.documentation.endswith(".") for family in families)


async def test_a_loop_that_hangs_is_told_while_it_hangs(
    url: str, readiness: Readiness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitoring, "LOOP_SECONDS_MAX", 0.1)
    readiness.joined()
    with ThreadPoolExecutor() as others:
        asked = [others.submit(fetched, url, path) for path in ("/healthz", "/readyz", "/metrics")]
        wait(asked)  # The loop hangs here, until all of them were answered.
    assert [one.result()[0] for one in asked] == [503, 503, 200]

    async def is_healthy() -> bool:
        return (await fetch(url, "/healthz"))[0] == 200

    await until(is_healthy, "the loop to turn again")


async def test_clients_that_say_nothing_are_cut_off_and_others_served(
    readiness: Readiness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitoring, "CONNECTION_SECONDS_MAX", 0.5)
    monkeypatch.setattr(monitoring, "CONNECTIONS_MAX", 4)
    async with monitored(listening_socket(Settings(), 0), readiness, _never) as url:
        address = urlsplit(url)
        silent = [
            socket.create_connection((address.hostname, address.port), SECONDS_MAX)
            for _ in range(8)
        ]
        try:
            for one in silent:
                assert await asyncio.to_thread(one.recv, 1) == b"", "it was closed"
        finally:
            for one in silent:
                one.close()
        assert (await fetch(url, "/healthz"))[0] == 200


@pytest.mark.parametrize("end", [SystemExit(3), OSError("too many open files"), None])
async def test_monitoring_that_ends_by_itself_ends_its_worker(
    monkeypatch: pytest.MonkeyPatch, end: BaseException | None
) -> None:
    def ends(*_: object, **__: object) -> None:
        if end is not None:
            raise end

    async def works(_: Settings, stop: asyncio.Event, __: Readiness) -> None:
        await stop.wait()

    monkeypatch.setattr("uvicorn.Server.run", ends)
    monkeypatch.setattr(worker_process, "run_worker", works)
    with pytest.raises((SystemExit, OSError, EndedUnaskedError)) as raised:
        await worker_process._monitored(Settings(metrics_port=0))  # noqa: SLF001 - without signals
    assert end is None or raised.value is end
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(name)


async def test_a_port_that_is_taken_is_a_settings_error_that_says_what_to_do() -> None:
    with listening_socket(Settings(), 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"LIFECYCLE_METRICS_PORT: {port}.*its own"):
            listening_socket(Settings(), port)
    with pytest.raises(SettingsError, match="LIFECYCLE_METRICS_HOST"):
        listening_socket(Settings.model_validate({"metrics_host": "192.0.2.1"}), 0)
