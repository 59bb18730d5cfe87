"""What every test may ask for: the real servers, started once for the whole session.

No verdict hangs on how fast a machine is. So Hypothesis has no deadline and no check of its own
health by time, and draws the same examples in every run: a test that has passed passes again. For
a night there is `pytest --hypothesis-profile=thorough`, with many more examples, drawn anew.
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from hypothesis import HealthCheck, settings

from lifecycle.local import Servers, running_servers

settings.register_profile(
    "repeated",
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "thorough", settings.get_profile("repeated"), derandomize=False, max_examples=50_000
)
settings.load_profile("repeated")


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
