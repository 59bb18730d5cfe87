"""The sample day: the stories of two issuers' cards, mixed, with what goes wrong.

Everything is drawn from one seed. Parts must be sent one after the other: products and consumers
lie on other partitions than the cards that need them, so a client waits in between (design.md 3).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from uuid import UUID

import orjson

from lifecycle.domain.commands import CommandName, Subject, SubjectKind
from lifecycle.domain.identifiers import generated_card_ids, operation_id
from lifecycle.kafka.cloudevents import command_type
from lifecycle.kafka.partitioner import key_of, partition_of
from lifecycle.kafka.records import DeadLetterCode
from lifecycle.kafka.sending import CommandRecord, key_of_command
from lifecycle.samples.stories import OK, PRODUCTS, STORIES, USUAL_PRODUCT, Step, Story, failed

ISSUERS = ("BANK000001", "BANK000002")
CONSUMERS_PER_ISSUER = 24
DUPLICATE = "DUPLICATE"

_SEED = 20_261_122
_RESENT_SHARE = 0.05
_BINARY_SHARE = 0.08
_STRUCTURED_SHARE = 0.04
_TRACED_SHARE = 0.10
_CORRELATED_SHARE = 0.25
_NAMES = ("Ada Nowak", "B. Okafor", "Chloe Martin", "Dmitri Ivanov", "Elena Rossi", "F. Weber")
# The number that card schemes publish for tests.
_TEST_CARD_NUMBER = "4111 1111 1111 1111"

Command = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRecord:
    """A record, and what should become of it: a status with its error code, or what else it is."""

    record: CommandRecord
    expected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What is sent before a client waits for the outcome. `name` is also a file's name."""

    name: str
    records: tuple[SampleRecord, ...]


def dead_letter(code: DeadLetterCode) -> str:
    """The outcome of a record that is broken."""
    return f"DEAD_LETTER {code}"


def sample_day(partition_count: int) -> list[Part]:
    """The day, the same on every call. The ids of successors depend on the partition count."""
    day = _Day(partition_count)
    return [
        Part(name="1-products-and-consumers", records=tuple(day.opening())),
        Part(name="2-cards", records=tuple(day.cards())),
        Part(name="3-consumers-change", records=tuple(day.notices())),
        Part(name="4-evening", records=tuple(day.evening())),
    ]


def first_operation() -> tuple[str, UUID]:
    """The issuer and the operation of the first record: it shows that a day was begun."""
    return _operation_of(sample_day(1)[0].records[0])


def last_operation() -> tuple[str, UUID]:
    """The issuer and the operation of the last record: it shows that a day was sent whole."""
    return _operation_of(sample_day(1)[-1].records[-1])


def _operation_of(sample: SampleRecord) -> tuple[str, UUID]:
    command = orjson.loads(sample.record.value or b"")
    subject = Subject(SubjectKind.PRODUCT, command["issuerId"], command["cardProductId"])
    return subject.issuer_id, operation_id(subject, command["commandId"])


@dataclass(slots=True)
class _CardOfStory:
    issuer_id: str
    card_id: str
    consumer_id: str
    story: Story
    successor_id: str | None = None


