"""Writes the keys file: a new one, or an old one with one more key.

A key that is lost makes every number under it unreadable. So a file is never overwritten in place
but replaced as a whole, after it is on the disk; two that rotate at once wait for each other; and
no key is ever taken out.
"""

import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
from joserfc.jwk import ECKey, OctKey, RSAKey

from lifecycle.vault.keys import (
    KIND_OF,
    Algorithm,
    KeyRing,
    KeysError,
    Material,
    Status,
    parse_keys,
    read_file,
)

DEVELOPMENT_FILE = "keys.json"
"""Name of the keys file that `lifecycle dev` makes for itself, in its data folder."""

RSA_BITS = 2048
CURVE = "P-256"
OCT_BITS = 256
_KID_RANDOM_BYTES = 4
_OWNER_ONLY = 0o600
LOCK_SECONDS_MAX = 10
_LOCK_POLL_SECONDS = 0.05


def generate_file(path: Path) -> KeyRing:
    """Write a new file with one current key of each algorithm, readable by its owner only.

    Raises:
        KeysError: the file is there already, or can't be written.
    """
    jwks = [_new_jwk(algorithm, Status.CURRENT) for algorithm in Algorithm]
    content = _content({"keys": jwks})
    try:
        with _written_beside(path, content) as written:
            # A link is never made over a file that is there, unlike a rename.
            os.link(written, path)
    except FileExistsError:
        raise KeysError(
            f"{path} is there already; its keys may be in use. `lifecycle keys rotate {path}`"
            " adds new ones, or choose another file"
        ) from None
    except OSError as error:
        raise KeysError(f"{path} can't be written: {error.strerror}") from error
    return parse_keys(content, path)


def ensure_file(path: Path) -> bool:
    """Write a new file unless there is one; whether it was written. For development.

    Raises:
        KeysError: it can't be written.
    """
    if path.exists():
        return False
    generate_file(path)
    return True


def rotate_file(path: Path, algorithm: Algorithm, *, stage: bool = False) -> str:
    """Make a new key the current one of its algorithm, and the one before it a previous one.

    With `stage` the new key becomes current only at the next call, when a key that was staged
    before is taken and none is made: until then every worker can be given the file.

    Returns:
        The kid of the key that is current, or staged, now.

    Raises:
        KeysError: the file can't be read or written, or a key is staged already.
    """
    # The file itself and not a link to it would be replaced.
    path = path.resolve()
    with _locked(path):
        content = read_file(path)
        ring = parse_keys(content, path)
        document = orjson.loads(content)
        jwks: list[dict[str, Any]] = document["keys"]
        of_algorithm = [
            jwk for jwk, key in zip(jwks, ring.keys, strict=True) if key.algorithm is algorithm
        ]
        staged = next((jwk for jwk in of_algorithm if jwk.get("status") == Status.NEXT), None)
        if stage and staged is not None:
            raise KeysError(
                f"{path}: key {staged['kid']} is staged already: give every worker the file, then"
                f" `lifecycle keys rotate {path} --kind {KIND_OF[algorithm]}` makes it current"
            )
        if staged is None:
            staged = _new_jwk(algorithm, Status.NEXT)
            jwks.append(staged)
        if not stage:
            for jwk in of_algorithm:
                jwk["status"] = Status.PREVIOUS
            staged["status"] = Status.CURRENT
        changed = _content(document)
        parse_keys(changed, path)
        try:
            # Root may rotate what the service must go on reading.
            with _written_beside(path, changed, like=path.stat()) as written:
                written.replace(path)
        except OSError as error:
            raise KeysError(f"{path} can't be written: {error.strerror}") from error
    return str(staged["kid"])


def _new_jwk(algorithm: Algorithm, status: Status) -> dict[str, Any]:
    material: Material
    match algorithm:
        case Algorithm.RSA_OAEP_256:
            material = RSAKey.generate_key(RSA_BITS)
        case Algorithm.ECDH_ES:
            material = ECKey.generate_key(CURVE)
        case Algorithm.A256GCM | Algorithm.HS256:
            material = OctKey.generate_key(OCT_BITS)
    return {
        **material.as_dict(private=True),
        "kid": f"{KIND_OF[algorithm]}-{secrets.token_hex(_KID_RANDOM_BYTES)}",
        "use": "sig" if algorithm is Algorithm.HS256 else "enc",
        "alg": algorithm.value,
        "status": status.value,
        "iat": int(time.time()),
    }


def _content(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


@contextmanager
def _written_beside(
    path: Path, content: bytes, *, like: os.stat_result | None = None
) -> Iterator[Path]:
    """A new file in the same folder with `content`, on the disk; gone again afterwards.

    It is for its owner alone, unless it has the owner and the rights of another, `like`.
    """
    written = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if like is not None:
                os.fchown(descriptor, like.st_uid, like.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(like.st_mode))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield written
        _sync_folder(path.parent)
    finally:
        with suppress(FileNotFoundError):  # renamed
            written.unlink()


def _sync_folder(folder: Path) -> None:
    """Bring the new name to the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One at a time may change the file. The lock is on the folder, which no rename replaces.

    Raises:
        KeysError: another process holds it for too long, or there is no such folder.
    """
    try:
        descriptor = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise KeysError(f"{path.parent} can't be read: {error.strerror}") from error
    try:
        deadline = time.monotonic() + LOCK_SECONDS_MAX
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise KeysError(f"another process has been changing {path} for too long: try again")
            time.sleep(_LOCK_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
