"""Puts commands on the command topic, as any client would: idempotent, acknowledged by all copies.

The partition is the one that Kafka's own partitioner finds for the key (design.md 2). Sending the
same commands again is harmless, which is what to do after an error in the middle.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from lifecycle.domain.commands import (
    COMMAND_CLASS,
    Command,
    ConsumerCommand,
    DefineProduct,
    Subject,
    SubjectKind,
)
from lifecycle.domain.sources import Source
from lifecycle.kafka.clients import client_options
from lifecycle.kafka.partitioner import key_of
from lifecycle.kafka.topics import DEAD_LETTER_MESSAGE_BYTES_MAX, TopicsError, source_topics
from lifecycle.settings import Settings

RECORDS_IN_FLIGHT_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRecord:
    """A record for the command topic, not necessarily a good one."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class SendingStoppedError(Exception):
    """Kafka did not take everything; the message says how many are certain."""


class NoKeyError(Exception):
    """A command does not say which card, consumer or product it is about."""


_ID_FIELD = {
    SubjectKind.CARD: "cardId",
    SubjectKind.CONSUMER: "consumerId",
    SubjectKind.PRODUCT: "cardProductId",
}


def key_of_command(command: Mapping[str, object]) -> bytes:
    """The key of a command object, which need not be a valid one: the service judges that.

    Raises:
        NoKeyError: the ids that make the key are missing or no texts.
    """
    kind = _subject_kind(command.get("command"))
    field = _ID_FIELD[kind]
    issuer_id, subject_id = command.get("issuerId"), command.get(field)
    if not isinstance(issuer_id, str) or not isinstance(subject_id, str):
        raise NoKeyError(f"issuerId and {field} must be texts: they make the record's key")
    try:
        return key_of(Subject(kind, issuer_id, subject_id))
    except UnicodeEncodeError as error:
        raise NoKeyError(f"issuerId and {field} must be Unicode texts") from error


_KIND_OF_CLASS: dict[type[Command], SubjectKind] = {
    ConsumerCommand: SubjectKind.CONSUMER,
    DefineProduct: SubjectKind.PRODUCT,
}
_KIND_OF_COMMAND = {
    name.value: _KIND_OF_CLASS.get(command_class, SubjectKind.CARD)
    for name, command_class in COMMAND_CLASS.items()
}


def _subject_kind(name: object) -> SubjectKind:
    # A command that is unknown here is sent as a card's: the service says what is wrong with it.
    return (
        _KIND_OF_COMMAND.get(name, SubjectKind.CARD) if isinstance(name, str) else SubjectKind.CARD
    )


async def send_commands(
    settings: Settings, records: Sequence[CommandRecord], *, source: Source = Source.COMMANDS
) -> None:
    """Send `records` in their order; all are acknowledged when this returns.

    `source` tells the topic: records that were replies are sent again as replies.

    Raises:
        TopicsError: the topic does not exist.
        SendingStoppedError: Kafka refused a record or went away in the middle.
        KafkaError, OSError: the brokers can't be reached; nothing was sent.
    """
    topic = source_topics(settings)[source]
    producer = AIOKafkaProducer(
        **client_options(settings),
        acks="all",
        enable_idempotence=True,
        max_request_size=DEAD_LETTER_MESSAGE_BYTES_MAX,
    )
    await producer.start()
    try:
        # Asked for all topics: asking for one would create it where brokers create what is asked.
        if topic not in (await producer.client.fetch_all_metadata()).topics():
            raise TopicsError(f"{topic} does not exist: run `lifecycle topics create`")
        sent = 0
        for at in range(0, len(records), RECORDS_IN_FLIGHT_MAX):
            part = records[at : at + RECORDS_IN_FLIGHT_MAX]
            acknowledged = await _send_part(producer, topic, part)
            sent += acknowledged
            if acknowledged < len(part):
                raise SendingStoppedError(
                    f"Kafka took {sent} of {len(records)} {source} and then refused or stopped"
                    " answering. Send all of them again: those that it took are duplicates then."
                )
    finally:
        await producer.stop()


async def _send_part(
    producer: AIOKafkaProducer, topic: str, records: Sequence[CommandRecord]
) -> int:
    """Send some records at once; how many of them Kafka acknowledged."""
    try:
        futures = [
            await producer.send(
                topic, key=record.key, value=record.value, headers=list(record.headers)
            )
            for record in records
        ]
    except KafkaError:
        # Not even taken into the buffer; what was before it is uncertain, so it counts as not sent.
        return 0
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, KafkaError):
            raise outcome
    return sum(not isinstance(outcome, BaseException) for outcome in outcomes)
