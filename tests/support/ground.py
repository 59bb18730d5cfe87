"""Ground of its own for a test: topics, a database, a consumer group and a publishing fence.

Relies on the real servers of the session. The database is copied from one that is migrated once,
because a migration takes longer than most scenarios.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import UnknownTopicOrPartitionError, for_code
from pydantic import SecretStr

from lifecycle.kafka.topics import create_topics, topics_of
from lifecycle.local import Servers
from lifecycle.postgres.migrate import migrate
from lifecycle.settings import Settings, required
from tests.support.waiting import until

PARTITIONS = 3

# Short limits, so that a test sees soon what an operator would see later. Small polls and small
# publications, so that a few hundred commands already lie in many transactions.
_DEFAULTS: dict[str, Any] = {
    "partitions": PARTITIONS,
    "poll_records_max": 50,
    "publish_rows_max": 50,
    "session_timeout_ms": 6_000,
    "rebalance_timeout_ms": 10_000,
}


def with_database(database_url: str, name: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(database_url)._replace(path=f"/{name}"))


@asynccontextmanager
async def own_database(servers: Servers, template: str = "template1") -> AsyncIterator[str]:
    """A database that is dropped afterwards, whoever still uses it; gives its name.

    It is a copy of `template`, which nobody may use meanwhile; empty without one.
    """
    name = f"lifecycle_test_{uuid4().hex}"
    await _administer(servers.database_url, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    try:
        yield name
    finally:
        await _administer(servers.database_url, f'DROP DATABASE "{name}" WITH (FORCE)')


async def _administer(database_url: str, statement: str) -> None:
    connection = await asyncpg.connect(with_database(database_url, "postgres"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def migrated_template(servers: Servers) -> AsyncIterator[str]:
    """An empty database with the schema, to copy from; gives its name."""
    async with own_database(servers) as name:
        url = with_database(servers.database_url, name)
        await asyncio.to_thread(migrate, Settings(database_url=SecretStr(url)))
        yield name


@asynccontextmanager
async def open_ground(
    servers: Servers, template: str, **overrides: object
) -> AsyncIterator[Settings]:
    """Settings whose topics and database are new, empty and nobody else's."""
    prefix = f"test-{uuid4().hex[:16]}"
    async with own_database(servers, template) as database:
        values: dict[str, Any] = {
            **_DEFAULTS,
            "kafka_bootstrap_servers": servers.kafka_bootstrap_servers,
            "database_url": with_database(servers.database_url, database),
            "topic_prefix": prefix,
            "consumer_group": prefix,
            **overrides,
        }
        settings = Settings(**values)
        await create_topics(settings)
        try:
            yield settings
        finally:
            await delete_topics(settings, *_names(settings))


def _names(settings: Settings) -> list[str]:
    topics = topics_of(settings)
    return list(asdict(topics).values())


async def delete_topics(settings: Settings, *names: str) -> None:
    """Delete topics, and see that they are gone."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        response = await admin.delete_topics(list(names))
        for name, code in response.topic_error_codes:
            assert code == 0 or for_code(code) is UnknownTopicOrPartitionError, (name, code)

        async def are_gone() -> bool:
            return not set(names) & set(await admin.list_topics())

        await until(are_gone, "the topics to be deleted")
    finally:
        await admin.close()


def database_of(settings: Settings) -> str:
    """The name of the database."""
    return urlsplit(required(settings, "database_url")).path.removeprefix("/")


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the test's own."""
    connection = await asyncpg.connect(required(settings, "database_url"))
    try:
        yield connection
    finally:
        await connection.close()
