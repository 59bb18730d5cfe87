"""The search for card numbers where none may be (design.md 5, SENSITIVE_DATA; guarantee G10).

A text is judged by its digits: what looks like a card number is one. The search errs towards
finding there, because what is refused for nothing can be sent again, and a card number that was
published cannot be taken back. An identifier is made by a machine and looks like a card number by
chance: of it only the runs of digits are given out, for whoever knows the numbers of the issuer's
cards. A number that is known, such as that of the command's own `encryptedData`, is found
everywhere.
"""

import re
from base64 import b64decode
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import Enum, auto
from typing import NamedTuple
from unicodedata import decimal

from lifecycle.domain.credentials import PAN_DIGITS_MIN, is_pan, passes_luhn
from lifecycle.kafka.records import shown

CARD_NUMBER_DIGITS_MIN = 13
CARD_NUMBER_DIGITS_MAX = 19

_FREE_TEXTS = frozenset({"reason", "name", "secondName"})
_SETTINGS_OBJECTS = frozenset({"controls", "limits"})
_COMMAND_IDENTIFIERS = (
    *("commandId", "correlationId", "operationId", "consumerId", "userId", "requestId"),
    *("issuerRequestId", "cardId", "newCardId", "realCardId", "cardProductId"),
    "newCardProductId",
)
# Attributes of an envelope have names in lower case; these two name the subject and the key.
_ENVELOPE_IDENTIFIERS = ("subject", "partitionkey", *map(str.lower, _COMMAND_IDENTIFIERS))
_IDENTIFIERS = frozenset(_COMMAND_IDENTIFIERS + _ENVELOPE_IDENTIFIERS)
_REQUESTOR_ID = ("requestor.", "id")
# Distributed tracing in an envelope: read and published by nobody here, and random digits.
_TRACING = frozenset({"traceparent", "tracestate"})
_CIPHERTEXT = "encryptedData"
_BASE64_DATA = "data_base64"

# Necessary for every card number in a text, broken by blanks and dashes or not, and for every run
# of digits that an identifier may be judged by, unless an escape or another script hides it. Most
# records hold nothing like it, so that this is all that the search costs them. Bytes are mapped
# and searched as a whole, because that is faster than any regular expression.
_DIGITS_AS_ZERO = bytes(ord("0") if byte in b"0123456789" else 1 for byte in range(256))
_BLANKS_AND_DASHES = b" -"
_UNBROKEN = b"0" * PAN_DIGITS_MIN
_BROKEN = b"0" * CARD_NUMBER_DIGITS_MIN
_ESCAPE = b"\\u"

_SUSPICION_IN_TEXT = re.compile("[1-689][0-9 -]{12}")
# The same for a single name or value, also for one that is known.
_TEN_DIGITS = re.compile(r"[0-9](?:[ -]?[0-9]){9}")

# What stands before the run is looked at after its first digit: a search for a set of characters
# is several times as fast as one that begins by looking back.
_RUN = re.compile(r"[1-689](?<![^\W_].)[0-9]{12,18}(?:(?![^\W_])|(?=[Dd][0-9]{4}))")
_PREFIX = re.compile(r"[2-6]|8[12]|8600|9792|9860|1(?=[0-9]{14}\Z)")
# In a track 2 it stands behind the number, with the expiry.
_REST_OF_TRACK_2 = re.compile(r"[Dd][0-9]{4}")
# Digits with single or more blanks and dashes between them, and whatever touches them.
_STRETCH = re.compile(r"[0-9][0-9 -]{12,}")
_DIGITS = re.compile(r"[0-9]+")
_JOINT = re.compile(r"(?<=[0-9])[ -](?=[0-9])")
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_JSON_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)

_DOUBLED = tuple(sum(divmod(2 * digit, 10)) for digit in range(10))


class Suspect(NamedTuple):
    """Digits in an identifier that may be a card number: `place` is fit for an error text."""

    place: str
    digits: str


class Kind(Enum):
    """By which rule a name or value is judged."""

    TEXT = auto()
    FREE_TEXT = auto()
    IDENTIFIER = auto()
    BASE64 = auto()


class Piece(NamedTuple):
    """A name or value with enough digits for a card number: `place` is fit for an error text."""

    place: str
    kind: Kind
    text: str


