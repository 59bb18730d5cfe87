"""Card numbers of samples: in clear until a record is sent, then encrypted for whoever takes it.

Every installation makes its own keys, so a sample that is the same for everyone can't hold what is
encrypted for them. In samples `encryptedData` is an object; the numbers are made up. Imported only
by those who send, because it brings the libraries of the vault with it.
"""

from dataclasses import replace

import orjson

from lifecycle.kafka.commands import ENCRYPTED_DATA
from lifecycle.kafka.sending import CommandRecord
from lifecycle.vault.encrypting import encrypt_for
from lifecycle.vault.keys import Algorithm, KeyRing, public_jwks


def needs_encryption(record: CommandRecord) -> bool:
    """Whether the record holds credentials in clear."""
    return _in_clear(record) is not None


def encrypted(record: CommandRecord, ring: KeyRing) -> CommandRecord:
    """The record as it is sent to those who have these keys.

    Raises:
        KeysError: they have no key to encrypt for.
    """
    command = _in_clear(record)
    if command is None:
        return record
    plaintext = orjson.dumps(command[ENCRYPTED_DATA])
    command[ENCRYPTED_DATA] = encrypt_for(public_jwks(ring), Algorithm.RSA_OAEP_256, plaintext)
    return replace(record, value=orjson.dumps(command))


def _in_clear(record: CommandRecord) -> dict[str, object] | None:
    try:
        command = orjson.loads(record.value or b"null")
    except orjson.JSONDecodeError:
        # Broken on purpose: it is sent as it is.
        return None
    if isinstance(command, dict) and isinstance(command.get(ENCRYPTED_DATA), dict):
        return command
    return None
