"""The objects that UPDATE_CONTROLS and UPDATE_LIMITS carry: any JSON object within bounds.

What they mean is the issuer's and the authorisation system's affair. They are kept as RFC 8785
text, so that a card stays a value and two objects are the same when their texts are.
"""

from collections.abc import Mapping
from itertools import chain
from typing import cast

import rfc8785

CHARACTERS_MAX = 4_096
DEPTH_MAX = 5
INTEGER_MAX = 2**53 - 1
"""Largest integer that RFC 8785, whose numbers are doubles, tells from its neighbours."""


def canonical(settings: Mapping[str, object]) -> str | None:
    """RFC 8785 text of `settings`; None when it is too deep, too large or holds no JSON number.

    An integral number above `INTEGER_MAX` is none: another one might be kept in its place, and
    readers that take it for an integer could not verify the event that shows it.
    """
    if not _is_shallow_and_exact(settings):
        return None
    try:
        text = rfc8785.dumps(cast("dict[str, str]", settings)).decode()
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        # A number that JSON cannot tell from its neighbours, half a character, or no JSON at all.
        return None
    return text if len(text) <= CHARACTERS_MAX else None


def _is_shallow_and_exact(settings: Mapping[str, object]) -> bool:
    """Level by level, so that no nesting exhausts the stack."""
    level: list[object] = [settings]
    for _ in range(DEPTH_MAX):
        level = list(
            chain.from_iterable(
                one.values() if isinstance(one, Mapping) else one
                for one in level
                if isinstance(one, Mapping | list)
            )
        )
        if any(map(_is_inexact, level)):
            return False
    return not any(isinstance(one, Mapping | list) for one in level)


def _is_inexact(value: object) -> bool:
    # A whole number is read as an int up to the limit, as the nearest double above it.
    return isinstance(value, float) and value.is_integer() and abs(value) > INTEGER_MAX
