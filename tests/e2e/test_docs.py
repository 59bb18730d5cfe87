"""Every command in README and docs works as it stands there, in the order in which it stands."""

import asyncio
import json
import os
import re
import secrets
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from lifecycle.local import Servers
from tests.e2e.conftest import World, ended
from tests.support.waiting import SECONDS_MAX

ROOT = Path(__file__).parents[2]
PAGES = ["docs/integrate.md", "docs/operate.md", "docs/audit.md", "docs/extend.md", "README.md"]

# These start what the test has started already; other tests run them.
SERVED = {"make run", "make test", ". .local/env", "lifecycle worker"}

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#]+)\)")


def blocks(page: str, language: str) -> list[str]:
    found = _FENCE.findall((ROOT / page).read_text())
    return [content for fence, content in found if fence == language]


@pytest.mark.parametrize("page", PAGES)
async def test_every_command_of_the_page_works(page: str, world: World, tmp_path: Path) -> None:
    if page == "README.md":
        # It speaks of the sample day's cards.
        await world.ok("send", "--records", str(ROOT / "samples/1-opening.jsonl"))
        await world.ok("watch", "--from-beginning", "--issuer", "BANK000002", "--limit", "35")
        await world.ok("send", "--records", str(ROOT / "samples/2-morning.jsonl"))
        await world.ok("watch", "--from-beginning", "--card", "card-001", "--limit", "4")
    script = [
        line
        for block in blocks(page, "sh")
        for line in block.splitlines()
        if line.strip() not in SERVED
    ]
    assert script
    async with world.started("bash", "-euo", "pipefail", "-s", folder=tmp_path) as shell:
        result = await ended(shell, "\n".join(script).encode() + b"\n")
    assert result.exit_code == 0, result


@pytest.mark.parametrize("page", PAGES)
async def test_every_query_of_the_page_works(page: str, world: World) -> None:
    # Something to count: the smallest command there is, which finds no card.
    await world.ok(
        "send",
        "-",
        given=b'{"commandId":"q","command":"SUSPEND","issuerId":"BANK000009","cardId":"counted"}',
    )
    await world.ok("watch", "--from-beginning", "--card", "counted", "--limit", "1")
    connection = await asyncpg.connect(world.database_url)
    try:
        for query in blocks(page, "sql"):
            assert await connection.fetch(query)
    finally:
        await connection.close()


async def test_an_administrator_sets_the_roles_up_as_the_page_says(servers: Servers) -> None:
    """With other names, since the server has other installations too."""
    [commands] = [text for text in blocks("docs/operate.md", "text") if "CREATE ROLE" in text]
    word = f"docs_{secrets.token_hex(4)}"
    renamed = re.sub(r"\b(cards|card_lifecycle)(?=\b|_)", rf"{word}_\1", commands)
    logins = dict(re.findall(r"CREATE ROLE (\w+) LOGIN PASSWORD '(\S+)'", renamed))
    roles = re.findall(r"CREATE ROLE (\w+)", renamed)
    [database] = re.findall(r"CREATE DATABASE (\w+)", renamed)
    assert len(logins) == 3
    assert len(roles) == 6
    address = make_url(servers.database_url).set(database=database)

    def login(name: str) -> str:
        [user] = [user for user in logins if user.endswith(name)]
        return address.set(username=user, password=logins[user]).render_as_string(
            hide_password=False
        )

    administrator = await asyncpg.connect(servers.database_url)
    try:
        for command in renamed.strip().split(";\n"):
            await administrator.execute(command)
        world = World(
            {
                **{name: value for name, value in os.environ.items() if "LIFECYCLE_" not in name},
                "LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS": servers.kafka_bootstrap_servers,
                "LIFECYCLE_DATABASE_URL": login("_worker"),
                "LIFECYCLE_DATABASE_OWNER_URL": login("_migrate"),
                "LIFECYCLE_DATABASE_ROLE_PREFIX": f"{word}_card_lifecycle",
                "LIFECYCLE_ENVIRONMENT": "development",  # these servers speak in clear
            },
            servers.database_url,
        )
        await world.ok("migrate")
        reader = world.on(LIFECYCLE_DATABASE_URL=login("_reader"))
        for place in (world, reader):
            listed = await place.ok("operations", "list", "BANK000001", "none", "--json")
            assert json.loads(listed)["operations"] == []
        worker = await asyncpg.connect(login("_worker"))
        try:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await worker.execute("TRUNCATE operation")
        finally:
            await worker.close()
    finally:
        await administrator.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        for name in reversed(roles):
            await administrator.execute(f"DROP ROLE IF EXISTS {name}")
        await administrator.close()


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_the_page_leads_somewhere(page: str) -> None:
    links = _LINK.findall((ROOT / page).read_text())
    missing = [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
    assert not missing


async def test_the_make_targets_of_the_readme_exist() -> None:
    for target in ("run", "test", "clean"):
        make = await asyncio.create_subprocess_exec(
            "make",
            "--dry-run",
            target,
            cwd=ROOT,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, error = await asyncio.wait_for(make.communicate(), SECONDS_MAX)
        assert make.returncode == 0, error
