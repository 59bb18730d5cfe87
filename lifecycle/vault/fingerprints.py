"""Fingerprints: what is stored, compared and looked up in place of a card number.

HMAC-SHA-256 under keys of the keys file, since a number alone has too few digits for a plain hash.
A number has one fingerprint for every such key, and all of them are claimed and looked up: so a new
key can be added at any time, also while other workers do not have it yet, and a number that was
retired under an old key is still known.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hmac import digest
from typing import cast

import rfc8785
from joserfc.jwk import OctKey

from lifecycle.vault.keys import Algorithm, KeyRing

FINGERPRINT_BYTES = 32


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """The keys of HS256, oldest first; never none."""

    _keys: tuple[bytes, ...] = field(repr=False)

    def of_number(self, issuer_id: str, pan: str) -> tuple[bytes, ...]:
        """The fingerprints of a card number of an issuer, `FINGERPRINT_BYTES` each, in file order.

        The issuer is part of it: equal numbers of two issuers are not seen to be equal (G12).
        """
        # Each use has a word of its own, so that no fingerprint of one is one of another.
        message = b"number\0" + issuer_id.encode() + b"\0" + pan.encode()
        return tuple(digest(key, message, "sha256") for key in self._keys)

    def of_content(self, content: Mapping[str, object]) -> str:
        """What stands for the plaintext of encryptedData in a command's content (design.md 5).

        The same for the same content, however and how often it was encrypted. Only the oldest key
        makes it, because a repeated command must stay a repeated command when a key is added.

        Raises:
            ValueError: the content has a number or text that RFC 8785 cannot write.
        """
        canonical = rfc8785.dumps(cast("dict[str, str]", content))  # it checks the types itself
        return self._of_bytes(b"content\0", canonical)

    def of_plaintext(self, plaintext: bytes) -> str:
        """The same for what is no JSON object: the plaintext as it is."""
        return self._of_bytes(b"plaintext\0", plaintext)

    def of_text(self, text: str) -> str:
        """What stands for an encryptedData as it was sent, when it does not open.

        Keyed as well: a sender may have put a card number there in clear.
        """
        return self._of_bytes(b"text\0", text.encode("utf-8", "surrogatepass"))

    def _of_bytes(self, use: bytes, message: bytes) -> str:
        return "hmac-sha256:" + digest(self._keys[0], use + message, "sha256").hex()


def fingerprints_with(ring: KeyRing) -> Fingerprints:
    """Fingerprints under every HS256 key of a file, whatever its status."""
    keys = []
    for key in ring.of(Algorithm.HS256):
        assert isinstance(key.material, OctKey), "checked with its algorithm"
        keys.append(key.material.raw_value)
    assert keys, "load_keys refuses a file without one"
    return Fingerprints(tuple(keys))
