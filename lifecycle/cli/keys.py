"""`keys` and `encrypt`: the keys file made, listed, rotated, published, and tried out.

Only names, options and help stand here: what works with keys brings cryptography and joserfc with
it, half a second that no other command should wait for, and is imported when it is needed.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

keys = typer.Typer(
    no_args_is_help=True,
    help="Make, look at and rotate the keys file; compare it with the database.",
)


class Kind(StrEnum):
    """What a key is for, in short."""

    RSA = "rsa"
    ECDH = "ecdh"
    DATA = "data"
    FINGERPRINT = "fingerprint"


class Recipient(StrEnum):
    """The kinds that something can be encrypted for."""

    RSA = "rsa"
    ECDH = "ecdh"


_File = Annotated[
    Path | None,
    typer.Argument(help="The keys file; LIFECYCLE_KEYS_FILE, or that of `dev`, if not given."),
]


@keys.command("generate")
def generate(
    file: Annotated[Path, typer.Argument(help="A file that is not there yet.", metavar="FILE")],
) -> None:
    """Write a new keys file with one key of each kind, readable by its owner only.

    Keep a copy in a safe place: without the file no card number can be read again.

    Example: `lifecycle keys generate keys.json`
    """
    from lifecycle.cli import key_work  # noqa: PLC0415 - see above

    key_work.generate(file)


@keys.command("list")
def list_keys(
    file: _File = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List the keys of a file without showing any of them.

    Example: `lifecycle keys list keys.json`
    """
    from lifecycle.cli import key_work  # noqa: PLC0415 - see above

    key_work.list_keys(file, as_json=as_json)


@keys.command("check")
def check(file: _File = None) -> None:
    """Compare a file with the keys that the database knows; exit 1 when they don't fit.

    Says what a worker with this file would say at its start. Needs `LIFECYCLE_DATABASE_URL`.

    Example: `lifecycle keys check`
    """
    from lifecycle.cli import key_work  # noqa: PLC0415 - see above

    key_work.check(file)


@keys.command("adopt")
def adopt(file: _File = None) -> None:
    """Make the keys of a file known to the database, so that workers may use them.

    A worker that has a key which the database does not know, or lacks one that it knows, does not
    start. So first give every worker the file with the new key staged (`keys rotate --stage`), then
    adopt it. Safe to run again. Needs `LIFECYCLE_DATABASE_URL`.

    Example: `lifecycle keys adopt`
    """
    from lifecycle.cli import key_work  # noqa: PLC0415 - see above

    key_work.adopt(file)


@keys.command("forget")
def forget(
    kid: Annotated[str, typer.Argument(help="The name of a key.", metavar="KID")],
) -> None:
    """Make the database forget a key that is in use no more, before it leaves the keys file.

    A data key that no number is encrypted with, or, while there is no number at all, any key. Needs
    the rights of the owner: `LIFECYCLE_DATABASE_OWNER_URL`, or `LIFECYCLE_DATABASE_URL` without it.

    Example: `lifecycle keys forget data-1a2b3c4d`
    """
    from lifecycle.cli import key_work  # noqa: PLC0415 - see above

    key_work.forget(kid)


@keys.command("rotate")
def rotate(
    file: _File = None,
    *,
    kind: Annotated[
        list[Kind] | None,
        typer.Option("--kind", help="May be given several times; rsa, ecdh and data, if not."),
    ] = None,
    stage: Annotated[
        bool,
        typer.Option("--stage", help="Only add the new key; the next rotate makes it current."),
    ] = False,
) -> None:
    """Add a new key of each kind and make it the current one; the old ones stay readable.

    Workers read the file when they start. Where several run: `rotate --stage`, give each of them
    the file, `keys adopt`, restart them, then `rotate` and restart them again: so none meets a key
    that it does not have. Publish `keys public` last. Fingerprint keys are all in use for ever:
    each one added makes every number's entry longer, so they are rotated only when named.

    Example: `lifecycle keys rotate keys.json --kind data`
    """
    from lifecycle.cli import key_work  # noqa: PLC0415 - see above

    key_work.rotate(file, kind or [Kind.RSA, Kind.ECDH, Kind.DATA], stage=stage)


@keys.command("public")
def public(file: _File = None) -> None:
    """Print what issuers encrypt with: the public part of the current keys, as a JWK Set.

    Each names the `alg` and the `enc` of the JWE that it is for: RSA-OAEP-256 or ECDH-ES, with
    A256GCM. Nothing else is taken.

    Example: `lifecycle keys public keys.json > public.json`
    """
    from lifecycle.cli import key_work  # noqa: PLC0415 - see above

    key_work.public(file)


def encrypt(
    *,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="A JWK Set from `keys public`; our own keys, if not given."),
    ] = None,
    kind: Annotated[
        Recipient, typer.Option("--kind", help="Which of the keys to encrypt for.")
    ] = Recipient.RSA,
) -> None:
    """Encrypt a JSON object from standard input; prints what goes into `encryptedData`.

    The object is not an argument, so that no card number stays in the shell's history.

    Example: `echo '{"pan":"4000000000000002","exp":"1229"}' | lifecycle encrypt`
    """
    from lifecycle.cli import key_work  # noqa: PLC0415 - see above

    key_work.encrypt(to, kind)
