"""Plays the outside parties of a development system: the issuer's CMS, the bureau, the scheme.

Answers every request at once and well. What it answers follows from the request alone, so that a
request that comes twice gets the same answer twice. Not for production: its numbers are made up.
"""

from hashlib import sha256
from typing import Any

import orjson
import structlog

from lifecycle.domain.operations import OperationKind, Status
from lifecycle.kafka.at_least_once import AtLeastOnceSender, OwedRecord
from lifecycle.kafka.records import RawRecord
from lifecycle.kafka.topics import topics_of
from lifecycle.kafka.watching import followed
from lifecycle.settings import Settings
from lifecycle.vault.drawing import check_digit
from lifecycle.vault.encrypting import encrypt_for
from lifecycle.vault.keys import Algorithm, KeyRing, load_keys, public_jwks

log = structlog.get_logger(__name__)

_TEST_BIN = "40000012"
_OWN_DIGITS = 7
_EXPIRY = "1259"
"""Later than that of any card that is renewed: requests don't tell theirs."""


async def answer_requests(settings: Settings) -> None:
    """Answer until cancelled, those first that came while nobody was there.

    Raises:
        TopicsError: the request topic does not exist.
        KeysError: the keys file can't be read.
        KafkaError, OSError, TimeoutError: the brokers can't be reached.
    """
    topics = topics_of(settings)
    ring = None if settings.keys_file is None else load_keys(settings.keys_file)
    sender = AtLeastOnceSender(settings)
    try:
        # What was answered before is answered again, which the service ignores (domain.md 8).
        async with followed(settings, topics.requests, from_beginning=True) as records:
            async for record in records:
                value = answer(record, ring)
                if value is not None:
                    await sender.send([OwedRecord(topics.replies, record.key or b"", value)])
    finally:
        await sender.close()


def answer(record: RawRecord, ring: KeyRing | None) -> bytes | None:
    """The value of the reply to a request; None when it is no request of the service."""
    try:
        request = orjson.loads(record.value or b"null")
        named = {name: request[name] for name in ("operationId", "issuerId", "cardId")}
        kind = request["kind"]
    except (orjson.JSONDecodeError, TypeError, KeyError):
        log.warning("no_request", partition=record.partition, offset=record.offset)
        return None
    reply: dict[str, Any] = {**named, "result": Status.SUCCESSFUL, "data": {}}
    if kind == OperationKind.RENEW:
        if ring is None:
            reply |= {"result": Status.FAILED, "errorCode": "NO_KEY_TO_ENCRYPT_FOR"}
        else:
            reply["data"] = {"encryptedData": _credentials(named["operationId"], ring)}
    return orjson.dumps(reply)


def _credentials(operation_id: str, ring: KeyRing) -> str:
    """A number of its own for each operation."""
    number = int.from_bytes(sha256(operation_id.encode()).digest()) % 10**_OWN_DIGITS
    digits = f"{_TEST_BIN}{number:0{_OWN_DIGITS}}"
    credentials = {"pan": digits + check_digit(digits), "exp": _EXPIRY}
    return encrypt_for(public_jwks(ring), Algorithm.RSA_OAEP_256, orjson.dumps(credentials))
