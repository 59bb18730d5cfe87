"""JSON as the topics demand it (design.md 5): one reading for one text, on every run and machine.

The standard library parses, because its C scanner hands over every pair of an object: orjson and
pydantic keep the last of two equal keys without a word. What Python would read more widely than
JSON (NaN, lone surrogates, numbers outside a double) is refused.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import NoReturn, cast

from lifecycle.domain.settings_objects import INTEGER_MAX
from lifecycle.kafka.records import DeadLetterCode, RefusedError

NESTING_LEVELS_MAX = 64
"""Deepest nesting read. Commands have two levels; far below any interpreter's recursion limit, so
that the same text has the same outcome whoever calls."""

_BLANKS = " \t\n\r"
_BYTE_ORDER_MARK = "\ufeff"
_INTEGER_CHARACTERS_EXACT_MAX = 15

_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_NUL_OR_SURROGATE = re.compile("[\0\ud800-\udfff]")


def parse_object(value: bytes) -> dict[str, object]:
    """The JSON object that `value` is.

    Numbers come as RFC 8785 sees them, which is as doubles: an integral one below 2^53 as int,
    any other as float. Raises RefusedError: NOT_UTF8, NOT_JSON, NOT_AN_OBJECT.
    """
    try:
        text = value.decode()
    except UnicodeDecodeError as problem:
        raise RefusedError(
            DeadLetterCode.NOT_UTF8,
            f"The value is not UTF-8 at byte {problem.start}; send JSON in UTF-8.",
        ) from None
    if value.count(b"{") + value.count(b"[") > NESTING_LEVELS_MAX:
        _refuse_deep_nesting(value)
    text = text.strip(_BLANKS)
    try:
        document, end = _decoder.raw_decode(text)
    except json.JSONDecodeError as problem:
        raise _not_json(_what_is_wrong(text, problem)) from None
    if end != len(text):
        raise _not_json(f"after its end, at character {end}, something else follows")
    if type(document) is not dict:
        raise RefusedError(
            DeadLetterCode.NOT_AN_OBJECT,
            "The value is JSON, but not an object; send one JSON object per record.",
        )
    # Nothing but an escape can stand for these: raw ones are no UTF-8, or refused in strings.
    if b"\\u" in value:
        for string in _strings(document):
            if _NUL_OR_SURROGATE.search(string):
                raise _not_json("a string or name holds \\u0000 or a lone surrogate")
    return cast("dict[str, object]", document)


def _not_json(what: str) -> RefusedError:
    return RefusedError(
        DeadLetterCode.NOT_JSON, f"The value is not valid JSON: {what}; send one JSON object."
    )


def _what_is_wrong(text: str, problem: json.JSONDecodeError) -> str:
    if text.startswith(_BYTE_ORDER_MARK):
        return "it begins with a byte order mark"
    if not text:
        return "it is empty"
    # `problem.msg` is one of the standard library's fixed sentences and quotes nothing.
    return f"{problem.msg} at character {problem.pos}"


def _refuse_deep_nesting(value: bytes) -> None:
    level = 0
    for found in _STRING_OR_BRACKET.finditer(value):
        token = found[0]
        if token in b"{[":
            level += 1
            if level > NESTING_LEVELS_MAX:
                raise _not_json(f"it is nested deeper than {NESTING_LEVELS_MAX} levels")
        elif token in b"}]":
            level -= 1


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _not_json("an object has the same name twice")
    return result


def _integer(digits: str) -> int | float:
    if len(digits) <= _INTEGER_CHARACTERS_EXACT_MAX:
        return int(digits)
    return _number(digits)


def _number(digits: str) -> int | float:
    number = float(digits)
    if math.isinf(number):
        raise _not_json("a number is too large for a double")
    if number.is_integer() and abs(number) <= INTEGER_MAX:
        return int(number)
    return number


def _no_constant(_name: str) -> NoReturn:
    raise _not_json("NaN and Infinity are not JSON numbers")


def _strings(document: object) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, dict):
        for name, member in document.items():
            yield name
            yield from _strings(member)
    elif isinstance(document, list):
        for member in document:
            yield from _strings(member)


_decoder = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_number,
    parse_constant=_no_constant,
)
