"""Serves /healthz, /readyz and /metrics for a worker (design.md 10).

Runs on a thread and an event loop of its own: a slow or silent client costs the worker nothing, and
an answer comes also when the worker's loop hangs, which is just what /healthz is asked for. Sizes
and numbers of connections are bounded by uvicorn's limits below.
"""

import asyncio
import contextlib
import errno
import socket
import threading
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from lifecycle.settings import Settings, SettingsError
from lifecycle.supervision import EndedUnaskedError
from lifecycle.worker.readiness import Readiness

LOOP_SECONDS_MAX = 5.0
"""A worker whose event loop does not turn for so long is not alive."""
CONNECTIONS_MAX = 64
"""At once; whoever comes then gets 503."""
CONNECTION_SECONDS_MAX = 15.0
"""From its first byte to its end: a client that is slower must come again."""
_KEEP_ALIVE_SECONDS = 5
_STOP_SECONDS_MAX = 5


def listening_socket(settings: Settings, port: int) -> socket.socket:
    """A socket on `port` of the settings' address; 0: any free one.

    Raises:
        SettingsError: the port is taken, not allowed, or the address is none of this machine.
    """
    host = settings.metrics_host
    family = socket.AF_INET6 if host.version == 6 else socket.AF_INET  # noqa: PLR2004 - IPv6
    try:
        return socket.create_server((str(host), port), family=family)
    except OSError as error:
        advice = (
            "another process has it, perhaps another worker: give each one its own, or 0 for any"
            " free port"
            if error.errno == errno.EADDRINUSE
            else f"{error.strerror}: choose another port, or another LIFECYCLE_METRICS_HOST"
        )
        raise SettingsError(f"LIFECYCLE_METRICS_PORT: {port} on {host}: {advice}") from None


class _Connection(H11Protocol):
    """Ends after a while, however slowly its client speaks or reads."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._too_late = self.loop.call_later(CONNECTION_SECONDS_MAX, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._too_late.cancel()
        super().connection_lost(exc)


@contextlib.asynccontextmanager
async def monitored(
    listening: socket.socket, readiness: Readiness, on_failure: Callable[[BaseException], None]
) -> AsyncIterator[str]:
    """Serve on `listening` while inside, about the event loop that runs now; the address, as a URL.

    `on_failure` hears, on that loop, when serving ends before. The socket is closed at the end.
    What still waits for its answer then is not waited for longer than a few seconds.
    """
    loop = asyncio.get_running_loop()
    config = uvicorn.Config(
        _application(loop, readiness),
        loop="asyncio",
        http=_Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",  # a client that speaks no HTTP, or comes too often, is not our affair
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_STOP_SECONDS_MAX,
    )
    server = uvicorn.Server(config)

    def serve() -> None:
        error: BaseException = EndedUnaskedError("monitoring has ended, and was not asked to")
        try:
            server.run(sockets=[listening])
        except BaseException as raised:  # noqa: BLE001 - also a SystemExit: it ends but a thread
            error = raised
        if not server.should_exit:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to hear
                loop.call_soon_threadsafe(on_failure, error)

    # A daemon: whatever hangs in it must not keep a process that has stopped.
    thread = threading.Thread(target=serve, name="monitoring", daemon=True)
    thread.start()
    try:
        yield _url_of(listening)
    finally:
        server.should_exit = True
        # Elsewhere, because who still waits for an answer waits for this loop.
        await asyncio.to_thread(thread.join, 2 * _STOP_SECONDS_MAX)
        listening.close()


def _url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _application(loop: asyncio.AbstractEventLoop, readiness: Readiness) -> Starlette:
    async def reasons() -> tuple[str, ...]:
        return readiness.reasons

    async def asked() -> tuple[str, ...] | None:
        """What the worker's own loop says, None when it says nothing: it must turn for that."""
        question = asyncio.run_coroutine_threadsafe(reasons(), loop)
        try:
            async with asyncio.timeout(LOOP_SECONDS_MAX):
                return await asyncio.wrap_future(question)
        except TimeoutError:
            return None

    async def healthz(_: Request) -> Response:
        if await asked() is None:
            return _answer(HTTPStatus.SERVICE_UNAVAILABLE, "unhealthy", _HANGS)
        return _answer(HTTPStatus.OK, "healthy")

    async def readyz(_: Request) -> Response:
        why = await asked()
        if why is None:
            return _answer(HTTPStatus.SERVICE_UNAVAILABLE, "not ready", _HANGS)
        if why:
            return _answer(HTTPStatus.SERVICE_UNAVAILABLE, "not ready", *why)
        return _answer(HTTPStatus.OK, "ready")

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), headers={"content-type": CONTENT_TYPE_LATEST})

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
        ]
    )


_HANGS = f"the worker's event loop has not turned for {LOOP_SECONDS_MAX:.0f} s"


def _answer(status: HTTPStatus, state: str, *why: str) -> Response:
    return JSONResponse({"status": state, "why": list(why)}, status_code=status)
