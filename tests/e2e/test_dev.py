"""`lifecycle dev` on given servers: the sample day, its sums, and nothing left behind."""

import asyncio
import os
import re
import shlex
import signal
from pathlib import Path

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient

from lifecycle.local import Servers
from tests.e2e.conftest import PROGRAM, World, ended
from tests.support.waiting import SECONDS_MAX, until

DAY_PREFIX = "lifecycle-day-"
PROGRAM_IN_README = ".venv/bin/lifecycle"


async def names_of_days(servers: Servers) -> set[str]:
    """The topics and databases that `dev --once` made for itself."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.kafka_bootstrap_servers)
    await admin.start()
    try:
        names = set(await admin.list_topics())
    finally:
        await admin.close()
    connection = await asyncpg.connect(servers.database_url)
    try:
        names |= {row[0] for row in await connection.fetch("SELECT datname FROM pg_database")}
    finally:
        await connection.close()
    return {name for name in names if name.startswith(DAY_PREFIX)}


async def test_dev_once_ends_with_0_when_the_sums_agree_and_leaves_nothing(
    servers: Servers, empty_world: World
) -> None:
    """G1 and G5 over the sample day, and each outcome as the rule book has it."""
    before = await names_of_days(servers)
    async with empty_world.started(PROGRAM, "dev", "--once") as once:
        seen = await output_until(once, "Sending")
        assert await names_of_days(servers) > before, "so the names are those of days"
        seen += (await ended(once)).out
    assert once.returncode == 0, seen
    assert seen.endswith("The sums agree.\n")
    assert "IDEMPOTENCY_CONFLICT" in seen

    # Kafka forgets a deleted topic a little later than it says so.
    async def are_gone() -> bool:
        return await names_of_days(servers) <= before

    await until(are_gone, "the day's topics and database to be gone")


# What differs from day to day, from machine to machine, and with the partition count.
_VARIES = (
    (re.compile(r"\b\d\d:\d\d:\d\d\.\d{3}\b"), "TIME"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "ID"),
    (re.compile(r"\b(last4|exp|newExp) \d{4}\b"), r"\1 DIGITS"),
    (re.compile(r"http://127.0.0.1:\d+"), "URL"),
    (re.compile(r"schema \d{4}"), "SCHEMA"),
)
_OF_THE_MACHINE = ("Kafka is", "PostgreSQL is", "Topics:", "  . ")


def lines_to_compare(output: str) -> set[str]:
    """The lines of an output of `dev` that are the same for everyone."""
    for varying, word in _VARIES:
        output = varying.sub(word, output)
    lines = {line.rstrip() for line in output.replace(str(PROGRAM), PROGRAM_IN_README).splitlines()}
    return {line for line in lines if line and not line.startswith(_OF_THE_MACHINE)}


def shown_in_the_readme() -> set[str]:
    """What the README says that one sees, but for what it leaves out."""
    page = (Path(__file__).parents[2] / "README.md").read_text()
    [shown] = re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    lines = lines_to_compare(shown) - {"[…]"}
    assert len(lines) > 50
    return lines


async def output_until(process: asyncio.subprocess.Process, text: str) -> str:
    assert process.stdout is not None
    seen = ""
    async with asyncio.timeout(SECONDS_MAX):
        while text not in seen:
            line = await process.stdout.readline()
            assert line, seen
            seen += line.decode()
    return seen


async def test_dev_shows_events_sends_the_day_once_and_stops_on_ctrl_c(
    empty_world: World, tmp_path: Path
) -> None:
    async with empty_world.started(PROGRAM, "dev", folder=tmp_path) as dev:
        seen = await output_until(dev, "Ctrl-C stops it all")
        assert shown_in_the_readme() - lines_to_compare(seen) == set()
        await empty_world.ok(
            "send",
            "-",
            given=b'{"commandId":"mine","command":"SUSPEND","issuerId":"BANK000001",'
            b'"cardId":"mine"}',
        )
        assert "CARD_NOT_FOUND" in await output_until(dev, "BANK000001/mine")
        dev.send_signal(signal.SIGINT)
        result = await ended(dev)
        assert result.exit_code == 0, result
        assert "Traceback" not in result.err
    # The addresses are the user's own settings: there is nothing to be kept.
    assert list(tmp_path.iterdir()) == []

    async with empty_world.started(PROGRAM, "dev", folder=tmp_path) as dev:
        seen = await output_until(dev, "Ctrl-C stops it all")
        assert "sent to this database before" in seen
        assert "commands sent" not in seen
        dev.send_signal(signal.SIGTERM)
        assert (await ended(dev)).exit_code == 0


async def test_dev_without_a_sample_sends_nothing_nor_does_dev_to_a_database_in_use(
    empty_world: World, tmp_path: Path
) -> None:
    async with empty_world.started(PROGRAM, "dev", "--no-sample", folder=tmp_path) as dev:
        await output_until(dev, "Ctrl-C stops it all")
        await empty_world.ok(
            "send",
            "-",
            given=b'{"commandId":"c","command":"SUSPEND","issuerId":"BANK000001","cardId":"x"}',
        )
        await output_until(dev, "BANK000001/x")
        dev.send_signal(signal.SIGINT)
        assert (await ended(dev)).exit_code == 0
    async with empty_world.started(PROGRAM, "dev", folder=tmp_path) as dev:
        seen = await output_until(dev, "Ctrl-C stops it all")
        assert "holds other operations" in seen
        dev.send_signal(signal.SIGINT)
        assert (await ended(dev)).exit_code == 0
    connection = await asyncpg.connect(empty_world.database_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM operation") == 1
    finally:
        await connection.close()


async def test_a_shell_that_has_the_addresses_of_devs_own_servers_starts_them_again(
    tmp_path: Path,
) -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("LIFECYCLE_")
    } | {"LIFECYCLE_LOCAL_DIR": str(tmp_path / "local")}
    first = World(environment, "")
    async with first.started(PROGRAM, "dev", "--no-sample", folder=tmp_path) as dev:
        await output_until(dev, "Ctrl-C stops it all")
        dev.send_signal(signal.SIGINT)
        assert (await ended(dev)).exit_code == 0
    # As a shell reads it: the servers have ended, and the addresses are still there.
    words = shlex.split((tmp_path / "local/env").read_text())
    addresses = dict(word.split("=", 1) for word in words if "=" in word)
    assert "LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS" in addresses
    second = first.on(**addresses)
    async with second.started(PROGRAM, "dev", "--no-sample", folder=tmp_path) as dev:
        seen = await output_until(dev, "Ctrl-C stops it all")
        assert "they are those of dev's own servers" in seen
        dev.send_signal(signal.SIGINT)
        assert (await ended(dev)).exit_code == 0