def is_suspicious(raw: bytes) -> bool:
    """Whether JSON text may hold a card number in a string. False is certain, True is not."""
    return (
        _UNBROKEN in raw.translate(_DIGITS_AS_ZERO)
        or _BROKEN in raw.translate(_DIGITS_AS_ZERO, _BLANKS_AND_DASHES)
        or _ESCAPE in raw
        or not raw.isascii()
    )


def pieces_of(members: Mapping[str, object]) -> list[Piece]:
    """What of a JSON object, at any depth, may hold a card number.

    `encryptedData` may hold anything. What is inside `controls` and `limits` is published as it is:
    all of it is a free text, whatever its name.
    """
    found: list[Piece] = []
    _add_members(found, members, "", is_free=False)
    return found


def places_in(
    pieces: Iterable[Piece], known: Collection[str] = (), *, strict: bool = False
) -> Iterator[str]:
    """The places that hold a card number by their own rule, or one of those that are `known`.

    `strict`: identifiers are judged as texts.
    """
    for place, kind, text in pieces:
        is_judged = strict or kind is not Kind.IDENTIFIER
        if (is_judged and _holds_by_rule(kind, text, known)) or holds(text, known):
            yield place


def suspects_in(pieces: Iterable[Piece]) -> Iterator[Suspect]:
    """What may be a card number in identifiers, by its length and its check digit."""
    for place, kind, text in pieces:
        if kind is Kind.IDENTIFIER:
            for digits in _DIGITS.findall(text):
                if is_pan(digits):
                    yield Suspect(place, digits)


def in_numbers(raw: bytes) -> bool:
    """Whether a number of JSON text is a card number, as it was sent: a double may not hold it."""
    return in_text(_JSON_STRING.sub(" ", raw.decode()))


def in_text(text: str) -> bool:
    """Whether `text` holds an unbroken card number: the rule for everything without another."""
    return any(
        _PREFIX.match(found[0]) is not None and passes_luhn(found[0])
        for found in _RUN.finditer(_in_ascii_digits(text))
    )


def in_free_text(text: str) -> bool:
    """Whether `text` holds a card number, single blanks and dashes inside it ignored."""
    text = _in_ascii_digits(text)
    if _SUSPICION_IN_TEXT.search(text) is None:
        return False
    return any(_in_stretch(text, *found.span()) for found in _STRETCH.finditer(text))


def holds(text: str, known: Collection[str]) -> bool:
    """Whether one of the `known` numbers stands in `text`, wherever and whatever surrounds it.

    No rule for identifiers here: a number that is known is not there by chance, so that single
    blanks and dashes inside it are ignored everywhere.
    """
    if not known:
        return False
    joined = _JOINT.sub("", _in_ascii_digits(text))
    return any(number in joined for number in known)


def in_bytes(raw: bytes, known: Collection[str] = (), *, is_readable_object: bool = True) -> bool:
    """Whether bytes of a dead letter hold a card number, or one of those that are `known`.

    Of bytes that are no JSON object nobody can tell which part is a free text or what another
    reader makes of them: blanks and dashes are ignored everywhere then, and escapes are read.
    UTF-16 and UTF-32 are read by leaving out their NUL bytes.
    """
    readings = [raw.decode(errors="replace")]
    if b"\0" in raw:
        readings.append(raw.replace(b"\0", b"").decode(errors="replace"))
    if b"\\" in raw and not is_readable_object:
        readings += [_JSON_ESCAPE.sub(_unescaped, reading) for reading in readings]
    is_in = in_text if is_readable_object else in_free_text
    return any(is_in(reading) or holds(reading, known) for reading in readings)


def _add_members(
    found: list[Piece], members: Mapping[str, object], prefix: str, *, is_free: bool
) -> None:
    for name, member in members.items():
        if not name.isalpha() and _may_hold(name):
            found.append(
                Piece("the name of a field", Kind.FREE_TEXT if is_free else Kind.TEXT, name)
            )
        _add_value(found, prefix, name, member, is_free=is_free)


