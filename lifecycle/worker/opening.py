"""Opens the `encryptedData` of a poll before its transaction: it needs no lock and may take long.

Relies on `lifecycle.vault`, which opens many at once on threads, so that a burst of REGISTERs does
not stall the event loop. What comes out is held for one batch and shows nothing of itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lifecycle.domain.commands import Activate
from lifecycle.domain.credentials import Credentials, judge_credentials, judge_cvv
from lifecycle.domain.errors import ErrorCode
from lifecycle.kafka.commands import ENCRYPTED_DATA, Parsed, content_hash_of
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
    """What `encryptedData` of one command holds; `cvv` for an ACTIVATE, credentials for others."""

    credentials: Credentials | ErrorCode | None
    cvv: str | ErrorCode | None
    content_hash: bytes


def vault_with(ring: KeyRing) -> Vault:
    """The vault of a keys file."""
    fingerprints = fingerprints_with(ring)
    return Vault(Opener(ring, fingerprints), fingerprints, sealing_with(ring), Filling())


async def open_commands(vault: Vault | None, commands: Sequence[Parsed]) -> list[Opening | None]:
    """Open the `encryptedData` of `commands`, in their order; None for those without any."""
    places = [at for at, parsed in enumerate(commands) if parsed.content is not None]
    openings: list[Opening | None] = [None] * len(commands)
    if not places or vault is None:
        # Without keys nothing opens, and the text stands for itself.
        return openings
    texts = [str((commands[at].content or {})[ENCRYPTED_DATA]) for at in places]
    for at, opened in zip(places, await vault.opener.open_all(texts), strict=True):
        openings[at] = _judge(commands[at], opened)
    return openings


def _judge(parsed: Parsed, opened: Opened) -> Opening:
    assert parsed.content is not None
    content_hash = content_hash_of(parsed.content, opened.identity)
    if opened.content is None:
        return Opening(opened.failure, opened.failure, content_hash)
    if isinstance(parsed.command, Activate):
        cvv = judge_cvv(opened.content)
        return Opening(cvv if isinstance(cvv, ErrorCode) else None, cvv, content_hash)
    return Opening(judge_credentials(opened.content), None, content_hash)
