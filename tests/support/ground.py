"""Ground of its own for a test: topics, a database, a consumer group and a publishing fence.

Relies on the real servers of the session. The database is copied from one that is migrated once,
because a migration takes longer than most scenarios. Workers connect as the worker role; a test
itself, in `connected`, as a superuser, who may do what nobody of the service may.
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
from sqlalchemy.engine import make_url

from lifecycle.kafka.topics import create_topics, topics_of
from lifecycle.local import Servers
from lifecycle.postgres.migrate import migrate
from lifecycle.postgres.roles import Role, ensure_logins, role_name
from lifecycle.settings import DatabaseField, Settings, required
from tests.support.waiting import until

PARTITIONS = 3

# In development a worker takes servers of this machine as they are, and works without keys. Short
# limits, so that a test sees soon what an operator would see later. Small polls and small
# publications, so that a few hundred commands already lie in many transactions.
_DEFAULTS: dict[str, Any] = {
    "environment": "development",
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
async def own_database(
    servers: Servers, template: str = "template1", name: str | None = None, options: str = ""
) -> AsyncIterator[str]:
    """A database that is dropped afterwards, whoever still uses it; gives its name.

    It is a copy of `template`, which nobody may use meanwhile; empty without one. `options` are
    those of CREATE DATABASE.
    """
    name = name or f"lifecycle_test_{uuid4().hex}"
    await _administer(
        servers.database_url, f'CREATE DATABASE "{name}" TEMPLATE "{template}" {options}'
    )
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
    """An empty database with the schema, to copy from; gives its name.

    It has roles of its own, which have the same rights in each copy; their names begin with its.
    """
    async with own_roles(servers) as prefix, own_database(servers, name=prefix) as name:
        url = SecretStr(with_database(servers.database_url, name))
        settings = Settings(
            database_url=url, database_role_prefix=prefix, environment="development"
        )
        await asyncio.to_thread(migrate, settings, with_roles=True)
        yield name


@asynccontextmanager
async def own_roles(servers: Servers) -> AsyncIterator[str]:
    """Roles that are dropped afterwards, each with a login; gives the begin of their names.

    It is the password of the logins too. What they own must be gone by then.
    """
    prefix = f"lifecycle_test_{uuid4().hex[:16]}"
    await asyncio.to_thread(ensure_logins, servers.database_url, prefix, prefix)
    try:
        yield prefix
    finally:
        for role in Role:
            name = role_name(prefix, role)
            await _administer(servers.database_url, f'DROP ROLE "{name}_login", "{name}"')


def login_of(database_url: str, prefix: str, role: Role) -> str:
    """The same database, with the login that one of `own_roles` has."""
    url = make_url(database_url)
    return url.set(username=f"{role_name(prefix, role)}_login", password=prefix).render_as_string(
        hide_password=False
    )


@asynccontextmanager
async def open_ground(
    servers: Servers, template: str, **overrides: object
) -> AsyncIterator[Settings]:
    """Settings whose topics and database are new, empty and nobody else's.

    They have the worker's address of the database, and for `connected` that of a superuser.
    """
    async with own_database(servers, template) as database:
        superuser = with_database(servers.database_url, database)
        addresses: dict[str, Any] = {
            "database_url": login_of(superuser, template, Role.WORKER),
            "database_owner_url": superuser,
            "database_role_prefix": template,
        }
        async with open_topics(servers, **{**addresses, **overrides}) as settings:
            yield settings


@asynccontextmanager
async def open_topics(servers: Servers, **overrides: object) -> AsyncIterator[Settings]:
    """Settings whose topics are new and empty; `overrides` say which database they have."""
    prefix = f"test-{uuid4().hex[:16]}"
    values: dict[str, Any] = {
        **_DEFAULTS,
        "kafka_bootstrap_servers": servers.kafka_bootstrap_servers,
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


def on_database(settings: Settings, name: str) -> Settings:
    """The same, on another database of the server."""
    addresses: tuple[DatabaseField, ...] = ("database_url", "database_owner_url")
    return settings.model_copy(
        update={
            field: SecretStr(with_database(required(settings, field), name)) for field in addresses
        }
    )


def database_of(settings: Settings) -> str:
    """The name of the database."""
    return urlsplit(required(settings, "database_url")).path.removeprefix("/")


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the test's own, as a superuser."""
    connection = await asyncpg.connect(required(settings, "database_owner_url"))
    try:
        yield connection
    finally:
        await connection.close()