def _add_value(found: list[Piece], prefix: str, name: str, value: object, *, is_free: bool) -> None:
    if isinstance(value, str):
        if _may_hold(value) or name == _BASE64_DATA:
            kind = Kind.FREE_TEXT if is_free else _kind_of(prefix, name)
            if kind is not None:
                found.append(Piece(f"field {prefix}{shown(name)}", kind, value))
    elif isinstance(value, dict):
        is_free = is_free or name in _SETTINGS_OBJECTS
        _add_members(found, value, f"{prefix}{shown(name)}.", is_free=is_free)
    elif isinstance(value, list):
        is_free = is_free or name in _SETTINGS_OBJECTS
        for element in value:
            _add_value(found, prefix, name, element, is_free=is_free)
    elif prefix and isinstance(value, int | float):
        # Inside an object, that is controls or limits, numbers are stored and published as well.
        found.append(Piece(f"field {prefix}{shown(name)}", Kind.TEXT, repr(value)))


def _may_hold(text: str) -> bool:
    return _TEN_DIGITS.search(text) is not None or not text.isascii()


def _kind_of(prefix: str, name: str) -> Kind | None:
    if name == _CIPHERTEXT or name in _TRACING:
        return None
    if name in _FREE_TEXTS:
        return Kind.FREE_TEXT
    if name in _IDENTIFIERS or (prefix, name) == _REQUESTOR_ID:
        return Kind.IDENTIFIER
    return Kind.BASE64 if name == _BASE64_DATA else Kind.TEXT


def _holds_by_rule(kind: Kind, text: str, known: Collection[str]) -> bool:
    if kind is Kind.FREE_TEXT:
        return in_free_text(text)
    return in_text(text) or (kind is Kind.BASE64 and _in_base64(text, known))


def _in_ascii_digits(text: str) -> str:
    """`text` with the digits of every script written as those of ASCII: they are digits too."""
    if text.isascii():
        return text
    return "".join(
        character if (digit := decimal(character, None)) is None else str(digit)
        for character in text
    )


def _in_base64(value: str, known: Collection[str]) -> bool:
    try:
        content = b64decode(value)
    except ValueError:
        # What is not base64 was searched as text.
        return False
    return in_bytes(content, known, is_readable_object=False)


def _unescaped(escape: re.Match[str]) -> str:
    code = escape[1]
    # Any other escape than \uXXXX stands for no letter or digit (\n, \t, \", ...).
    return chr(int(code, 16)) if code else "\n"


def _in_stretch(text: str, start: int, end: int) -> bool:
    """Whether some groups in a row, one blank or dash between each two, are a card number."""
    row: list[str] = []
    row_end = start
    for group in _DIGITS.finditer(text, start, end):
        begins, ends = group.span()
        fits = (
            ends - begins <= CARD_NUMBER_DIGITS_MAX
            and not (begins > 0 and text[begins - 1].isalnum())
            and (
                not (ends < len(text) and text[ends].isalnum())
                or _REST_OF_TRACK_2.match(text, ends) is not None
            )
        )
        if not fits or begins > row_end + 1:
            if _in_row(row):
                return True
            row = []
        if fits:
            row.append(group[0])
        row_end = ends
    return _in_row(row)


def _in_row(groups: list[str]) -> bool:
    """Whether neighbouring whole `groups` of digits, put together, are a card number.

    Two running Luhn sums, one for either parity of the doubled places, make each try O(1): a long
    text of single digits must not stop the worker.
    """
    digits = "".join(groups)
    if len(digits) < CARD_NUMBER_DIGITS_MIN:
        return False
    bounds = [0]
    for group in groups:
        bounds.append(bounds[-1] + len(group))
    sums: tuple[list[int], list[int]] = ([0], [0])
    for place, character in enumerate(digits):
        digit = ord(character) - ord("0")
        doubled = _DOUBLED[digit]
        sums[0].append(sums[0][-1] + (digit if place % 2 else doubled))
        sums[1].append(sums[1][-1] + (doubled if place % 2 else digit))
    for first, start in enumerate(bounds[:-1]):
        if digits[start] in "07":
            continue
        for last in range(first + 1, len(bounds)):
            end = bounds[last]
            if end - start > CARD_NUMBER_DIGITS_MAX:
                break
            if end - start < CARD_NUMBER_DIGITS_MIN:
                continue
            # The last digit is not doubled, the one before it is: at place `end - 2`.
            luhn = sums[end % 2]
            if (luhn[end] - luhn[start]) % 10 == 0 and _PREFIX.match(digits, start, end):
                return True
    return False
