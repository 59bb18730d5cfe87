"""The same service in the usual way: one handler call, one transaction, one publication a message.

Written for comparison, with what makes this way quick: uvloop, a pool, prepared statements, two
reads and two writes a command, and the same parsing, rules and events as the worker. It promises
less: a crash between commit and publication loses an event, and a card's row is a document.

Run as `python -m benchmarks.one_at_a_time`, with the worker's settings.
"""

import asyncio
import signal
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import uvloop
from aiokafka import ConsumerRecord
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage
from pydantic import TypeAdapter

from lifecycle.domain.cards import Card
from lifecycle.domain.chain import Chain, recent_content_hash
from lifecycle.domain.commands import (
    Activate,
    CardCommand,
    ConsumerCommand,
    Create,
    Renew,
    Replace,
    Resume,
    Subject,
    SubjectKind,
)
from lifecycle.domain.consumers import Consumer
from lifecycle.domain.products import Product
from lifecycle.kafka.commands import Parsed, parse
from lifecycle.kafka.events import headers_of
from lifecycle.kafka.partitioner import key_of
from lifecycle.kafka.topics import topics_of
from lifecycle.postgres.connection import open_pool
from lifecycle.postgres.operations import DeadLetterRow, OperationRow
from lifecycle.settings import Settings, load_settings, required
from lifecycle.worker.deciding import Deciding
from lifecycle.worker.numbers import Numbers
from lifecycle.worker.recording import Decided
from lifecycle.worker.subjects import Subjects, Tracked
from lifecycle.worker.taken import Taken, take

# A command records at most so many operations; their numbers leave room for them.
_OPERATIONS_OF_A_COMMAND_MAX = 4

_ENTITY: dict[SubjectKind, TypeAdapter[Any]] = {
    SubjectKind.CARD: TypeAdapter(Card),
    SubjectKind.CONSUMER: TypeAdapter(Consumer),
    SubjectKind.PRODUCT: TypeAdapter(Product),
}

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS subject (
        key             bytea PRIMARY KEY,
        entity          bytea NOT NULL,
        version         bigint NOT NULL,
        version_time_ms bigint,
        last_time_ms    bigint,
        last_hash       bytea,
        command_count   bigint NOT NULL,
        recent_commands bytea NOT NULL
    ) WITH (fillfactor = 60)
"""
_COLUMNS = (
    "key, entity, version, version_time_ms, last_time_ms, last_hash, command_count, recent_commands"
)
_READ = f"SELECT {_COLUMNS} FROM subject WHERE key = ANY($1)"  # noqa: S608 - a constant
_LOCK = f"SELECT {_COLUMNS} FROM subject WHERE key = $1 FOR UPDATE"  # noqa: S608 - the same
_STORE = f"""
    INSERT INTO subject ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT (key) DO UPDATE SET entity = excluded.entity, version = excluded.version,
        version_time_ms = excluded.version_time_ms, last_time_ms = excluded.last_time_ms,
        last_hash = excluded.last_hash, command_count = excluded.command_count,
        recent_commands = excluded.recent_commands
