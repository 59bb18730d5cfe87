"""What a command and a reply are refused for alike (design.md 5): their size, fields, numbers.

Each function raises `RefusedError`, whose text says where the fault is and what to do, and echoes
nothing that was sent.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn

from pydantic import ValidationError

from lifecycle.kafka.records import DeadLetterCode, RefusedError


def bounded(value: bytes | None, bytes_max: int) -> bytes:
    """The value of a record that is worth parsing.

    Raises:
        RefusedError: NULL_VALUE, TOO_LARGE.
    """
    if value is None:
        raise RefusedError(
            DeadLetterCode.NULL_VALUE, "The value is null; send one JSON object per record."
        )
    if len(value) > bytes_max:
        raise RefusedError(
            DeadLetterCode.TOO_LARGE,
            f"The value has {len(value)} bytes; at most {bytes_max} are taken.",
        )
    return value


def refuse_card_numbers(places: Iterable[str]) -> None:
    """Refuse a record for the first place where a card number was found in clear.

    Raises:
        RefusedError: SENSITIVE_DATA.
    """
    for place in places:
        raise RefusedError(
            DeadLetterCode.SENSITIVE_DATA,
            f"A card number stands in {place}; send it only inside encryptedData.",
        )


def refuse_fields(
    problems: ValidationError,
    code_of_problem: Mapping[str, DeadLetterCode],
    advice_on: Mapping[DeadLetterCode, str],
    path_of: Callable[[tuple[int | str, ...]], str],
) -> NoReturn:
    """Refuse a record for its fields: of several problems, the first in the order of `advice_on`.

    `code_of_problem` goes by pydantic's types of problems; those that it does not name are
    FIELD_TYPE. `path_of` names a field, given where pydantic found the problem.
    """
    first: dict[DeadLetterCode, str] = {}
    for problem in problems.errors(include_url=False, include_context=False, include_input=False):
        code = code_of_problem.get(problem["type"], DeadLetterCode.FIELD_TYPE)
        first.setdefault(code, path_of(problem["loc"]))
    for code, advice in advice_on.items():
        if code in first:
            raise RefusedError(code, f"Field {first[code]} {advice}.") from None
    raise AssertionError("pydantic refused a record without saying why") from problems
