"""The search for card numbers where none may be (design.md 5, SENSITIVE_DATA; guarantee G10).

A card number is a Luhn-valid run of 13 to 19 digits that starts with 2 to 6, no letter or digit
beside it. How far a run may be broken, and how long it must be, depends on the field. The search
errs towards finding: what is refused for nothing can be sent again, a card number that was
published cannot be taken back.
"""

import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from lifecycle.kafka.records import shown

CARD_NUMBER_DIGITS_MIN = 13
CARD_NUMBER_DIGITS_MAX = 19

_FREE_TEXTS = frozenset({"reason", "name", "secondName"})
_SETTINGS_OBJECTS = frozenset({"controls", "limits"})
_SENDERS_IDS = frozenset({"commandId", "correlationId", "operationId"})
_SENDERS_ID_DIGITS = frozenset({15, 16})
_IDENTIFIERS = frozenset({"issuerId", "cardId", "consumerId", "cardProductId"})
_CIPHERTEXT = "encryptedData"
_BASE64_DATA = "data_base64"

# Necessary for every card number, broken by blanks and dashes or not, unless an escape hides it.
# Most records hold nothing like it, so that this is all that the search costs them.
_SUSPICION = re.compile(rb"[2-6][0-9 -]{12}")
_SUSPICION_IN_TEXT = re.compile("[2-6][0-9 -]{12}")
_ESCAPE = b"\\u"

# What stands before the run is looked at after its first digit: a search for a set of characters
# is several times as fast as one that begins by looking back.
_RUN = re.compile(r"[2-6](?<![^\W_].)[0-9]{12,18}(?![^\W_])")
# Digits with single or more blanks and dashes between them, and whatever touches them.
_STRETCH = re.compile(r"[0-9][0-9 -]{12,}")
_GROUP = re.compile(r"[0-9]+")
_JSON_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)

_DOUBLED = tuple(sum(divmod(2 * digit, 10)) for digit in range(10))


class Finding(NamedTuple):
    """Where a card number stands: words fit for an error text, and whether it is an identifier."""

    place: str
    is_identifier: bool


def is_suspicious(raw: bytes) -> bool:
    """Whether JSON text may hold a card number in a string. False is certain, True is not."""
    return _SUSPICION.search(raw) is not None or _ESCAPE in raw


def in_fields(members: Mapping[str, object]) -> Iterator[Finding]:
    """The fields of a JSON object, at any depth, that hold a card number by their own rule.

    `encryptedData` may hold anything. Names of fields are searched too. What is inside `controls`
    and `limits` is published as it is: all of it is searched as a free text, whatever its name.
    """
    return _in_members(members, "", is_free=False)


def in_text(text: str) -> bool:
    """Whether `text` holds an unbroken card number: the rule for everything without another."""
    return any(_passes_luhn(found[0]) for found in _RUN.finditer(text))


def in_free_text(text: str) -> bool:
    """Whether `text` holds a card number, single blanks and dashes inside it ignored."""
    if _SUSPICION_IN_TEXT.search(text) is None:
        return False
    return any(_in_stretch(text, *found.span()) for found in _STRETCH.finditer(text))


def in_bytes(raw: bytes, *, is_readable_object: bool = True) -> bool:
    """Whether bytes of a dead letter hold a card number.

    Of bytes that are no JSON object nobody can tell which part is a free text or what another
    reader makes of them: blanks and dashes are ignored everywhere then, and escapes are read.
    UTF-16 and UTF-32 are read by leaving out their NUL bytes.
    """
    readings = [raw.decode(errors="replace")]
    if b"\0" in raw:
        readings.append(raw.replace(b"\0", b"").decode(errors="replace"))
    if is_readable_object:
        return any(in_text(reading) for reading in readings)
    if b"\\" in raw:
        readings += [_JSON_ESCAPE.sub(_unescaped, reading) for reading in readings]
    return any(in_free_text(reading) for reading in readings)


