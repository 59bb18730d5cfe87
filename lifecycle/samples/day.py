"""The sample day: the stories of two issuers' cards, mixed, with what goes wrong.

Everything is drawn from one seed. Parts must be sent one after the other: products and consumers
lie on other partitions than the cards that need them, so a client waits in between (design.md 3).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Literal
from uuid import UUID

import orjson

from lifecycle.domain.commands import CommandName, Subject, SubjectKind
from lifecycle.domain.credentials import passes_luhn
from lifecycle.domain.identifiers import generated_card_ids, operation_id
from lifecycle.kafka.commands import ENCRYPTED_DATA
from lifecycle.kafka.partitioner import key_of, partition_of
from lifecycle.kafka.records import DeadLetterCode
from lifecycle.kafka.sending import key_of_command
from lifecycle.samples.stories import (
    OK,
    PENDING,
    PRODUCTS,
    STORIES,
    SUCCESSOR,
    USUAL_PRODUCT,
    Step,
    Story,
    failed,
)
from lifecycle.samples.wire import (
    Command,
    SampleRecord,
    binary,
    broken_records,
    dead_letter,
    plain,
    structured,
)

_PartOfDay = Literal["morning", "afternoon", "evening"]
"""The parts in which stories go on; their names in a `Story`."""

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
# Of no product of the day, so that the platform never draws such a number itself.
_BIN = "40000099"
_OWN_DIGITS = 7
_HOLDERS = range(1, 20)
# Those who leave have no other cards: what becomes of them becomes of every card that they hold.
_HOLDERS_WHO_LEAVE = {
    CommandName.CONSUMER_DELETE: range(21, 23),
    CommandName.CONSUMER_DEACTIVATE: range(23, 25),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tale:
    """One story as it goes on in one part of the day: a card that lives it, and how many do."""

    title: str
    keys: frozenset[str]
    """Of the records that tell it: those of the card, its successors and a holder who leaves."""
    cards: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What is sent before a client waits for the outcome. `name` is also a file's name."""

    name: str
    records: tuple[SampleRecord, ...]
    tales: tuple[Tale, ...] = ()


_OPENING_TALES = (
    Tale(
        title=f"card products of {ISSUERS[0]}",
        keys=frozenset(f"{ISSUERS[0]}/product/{product}" for product in PRODUCTS),
    ),
    Tale(
        title=f"the first of {ISSUERS[0]}'s {CONSUMERS_PER_ISSUER} card holders, and no holder",
        keys=frozenset({f"{ISSUERS[0]}/consumer/consumer-01", f"{ISSUERS[0]}/consumer/nobody"}),
    ),
)