class _Day:
    def __init__(self, partition_count: int) -> None:
        self._partition_count = partition_count
        self._random = Random(_SEED)  # noqa: S311 - a sample, not a secret
        self._commands = 0
        self._cards: list[_CardOfStory] = []
        self._inactive: dict[str, list[str]] = {issuer: [] for issuer in ISSUERS}

    def opening(self) -> Iterator[SampleRecord]:
        for issuer in ISSUERS:
            for product, terms in PRODUCTS.items():
                yield self._product(issuer, product, terms, OK)
        for issuer in ISSUERS:
            for number in range(1, CONSUMERS_PER_ISSUER + 1):
                yield self._consumer(issuer, f"consumer-{number:02}", "REGISTER", OK)
            yield self._consumer(issuer, "consumer-01", "REGISTER", OK)
            yield self._consumer(issuer, "nobody", "DEACTIVATE", failed("CONSUMER_NOT_FOUND"))
            terms = PRODUCTS["debit-virtual"]
            yield self._product(issuer, "debit-virtual", {**terms, "validityMonths": 24}, OK)
            yield self._product(
                issuer,
                "debit-virtual",
                {**terms, "form": "PHYSICAL"},
                failed("FIELD_INVALID_VALUE"),
            )

    def cards(self) -> Iterator[SampleRecord]:
        lives = [
            self._life(self._new_card(issuer, story))
            for issuer in ISSUERS
            for story in STORIES.values()
            for _ in range(story.times)
        ]
        yield from self._with_resends(self._mixed([*lives, self._broken(), self._conflict()]))

    def notices(self) -> Iterator[SampleRecord]:
        for issuer in ISSUERS:
            held = [c.consumer_id for c in self._cards if c.issuer_id == issuer and c.story.evening]
            self._inactive[issuer] = sorted(set(held))
            for consumer in self._inactive[issuer]:
                yield self._consumer(issuer, consumer, "DEACTIVATE", OK)
            yield self._consumer(issuer, "consumer-20", "DEACTIVATE", OK)
            yield self._consumer(issuer, "consumer-20", "REACTIVATE", OK)

    def evening(self) -> Iterator[SampleRecord]:
        lives = [
            self._steps(card, card.story.evening) for card in self._cards if card.story.evening
        ]
        lives += [self._too_late(issuer) for issuer in ISSUERS]
        yield from self._mixed(lives)
        yield self._product(ISSUERS[-1], "debit-virtual", PRODUCTS["debit-virtual"], OK)

    # --- cards

    def _new_card(self, issuer: str, story: Story) -> _CardOfStory:
        number = 1 + sum(card.issuer_id == issuer for card in self._cards)
        # Those of the evening stories have holders of their own: they are deactivated later.
        consumers = range(23, 25) if story.evening else range(1, 20)
        card = _CardOfStory(
            issuer, f"card-{number:03}", f"consumer-{self._random.choice(consumers):02}", story
        )
        self._cards.append(card)
        return card

    def _life(self, card: _CardOfStory) -> Iterator[SampleRecord]:
        return self._steps(card, card.story.steps)

    def _steps(self, card: _CardOfStory, steps: tuple[Step, ...]) -> Iterator[SampleRecord]:
        for step in steps:
            command = self._card_command(card, step)
            if step.command is CommandName.REPLACE and step.expected == OK:
                card.successor_id = self._successor(card, str(command["commandId"]))
            yield self._sent(command, step.expected)

    def _card_command(self, card: _CardOfStory, step: Step) -> Command:
        card_id = card.card_id
        if step.on_successor:
            assert card.successor_id is not None, "the story replaced its card before"
            card_id = card.successor_id
        command = self._command(step.command, card.issuer_id) | {"cardId": card_id}
        if step.by_user:
            command["requestor"] = {"type": "USER", "id": card.consumer_id}
        if step.command is CommandName.CREATE:
            command |= {
                "consumerId": card.consumer_id,
                "cardProductId": card.story.product or USUAL_PRODUCT[card.story.form],
                "name": self._random.choice(_NAMES),
            }
        return command | dict(step.fields)

    def _successor(self, card: _CardOfStory, command_id: str) -> str:
        """The id that the platform gives to the new card: an event tells it to a real client."""
        old = Subject(SubjectKind.CARD, card.issuer_id, card.card_id)
        home_lane = partition_of(key_of(old), self._partition_count)
        return next(
            card_id
            for card_id in generated_card_ids(operation_id(old, command_id))
            if partition_of(key_of(replace(old, id=card_id)), self._partition_count) == home_lane
        )

    def _too_late(self, issuer: str) -> Iterator[SampleRecord]:
        consumer = self._inactive[issuer][0]
        create = self._command(CommandName.CREATE, issuer) | {
            "cardId": "card-too-late",
            "consumerId": consumer,
            "cardProductId": "debit-virtual",
        }
        yield self._sent(create, failed("CONSUMER_NOT_ACTIVE"))

    # --- commands and records

    def _command(self, name: CommandName, issuer: str) -> Command:
        self._commands += 1
        command: Command = {
            "commandId": f"day-{self._commands:04}",
            "command": name.value,
            "issuerId": issuer,
        }
        if self._random.random() < _CORRELATED_SHARE:
            command["correlationId"] = f"branch-{self._random.randrange(100, 120)}"
        return command

    def _product(
        self, issuer: str, product: str, terms: dict[str, object], expected: str
    ) -> SampleRecord:
        command = self._command(CommandName.PRODUCT_DEFINE, issuer) | {"cardProductId": product}
        return _plain(command | terms, expected)

    def _consumer(self, issuer: str, consumer: str, what: str, expected: str) -> SampleRecord:
        name = CommandName(f"CONSUMER_{what}")
        return self._sent(self._command(name, issuer) | {"consumerId": consumer}, expected)

    def _sent(self, command: Command, expected: str) -> SampleRecord:
        """As plain JSON or in one of the modes of CloudEvents, perhaps with a trace."""
        sample = _plain(command, expected)
        drawn = self._random.random()
        if drawn < _BINARY_SHARE:
            sample = _binary(command, expected)
        elif drawn < _BINARY_SHARE + _STRUCTURED_SHARE:
            sample = _structured(command, expected)
        if self._random.random() < _TRACED_SHARE:
            trace = (
                f"00-{self._random.getrandbits(128):032x}-{self._random.getrandbits(64):016x}-01"
            )
            traced = (*sample.record.headers, ("traceparent", trace.encode()))
            sample = replace(sample, record=replace(sample.record, headers=traced))
        return sample

    def _mixed(self, lives: list[Iterator[SampleRecord]]) -> Iterator[SampleRecord]:
        """All of them, each in its own order, otherwise in any."""
        while lives:
            life = self._random.choice(lives)
            sample = next(life, None)
            if sample is None:
                lives.remove(life)
            else:
                yield sample

    def _with_resends(self, samples: Iterator[SampleRecord]) -> Iterator[SampleRecord]:
        """Some are sent a second time a little later, as by a client that got no answer."""
        waiting: list[SampleRecord] = []
        for sample in samples:
            yield sample
            if waiting and self._random.random() < 2 * _RESENT_SHARE:
                yield waiting.pop(0)
            is_remembered = sample.expected.split()[0] in ("SUCCESSFUL", "FAILED")
            if is_remembered and self._random.random() < _RESENT_SHARE:
                waiting.append(replace(sample, expected=DUPLICATE))
        yield from waiting

    # --- what goes wrong before it is a command

    def _conflict(self) -> Iterator[SampleRecord]:
        create = self._command(CommandName.CREATE, ISSUERS[0]) | {
            "cardId": "card-conflict",
            "consumerId": "consumer-01",
            "cardProductId": "debit-virtual",
        }
        yield _plain(create, OK)
        other = create | {"cardProductId": "debit-physical"}
        yield _plain(other, dead_letter(DeadLetterCode.IDEMPOTENCY_CONFLICT))

    def _broken(self) -> Iterator[SampleRecord]:
        issuer = ISSUERS[1]
        suspend = self._command(CommandName.SUSPEND, issuer) | {"cardId": "card-001"}
        key = key_of_command(suspend)

        def broken(value: bytes | None, code: DeadLetterCode) -> SampleRecord:
            return SampleRecord(
                record=CommandRecord(key=key, value=value), expected=dead_letter(code)
            )

        def changed(code: DeadLetterCode, **fields: object) -> SampleRecord:
            return broken(orjson.dumps(suspend | fields), code)

        yield broken(b'{"commandId": "cut off', DeadLetterCode.NOT_JSON)
        yield broken(b"\xff\xfe{\x00}\x00", DeadLetterCode.NOT_UTF8)
        yield broken(b'["SUSPEND", "card-001"]', DeadLetterCode.NOT_AN_OBJECT)
        yield broken(None, DeadLetterCode.NULL_VALUE)
        yield changed(DeadLetterCode.FIELD_UNKNOWN, colour="blue")
        yield changed(DeadLetterCode.FIELD_TYPE, reason=42)
        yield changed(DeadLetterCode.FIELD_INVALID_FORMAT, commandId="not a good id")
        yield changed(DeadLetterCode.UNKNOWN_COMMAND, command="POLISH")
        yield changed(DeadLetterCode.KEY_MISMATCH, cardId="card-002")
        yield changed(DeadLetterCode.SENSITIVE_DATA, reason=f"Card {_TEST_CARD_NUMBER} was lost")
        missing = {name: value for name, value in suspend.items() if name != "command"}
        yield broken(orjson.dumps(missing), DeadLetterCode.FIELD_MISSING)
        yield SampleRecord(
            record=CommandRecord(
                key=key, value=orjson.dumps(suspend), headers=(("content-type", b"text/xml"),)
            ),
            expected=dead_letter(DeadLetterCode.CONTENT_TYPE),
        )
        event = _structured(suspend, dead_letter(DeadLetterCode.CLOUDEVENT_INVALID))
        value = (event.record.value or b"").replace(b'"specversion":"1.0"', b'"specversion":"0.3"')
        yield replace(event, record=replace(event.record, value=value))


