"""Database and topics that tell different stories stop the worker, before it publishes anything."""

import pytest

from lifecycle.kafka.topics import create_topics, topics_of
from lifecycle.local import Servers
from lifecycle.settings import Settings
from lifecycle.worker.take_over import OutOfStepError
from tests.support import bank
from tests.support.bank import card, create
from tests.support.ground import database_of, delete_topics, on_database, own_database
from tests.support.guarantees import verify_all
from tests.support.reading import read_topic, until_settled, until_taken
from tests.support.worker import running_worker

_COMMANDS = [
    *bank.PRODUCTS,
    *(create(f"card-{number}", consumerId=f"consumer-{number}") for number in range(12)),
]


async def _work(settings: Settings, messages: list[bank.Message]) -> None:
    async with running_worker(settings):
        await bank.send(settings, messages)
        await until_settled(settings)


async def _is_refused(settings: Settings, match: str) -> None:
    before = await read_topic(settings, topics_of(settings).events)
    with pytest.raises(OutOfStepError, match=match):
        async with running_worker(settings):
            await until_taken(settings, 1_000_000)
    assert await read_topic(settings, topics_of(settings).events) == before


async def test_topics_made_again_are_noticed(ground: Settings) -> None:
    """design.md 7.9: the offsets of the lanes mean nothing on a new topic."""
    await _work(ground, _COMMANDS)
    topics = topics_of(ground)
    await delete_topics(ground, topics.commands, topics.events, topics.dead_letters)
    await create_topics(ground)
    await _is_refused(ground, "made again|lost records")


async def test_a_command_topic_made_again_and_filled_again_is_noticed(ground: Settings) -> None:
    """design.md 7.9: there is a record at every offset that was taken, but another one."""
    await _work(ground, _COMMANDS)
    await delete_topics(ground, topics_of(ground).commands)
    await create_topics(ground)
    await bank.send(ground, _COMMANDS * 2)
    await _is_refused(ground, "made again")


async def test_an_event_topic_made_again_is_noticed(ground: Settings) -> None:
    """design.md 7.6: what was published is not there any more."""
    await _work(ground, _COMMANDS)
    await delete_topics(ground, topics_of(ground).events)
    await create_topics(ground)
    await _is_refused(ground, "lost records")


async def test_an_older_database_is_noticed(servers: Servers, ground: Settings) -> None:
    """design.md 7.6: a restored database would number and hash other events in the same places."""
    await _work(ground, _COMMANDS)
    async with own_database(servers, template=database_of(ground)) as older:
        await _work(ground, [card(f"card-{number}", "SUSPEND", "s") for number in range(12)])
        await _is_refused(on_database(ground, older), "the database is behind the topic")
    async with running_worker(ground):
        await verify_all(ground)


async def test_a_new_database_for_old_topics_is_noticed(
    servers: Servers, ground: Settings, template: str
) -> None:
    """Otherwise every command would take effect, and be published, a second time."""
    await _work(ground, _COMMANDS)
    async with own_database(servers, template) as new:
        await _is_refused(on_database(ground, new), "the database is behind the topic")
