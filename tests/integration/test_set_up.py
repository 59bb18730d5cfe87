"""What a worker refuses to start on, and how it says so, before anything is touched."""

import asyncio

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from pydantic import SecretStr

from lifecycle.kafka.topics import TopicsError, check_topics, create_topics, topics_of
from lifecycle.local import Servers
from lifecycle.settings import Settings
from lifecycle.worker.service import run_worker
from tests.support.ground import connected, delete_topics, own_database, with_database
from tests.support.waiting import SECONDS_MAX, until


async def _refused(settings: Settings) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        await run_worker(settings, asyncio.Event())


async def test_topics_with_another_partition_count_are_refused(ground: Settings) -> None:
    """Other counts move cards to other lanes (design.md 2)."""
    other = ground.model_copy(update={"partitions": ground.partitions + 1})
    with pytest.raises(TopicsError) as refused:
        await _refused(other)
    for topic in (topics_of(ground).commands, topics_of(ground).events):
        assert f"{topic} has 3 partitions, LIFECYCLE_PARTITIONS says 4" in str(refused.value)
    async with connected(ground) as connection:
        assert await connection.fetchval("SELECT count(*) FROM lane_out") == 0


async def test_commands_with_the_producers_time_are_refused(ground: Settings) -> None:
    """A client could choose the time of its operations (design.md 2)."""
    topic = topics_of(ground).commands
    await _configure(ground, topic, {"message.timestamp.type": "CreateTime"})
    with pytest.raises(TopicsError, match=f"{topic} has message.timestamp.type=CreateTime"):
        await _refused(ground)


async def test_dead_letters_that_must_be_smaller_than_commands_are_refused(
    ground: Settings,
) -> None:
    """Every record that Kafka took must fit (design.md 5)."""
    topic = topics_of(ground).dead_letters
    await _configure(ground, topic, {"max.message.bytes": "1048576"})
    with pytest.raises(TopicsError, match=f"{topic} has max.message.bytes=1048576"):
        await _refused(ground)


async def test_commands_that_may_outgrow_the_dead_letters_are_refused(ground: Settings) -> None:
    """A command that can be neither decided nor put aside would stop its lane (design.md 5)."""
    topics = topics_of(ground)
    await _configure(ground, topics.commands, {"max.message.bytes": "3145728"})
    with pytest.raises(TopicsError, match=f"{topics.commands} takes records of 3145728 bytes"):
        await _refused(ground)


async def test_topics_can_be_used_as_soon_as_they_are_created(ground: Settings) -> None:
    """A broker says that a topic is created before it knows of it; many at once show it."""
    others = [
        ground.model_copy(update={"topic_prefix": f"{ground.topic_prefix}-{number}"})
        for number in range(8)
    ]

    async def created_and_checked(settings: Settings) -> None:
        names = await create_topics(settings)
        try:
            await check_topics(settings)
        finally:
            await delete_topics(settings, *names)

    await asyncio.gather(*map(created_and_checked, others))


async def test_a_missing_topic_is_named(ground: Settings) -> None:
    topic = topics_of(ground).events
    await delete_topics(ground, topic)
    with pytest.raises(TopicsError, match=f"{topic} does not exist: run `lifecycle topics create`"):
        await _refused(ground)


async def test_a_database_without_the_schema_is_refused(ground: Settings, servers: Servers) -> None:
    async with own_database(servers) as name:
        url = SecretStr(with_database(servers.database_url, name))
        with pytest.raises(Exception, match="run `lifecycle migrate`"):
            await _refused(ground.model_copy(update={"database_url": url}))


async def _configure(settings: Settings, topic: str, configs: dict[str, str]) -> None:
    """Change a topic, and wait until the broker shows the change: it takes effect later."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)

    async def is_shown() -> bool:
        described = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        entries = {entry[0]: entry[1] for entry in described[0].resources[0][4]}
        return configs.items() <= entries.items()

    await admin.start()
    try:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])
        await until(is_shown, f"{configs} of {topic}")
    finally:
        await admin.close()
