"""Keys for tests: made once, because an RSA key takes a while."""

import json
from collections.abc import MutableMapping
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from lifecycle.vault.encrypting import encrypt_for
from lifecycle.vault.fingerprints import Fingerprints, fingerprints_with
from lifecycle.vault.keys import Algorithm, KeyRing, load_keys, parse_keys, public_jwks
from lifecycle.vault.keys_file import generate_file
from lifecycle.vault.opening import Opener
from lifecycle.vault.sealing import Sealing, sealing_with

PLAINTEXT = {"pan": "4000000000000002", "exp": "1229", "cvv": "123"}


def capture_log(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType
) -> list[MutableMapping[str, Any]]:
    """What a module logs from now on, however and whenever logging was configured before."""
    capture = LogCapture()
    monkeypatch.setattr(module, "_log", structlog.wrap_logger(None, processors=[capture]))
    return capture.entries


@lru_cache
def keys_document() -> str:
    """A fresh keys file, as text."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "keys.json"
        generate_file(path)
        return path.read_text()


@lru_cache
def ring() -> KeyRing:
    return parse_keys(keys_document().encode(), Path("keys.json"))


def ring_of(jwks: list[dict[str, Any]]) -> KeyRing:
    return parse_keys(json.dumps({"keys": jwks}).encode(), Path("keys.json"))


def write_keys(path: Path) -> KeyRing:
    """The keys in a file of their own, and what is in it."""
    path.write_text(keys_document())
    path.chmod(0o600)
    return load_keys(path)


def fingerprints() -> Fingerprints:
    return fingerprints_with(ring())


def sealing() -> Sealing:
    return sealing_with(ring())


@lru_cache
def opener() -> Opener:
    return Opener(ring(), fingerprints(), threads_max=2)


def encrypted(
    plaintext: bytes | dict[str, Any], algorithm: Algorithm = Algorithm.RSA_OAEP_256
) -> str:
    """A JWE that the keys open."""
    content = plaintext if isinstance(plaintext, bytes) else json.dumps(plaintext).encode()
    return encrypt_for(public_jwks(ring()), algorithm, content)
