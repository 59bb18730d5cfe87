"""Opens the `encryptedData` of a poll before its transaction: it needs no lock and may take long.

Relies on `lifecycle.vault`, which opens many at once on threads, so that a burst of REGISTERs does
not stall the event loop. What comes out is held for one batch and shows nothing of itself.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lifecycle.domain.commands import Activate
from lifecycle.domain.credentials import (
    Credentials,
    judge_credentials,
    judge_cvv,
    numbers_in,
)
from lifecycle.domain.fields import Refusal
from lifecycle.kafka import sensitive
from lifecycle.kafka.commands import ENCRYPTED_DATA, Broken, Parsed, content_hash_of
from lifecycle.kafka.records import DeadLetterCode, RawRecord
from lifecycle.kafka.requests import ParsedReply
from lifecycle.postgres.operations import DeadLetterRow
from lifecycle.vault.filling import Filling
from lifecycle.vault.fingerprints import Fingerprints, fingerprints_with
from lifecycle.vault.keys import KeyRing
from lifecycle.vault.opening import Opened, Opener
from lifecycle.vault.sealing import Sealing, sealing_with


@dataclass(frozen=True, slots=True)
class Vault:
    """The keys of this worker, ready for use."""

    opener: Opener
    fingerprints: Fingerprints
    sealing: Sealing
    filling: Filling


class Opening(NamedTuple):
    """What `encryptedData` of one record holds; `cvv` for an ACTIVATE, credentials for others.

    `content_hash` is empty for a reply, which is no command. `identity` stands for the text in the
    content of its command. `other_hashes`: by which the very same command may have been recorded
    before, when its text did not open yet (its key came later), or by the version that recorded
    such a text without a key. `numbers`: those in it, right or wrong, which may stand nowhere else.
    """

    credentials: Credentials | Refusal | None
    cvv: str | Refusal | None
    content_hash: bytes
    identity: str
    other_hashes: tuple[bytes, ...] = ()
    numbers: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Nothing of what it holds."""
        return "Opening(...)"


def vault_with(ring: KeyRing) -> Vault:
    """The vault of a keys file."""
    fingerprints = fingerprints_with(ring)
    return Vault(Opener(ring, fingerprints), fingerprints, sealing_with(ring), Filling())


class Read(NamedTuple):
    """A record, what was read in it, and its dead letter as far as it is rendered already."""

    record: RawRecord
    parsed: Parsed | ParsedReply | Broken
    letter: DeadLetterRow | None = None


def portion_of(
    poll: Sequence[RawRecord],
    read: Callable[[RawRecord], Read],
    texts_max: int,
    cpu_seconds_max: float = math.inf,
) -> tuple[list[Read], dict[tuple[str, int], int]]:
    """As many of a poll's records as have no more than `texts_max` texts to open.

    A partition whose next text is one too many waits with all that follows it, so that its order
    is kept; what lies on the other partitions goes ahead, and does not wait for a burst of texts.
    All of them wait for what is left when reading has taken `cpu_seconds_max` of this thread.
    Also says from which offset each of those that wait (topic and number) is to be read again.
    """
    assert texts_max >= 1, "every portion takes the poll on"
    portion: list[Read] = []
    waits: dict[tuple[str, int], int] = {}
    texts = 0
    until_seconds = time.thread_time() + cpu_seconds_max
    for record in poll:
        partition = (record.topic, record.partition)
        if partition in waits:
            continue
        if portion and time.thread_time() > until_seconds:
            waits[partition] = record.offset
            continue
        one = read(record)
        holds_text = _encrypted_data(one.parsed) is not None
        if holds_text and texts == texts_max:
            waits[partition] = record.offset
            continue
        texts += holds_text
        portion.append(one)
    return portion, waits


async def open_records(
    vault: Vault | None, records: Sequence[Parsed | ParsedReply | Broken]
) -> list[Opening | None]:
    """Open the `encryptedData` of `records`, in their order; None for those without any."""
    texts_found = [_encrypted_data(record) for record in records]
    places = [at for at, text in enumerate(texts_found) if text is not None]
    openings: list[Opening | None] = [None] * len(records)
    if not places or vault is None:
        # Without keys nothing opens, and the text stands for itself.
        return openings
    texts = [text for text in texts_found if text is not None]
    for at, opened in zip(places, await vault.opener.open_all(texts), strict=True):
        openings[at] = _judge(records[at], opened)
    return openings


def _encrypted_data(record: Parsed | ParsedReply | Broken) -> str | None:
    match record:
        case Parsed(content=content) if content is not None:
            return str(content[ENCRYPTED_DATA])
        case ParsedReply():
            return record.encrypted_data
    return None


def _judge(parsed: Parsed | ParsedReply | Broken, opened: Opened) -> Opening:
    numbers = () if opened.content is None else numbers_in(opened.content)
    if isinstance(parsed, ParsedReply):
        found = opened.failure if opened.content is None else judge_credentials(opened.content)
        return Opening(found, None, b"", opened.identity, numbers=numbers)
    assert isinstance(parsed, Parsed), "a broken record holds nothing to open"
    assert parsed.content is not None
    assert parsed.sent is not None, "what was opened is kept with everything beside it"
    credentials: Credentials | Refusal | None = None
    cvv: str | Refusal | None = None
    if opened.content is None:
        credentials = cvv = opened.failure
    elif isinstance(parsed.command, Activate):
        cvv = judge_cvv(opened.content)
        credentials = cvv if isinstance(cvv, Refusal) else None
    else:
        credentials = judge_credentials(opened.content)
    return Opening(
        credentials,
        cvv,
        content_hash=content_hash_of(parsed.content, opened.identity),
        identity=opened.identity,
        other_hashes=(
            content_hash_of(parsed.content, opened.text_identity),
            parsed.content_hash,
            content_hash_of(parsed.sent, str(parsed.sent[ENCRYPTED_DATA])),
        ),
        numbers=numbers,
    )


def without_number_elsewhere(
    record: Parsed | ParsedReply | Broken, opening: Opening | None
) -> Parsed | ParsedReply | Broken:
    """`record`, unless the number in its `encryptedData` stands in clear in it too.

    The search of the wire finds what looks like a card number (design.md 5, SENSITIVE_DATA); here
    the number itself is known, and an id made of it would be published with every event.
    """
    if opening is None or not opening.numbers or isinstance(record, Broken):
        return record
    assert record.sent is not None, "what was opened is kept with everything beside it"
    for piece in sensitive.pieces_of(record.sent):
        if sensitive.holds(piece.text, opening.numbers):
            return Broken(
                DeadLetterCode.SENSITIVE_DATA,
                f"The card number of encryptedData stands in {piece.place} too; leave it out.",
            )
    if isinstance(record, Parsed) and sensitive.holds(record.traceparent or "", opening.numbers):
        # It would be published too; but tracing never costs a command.
        return record._replace(traceparent=None)
    return record
