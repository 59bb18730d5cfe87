"""What `keys` and `encrypt` do; imported by them only. Nothing here prints a private key."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import orjson
import typer

from lifecycle.cli.exits import Exit, Problem, explained
from lifecycle.cli.rendering import console, json_line, rows_table
from lifecycle.settings import Settings, load_settings, required
from lifecycle.telemetry import configure_logging
from lifecycle.vault.encrypting import PLAINTEXT_BYTES_MAX, encrypt_for, read_public_keys
from lifecycle.vault.keys import KIND_OF, Algorithm, Key, KeysError, load_keys, public_jwks
from lifecycle.vault.keys_file import DEVELOPMENT_FILE, generate_file, rotate_file

_ALGORITHM_OF = {kind: algorithm for algorithm, kind in KIND_OF.items()}
_USED_FOR = {
    Algorithm.RSA_OAEP_256: "encryptedData",
    Algorithm.ECDH_ES: "encryptedData",
    Algorithm.A256GCM: "numbers at rest",
    Algorithm.HS256: "look-up",
}
_COLUMNS = ("kid", "kind", "size", "status", "made", "use")


@contextmanager
def _explained() -> Iterator[Settings]:
    """The settings; what is wrong with a keys file becomes a sentence and wrong use."""
    with explained():
        settings = load_settings()
        # A warning of the file's rights belongs on the error output, not into what is printed.
        configure_logging(settings.model_copy(update={"log_format": "console"}))
        try:
            yield settings
        except KeysError as error:
            raise Problem(str(error), Exit.WRONG_USE) from None


def keys_path(settings: Settings, given: Path | None) -> Path:
    """The keys file that a command is to use.

    Raises:
        SettingsError: none is given, none is set, and `lifecycle dev` has made none here.
    """
    development = settings.local_dir / DEVELOPMENT_FILE
    if given is None and settings.keys_file is None and development.exists():
        return development
    return given or Path(required(settings, "keys_file"))


def generate(file: Path) -> None:
    """A new keys file."""
    with _explained():
        ring = generate_file(file)
    typer.echo(f"{len(ring.keys)} keys in {file}. Set LIFECYCLE_KEYS_FILE={file}")


def list_keys(file: Path | None, *, as_json: bool) -> None:
    """The keys of a file, oldest first."""
    with _explained() as settings:
        rows = [_row(key) for key in load_keys(keys_path(settings, file)).keys]
    if as_json:
        for row in rows:
            json_line(row)
        return
    console().print(rows_table(_COLUMNS, ([row[column] for column in _COLUMNS] for row in rows)))


def _row(key: Key) -> dict[str, str | None]:
    issued_at = key.issued_at_s
    return {
        "kid": key.kid,
        "kind": KIND_OF[key.algorithm],
        "alg": key.algorithm.value,
        "size": key.size,
        "status": key.status.value,
        "made": None if issued_at is None else f"{datetime.fromtimestamp(issued_at, UTC):%Y-%m-%d}",
        "use": _USED_FOR[key.algorithm],
    }


def rotate(file: Path | None, kinds: Sequence[str], *, stage: bool) -> None:
    """A new key of each kind."""
    with _explained() as settings:
        path = keys_path(settings, file)
        for kind in dict.fromkeys(kinds):
            kid = rotate_file(path, _ALGORITHM_OF[kind], stage=stage)
            typer.echo(f"{kind}: {kid} is {'staged' if stage else 'current'} now")


def public(file: Path | None) -> None:
    """The public part of the current keys."""
    with _explained() as settings:
        jwks = public_jwks(load_keys(keys_path(settings, file)))
    typer.echo(orjson.dumps(jwks, option=orjson.OPT_INDENT_2))


def encrypt(to: Path | None, kind: str) -> None:
    """What an issuer's system does before it sends REGISTER."""
    with _explained() as settings:
        if to is None:
            jwks = public_jwks(load_keys(keys_path(settings, None)))
        else:
            jwks = read_public_keys(to)
        typer.echo(encrypt_for(jwks, _ALGORITHM_OF[kind], _plaintext()))


def _plaintext() -> bytes:
    """The object as given: what is wrong with its members, the service is to say."""
    content = sys.stdin.buffer.read(PLAINTEXT_BYTES_MAX + 1)
    if len(content) > PLAINTEXT_BYTES_MAX:
        raise Problem(
            f"The input has more than {PLAINTEXT_BYTES_MAX} bytes, which fits in no encryptedData.",
            Exit.WRONG_USE,
        )
    try:
        is_object = isinstance(orjson.loads(content), dict)
    except orjson.JSONDecodeError:
        is_object = False
    if not is_object:
        # Nothing of it is repeated: it may hold a card number.
        raise Problem("The input is no JSON object.", Exit.WRONG_USE)
    return content.strip()