def _plain(command: Command, expected: str) -> SampleRecord:
    return SampleRecord(
        record=CommandRecord(key=key_of_command(command), value=orjson.dumps(command)),
        expected=expected,
    )


def _attributes(command: Command) -> dict[str, str]:
    return {
        "specversion": "1.0",
        "id": str(command["commandId"]),
        "type": command_type(CommandName(str(command["command"]))),
        "source": f"/core-banking/{command['issuerId']}",
    }


def _binary(command: Command, expected: str) -> SampleRecord:
    """CloudEvents binary mode: id and command only in the headers."""
    data = {name: value for name, value in command.items() if name not in {"commandId", "command"}}
    headers = [(f"ce_{name}", value.encode()) for name, value in _attributes(command).items()]
    return SampleRecord(
        record=CommandRecord(
            key=key_of_command(command),
            value=orjson.dumps(data),
            headers=(*headers, ("content-type", b"application/json")),
        ),
        expected=expected,
    )


def _structured(command: Command, expected: str) -> SampleRecord:
    """CloudEvents structured mode: the command is the event's data."""
    event = {**_attributes(command), "datacontenttype": "application/json", "data": command}
    return SampleRecord(
        record=CommandRecord(
            key=key_of_command(command),
            value=orjson.dumps(event),
            headers=(("content-type", b"application/cloudevents+json"),),
        ),
        expected=expected,
    )
