"""What tells whether two keys files have the same key, and tells nothing of the key.

For the keys at rest: those that numbers in the database are encrypted with, and those that their
fingerprints are made with. The database keeps these values, and never a key.
"""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc.jwk import OctKey

from lifecycle.vault.keys import Algorithm, Key, KeyRing

CHECK_VALUE_BYTES = 32
_AT_REST = (Algorithm.HS256, Algorithm.A256GCM)


def keys_at_rest(ring: KeyRing) -> list[Key]:
    """The fingerprint keys and the data keys of a file, each kind in the order of the file."""
    return [key for algorithm in _AT_REST for key in ring.of(algorithm)]


def check_value(key: Key) -> bytes:
    """The check value of a key at rest, `CHECK_VALUE_BYTES` long.

    Derived by HKDF (RFC 5869) with an `info` that nothing else has: independent of whatever else
    the key makes, and of no use for finding it. It is bound to the kid.
    """
    assert isinstance(key.material, OctKey), "only symmetric keys are at rest"
    info = b"lifecycle known key\0" + key.algorithm.encode() + b"\0" + key.kid.encode()
    return HKDF(SHA256(), CHECK_VALUE_BYTES, salt=None, info=info).derive(key.material.raw_value)
