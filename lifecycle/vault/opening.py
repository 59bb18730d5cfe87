"""Opens `encryptedData`: a compact JWE around the credentials of a card (domain.md 4).

Whoever may write to the command topic chooses every byte of it. So a text is measured before it is
read, the header is held to a short list before a key is touched, nothing is ever decompressed, and
whatever goes wrong becomes a failure that repeats nothing of the text.
"""

import asyncio
import json
import os
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

import orjson
import structlog
from joserfc import jwe
from joserfc.errors import JoseError

from lifecycle.domain.errors import ErrorCode
from lifecycle.vault.fingerprints import Fingerprints
from lifecycle.vault.keys import OPENING, Algorithm, Key, KeyRing

_log = structlog.get_logger(__name__)

ENCRYPTED_DATA_CHARACTERS_MAX = 8_192
HEADER_CHARACTERS_MAX = 1_024
"""Of the encoded header. joserfc has the same limit; here it comes before the first parser."""
HEADER_BRACKETS_MAX = 8
"""`{` and `[` in a header: one is needed, `epk` makes it two."""
PLAINTEXT_BRACKETS_MAX = 8
"""The credentials are one flat object. Without a limit, deep nesting ends the parser's stack."""
SEGMENTS = 5
CONTENT_ENCRYPTION = "A256GCM"

OPENED_INLINE_MAX = 2
"""So few are opened at once without a thread: handing them over takes as long as opening them."""
OPENED_PER_TASK = 16
THREADS_MAX = 4

# The header may hold more than what the algorithms need ("typ", "iat"): RFC 7516 says to ignore it.
_REGISTRY = jwe.JWERegistry(
    algorithms=[*sorted(OPENING), CONTENT_ENCRYPTION], strict_check_header=False
)
_FORBIDDEN_HEADERS = ("zip", "crit")
_BRACKET = re.compile(rb"[\[{]")


@dataclass(frozen=True, slots=True)
class Opened:
    """What became of one text: its content, or why there is none.

    `content` is a JSON object, its members not yet judged. `identity` stands for the text in the
    content of its command (design.md 5, "Same content"): equal for equal plaintexts; for what does
    not open, the text itself.
    """

    content: Mapping[str, object] | None = field(repr=False)
    failure: ErrorCode | None
    identity: str = field(repr=False)


class _RefusedError(Exception):
    """The text is not one that this service opens."""


class Opener:
    """Opens texts with the keys of a file, few at once in place and many on threads.

    The threads overlap with the event loop, because OpenSSL works without the interpreter's lock.
    """

    def __init__(
        self, ring: KeyRing, fingerprints: Fingerprints, *, threads_max: int | None = None
    ) -> None:
        """Take the keys; `threads_max` is by default the cores of the machine, up to a limit."""
        self._ring = ring
        self._fingerprints = fingerprints
        threads = threads_max or min(THREADS_MAX, os.cpu_count() or 1)
        # Its threads start when the first task comes.
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="opening")

    def close(self) -> None:
        """End the threads; what they have begun they finish."""
        self._pool.shutdown(cancel_futures=True)

    def open(self, text: str) -> Opened:
        """Open one text. Never raises for anything that a text may hold; the cost is bounded."""
        if len(text) > ENCRYPTED_DATA_CHARACTERS_MAX:
            return Opened(None, ErrorCode.FIELD_INVALID_FORMAT, text)
        plaintext = self._plaintext(text)
        if plaintext is None:
            return Opened(None, ErrorCode.DECRYPTION_FAILED, text)
        try:
            content = _json_object(plaintext)
            identity = self._fingerprints.of_content(content)
        except ValueError:
            identity = self._fingerprints.of_plaintext(plaintext)
            return Opened(None, ErrorCode.FIELD_INVALID_FORMAT, identity)
        return Opened(content, None, identity)

    async def open_all(self, texts: Sequence[str]) -> list[Opened]:
        """Open many texts, equal ones once, without stopping the event loop; in their order."""
        distinct = list(dict.fromkeys(texts))
        if len(distinct) <= OPENED_INLINE_MAX:
            opened = [self.open(text) for text in distinct]
        else:
            loop = asyncio.get_running_loop()
            # The tasks are as many as one poll can fill: the caller bounds its texts.
            shares = await asyncio.gather(
                *(
                    loop.run_in_executor(
                        self._pool, self._open_share, distinct[at : at + OPENED_PER_TASK]
                    )
                    for at in range(0, len(distinct), OPENED_PER_TASK)
                )
            )
            opened = [one for share in shares for one in share]
        by_text = dict(zip(distinct, opened, strict=True))
        return [by_text[text] for text in texts]

    def _open_share(self, texts: Sequence[str]) -> list[Opened]:
        return [self.open(text) for text in texts]

    def _plaintext(self, text: str) -> bytes | None:
        """What the text holds; None when it does not open."""
        try:
            return self._decrypted(text)
        except (_RefusedError, JoseError, ValueError):
            return None
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a text is hostile: whatever a library makes of
            # it, its command fails and its neighbours go on. Only the name: the rest may tell.
            _log.warning("encrypted_data_unexpected_error", error=type(error).__name__)
            return None

    def _decrypted(self, text: str) -> bytes:
        header = _header(text)
        algorithm = header.get("alg")
        if algorithm not in OPENING or header.get("enc") != CONTENT_ENCRYPTION:
            raise _RefusedError
        if any(name in header for name in _FORBIDDEN_HEADERS):
            raise _RefusedError
        key = self._key(header, Algorithm(algorithm))
        if key is None:
            raise _RefusedError
        plaintext = jwe.decrypt_compact(text, key.material, registry=_REGISTRY).plaintext
        assert plaintext is not None, "what was decrypted has a plaintext, be it empty"
        return plaintext

    def _key(self, header: Mapping[str, Any], algorithm: Algorithm) -> Key | None:
        """The one key to try. Without a `kid` it is the current one that we publish."""
        kid = header.get("kid")
        if kid is None:
            return self._ring.current(algorithm)
        key = self._ring.by_kid(kid) if isinstance(kid, str) else None
        return key if key is not None and key.algorithm is algorithm else None


def _header(text: str) -> Mapping[str, Any]:
    """The header of a compact JWE.

    Raises:
        _RefusedError, ValueError: this is none.
    """
    segments = text.split(".")
    if len(segments) != SEGMENTS or len(segments[0]) > HEADER_CHARACTERS_MAX:
        raise _RefusedError
    encoded = segments[0].encode("ascii")
    decoded = urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))
    if len(_BRACKET.findall(decoded)) > HEADER_BRACKETS_MAX:
        raise _RefusedError
    header = orjson.loads(decoded)
    if not isinstance(header, dict):
        raise _RefusedError
    return cast("Mapping[str, Any]", header)


def _json_object(plaintext: bytes) -> dict[str, object]:
    """The JSON object that a plaintext is; a member that is null counts as absent (design.md 3).

    Raises:
        ValueError: it is none, or not one with a single reading.
    """
    if len(_BRACKET.findall(plaintext)) > PLAINTEXT_BRACKETS_MAX:
        raise ValueError
    content = json.loads(plaintext.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    if not isinstance(content, dict):
        raise ValueError  # noqa: TRY004 - of the text, not of a caller's argument
    return {name: value for name, value in content.items() if value is not None}


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError
    return result


def _no_constant(_name: str) -> NoReturn:
    raise ValueError
