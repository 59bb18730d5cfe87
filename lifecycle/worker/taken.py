"""A record of a poll with everything that is derived from it before any lock is taken."""

from typing import NamedTuple
from uuid import UUID

from lifecycle.domain.commands import Command, Create, Renew, Replace, Subject, SubjectKind
from lifecycle.domain.identifiers import generated_card_ids, operation_id
from lifecycle.domain.sources import Partition, Source
from lifecycle.kafka.commands import ENCRYPTED_DATA, Broken, Parsed, RawRecord
from lifecycle.kafka.partitioner import key_of, partition_of
from lifecycle.kafka.requests import ParsedReply
from lifecycle.postgres.operations import DeadLetterRow
from lifecycle.worker.opening import Opening

_GENERATED_IDS_TRIED_MAX = 100_000


class Taken(NamedTuple):
    """A record of a poll, parsed once, with the lane it came from and the lane it belongs to.

    `operation_id` and `generated_card_id` are derived from it; None where there is none, as for a
    reply, which only names its operation. `lanes` are the home lanes of every card that the record
    names. `opening`: its `encryptedData`. `letter`: its dead letter, rendered already; of a command
    that is not broken the one that it becomes if it is a conflict.
    """

    record: RawRecord
    parsed: Parsed | ParsedReply | Broken
    source: Source
    home_lane: int | None = None
    operation_id: UUID | None = None
    lanes: tuple[int, ...] = ()
    generated_card_id: str | None = None
    opening: Opening | None = None
    letter: DeadLetterRow | None = None

    @property
    def partition(self) -> Partition:
        """Where it was taken from."""
        return Partition(self.source, self.record.partition)


def take(
    record: RawRecord,
    parsed: Parsed | ParsedReply | Broken,
    partition_count: int,
    opening: Opening | None = None,
    source: Source = Source.COMMANDS,
) -> Taken:
    """Derive what the reads need to know of a record before any lock is taken."""
    if isinstance(parsed, Broken):
        return Taken(record, parsed, source, opening=opening)
    if isinstance(parsed, ParsedReply):
        lane = partition_of(key_of(parsed.subject), partition_count)
        return Taken(record, parsed, source, lane, lanes=(lane,), opening=opening)
    if opening is not None:
        # What it holds decides whether two commands are the same, not its bytes (design.md 5).
        assert parsed.sent is not None, "what was opened is kept with everything beside it"
        parsed = parsed._replace(
            content_hash=opening.content_hash,
            sent={**parsed.sent, ENCRYPTED_DATA: opening.identity},
        )
    home_lane = partition_of(key_of(parsed.subject), partition_count)
    identity = operation_id(parsed.subject, parsed.command.command_id)
    generated = None
    if isinstance(parsed.command, Replace):
        generated = _generated_card_id(parsed.command, identity, home_lane, partition_count)
    lanes = (home_lane, *_lanes_of_named_cards(parsed.command, partition_count))
    return Taken(record, parsed, source, home_lane, identity, lanes, generated, opening)


def named_cards(command: Command) -> tuple[str, ...]:
    """The ids of the cards that a command names beside its subject."""
    match command:
        case Create(real_card_id=str(card_id)):
            return (card_id,)
        case Replace(new_card_id=str(card_id)) | Renew(new_card_id=str(card_id)):
            return (card_id,)
        case _:
            return ()


def lane_of_card(issuer_id: str, card_id: str, partition_count: int) -> int:
    """The home lane of a card."""
    subject = Subject(SubjectKind.CARD, issuer_id, card_id)
    return partition_of(key_of(subject), partition_count)


def _lanes_of_named_cards(command: Command, partition_count: int) -> list[int]:
    return [
        lane_of_card(command.issuer_id, card_id, partition_count)
        for card_id in named_cards(command)
    ]


def _generated_card_id(
    command: Replace, identity: UUID, home_lane: int, partition_count: int
) -> str:
    """The id of the new card: the first derived one that stays in the old card's lane."""
    for tried, card_id in enumerate(generated_card_ids(identity)):
        if lane_of_card(command.issuer_id, card_id, partition_count) == home_lane:
            return card_id
        assert tried < _GENERATED_IDS_TRIED_MAX, "murmur2 leaves no partition out"
    raise AssertionError("generated_card_ids is endless")
