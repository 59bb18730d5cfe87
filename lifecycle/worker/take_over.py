"""Finds out, at the end of a lane's topics, what its last owner got published.

Runs after the fence, so that nothing can be appended any more while it looks. What it finds must
fit the database; if it does not, publishing on would break the order or the hash chain that readers
have seen, and no retry would mend it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lifecycle.domain.sources import Source
from lifecycle.kafka.records import RawRecord
from lifecycle.kafka.tails import TailReader
from lifecycle.kafka.topics import Topics
from lifecycle.postgres import lanes, operations
from lifecycle.postgres.connection import Pool
from lifecycle.postgres.operations import DeadLetterRow, OutboxRow

# Without the fence (LIFECYCLE_PUBLISH=idempotent) a worker that was paused may append, when it
# wakes, the batch that it held, behind what its successor published. So far back is looked.
_LATE_RECORDS_MAX = 20_000


class OutOfStepError(Exception):
    """Database and topic tell different stories: a person must look. Nothing was published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Up to where a lane is published: its events, and the dead letters of both sources."""

    seq: int
    dead_letter_offset: int
    reply_dead_letter_offset: int

    def holds(self, letter: DeadLetterRow) -> bool:
        """Whether a dead letter of the lane is not beyond this."""
        if letter.source is Source.REPLIES:
            return letter.command_offset <= self.reply_dead_letter_offset
        return letter.command_offset <= self.dead_letter_offset

    def with_more(self, rows: Sequence[OutboxRow], letters: Sequence[DeadLetterRow]) -> "Published":
        """As far as this, and these as well, which come next."""
        offsets = {
            Source.COMMANDS: self.dead_letter_offset,
            Source.REPLIES: self.reply_dead_letter_offset,
        }
        offsets |= {letter.source: letter.command_offset for letter in letters}
        return Published(
            seq=rows[-1].seq if rows else self.seq,
            dead_letter_offset=offsets[Source.COMMANDS],
            reply_dead_letter_offset=offsets[Source.REPLIES],
        )


NOTHING_PUBLISHED = Published(seq=0, dead_letter_offset=-1, reply_dead_letter_offset=-1)


async def published_so_far(pool: Pool, tails: TailReader, topics: Topics, lane: int) -> Published:
    """Where to go on publishing the lane, whatever was noted before a crash.

    Raises:
        OutOfStepError: the topic holds events that the database does not, or lost some.
    """
    publication = (await lanes.load_publications(pool, [lane]))[lane]
    newest = await tails.newest_until(
        topics.events,
        lane,
        lambda record: 0 < _number(record, "ce_sequence") <= publication.published_seq,
    )
    if newest and _highest(newest) < publication.published_seq:
        oldest_offset = newest[-1].offset - _LATE_RECORDS_MAX
        newest = await tails.newest_until(
            topics.events,
            lane,
            lambda record: (
                _number(record, "ce_sequence") == publication.published_seq
                or record.offset <= oldest_offset
            ),
        )
    published_seq = await _checked_seq(pool, tails, topics, lane, publication, newest)
    noted = {
        topics.commands.encode(): publication.dead_letter_offset,
        topics.replies.encode(): publication.reply_dead_letter_offset,
    }
    # Both are noted at once: behind a record that is noted, everything of either source is.
    letters = await tails.newest_until(
        topics.dead_letters,
        lane,
        lambda record: (
            0 <= _number(record, "dlq-offset") <= noted.get(_header(record, "dlq-topic") or b"", -1)
        ),
    )
    for letter in letters:
        topic = _header(letter, "dlq-topic") or b""
        if topic in noted:
            noted[topic] = max(noted[topic], _number(letter, "dlq-offset"))
    return Published(
        seq=published_seq,
        dead_letter_offset=noted[topics.commands.encode()],
        reply_dead_letter_offset=noted[topics.replies.encode()],
    )


async def _checked_seq(  # noqa: PLR0913, PLR0917 - the lane as both sides tell it
    pool: Pool,
    tails: TailReader,
    topics: Topics,
    lane: int,
    publication: lanes.Publication,
    newest: list[RawRecord],
) -> int:
    where = f"lane {lane} ({topics.events}, partition {lane})"
    last = max(newest, key=lambda record: _number(record, "ce_sequence"), default=None)
    if last is None:
        first, _ = (await tails.bounds(topics.events, [lane]))[lane]
        if publication.published_seq > 0 and first == 0:
            raise OutOfStepError(
                f"the topic lost records: {where} is empty, published was up to"
                f" {publication.published_seq}"
            )
        # Everything that was published is older than the topic's retention.
        return publication.published_seq
    seq = _number(last, "ce_sequence")
    if seq < publication.published_seq:
        raise OutOfStepError(
            f"the topic lost records: {where} ends at {seq}, published was up to"
            f" {publication.published_seq}"
        )
    last_seq = publication.last_seq
    if seq > last_seq:
        # Without the fence another owner may have gone on since that was read. What is on the
        # topic was committed before, so it is there by now.
        last_seq = (await lanes.load_publications(pool, [lane]))[lane].last_seq
    event_id = await operations.event_id_at(pool, lane, seq)
    if seq > last_seq or (
        event_id is not None and str(event_id).encode() != _header(last, "ce_id")
    ):
        raise OutOfStepError(
            f"the database is behind the topic: {where} ends at {seq} with another event than"
            f" the database, which is numbered up to {last_seq}. If an older database"
            " was restored, roll it forward before workers start."
        )
    return seq


def _highest(records: Iterable[RawRecord]) -> int:
    return max(_numbers(records, "ce_sequence"))


def _header(record: RawRecord, name: str) -> bytes | None:
    value: bytes | None = next((value for key, value in record.headers if key == name), None)
    return value


def _number(record: RawRecord, name: str) -> int:
    """The decimal value of a header; -1 when this service did not write the record."""
    value = _header(record, name) or b""
    return int(value) if value.isdigit() else -1


def _numbers(records: Iterable[RawRecord], name: str) -> list[int]:
    return [_number(record, name) for record in records]
