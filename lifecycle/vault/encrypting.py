"""Makes `encryptedData` from credentials: for trying things out, samples and tests.

The service itself never encrypts for anyone; an issuer's own system does this with any JOSE
library, and what it needs for that is only what `lifecycle keys public` prints.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import Key, import_key
from pydantic import BaseModel, ConfigDict, ValidationError

from lifecycle.vault.keys import (
    CONTENT_ENCRYPTION,
    KEYS_MAX,
    OPENING,
    Algorithm,
    KeysError,
    Status,
    read_public_file,
)

PLAINTEXT_BYTES_MAX = 5_000
"""Whatever is longer has more than the 8,192 characters of encryptedData once it is encrypted."""

_REGISTRY = jwe.JWERegistry(algorithms=[*sorted(OPENING), CONTENT_ENCRYPTION])


class _PublicJwks(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    keys: list[dict[str, Any]]


def read_public_keys(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The JWK Set of a file as `lifecycle keys public` prints it.

    Raises:
        KeysError: it can't be read, or is none.
    """
    try:
        jwks = _PublicJwks.model_validate_json(read_public_file(path)).keys
    except ValidationError:
        raise KeysError(f"{path} is no JWK Set") from None
    if len(jwks) > KEYS_MAX:
        raise KeysError(f"{path} has more than {KEYS_MAX} keys")
    return {"keys": jwks}


def encrypt_for(
    jwks: Mapping[str, Sequence[Mapping[str, Any]]], algorithm: Algorithm, plaintext: bytes
) -> str:
    """A compact JWE for the first key of `jwks` that fits `algorithm` and is current.

    A key says that it is not when a keys file is taken for its public part.

    Raises:
        KeysError: there is none.
    """
    kid, key = _first(jwks, algorithm)
    header = {"alg": algorithm.value, "enc": CONTENT_ENCRYPTION}
    if kid is not None:
        header["kid"] = kid
    return jwe.encrypt_compact(header, plaintext, key, registry=_REGISTRY)


def _first(
    jwks: Mapping[str, Sequence[Mapping[str, Any]]], algorithm: Algorithm
) -> tuple[str | None, Key]:
    for jwk in jwks["keys"]:
        if jwk.get("alg") != algorithm or jwk.get("status", Status.CURRENT) != Status.CURRENT:
            continue
        try:
            return jwk.get("kid"), import_key(dict(jwk))
        except (JoseError, ValueError, TypeError, KeyError):
            raise KeysError(f"the key {jwk.get('kid')} is no public key that works") from None
    raise KeysError(f'no current key has "alg": "{algorithm}": choose another --kind')
