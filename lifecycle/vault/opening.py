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

from lifecycle.domain.credentials import ENCRYPTED_DATA
from lifecycle.domain.errors import SENTENCE, ErrorCode
from lifecycle.domain.fields import Refusal
from lifecycle.vault.fingerprints import Fingerprints
from lifecycle.vault.keys import CONTENT_ENCRYPTION, OPENING, Algorithm, Key, KeyRing

_log = structlog.get_logger(__name__)

ENCRYPTED_DATA_CHARACTERS_MAX = 8_192
HEADER_CHARACTERS_MAX = 1_024
"""Of the encoded header. joserfc has the same limit; here it comes before the first parser."""
HEADER_BRACKETS_MAX = 8
"""`{` and `[` in a header: one is needed, `epk` makes it two."""
PLAINTEXT_BRACKETS_MAX = 8
"""The credentials are one flat object. Without a limit, deep nesting ends the parser's stack."""
SEGMENTS = 5

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

# What an error says. It depends on the header alone, which everyone who can send the text can read;
# whatever happens once a key is tried has one sentence, so that nothing can be learned from it.
TAKEN = f"{' or '.join(sorted(OPENING))} with {CONTENT_ENCRYPTION}"
"""The `alg` and the `enc` of a text that is opened."""
NOT_COMPACT = (
    f"encryptedData is no compact JWE: {SEGMENTS} parts in base64url with dots between them, the"
    " first of them a short JSON header."
)
ALGORITHM_NOT_TAKEN = f"The alg in the header of encryptedData is not taken; taken is {TAKEN}."
ENCRYPTION_NOT_TAKEN = f"The enc in the header of encryptedData is not taken; taken is {TAKEN}."
HEADER_NOT_TAKEN = "The header of encryptedData holds {name}, which is not taken; leave it out."
NO_SUCH_KEY = (
    "This service has no key of the kid and alg that the header of encryptedData names; encrypt for"
    " one that it publishes."
)
NO_CURRENT_KEY = (
    "The header of encryptedData names no kid, and this service publishes no key of its alg."
)
DOES_NOT_OPEN = SENTENCE[ErrorCode.DECRYPTION_FAILED]
NO_OBJECT = "encryptedData opens, but what it holds is no JSON object in UTF-8."


@dataclass(frozen=True, slots=True)
class Opened:
    """What became of one text: its content, or why there is none.

    `content` is a JSON object, its members not yet judged. `identity` stands for the text in the
    content of its command (design.md 5, "Same content"): equal for equal plaintexts; for what does
    not open, for equal texts. `text_identity` is equal for equal texts in any case. Both are keyed.
    """

    content: Mapping[str, object] | None = field(repr=False)
    failure: Refusal | None
    identity: str = field(repr=False)
    text_identity: str = field(repr=False)


class _RefusedError(Exception):
    """The text is not one that this service opens: says why, and repeats nothing of it."""


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
        text_identity = self._fingerprints.of_text(text)
        if len(text) > ENCRYPTED_DATA_CHARACTERS_MAX:
            too_long = Refusal(ErrorCode.FIELD_INVALID_FORMAT, ENCRYPTED_DATA)
            return Opened(None, too_long, text_identity, text_identity)
        try:
            plaintext = self._plaintext(text)
        except _RefusedError as refused:
            shut = Refusal(ErrorCode.DECRYPTION_FAILED, sentence=str(refused))
            return Opened(None, shut, text_identity, text_identity)
        try:
            content = _json_object(plaintext)
            identity = self._fingerprints.of_content(content)
        except ValueError:
            no_object = Refusal(ErrorCode.FIELD_INVALID_FORMAT, ENCRYPTED_DATA, NO_OBJECT)
            identity = self._fingerprints.of_plaintext(plaintext)
            return Opened(None, no_object, identity, text_identity)
        return Opened(content, None, identity, text_identity)

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

    def _plaintext(self, text: str) -> bytes:
        """What the text holds.

        Raises:
            _RefusedError: it does not open.
        """
        key = self._key(_header(text))
        try:
            plaintext = jwe.decrypt_compact(text, key.material, registry=_REGISTRY).plaintext
        except (JoseError, ValueError):
            raise _RefusedError(DOES_NOT_OPEN) from None
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a text is hostile: whatever a library makes of
            # it, its command fails and its neighbours go on. Only the name: the rest may tell.
            _log.warning("encrypted_data_unexpected_error", error=type(error).__name__)
            raise _RefusedError(DOES_NOT_OPEN) from None
        assert plaintext is not None, "what was decrypted has a plaintext, be it empty"
        return plaintext

    def _key(self, header: Mapping[str, Any]) -> Key:
        """The one key to try. Without a `kid` it is the current one that we publish.

        Raises:
            _RefusedError: there is none, or the header asks for what is not taken.
        """
        alg, kid = header.get("alg"), header.get("kid")
        if not isinstance(alg, str) or alg not in OPENING:
            raise _RefusedError(ALGORITHM_NOT_TAKEN)
        if header.get("enc") != CONTENT_ENCRYPTION:
            raise _RefusedError(ENCRYPTION_NOT_TAKEN)
        for name in _FORBIDDEN_HEADERS:
            if name in header:
                raise _RefusedError(HEADER_NOT_TAKEN.format(name=name))
        algorithm = Algorithm(alg)
        if kid is None:
            current = self._ring.current(algorithm)
            if current is None:
                raise _RefusedError(NO_CURRENT_KEY)
            return current
        key = self._ring.by_kid(kid) if isinstance(kid, str) else None
        if key is None or key.algorithm is not algorithm:
            raise _RefusedError(NO_SUCH_KEY)
        return key


def _header(text: str) -> Mapping[str, Any]:
    """The header of a compact JWE.

    Raises:
        _RefusedError: this is none.
    """
    segments = text.split(".")
    if len(segments) != SEGMENTS or len(segments[0]) > HEADER_CHARACTERS_MAX:
        raise _RefusedError(NOT_COMPACT)
    try:
        encoded = segments[0].encode("ascii")
        decoded = urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))
        if len(_BRACKET.findall(decoded)) > HEADER_BRACKETS_MAX:
            raise _RefusedError(NOT_COMPACT)
        header = orjson.loads(decoded)
    except ValueError:
        raise _RefusedError(NOT_COMPACT) from None
    if not isinstance(header, dict):
        raise _RefusedError(NOT_COMPACT)
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
