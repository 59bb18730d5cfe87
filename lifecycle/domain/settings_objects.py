"""The objects that UPDATE_CONTROLS and UPDATE_LIMITS carry: any JSON object within bounds.

What they mean is the issuer's and the authorisation system's affair. They are kept as RFC 8785
text, so that a card stays a value and two objects are the same when their texts are.
"""

from collections.abc import Iterator, Mapping
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


def advice_on(settings: Mapping[str, object]) -> str:
    """What to send instead of `settings`, of which `canonical` makes None."""
    levels = list(_levels(settings))
    if any(map(_is_inexact, chain.from_iterable(levels))):
        return (
            f"A whole number lies beyond {INTEGER_MAX} (2^53-1), the largest that every reader of "
            "JSON keeps; send it as a string, or in a larger unit."
        )
    if len(levels) > DEPTH_MAX:
        return f"It has more than {DEPTH_MAX} levels; send it flatter."
    return f"It is more than {CHARACTERS_MAX} characters of RFC 8785 JSON; send less."


def _is_shallow_and_exact(settings: Mapping[str, object]) -> bool:
    levels = list(_levels(settings))
    return len(levels) <= DEPTH_MAX and not any(map(_is_inexact, chain.from_iterable(levels)))


def _levels(settings: Mapping[str, object]) -> Iterator[list[object]]:
    """What is inside, level by level, so that no nesting exhausts the stack; one too many last."""
    level: list[object] = [settings]
    for _ in range(DEPTH_MAX + 1):
        nested = [one for one in level if isinstance(one, Mapping | list)]
        if not nested:
            return
        level = list(
            chain.from_iterable(one.values() if isinstance(one, Mapping) else one for one in nested)
        )
        yield level


def _is_inexact(value: object) -> bool:
    # Above the limit every double is a whole number.
    return isinstance(value, int | float) and abs(value) > INTEGER_MAX
