"""Looks for card numbers, security codes and keys in everything that a service leaves behind.

Guarantee G10. A card number and a key are long enough to be looked for in every byte, in each form
in which they may have got there. A security code has four digits, which stand in a hash or a time
by chance: it is looked for as a word of a text, and between quotes everywhere.
"""

import json
import re
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import md5, sha1, sha256

from lifecycle.kafka.topics import topics_of
from lifecycle.settings import Settings
from tests.support.ground import connected
from tests.support.reading import read_topic

_SLICE_BYTES = 24  # of a key: 192 bits are no accident, and may lie on one line of a PEM file
_PRIVATE_MEMBERS = ("d", "p", "q", "dp", "dq", "qi", "k")

# What holds four digits between its dashes by chance, and the four digits that may be shown.
_UUID = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LAST4 = re.compile(rb'\\?"last4\\?": ?\\?"[0-9]{4}\\?"')
# Four digits that are not a part of a number, a fraction or a name.
_CODE = re.compile(r"(?<![0-9A-Za-z.,_+-])[0-9]{4}(?![0-9A-Za-z_-]|[.,][0-9])")


@dataclass(frozen=True, slots=True)
class Place:
    """A piece of what was left behind, and where it lies."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Secret:
    """Something that may be nowhere: bytes in each of its forms, and a word if it is a code."""

    name: str
    forms: frozenset[bytes]
    word: str | None = None


def leaks(places: Iterable[Place], secrets: Sequence[Secret]) -> list[str]:
    """Which secret lies where; empty when all is well. Names no secret itself."""
    places = list(places)
    everything = _Searched(places)
    suspects = [secret for secret in secrets if everything.has(secret)]
    if not suspects:
        return []
    one_by_one = [(place, _Searched([place])) for place in places]
    return [
        f"{secret.name} in {place.name}"
        for place, content in one_by_one
        for secret in suspects
        if content.has(secret)
    ]


class _Searched:
    """Some places as one text, read in every way in which a secret may be broken up in it."""

    def __init__(self, places: Sequence[Place]) -> None:
        contents = [_LAST4.sub(b"", place.content) for place in places]
        raw = b" |place| ".join(contents)
        # A key may be wrapped; between the digits of a number may be anything that is no word.
        self._readings = [raw, re.sub(rb"\s", b"", raw), re.sub(rb"[^0-9A-Za-z]", b"", raw)]
        self._words = {word for content in contents for word in _codes_in(content)}

    def has(self, secret: Secret) -> bool:
        return secret.word in self._words or any(
            form in reading for form in secret.forms for reading in self._readings
        )


def _codes_in(content: bytes) -> list[str]:
    try:
        return _CODE.findall(_UUID.sub(b"", content).decode())
    except UnicodeDecodeError:
        return []  # no text: four bytes in a row mean nothing in what is random


# --- what is looked for


def card_number(name: str, digits: str) -> Secret:
    """A card number: its digits, whatever stands between them, encoded, packed, plainly hashed.

    A hash without a key is as good as the number: all that there are can be tried.
    """
    plain = digits.encode()
    forms = [
        *_encoded(plain),
        "".join(f"u{digit:04x}" for digit in plain).encode(),
        bytes.fromhex(digits if len(digits) % 2 == 0 else f"{digits}f"),
        int(digits).to_bytes(8, "big"),
        int(digits).to_bytes(8, "little"),
    ]
    for algorithm in (md5, sha1, sha256):
        forms += _encoded(algorithm(plain).digest())
    return Secret(name, frozenset(forms))


def security_code(name: str, digits: str) -> Secret:
    """A security code: a word of a text, or between quotes, also encoded."""
    assert len(digits) == 4, "three digits are met by chance"
    quoted = [form for text in (f'"{digits}"', f"'{digits}'") for form in _encoded(text.encode())]
    return Secret(name, frozenset(quoted), digits)


def keys_of(document: str) -> list[Secret]:
    """Every private or symmetric part of the keys of a JWK Set."""
    return [
        key_material(f"{member} of key {jwk['kid']}", jwk[member])
        for jwk in json.loads(document)["keys"]
        for member in _PRIVATE_MEMBERS
        if member in jwk
    ]


def key_material(name: str, encoded: str) -> Secret:
    """Key material, given in base64url: its beginning, its middle and its end."""
    raw = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    middle = (len(raw) - _SLICE_BYTES) // 2
    slices = [raw[:_SLICE_BYTES], raw[middle : middle + _SLICE_BYTES], raw[-_SLICE_BYTES:]]
    forms = [form for one in slices for form in _encoded(one)]
    forms += [str(int.from_bytes(raw, "big")).encode(), repr(raw[:_SLICE_BYTES])[2:-1].encode()]
    return Secret(name, frozenset(forms))


def _encoded(raw: bytes) -> list[bytes]:
    """Raw, in hexadecimal digits, and in base64 wherever in a longer text it may begin."""
    forms = [raw, raw.hex().encode(), raw.hex().upper().encode()]
    for shift in range(3):
        text = b64encode(bytes(shift) + raw)
        # The first characters and the last ones also depend on what stands beside it.
        first, last = -(-shift * 8 // 6), (shift + len(raw)) * 8 // 6
        inner = text[first:last]
        forms += [inner, inner.replace(b"+", b"-").replace(b"/", b"_")]
    return forms


# --- where


async def on_topics(settings: Settings) -> list[Place]:
    """Every key, value and header of the topics that the service alone writes."""
    topics = topics_of(settings)
    found = []
    for topic in (topics.events, topics.state, topics.dead_letters, topics.requests):
        for partition, records in (await read_topic(settings, topic)).items():
            for record in records:
                where = f"{topic} {partition}-{record.offset}"
                found += [
                    Place(f"the key of {where}", record.key or b""),
                    Place(f"the value of {where}", record.value or b""),
                ]
                for name, content in record.headers:
                    found.append(Place(f"the name of a header of {where}", name.encode()))
                    found.append(Place(f"header {name[:20]} of {where}", content or b""))
    return found


async def in_tables(settings: Settings) -> list[Place]:
    """Every column of every row of every table."""
    found = []
    async with connected(settings) as connection:
        tables = await connection.fetch(
            "SELECT quote_ident(table_name) FROM information_schema.tables"
            " WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
        )
        for (table,) in tables:
            for row in await connection.fetch(f"SELECT * FROM {table}"):  # noqa: S608 - quoted
                found += [
                    Place(f"{table}.{column}", _as_bytes(value))
                    for column, value in row.items()
                    if value is not None and column != "last4"
                ]
    return found


def _as_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