"""  # noqa: S608 - the same
_TAKEN_BEFORE = "SELECT content_hash FROM operation WHERE issuer_id = $1 AND operation_id = $2"
_RECORD = """
    INSERT INTO operation (lane, seq, id, aggregateid, type, event_time_ms, payload, traceparent,
        aggregatetype, issuer_id, operation_id, caused, content_hash, status, start_time,
        expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
"""


class Service:
    """Takes commands one at a time."""

    def __init__(self, settings: Settings, pool: asyncpg.Pool) -> None:
        """Prepare; nothing is connected before `broker` is started."""
        self._settings = settings
        self._pool = pool
        self._topics = topics_of(settings)
        self.broker = KafkaBroker(
            required(settings, "kafka_bootstrap_servers").split(","),
            acks="all",
            enable_idempotence=True,
            apply_types=False,
            logger=None,
        )
        self.broker.subscriber(
            self._topics.commands,
            group_id=settings.consumer_group,
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.NACK_ON_ERROR,
            decoder=_undecoded,
        )(self.handle)

    async def handle(self, record: ConsumerRecord) -> None:
        """Decide and store in one transaction, then publish; the offset is committed after it."""
        parsed = parse(record, max_command_bytes=self._settings.max_command_bytes)
        taken = take(record, parsed, self._settings.partitions)
        async with self._pool.acquire() as connection, connection.transaction():
            decided = await self._decide(connection, taken)
        for row in decided.operations:
            await self._publish(row)
        for letter in decided.dead_letters:
            await self._publish_dead_letter(letter)

    async def _decide(self, connection: asyncpg.Connection, taken: Taken) -> Decided:
        found, content_hashes = Subjects(), {}
        last_seq = {}
        if isinstance(taken.parsed, Parsed):
            assert taken.operation_id is not None
            assert taken.home_lane is not None
            await _read(connection, found, taken)
            content_hashes = await _taken_before(connection, found, taken, taken.operation_id)
            # Not dense as the worker's: that would take a lock that all commands wait for.
            last_seq[taken.home_lane] = taken.record.offset * _OPERATIONS_OF_A_COMMAND_MAX
        decided = Deciding(self._settings, found, content_hashes, last_seq, Numbers(None)).decide(
            [taken]
        )
        assert len(decided.operations) <= _OPERATIONS_OF_A_COMMAND_MAX
        for row in decided.operations:
            await _record(connection, row)
        for key, kind, tracked in _all(found):
            if tracked.has_changed and tracked.entity is not None:
                entity = _ENTITY[kind].dump_json(tracked.entity)
                await connection.execute(_STORE, key, entity, *tracked.chain)
        return decided

    async def _publish(self, row: OperationRow) -> None:
        event = row.event
        headers = headers_of(
            event_id=event.event_id,
            type=event.event_type,
            issuer_id=row.issuer_id,
            subject_id_for_ce_subject=event.key.rpartition("/")[2],
            time=event.event_time_ms,
            sequence=event.seq,
            traceparent=event.traceparent,
        )
        await self.broker.publish(
            event.payload,
            topic=self._topics.events,
            key=event.key.encode(),
            partition=event.lane,
            headers={name: value.decode() for name, value in headers},
        )

    async def _publish_dead_letter(self, letter: DeadLetterRow) -> None:
        await self.broker.publish(
            letter.value or b"",
            topic=self._topics.dead_letters,
            key=letter.key,
            headers={name: (value or b"").decode("latin-1") for name, value in letter.headers},
        )


async def _undecoded(message: KafkaMessage) -> ConsumerRecord:
    # FastStream would parse the JSON, and the command's own parser would parse it again.
    return message.raw_message


async def _read(connection: asyncpg.Connection, found: Subjects, taken: Taken) -> None:
    """Lock the subject of the command, and read what else the rules look at."""
    assert isinstance(taken.parsed, Parsed)
    subject, command = taken.parsed.subject, taken.parsed.command
    _keep(found, [subject], await connection.fetch(_LOCK, key_of(subject)))
    others = []
    if isinstance(command, CardCommand):
        card: Card | None = found.of(subject).entity
        consumer_id = None
        if isinstance(command, Create):
            consumer_id = command.consumer_id
            others.append(Subject(SubjectKind.PRODUCT, command.issuer_id, command.card_product_id))
        elif isinstance(command, Activate | Resume | Replace) and card is not None:
            consumer_id = card.consumer_id
        if isinstance(command, Replace | Renew) and card is not None:
            others.append(Subject(SubjectKind.PRODUCT, card.issuer_id, card.card_product_id))
        if consumer_id is not None:
            others.append(Subject(SubjectKind.CONSUMER, command.issuer_id, consumer_id))
        predecessor = card.predecessor_card_id if card is not None else None
        others += [
            Subject(SubjectKind.CARD, command.issuer_id, card_id)
            for card_id in (predecessor, taken.generated_card_id)
            if card_id is not None
        ]
    else:
        assert isinstance(command, ConsumerCommand) or subject.kind is SubjectKind.PRODUCT
    if others:
        keys = [key_of(other) for other in others]
        _keep(found, others, await connection.fetch(_READ, keys))


def _keep(found: Subjects, wanted: Sequence[Subject], rows: Sequence[asyncpg.Record]) -> None:
    by_key = {row[0]: row for row in rows}
    for subject in wanted:
        row = by_key.get(key_of(subject))
        entity, chain = None, Chain()
        if row is not None:
            entity, chain = _ENTITY[subject.kind].validate_json(row[1]), Chain(*row[2:])
        tracked = Tracked(entity, chain, chain, stored=entity)
        _of_kind(found, subject.kind)[subject.issuer_id, subject.id] = tracked


def _of_kind(found: Subjects, kind: SubjectKind) -> dict[tuple[str, str], Any]:
    match kind:
        case SubjectKind.CARD:
            return found.cards
        case SubjectKind.CONSUMER:
            return found.consumers
        case SubjectKind.PRODUCT:
            return found.products


def _all(found: Subjects) -> Iterator[tuple[bytes, SubjectKind, Tracked[Any]]]:
    for kind in SubjectKind:
        for (issuer_id, subject_id), tracked in _of_kind(found, kind).items():
            yield key_of(Subject(kind, issuer_id, subject_id)), kind, tracked


async def _taken_before(
    connection: asyncpg.Connection, found: Subjects, taken: Taken, operation_id: UUID
) -> dict[UUID, bytes]:
    """What the log knows of this command id, when the subject's row may not remember it."""
    assert isinstance(taken.parsed, Parsed)
    tracked = found.of(taken.parsed.subject)
    recent = tracked.chain.recent_commands
    if recent_content_hash(recent, operation_id.bytes) is not None or (
        tracked.stored is not None and tracked.chain.remembers_all()
    ):
        return {}
    known = await connection.fetchval(_TAKEN_BEFORE, taken.parsed.subject.issuer_id, operation_id)
    return {} if known is None else {operation_id: known}


async def _record(connection: asyncpg.Connection, row: OperationRow) -> None:
    event = row.event
    await connection.execute(
        _RECORD,
        *(event.lane, event.seq, event.event_id, event.key, event.event_type),
        *(event.event_time_ms, event.payload, event.traceparent, row.aggregate_type),
        *(row.issuer_id, row.operation_id, row.caused, row.content_hash, row.status),
        *(row.start_time, row.expires_at),
    )


async def _work(settings: Settings) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    pool = await open_pool(settings)
    try:
        await pool.execute(_SCHEMA)
        service = Service(settings, pool)
        await service.broker.start()
        await stop.wait()
        await service.broker.stop()
    finally:
        await pool.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_work(load_settings()))
