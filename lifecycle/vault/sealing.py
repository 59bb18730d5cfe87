"""Card numbers at rest: AES-256-GCM under a data key of the keys file.

The card that a record belongs to is authenticated with it, so that a row that is copied to another
card, issuer or life does not open. Whatever key of the file a record was sealed with opens it; new
ones get the current key.
"""

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from joserfc.jwk import OctKey

from lifecycle.vault.keys import Algorithm, KeyRing

NONCE_BYTES = 12
"""Random, so that a key is good for 2^32 records (NIST SP 800-38D, 8.3): rotate it before."""


class SealError(Exception):
    """A sealed record does not open: its key is not in the file, or the row is not as written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardNumbers:
    """What is secret of one life of a card, and never changes in it. None of it is ever shown."""

    pan: str = field(repr=False)
    auxiliary_pan: str | None = field(default=None, repr=False)
    psn: str | None = field(default=None, repr=False)
    cvv: str | None = field(default=None, repr=False)


class CardLife(NamedTuple):
    """Whose numbers they are: a card id in one of its lives (domain.md 4)."""

    issuer_id: str
    card_id: str
    incarnation: int


class Sealed(NamedTuple):
    """Nonce, ciphertext and tag in one, and the name of the key."""

    kid: str
    box: bytes


@dataclass(frozen=True, slots=True)
class Sealing:
    """The A256GCM keys of a file by kid, and which of them is current."""

    _ciphers: Mapping[str, AESGCM] = field(repr=False)
    current_kid: str

    def seal(self, life: CardLife, numbers: CardNumbers) -> Sealed:
        """Encrypt the numbers of a card under the current key."""
        kid = self.current_kid
        nonce = secrets.token_bytes(NONCE_BYTES)
        plaintext = orjson.dumps(asdict(numbers))
        box = nonce + self._ciphers[kid].encrypt(nonce, plaintext, _associated_data(life, kid))
        return Sealed(kid, box)

    def unseal(self, life: CardLife, sealed: Sealed) -> CardNumbers:
        """The numbers of a card.

        Raises:
            SealError: the keys file has no such key, or this is not what was sealed for this card.
        """
        cipher = self._ciphers.get(sealed.kid)
        if cipher is None:
            raise SealError(
                f"the numbers of card {life.issuer_id}/{life.card_id} are under the key"
                f" {sealed.kid}, which the keys file does not have: give this worker the newest"
                " keys file"
            )
        nonce, ciphertext = sealed.box[:NONCE_BYTES], sealed.box[NONCE_BYTES:]
        try:
            plaintext = cipher.decrypt(nonce, ciphertext, _associated_data(life, sealed.kid))
        except (InvalidTag, ValueError):  # the second for a nonce that is cut off
            raise SealError(
                f"the numbers of card {life.issuer_id}/{life.card_id}, life {life.incarnation},"
                " do not open: the row was changed, or moved from another card"
            ) from None
        return CardNumbers(**orjson.loads(plaintext))


def sealing_with(ring: KeyRing) -> Sealing:
    """Sealing under the data keys of a file."""
    current = ring.current(Algorithm.A256GCM)
    assert current is not None, "load_keys refuses a file without one"
    ciphers = {}
    for key in ring.of(Algorithm.A256GCM):
        assert isinstance(key.material, OctKey), "checked with its algorithm"
        ciphers[key.kid] = AESGCM(key.material.raw_value)
    return Sealing(ciphers, current.kid)


def _associated_data(life: CardLife, kid: str) -> bytes:
    # JSON, because it has one reading: no two lives share their associated data.
    return orjson.dumps(["pan", 1, kid, *life])
