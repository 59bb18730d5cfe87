"""The topics of design.md 2: how they are created, and what is checked at every start.

A worker refuses to run on topics that would break a guarantee: other partition counts move cards
to other lanes, producers' timestamps would let a client choose the time of its operations.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from lifecycle.domain.sources import Source
from lifecycle.kafka.clients import client_options
from lifecycle.settings import Settings

# Only of what is taken in does the broker's time matter.
_IS_TAKEN_IN = "message.timestamp.type"
_DAY_MS = 24 * 60 * 60 * 1000
_LOOK_EVERY_SECONDS = 0.02
# Room for the headers that a dead letter adds, and for the headers that a producer sent.
_DEAD_LETTER_EXTRA_BYTES = 1024 * 1024
COMMAND_MESSAGE_BYTES_MAX = 1024 * 1024
DEAD_LETTER_MESSAGE_BYTES_MAX = COMMAND_MESSAGE_BYTES_MAX + _DEAD_LETTER_EXTRA_BYTES


class TopicsError(Exception):
    """The topics are not as the settings say: the message names each difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """The names of the topics under one prefix."""

    commands: str
    events: str
    state: str
    dead_letters: str
    requests: str
    replies: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicPlan:
    """A topic as it is created. `checked` names the configs that a start insists on."""

    name: str
    partitions: int
    configs: dict[str, str]
    checked: frozenset[str]


def topics_of(settings: Settings) -> Topics:
    """The topic names under the prefix of the settings."""
    prefix = settings.topic_prefix
    return Topics(
        commands=f"{prefix}.commands.v1",
        events=f"{prefix}.events.v1",
        state=f"{prefix}.state.v1",
        dead_letters=f"{prefix}.dead-letters.v1",
        requests=f"{prefix}.requests.v1",
        replies=f"{prefix}.replies.v1",
    )


def source_topics(settings: Settings) -> dict[Source, str]:
    """The topics that are taken in."""
    topics = topics_of(settings)
    return {Source.COMMANDS: topics.commands, Source.REPLIES: topics.replies}


def plans(settings: Settings) -> list[TopicPlan]:
    """How every topic is created (design.md 2). Dead letters lie on their command's partition."""
    topics = topics_of(settings)
    return [
        TopicPlan(
            name=topics.commands,
            partitions=settings.partitions,
            configs={
                "cleanup.policy": "delete",
                "retention.ms": str(settings.commands_retention_days * _DAY_MS),
                "message.timestamp.type": "LogAppendTime",
                "max.message.bytes": str(COMMAND_MESSAGE_BYTES_MAX),
            },
            checked=frozenset({"cleanup.policy", "message.timestamp.type", "max.message.bytes"}),
        ),
        TopicPlan(
            name=topics.events,
            partitions=settings.partitions,
            configs={
                "cleanup.policy": "delete",
                "retention.ms": str(settings.events_retention_days * _DAY_MS),
                "max.message.bytes": str(COMMAND_MESSAGE_BYTES_MAX),
            },
            checked=frozenset({"cleanup.policy", "max.message.bytes"}),
        ),
        TopicPlan(
            name=topics.state,
            partitions=settings.partitions,
            configs={
                "cleanup.policy": "compact",
                "max.message.bytes": str(COMMAND_MESSAGE_BYTES_MAX),
            },
            checked=frozenset({"cleanup.policy", "max.message.bytes"}),
        ),
        TopicPlan(
            name=topics.requests,
            partitions=settings.partitions,
            configs={
                "cleanup.policy": "delete",
                "retention.ms": str(settings.commands_retention_days * _DAY_MS),
                "max.message.bytes": str(COMMAND_MESSAGE_BYTES_MAX),
            },
            checked=frozenset({"cleanup.policy", "max.message.bytes"}),
        ),
        TopicPlan(
            name=topics.replies,
            partitions=settings.partitions,
            configs={
                "cleanup.policy": "delete",
                "retention.ms": str(settings.commands_retention_days * _DAY_MS),
                # A reply ends its operation at the time of its record.
                "message.timestamp.type": "LogAppendTime",
                "max.message.bytes": str(COMMAND_MESSAGE_BYTES_MAX),
            },
            checked=frozenset({"cleanup.policy", "message.timestamp.type", "max.message.bytes"}),
        ),
        TopicPlan(
            name=topics.dead_letters,
            partitions=settings.partitions,
            configs={
                "cleanup.policy": "delete",
                "retention.ms": str(settings.dead_letters_retention_days * _DAY_MS),
                "max.message.bytes": str(DEAD_LETTER_MESSAGE_BYTES_MAX),
            },
            checked=frozenset({"cleanup.policy", "max.message.bytes"}),
        ),
    ]


