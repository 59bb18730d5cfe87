"""A way to a server that can be cut: what a client sees when the server is away and comes back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

_BYTES_AT_ONCE = 64 * 1024


class Proxy:
    """Forwards TCP connections to one server until it is cut."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0

    async def mend(self) -> None:
        """Accept connections, on the same port each time."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Refuse connections and break those that there are."""
        assert self._server is not None, "mend comes first"
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    async def forward_start(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Forward the first bytes of a client, if they are to be other bytes."""

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a connection is served in a task"
        self._connections.add(task)
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._target)
            try:
                await self.forward_start(reader, there_writer)
                async with asyncio.TaskGroup() as group:
                    group.create_task(_forward(reader, there_writer))
                    group.create_task(_forward(there_reader, writer))
            finally:
                there_writer.close()
        except (asyncio.CancelledError, OSError, ExceptionGroup):
            # Cut, or one side has gone: either way the other must see it at once.
            writer.transport.abort()
        finally:
            writer.close()
            self._connections.discard(task)


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_BYTES_AT_ONCE):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


@asynccontextmanager
async def proxy_to(url: str, kind: type[Proxy] = Proxy) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy to the server of `url`, and the URL that leads through it."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    proxy = kind(parts.hostname, parts.port)
    await proxy.mend()
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    try:
        yield proxy, urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{proxy.port}"))
    finally:
        await proxy.cut()