def _in_members(members: Mapping[str, object], prefix: str, *, is_free: bool) -> Iterator[Finding]:
    for name, member in members.items():
        if in_free_text(name) if is_free else in_text(name):
            yield Finding("the name of a field", is_identifier=False)
        yield from _in_value(name, member, prefix, is_free=is_free or name in _SETTINGS_OBJECTS)


def _in_value(name: str, value: object, prefix: str, *, is_free: bool) -> Iterator[Finding]:
    path = f"{prefix}{shown(name)}"
    if isinstance(value, str):
        if in_free_text(value) if is_free else _string_holds_card_number(name, value):
            yield Finding(f"field {path}", name in _IDENTIFIERS)
    elif isinstance(value, int | float):
        # Inside an object, that is controls or limits, numbers are stored and published as well.
        if prefix and in_text(repr(value)):
            yield Finding(f"field {path}", is_identifier=False)
    elif isinstance(value, dict):
        yield from _in_members(value, f"{path}.", is_free=is_free)
    elif isinstance(value, list):
        for element in value:
            yield from _in_value(name, element, prefix, is_free=is_free)


def _string_holds_card_number(name: str, value: str) -> bool:
    if name == _CIPHERTEXT:
        return False
    if name in _FREE_TEXTS:
        return in_free_text(value)
    if name in _SENDERS_IDS:
        return any(
            len(found[0]) in _SENDERS_ID_DIGITS and _passes_luhn(found[0])
            for found in _RUN.finditer(value)
        )
    if name == _BASE64_DATA:
        return in_text(value) or _in_base64(value)
    return in_text(value)


def _in_base64(value: str) -> bool:
    try:
        content = b64decode(value)
    except ValueError:
        # What is not base64 was searched as text.
        return False
    return in_bytes(content, is_readable_object=False)


def _unescaped(escape: re.Match[str]) -> str:
    code = escape[1]
    # Any other escape than \uXXXX stands for no letter or digit (\n, \t, \", ...).
    return chr(int(code, 16)) if code else "\n"


def _in_stretch(text: str, start: int, end: int) -> bool:
    """Whether some groups in a row, one blank or dash between each two, are a card number."""
    row: list[str] = []
    row_end = start
    for group in _GROUP.finditer(text, start, end):
        fits = (
            len(group[0]) <= CARD_NUMBER_DIGITS_MAX
            and not (group.start() > 0 and text[group.start() - 1].isalnum())
            and not (group.end() < len(text) and text[group.end()].isalnum())
        )
        if not fits or group.start() > row_end + 1:
            if _in_row(row):
                return True
            row = []
        if fits:
            row.append(group[0])
        row_end = group.end()
    return _in_row(row)


def _in_row(groups: list[str]) -> bool:
    """Whether neighbouring whole `groups` of digits, put together, are a card number.

    Two running Luhn sums, one for either parity of the doubled places, make each try O(1): a long
    text of single digits must not stop the worker.
    """
    if sum(map(len, groups)) < CARD_NUMBER_DIGITS_MIN:
        return False
    bounds = [0]
    sums: tuple[list[int], list[int]] = ([0], [0])
    place = 0
    for group in groups:
        for character in group:
            digit = ord(character) - ord("0")
            doubled = _DOUBLED[digit]
            sums[0].append(sums[0][-1] + (digit if place % 2 else doubled))
            sums[1].append(sums[1][-1] + (doubled if place % 2 else digit))
            place += 1
        bounds.append(place)
    for first, group in enumerate(groups):
        if group[0] not in "23456":
            continue
        start = bounds[first]
        for last in range(first + 1, len(bounds)):
            end = bounds[last]
            if end - start > CARD_NUMBER_DIGITS_MAX:
                break
            if end - start < CARD_NUMBER_DIGITS_MIN:
                continue
            # The last digit is not doubled, the one before it is: at place `end - 2`.
            luhn = sums[end % 2]
            if (luhn[end] - luhn[start]) % 10 == 0:
                return True
    return False


def _passes_luhn(digits: str) -> bool:
    values = [ord(digit) - ord("0") for digit in reversed(digits)]
    return (sum(values[::2]) + sum(_DOUBLED[value] for value in values[1::2])) % 10 == 0
