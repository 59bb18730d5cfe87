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


def canonical(settings: Mapping[str, object]) -> str | None:
    """RFC 8785 text of `settings`; None when it is too deep, too large or holds no JSON number."""
    if _is_deeper(settings, DEPTH_MAX):
        return None
    try:
        text = rfc8785.dumps(cast("dict[str, str]", settings)).decode()
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        # A number that JSON cannot tell from its neighbours, half a character, or no JSON at all.
        return None
    return text if len(text) <= CHARACTERS_MAX else None


def _is_deeper(value: object, levels_max: int) -> bool:
    """Level by level, so that no nesting exhausts the stack."""
    level = [value]
    for _ in range(levels_max):
        level = list(
            chain.from_iterable(
                one.values() if isinstance(one, Mapping) else one
                for one in level
                if isinstance(one, Mapping | list)
            )
        )
    return any(isinstance(one, Mapping | list) for one in level)
