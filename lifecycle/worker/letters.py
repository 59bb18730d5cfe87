"""Dead letters as they are stored.

The search for card numbers makes them slow, so that most of them are rendered before the
transaction that they belong to.
"""

from collections.abc import Sequence

from lifecycle.domain.sources import Source
from lifecycle.kafka import sensitive
from lifecycle.kafka.commands import Broken
from lifecycle.kafka.dead_letters import DeadLetterCode, dead_letter
from lifecycle.kafka.records import RawRecord
from lifecycle.postgres.operations import DeadLetterRow

CONFLICT = Broken(
    DeadLetterCode.IDEMPOTENCY_CONFLICT,
    "This commandId was taken before with other content; send a new commandId.",
)
"""What only the transaction finds in a command (design.md 5)."""

# A longer command that the search would take long for has its letter ready, in case it is one.
_RENDERED_LATE_BYTES_MAX = 1024


def letter_of(
    source: Source, record: RawRecord, broken: Broken, known: Sequence[str] = ()
) -> DeadLetterRow:
    """`record` as a dead letter: what was sent, and why it is none of ours.

    What holds one of the `known` card numbers is left out.
    """
    buried = dead_letter(record, broken.code, broken.error, known)
    return DeadLetterRow(
        source=source,
        partition=record.partition,
        command_offset=record.offset,
        code=buried.code,
        error=buried.error,
        key=buried.key,
        value=buried.value,
        headers=buried.headers,
    )


def letter_ahead(
    source: Source, record: RawRecord, parsed: object, known: Sequence[str] = ()
) -> DeadLetterRow | None:
    """The letter of a broken record, and that of a long one if the transaction refuses it.

    What holds one of the `known` card numbers is left out.
    """
    if isinstance(parsed, Broken):
        return letter_of(source, record, parsed, known)
    value = record.value or b""
    if len(value) > _RENDERED_LATE_BYTES_MAX and sensitive.is_suspicious(value):
        return letter_of(source, record, CONFLICT, known)
    return None