def sample_day(partition_count: int) -> list[Part]:
    """The day, the same on every call. The ids of successors depend on the partition count."""
    day = _Day(partition_count)
    opening, morning, afternoon, evening = (
        tuple(part) for part in (day.opening(), day.morning(), day.afternoon(), day.evening())
    )
    return [
        Part(name="1-opening", records=opening, tales=_OPENING_TALES),
        Part(name="2-morning", records=morning, tales=day.tales("morning")),
        Part(name="3-afternoon", records=afternoon, tales=day.tales("afternoon")),
        Part(name="4-evening", records=evening, tales=day.tales("evening")),
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
    title: str
    first_number: int
    successor_id: str | None = None
    keys: set[str] = field(default_factory=set)


class _Day:
    def __init__(self, partition_count: int) -> None:
        self._partition_count = partition_count
        self._random = Random(_SEED)  # noqa: S311 - a sample, not a secret
        self._commands = 0
        self._cards: list[_CardOfStory] = []

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

    def morning(self) -> Iterator[SampleRecord]:
        for issuer in ISSUERS:
            for title, story in STORIES.items():
                for _ in range(story.times):
                    self._add_card(issuer, title, story)
        lives = self._lives("morning")
        yield from self._with_resends(self._mixed([*lives, self._broken(), self._conflict()]))

    def afternoon(self) -> Iterator[SampleRecord]:
        for issuer in ISSUERS:
            for consumer, name in sorted(self._leaving(issuer).items()):
                yield self._sent(self._command(name, issuer) | {"consumerId": consumer}, OK)
            yield self._consumer(issuer, "consumer-20", "DEACTIVATE", OK)
            yield self._consumer(issuer, "consumer-20", "REACTIVATE", OK)
        yield from self._mixed(self._lives("afternoon"))

    def evening(self) -> Iterator[SampleRecord]:
        yield from self._mixed(
            [*self._lives("evening"), *(self._too_late(issuer) for issuer in ISSUERS)]
        )
        yield self._product(ISSUERS[-1], "debit-virtual", PRODUCTS["debit-virtual"], OK)

    def tales(self, part: _PartOfDay) -> tuple[Tale, ...]:
        """One card of each story that goes on in this part, told once all of it is known."""
        return tuple(
            Tale(
                title=title,
                keys=frozenset(next(card.keys for card in self._cards if card.title == title)),
                cards=story.times * len(ISSUERS),
            )
            for title, story in STORIES.items()
            if _steps(story, part) or (part == "afternoon" and story.holder_leaves)
        )

    # --- cards

    def _add_card(self, issuer: str, title: str, story: Story) -> None:
        number = 1 + sum(card.issuer_id == issuer for card in self._cards)
        leaves = story.holder_leaves
        consumer = self._random.choice(_HOLDERS if leaves is None else _HOLDERS_WHO_LEAVE[leaves])
        card = _CardOfStory(
            issuer_id=issuer,
            card_id=f"card-{number:03}",
            consumer_id=f"consumer-{consumer:02}",
            story=story,
            title=title,
            first_number=2 * len(self._cards),
        )
        if leaves is not None:
            card.keys.add(f"{issuer}/consumer/{card.consumer_id}")
        self._cards.append(card)

    def _leaving(self, issuer: str) -> dict[str, CommandName]:
        """The consumers who leave, and what happens to them."""
        return {
            card.consumer_id: card.story.holder_leaves
            for card in self._cards
            if card.issuer_id == issuer and card.story.holder_leaves
        }

    def _lives(self, part: _PartOfDay) -> list[Iterator[SampleRecord]]:
        return [
            self._life(card, steps) for card in self._cards if (steps := _steps(card.story, part))
        ]

    def _life(self, card: _CardOfStory, steps: tuple[Step, ...]) -> Iterator[SampleRecord]:
        for step in steps:
            command = self._card_command(card, step)
            card.keys.add(key_of_command(command).decode())
            if step.command is CommandName.REPLACE and step.expected == OK and not step.cards:
                card.successor_id = self._successor(card, str(command["commandId"]))
                card.keys.add(f"{card.issuer_id}/{card.successor_id}")
            if step.secret is None:
                yield self._sent(command, step.expected)
            else:
                yield plain(command | {ENCRYPTED_DATA: _secret(card, step)}, step.expected)

    def _card_command(self, card: _CardOfStory, step: Step) -> Command:
        card_id: str | None = card.card_id + step.on
        if step.on == SUCCESSOR:
            card_id = card.successor_id
            assert card_id is not None, "the story replaced its card before"
        command = self._command(step.command, card.issuer_id) | {"cardId": card_id}
        if step.by_user:
            command["requestor"] = {"type": "USER", "id": card.consumer_id}
        if step.command in {CommandName.CREATE, CommandName.REGISTER}:
            command |= {
                "consumerId": card.consumer_id,
                "cardProductId": card.story.product or USUAL_PRODUCT[card.story.form],
                "name": self._random.choice(_NAMES),
            }
        others = {name: card.card_id + suffix for name, suffix in step.cards.items()}
        return command | dict(step.fields) | others

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
        for consumer, name in sorted(self._leaving(issuer).items()):
            create = self._command(CommandName.CREATE, issuer) | {
                "cardId": "card-too-late",
                "consumerId": consumer,
                "cardProductId": "debit-virtual",
            }
            yield self._sent(create, failed("CONSUMER_NOT_ACTIVE"))
            if name is CommandName.CONSUMER_DELETE:
                yield self._consumer(issuer, consumer, "REACTIVATE", failed("CONSUMER_DELETED"))

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
        return plain(command | terms, expected)

    def _consumer(self, issuer: str, consumer: str, what: str, expected: str) -> SampleRecord:
        name = CommandName(f"CONSUMER_{what}")
        return self._sent(self._command(name, issuer) | {"consumerId": consumer}, expected)

    def _sent(self, command: Command, expected: str) -> SampleRecord:
        """As plain JSON or in one of the modes of CloudEvents, perhaps with a trace."""
        sample = plain(command, expected)
        drawn = self._random.random()
        if drawn < _BINARY_SHARE:
            sample = binary(command, expected)
        elif drawn < _BINARY_SHARE + _STRUCTURED_SHARE:
            sample = structured(command, expected)
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
            is_remembered = sample.expected.split()[0] in {OK, PENDING, "FAILED"}
            if is_remembered and self._random.random() < _RESENT_SHARE:
                waiting.append(replace(sample, expected=DUPLICATE))
        yield from waiting

    # --- what goes wrong before it is a command

    def _broken(self) -> Iterator[SampleRecord]:
        suspend = self._command(CommandName.SUSPEND, ISSUERS[1]) | {"cardId": "card-001"}
        return broken_records(suspend)

    def _conflict(self) -> Iterator[SampleRecord]:
        create = self._command(CommandName.CREATE, ISSUERS[0]) | {
            "cardId": "card-conflict",
            "consumerId": "consumer-01",
            "cardProductId": "debit-virtual",
        }
        yield plain(create, OK)
        other = create | {"cardProductId": "debit-physical"}
        yield plain(other, dead_letter(DeadLetterCode.IDEMPOTENCY_CONFLICT))


def _steps(story: Story, part: _PartOfDay) -> tuple[Step, ...]:
    steps: tuple[Step, ...] = getattr(story, part)
    return steps


def _number(own: int) -> str:
    """A card number of its own for each `own`."""
    assert 0 <= own < 10**_OWN_DIGITS, "it has so many digits"
    digits = f"{_BIN}{own:0{_OWN_DIGITS}}"
    return next(number for last in range(10) if passes_luhn(number := f"{digits}{last}"))


def _secret(card: _CardOfStory, step: Step) -> dict[str, object]:
    """What is encrypted as the step is sent; its number is one of the card's own."""
    secret = dict(step.secret or {})
    if isinstance(number := secret.get("pan"), int):
        secret["pan"] = _number(card.first_number + number)
    return secret
