"""What every test may ask for: the real servers, started once for the whole session."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from lifecycle.local import Servers, running_servers


@pytest_asyncio.fixture(scope="session")
async def servers() -> AsyncIterator[Servers]:
    """A Kafka and a PostgreSQL: those of the settings, else new and empty ones."""
    async with running_servers(
        kafka_bootstrap_servers=os.environ.get("LIFECYCLE_KAFKA_BOOTSTRAP_SERVERS") or None,
        database_url=os.environ.get("LIFECYCLE_DATABASE_URL") or None,
        data_dir=Path(os.environ.get("LIFECYCLE_LOCAL_DIR") or ".local"),
        fresh=True,
        report=print,
    ) as running:
        yield running
