"""The servers of development and tests come up, keep their data, and leave nothing behind."""

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import asyncpg
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from lifecycle.local import LocalServerError, Servers, running_servers
from lifecycle.local.folder import LOOPBACK
from tests.support.waiting import SECONDS_MAX

OWNER = """
import asyncio, pathlib, sys
from lifecycle.local import running_servers

async def main():
    async with running_servers(
        kafka_bootstrap_servers=None, database_url=None, data_dir=pathlib.Path(sys.argv[1]),
        fresh=sys.argv[2] == "fresh", report=lambda _: None,
    ):
        print("up", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder that only we may pass to, as in a home directory; no Docker."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    parent = Path(tempfile.mkdtemp(prefix="lifecycle-test-"))
    path = parent / "local"
    yield path
    if (path / "postgres").is_symlink():
        shutil.rmtree((path / "postgres").resolve())
    shutil.rmtree(parent)


def of_our_own(folder: Path) -> AbstractAsyncContextManager[Servers]:
    return running_servers(
        kafka_bootstrap_servers=None, database_url=None, data_dir=folder, report=print
    )


def processes_of(folder: Path) -> list[list[str]]:
    """The command lines that name the folder."""
    lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if str(folder) in " ".join(line)]


async def until_no_process_of(folder: Path) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        # Not ours to be told of: the processes of a dead owner.
        while processes_of(folder):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def make_topic(servers: Servers, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.kafka_bootstrap_servers)
    await admin.start()
    try:
        response = await admin.create_topics([NewTopic(topic, 1, 1)])
        assert [error for _, error, *_ in response.topic_errors] == [0]
    finally:
        await admin.close()


async def produce(servers: Servers, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=servers.kafka_bootstrap_servers) as producer:
        await producer.send_and_wait(topic, value)


async def values_in(servers: Servers, topic: str, count: int) -> list[bytes]:
    """The first records of the topic."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers.kafka_bootstrap_servers, auto_offset_reset="earliest"
    )
    consumer.assign([TopicPartition(topic, 0)])
    async with asyncio.timeout(SECONDS_MAX), consumer:
        return [(await consumer.getone()).value for _ in range(count)]


async def test_kafka_keeps_a_record_and_postgresql_runs_a_statement(servers: Servers) -> None:
    topic = f"local-{uuid.uuid4()}"
    await make_topic(servers, topic)
    await produce(servers, topic, b"first")
    assert await values_in(servers, topic, 1) == [b"first"]

    connection = await asyncpg.connect(servers.database_url)
    try:
        assert await connection.fetchval("SELECT 6 * 7") == 42
        assert await connection.fetchval("SHOW server_encoding") == "UTF8"
    finally:
        await connection.close()


async def test_both_servers_say_where_they_are_from_and_no_password(servers: Servers) -> None:
    assert servers.kafka_from.startswith("Kafka")
    assert servers.postgres_from.startswith("PostgreSQL")
    assert servers.database_url not in repr(servers)


async def test_data_outlive_a_run_a_killed_owner_and_a_taken_port(folder: Path) -> None:
    async with of_our_own(folder) as servers:
        await make_topic(servers, "kept")
        await produce(servers, "kept", b"before")
        connection = await asyncpg.connect(servers.database_url)
        await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        await connection.close()
    assert processes_of(folder) == []

    # The owner dies without a word, and both servers with it.
    owner = await started_owner(folder)
    assert len(processes_of(folder)) > 1
    owner.kill()
    await owner.wait()
    await until_no_process_of(folder)

    # Others have taken both ports meanwhile.
    ports = json.loads((folder / "ports.json").read_text())
    with socket.socket() as one, socket.socket() as other:
        one.bind((LOOPBACK, ports["kafka"]))
        other.bind((LOOPBACK, ports["kafka_controller"]))
        async with of_our_own(folder) as servers:
            assert await values_in(servers, "kept", 1) == [b"before"]
            connection = await asyncpg.connect(servers.database_url)
            assert await connection.fetchval("SELECT answer FROM kept") == 42
            await connection.close()
    assert processes_of(folder) == []


async def test_a_pid_file_with_the_pid_of_another_process_hinders_nobody(folder: Path) -> None:
    async with of_our_own(folder):
        pass
    # As after a restart of a container: the pid is alive, but it is somebody else.
    (folder / "postgres" / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n")
    async with of_our_own(folder) as servers:
        connection = await asyncpg.connect(servers.database_url)
        await connection.close()


async def test_ctrl_c_stops_the_servers_in_order_and_leaves_nothing(folder: Path) -> None:
    owner = await started_owner(folder)
    # As the terminal does: to the whole process group of the owner, in which no server may be.
    os.killpg(owner.pid, signal.SIGINT)
    async with asyncio.timeout(SECONDS_MAX):
        await owner.wait()
    assert processes_of(folder) == []
    assert "database system is shut down" in (folder / "postgres.log").read_text()


async def test_a_folder_in_use_is_refused(folder: Path) -> None:
    async with of_our_own(folder):
        with pytest.raises(LocalServerError, match=f"in use by process {os.getpid()}"):
            async with of_our_own(folder):
                pass


async def test_throw_away_servers_of_a_killed_owner_leave_no_process_and_no_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    owner = await started_owner(folder, "fresh")
    assert processes_of(folder)
    assert list(folder.iterdir())
    owner.kill()
    await owner.wait()
    await until_no_process_of(folder)
    assert list(folder.iterdir()) == []


async def test_a_server_that_does_not_come_up_shows_the_end_of_its_log(folder: Path) -> None:
    async with of_our_own(folder):
        pass
    (folder / "postgres" / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(LocalServerError, match=r"(?s)PostgreSQL .*postgres\.log.*incompatible"):
        async with of_our_own(folder):
            pass
    assert processes_of(folder) == []


async def started_owner(folder: Path, how: str = "kept") -> asyncio.subprocess.Process:
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, str(folder), how),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert owner.stdout is not None
    async with asyncio.timeout(SECONDS_MAX):
        assert await owner.stdout.readline() == b"up\n"
    return owner
