"""What `keys` and `encrypt` do; imported by them only. Nothing here prints a private key."""

import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import orjson
import typer

from lifecycle.cli.exits import Exit, Problem, explained, reaching_database, run
from lifecycle.cli.rendering import console, json_line, rows_table
from lifecycle.postgres.connection import Connection, open_pool
from lifecycle.postgres.known_keys import (
    KnownKey,
    forget_known_key,
    is_in_use,
    load_known_keys,
    lock_known_keys,
)
from lifecycle.postgres.schema import check_schema
from lifecycle.settings import DatabaseField, Settings, load_settings, owner_field, required
from lifecycle.telemetry import configure_logging
from lifecycle.vault.encrypting import PLAINTEXT_BYTES_MAX, encrypt_for, read_public_keys
from lifecycle.vault.keys import (
    KIND_OF,
    Algorithm,
    Key,
    KeyRing,
    KeysError,
    load_keys,
    public_jwks,
)
from lifecycle.vault.keys_file import DEVELOPMENT_FILE, generate_file, rotate_file
from lifecycle.worker import known_keys
from lifecycle.worker.known_keys import Comparison, compare, refuse_another_file

_ALGORITHM_OF = {kind: algorithm for algorithm, kind in KIND_OF.items()}
_USED_FOR = {
    Algorithm.RSA_OAEP_256: "encryptedData",
    Algorithm.ECDH_ES: "encryptedData",
    Algorithm.A256GCM: "numbers at rest",
    Algorithm.HS256: "look-up",
}
_AT_REST = frozenset({KIND_OF[Algorithm.A256GCM], KIND_OF[Algorithm.HS256]})
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
    if not _AT_REST.isdisjoint(kinds):
        typer.echo("Make it known to the database before a worker uses it: `lifecycle keys adopt`.")


def check(file: Path | None) -> None:
    """A file beside what the database knows; exit 1 when a worker would not start with it."""
    compared = run(lambda settings: _compared(settings, file))
    with explained():
        try:
            refuse_another_file(compared)
        except KeysError as error:
            raise Problem(f"The keys file: {error}.") from None
        if compared.unknown:
            kids = ", ".join(key.kid for key in compared.unknown)
            raise Problem(f"The database does not know {kids}: `lifecycle keys adopt`.")
    for key in compared.staged:
        typer.echo(f"{KIND_OF[key.algorithm]}: {key.kid} is staged, and not known yet")
    typer.echo("The file has every key that the database knows, and no other is in use.")


async def _compared(settings: Settings, file: Path | None) -> Comparison:
    async with _keys_and_database(settings, file) as (ring, connection):
        return compare(ring, await load_known_keys(connection))


def adopt(file: Path | None) -> None:
    """What the database did not know, it knows now."""
    adopted = run(lambda settings: _adopted(settings, file))
    for key in adopted:
        typer.echo(f"{key.kind}: {key.kid} is known now")
    if not adopted:
        typer.echo("Every key is known already.")


async def _adopted(settings: Settings, file: Path | None) -> list[KnownKey]:
    async with _keys_and_database(settings, file) as (ring, connection):
        return await known_keys.adopt(connection, ring)


def forget(kid: str) -> None:
    """One key less."""
    run(lambda settings: _forgotten(settings, kid))
    typer.echo(f"{kid} is forgotten: take it out of the keys file before a worker starts.")


async def _forgotten(settings: Settings, kid: str) -> None:
    async with _database(settings, owner_field(settings)) as connection:
        await lock_known_keys(connection)
        key = next((key for key in await load_known_keys(connection) if key.kid == kid), None)
        if key is None:
            raise Problem(f"The database knows no key {kid}.")
        if await is_in_use(connection, key):
            raise Problem(f"{kid} is in use: numbers in the database could not be read or found.")
        await forget_known_key(connection, kid)


@asynccontextmanager
async def _keys_and_database(
    settings: Settings, file: Path | None
) -> AsyncIterator[tuple[KeyRing, Connection]]:
    # A warning of the file's rights belongs on the error output, not into what is printed.
    configure_logging(settings.model_copy(update={"log_format": "console"}))
    path = keys_path(settings, file)
    try:
        ring = load_keys(path)
        async with _database(settings) as connection:
            yield ring, connection
    except KeysError as error:
        raise Problem(f"{path}: {error}.", Exit.WRONG_USE) from None


@asynccontextmanager
async def _database(
    settings: Settings, field: DatabaseField = "database_url"
) -> AsyncIterator[Connection]:
    """A transaction on the database, with the login of a setting."""
    with reaching_database(settings, field):
        login = settings.model_copy(update={"database_url": getattr(settings, field)})
        async with await open_pool(login) as pool:
            await check_schema(pool)
            async with pool.acquire() as connection, connection.transaction():
                yield connection


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
