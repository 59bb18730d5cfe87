"""Topics for one purpose, on brokers that others use too: created, and deleted again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient

from lifecycle.kafka.clients import client_options
from lifecycle.kafka.topics import create_topics, plans
from lifecycle.settings import Settings


@asynccontextmanager
async def temporary_topics(settings: Settings) -> AsyncIterator[None]:
    """The topics of the settings, whose prefix no one else may use.

    Raises:
        TopicsError: a topic could not be created.
        KafkaError, OSError: the brokers can't be reached.
    """
    created = await create_topics(settings)
    assert len(created) == len(plans(settings)), "no one else uses this prefix"
    try:
        yield
    finally:
        admin = AIOKafkaAdminClient(**client_options(settings))
        await admin.start()
        try:
            await admin.delete_topics(created)
        finally:
            await admin.close()
