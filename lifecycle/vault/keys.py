"""The keys file: a JWK Set with everything that opens, encrypts or fingerprints (design.md 10).

Read and checked once, at start, so that a key that is missing or weak is a settings error and not
a failed command months later. Errors name the file and the `kid`, never anything of a key.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey, import_key
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lifecycle.risks import is_open_to_others

_log = structlog.get_logger(__name__)

FILE_BYTES_MAX = 1024 * 1024
KEYS_MAX = 256
RSA_BITS_MIN = 2048
RSA_BITS_MAX = 4096
"""The private operation costs eight times as much for twice the bits."""

CURVES = frozenset({"P-256", "P-384", "P-521", "X25519"})
DATA_KEY_BYTES = 32
FINGERPRINT_KEY_BYTES_MIN = 32


class KeysError(Exception):
    """The keys file can't be used: says which file, which key, and what to do."""


class Algorithm(StrEnum):
    """What a key is for: the `alg` of its JWK."""

    RSA_OAEP_256 = "RSA-OAEP-256"
    """Opens encryptedData."""
    ECDH_ES = "ECDH-ES"
    """Opens encryptedData."""
    A256GCM = "A256GCM"
    """Encrypts card numbers at rest."""
    HS256 = "HS256"
    """Makes the fingerprints of card numbers and of the content of encryptedData."""


OPENING = frozenset({Algorithm.RSA_OAEP_256, Algorithm.ECDH_ES})
CONTENT_ENCRYPTION = "A256GCM"
"""The `enc` that goes with them in encryptedData."""


class Status(StrEnum):
    """Which key of an algorithm is used for what is new.

    Opening, decrypting and looking up work with a key of any status: a key that is only about to
    become the current one can be given to every worker before the first of them uses it.
    """

    NEXT = "next"
    CURRENT = "current"
    PREVIOUS = "previous"


class Jwk(BaseModel):
    """A key as the file has it; members of the key itself are left to joserfc."""

    model_config = ConfigDict(extra="allow", strict=True, hide_input_in_errors=True)

    kty: Literal["RSA", "EC", "OKP", "oct"]
    kid: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    use: Literal["enc", "sig"] | None = None
    # Enumerations are read from their words also where types are strict.
    alg: Annotated[Algorithm | None, Field(strict=False)] = None
    status: Annotated[Status, Field(strict=False)] = Status.CURRENT
    iat: int | None = Field(None, ge=0)


