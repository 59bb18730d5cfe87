"""The fixtures that the integration and the chaos tests share."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest_asyncio

from lifecycle.local import Servers
from lifecycle.settings import Settings
from tests.support.ground import migrated_template, open_ground

NewGround = Callable[..., Awaitable[Settings]]


@pytest_asyncio.fixture(scope="session")
async def template(servers: Servers) -> AsyncIterator[str]:
    """The name of an empty database with the schema."""
    async with migrated_template(servers) as name:
        yield name


@pytest_asyncio.fixture
async def new_ground(servers: Servers, template: str) -> AsyncIterator[NewGround]:
    """Opens ground of its own for the test, with settings that differ from the default."""
    async with AsyncExitStack() as stack:

        async def opened(**overrides: object) -> Settings:
            return await stack.enter_async_context(open_ground(servers, template, **overrides))

        yield opened


@pytest_asyncio.fixture
async def ground(servers: Servers, template: str) -> AsyncIterator[Settings]:
    """Settings whose topics and database are the test's own."""
    async with open_ground(servers, template) as settings:
        yield settings