async def create_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing; the names of those created.

    When it returns, all of them can be used: a broker says that a topic is created a moment before
    it knows of it itself.

    Raises:
        TopicsError: a topic could not be created, or has no leader in time.
        KafkaError, OSError: the brokers can't be reached.
    """
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        existing = set(await admin.list_topics())
        missing = [plan for plan in plans(settings) if plan.name not in existing]
        if not missing:
            return []
        created = await _create(admin, settings, missing)
        await _until_usable(admin, settings, {plan.name for plan in missing})
        return created
    finally:
        await admin.close()


async def _create(
    admin: AIOKafkaAdminClient, settings: Settings, missing: Sequence[TopicPlan]
) -> list[str]:
    response = await admin.create_topics(
        [
            NewTopic(
                plan.name, plan.partitions, settings.replication_factor, topic_configs=plan.configs
            )
            for plan in missing
        ],
        timeout_ms=settings.kafka_request_timeout_ms,
    )
    created = []
    for name, code, message in response.topic_errors:
        error = for_code(code)
        if error is TopicAlreadyExistsError:
            continue  # someone else created it in the meantime
        if code:
            raise TopicsError(f"{name} could not be created: {error.__name__} {message or ''}")
        created.append(name)
    return created


async def _until_usable(admin: AIOKafkaAdminClient, settings: Settings, names: set[str]) -> None:
    """Wait until every partition of these topics has a leader."""
    without_leader = names
    try:
        async with asyncio.timeout(settings.kafka_request_timeout_ms / 1000):
            # Of all topics: asking for one would create it where brokers create what is asked.
            while without_leader := names - _led(await admin.describe_topics()):  # noqa: ASYNC110 - a broker tells nobody
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
    except TimeoutError as error:
        raise TopicsError(
            f"created, but without a leader after {settings.kafka_request_timeout_ms} ms:"
            f" {', '.join(sorted(without_leader))}. Look at the brokers, then try again"
        ) from error


def _led(described: Sequence[Mapping[str, Any]]) -> set[str]:
    return {
        topic["topic"]
        for topic in described
        if not topic["error_code"]
        and all(partition["leader"] >= 0 for partition in topic["partitions"])
    }


async def check_topics(settings: Settings) -> None:
    """Compare the topics with the settings.

    Raises:
        TopicsError: naming every difference.
        KafkaError, OSError: the brokers can't be reached.
    """
    wanted = plans(settings)
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        problems = await _differences(admin, wanted)
    finally:
        await admin.close()
    if problems:
        raise TopicsError("\n".join(problems))


async def _differences(admin: AIOKafkaAdminClient, wanted: Sequence[TopicPlan]) -> list[str]:
    existing = set(await admin.list_topics())
    problems = [
        f"{plan.name} does not exist: run `lifecycle topics create`"
        for plan in wanted
        if plan.name not in existing
    ]
    there = [plan for plan in wanted if plan.name in existing]
    if not there:
        return problems
    described = {
        topic["topic"]: len(topic["partitions"])
        for topic in await admin.describe_topics([plan.name for plan in there])
    }
    configs = await _configs(admin, [plan.name for plan in there])
    for plan in there:
        if described[plan.name] != plan.partitions:
            problems.append(
                f"{plan.name} has {described[plan.name]} partitions, LIFECYCLE_PARTITIONS says"
                f" {plan.partitions}: the count of a running system never changes"
            )
        problems.extend(
            f"{plan.name} has {name}={configs[plan.name].get(name)}, needed is {plan.configs[name]}"
            for name in sorted(plan.checked)
            if not _serves(name, configs[plan.name].get(name), plan.configs[name])
        )
    problems.extend(_dead_letters_too_small(configs, wanted))
    return problems


def _dead_letters_too_small(
    configs: Mapping[str, Mapping[str, str]], wanted: Sequence[TopicPlan]
) -> list[str]:
    """Whether a record that is taken in may be too long for the dead-letter topic.

    Such a record would stop its lane: it can be neither decided nor put aside.
    """
    dead_letters = wanted[-1].name
    if dead_letters not in configs:
        return []
    fits = int(configs[dead_letters]["max.message.bytes"])
    problems = []
    for source in (plan.name for plan in wanted if _IS_TAKEN_IN in plan.checked):
        if source not in configs:
            continue
        taken = int(configs[source]["max.message.bytes"])
        needed = taken + _DEAD_LETTER_EXTRA_BYTES
        if fits < needed:
            problem = f"{dead_letters} has max.message.bytes={fits}, needed is {needed}"
            problems.append(f"{problem}: {source} takes records of {taken} bytes")
    return problems


def _serves(name: str, found: str | None, needed: str) -> bool:
    if name == "max.message.bytes":
        return found is not None and int(found) >= int(needed)
    return found == needed


async def _configs(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found: dict[str, dict[str, str]] = {}
    for response in await admin.describe_configs(resources):
        for code, message, _, name, entries in response.resources:
            if code:
                raise KafkaError(f"the configuration of {name} can't be read: {message}")
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found