class JwkSet(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    keys: list[Jwk] = Field(max_length=KEYS_MAX)


Material = RSAKey | ECKey | OKPKey | OctKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key, fit for its algorithm. `issued_at_s`: seconds since the epoch, if the file says."""

    kid: str
    algorithm: Algorithm
    status: Status
    material: Material = field(repr=False)
    size: str
    issued_at_s: int | None = None


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys of a file, in the order of the file, oldest first."""

    keys: tuple[Key, ...]

    def of(self, algorithm: Algorithm) -> list[Key]:
        """The keys of one algorithm, oldest first."""
        return [key for key in self.keys if key.algorithm is algorithm]

    def current(self, algorithm: Algorithm) -> Key | None:
        """The key for what is new; None only for an algorithm of encryptedData that is not used."""
        return next((key for key in self.of(algorithm) if key.status is Status.CURRENT), None)

    def by_kid(self, kid: str) -> Key | None:
        """The key of this name."""
        return next((key for key in self.keys if key.kid == kid), None)


def load_keys(path: Path) -> KeyRing:
    """Read and check the keys of a file. A file that others may read is logged as a warning.

    Raises:
        KeysError: the file can't be read, is no JWK Set, or lacks a key that the service needs.
    """
    ring = parse_keys(read_file(path), path)
    for algorithm in (Algorithm.A256GCM, Algorithm.HS256):
        if ring.current(algorithm) is None:
            raise KeysError(
                f"{path} has no current {algorithm} key: `lifecycle keys rotate {path} --kind"
                f" {KIND_OF[algorithm]}` adds one"
            )
    if not any(ring.current(algorithm) for algorithm in OPENING):
        raise KeysError(
            f"{path} has no current RSA-OAEP-256 or ECDH-ES key, so no encryptedData could be"
            f" opened: `lifecycle keys rotate {path} --kind rsa` adds one"
        )
    return ring


KIND_OF = {
    Algorithm.RSA_OAEP_256: "rsa",
    Algorithm.ECDH_ES: "ecdh",
    Algorithm.A256GCM: "data",
    Algorithm.HS256: "fingerprint",
}
"""What the command line calls an algorithm."""


def read_file(path: Path) -> bytes:
    """The content of a keys file, and a warning when more than its owner may read it.

    Raises:
        KeysError: it can't be read, or is longer than a keys file may be.
    """
    content, found = _read(path)
    if is_open_to_others(found):
        _log.warning("keys_file_open_to_others", file=str(path), advice=f"chmod 600 {path}")
    return content


def read_public_file(path: Path) -> bytes:
    """The content of a file with public keys, which everyone may read.

    Raises:
        KeysError: it can't be read, or is longer than a keys file may be.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise KeysError(f"the keys file {path} can't be read: {error.strerror}") from error
    if len(content) > FILE_BYTES_MAX:
        raise KeysError(f"the keys file {path} has more than {FILE_BYTES_MAX} bytes")
    return content, found


def parse_keys(content: bytes, path: Path) -> KeyRing:
    """The keys of a JWK Set, each checked alone and all of them together; `path` is for errors.

    Raises:
        KeysError: it is no JWK Set, or a key of it is unfit.
    """
    try:
        jwks = JwkSet.model_validate_json(content).keys
    except ValidationError as error:
        raise KeysError(f"{path} is no JWK Set of ours: {_explain(error)}") from None
    keys = tuple(_key(jwk, path) for jwk in jwks)
    _refuse_repeated((key.kid for key in keys), path, "two keys with the kid")
    _refuse_repeated(
        (key.algorithm for key in keys if key.status is Status.CURRENT),
        path,
        'two keys with "status": "current" for',
    )
    return KeyRing(keys)


def _explain(error: ValidationError) -> str:
    problem = error.errors(include_input=False, include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place}: {problem['msg']}" if place else problem["msg"]


def _refuse_repeated(values: Iterable[str], path: Path, what: str) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise KeysError(f"{path} has {what} {value}: each may be there once")
        seen.add(value)


_ALGORITHM_OF_TYPE = {
    "RSA": Algorithm.RSA_OAEP_256,
    "EC": Algorithm.ECDH_ES,
    "OKP": Algorithm.ECDH_ES,
}
_TYPES_OF = {
    Algorithm.RSA_OAEP_256: frozenset({"RSA"}),
    Algorithm.ECDH_ES: frozenset({"EC", "OKP"}),
    Algorithm.A256GCM: frozenset({"oct"}),
    Algorithm.HS256: frozenset({"oct"}),
}


def _key(jwk: Jwk, path: Path) -> Key:
    algorithm = jwk.alg or _ALGORITHM_OF_TYPE.get(jwk.kty)
    if algorithm is None:
        raise _unfit(jwk, path, 'an oct key needs "alg": "A256GCM" (data) or "HS256" (fingerprint)')
    if jwk.kty not in _TYPES_OF[algorithm]:
        raise _unfit(jwk, path, f"a key of type {jwk.kty} does not fit {algorithm}")
    use = "sig" if algorithm is Algorithm.HS256 else "enc"
    if jwk.use not in {None, use}:
        raise _unfit(jwk, path, f'"use" must be "{use}" for {algorithm}')
    try:
        material = import_key({**(jwk.model_extra or {}), "kty": jwk.kty})
    except (JoseError, UnsupportedAlgorithm, ValueError, TypeError, KeyError):
        # From None: what the libraries say may repeat a part of the key.
        raise _unfit(jwk, path, "its members do not make a key of its type") from None
    if not material.is_private:
        raise _unfit(jwk, path, "it is only the public part; the private one is needed here")
    return Key(
        kid=jwk.kid,
        algorithm=algorithm,
        status=jwk.status,
        material=material,
        size=_checked_size(jwk, material, algorithm, path),
        issued_at_s=jwk.iat,
    )


def _checked_size(jwk: Jwk, material: Material, algorithm: Algorithm, path: Path) -> str:
    """The size or curve of a key, for people."""
    match material:
        case RSAKey():
            private = material.private_key
            assert isinstance(private, RSAPrivateKey), "checked to be private"
            if not RSA_BITS_MIN <= private.key_size <= RSA_BITS_MAX:
                raise _unfit(jwk, path, f"an RSA key needs {RSA_BITS_MIN} to {RSA_BITS_MAX} bits")
            return f"{private.key_size} bits"
        case ECKey() | OKPKey():
            if material.curve_name not in CURVES:
                raise _unfit(jwk, path, f"its curve is none of {', '.join(sorted(CURVES))}")
            return material.curve_name
        case OctKey():
            size = len(material.raw_value)
            if algorithm is Algorithm.A256GCM and size != DATA_KEY_BYTES:
                raise _unfit(jwk, path, f"A256GCM needs {DATA_KEY_BYTES} bytes")
            if size < FINGERPRINT_KEY_BYTES_MIN:
                raise _unfit(jwk, path, f"HS256 needs {FINGERPRINT_KEY_BYTES_MIN} bytes or more")
            return f"{size * 8} bits"


def _unfit(jwk: Jwk, path: Path, why: str) -> KeysError:
    return KeysError(f"{path}: key {jwk.kid}: {why}")


def public_jwks(ring: KeyRing) -> dict[str, list[dict[str, Any]]]:
    """What issuers encrypt with: the public part of the current keys for encryptedData.

    Each says the `alg` and the `enc` that it is for; a JWK may have members beyond RFC 7517's.
    """
    return {
        "keys": [
            {
                **key.material.as_dict(private=False),
                "kid": key.kid,
                "use": "enc",
                "alg": key.algorithm.value,
                "enc": CONTENT_ENCRYPTION,
            }
            for key in ring.keys
            if key.algorithm in OPENING and key.status is Status.CURRENT
        ]
    }
