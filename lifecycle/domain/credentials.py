"""What `encryptedData` holds once it is open: judged here, opened and stored elsewhere.

The number of a card is nowhere else in the domain. `Credentials` shows nothing of itself, so that
no log line, error or failed assertion can tell what was in it (guarantee G10).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lifecycle.domain.errors import ErrorCode

PAN_DIGITS_MIN, PAN_DIGITS_MAX = 10, 19
VIRTUAL_PAN_DIGITS_MIN = 13
LAST_DIGITS_SHOWN = 4

# All of ASCII: \d would take the digits of other scripts.
_is_pan = re.compile(rf"[0-9]{{{PAN_DIGITS_MIN},{PAN_DIGITS_MAX}}}").fullmatch
_MEMBERS = {
    "exp": re.compile(r"(0[1-9]|1[0-2])[0-9]{2}").fullmatch,
    "psn": re.compile(r"[0-9]{2}").fullmatch,
    "auxiliaryExp": re.compile(r"(0[1-9]|1[0-2])[0-9]{2}").fullmatch,
    "cvv": re.compile(r"[0-9]{3,4}").fullmatch,
}
_NUMBERS = ("pan", "auxiliaryPan")
_KNOWN = frozenset({*_MEMBERS, *_NUMBERS})
# Each digit twice, and the digits of that added up.
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """The numbers of a card (domain.md 4). Expiries are `MMYY`.

    `auxiliary_pan` and `auxiliary_exp` stand together or not at all. `psn` means something for the
    scheme AMEX only.
    """

    pan: str
    exp: str
    psn: str | None = None
    auxiliary_pan: str | None = None
    auxiliary_exp: str | None = None
    cvv: str | None = None

    def __repr__(self) -> str:
        """Nothing of what it holds."""
        return "Credentials(...)"

    @property
    def last4(self) -> str:
        """What events may show of the number."""
        return self.pan[-LAST_DIGITS_SHOWN:]


def judge_credentials(plaintext: Mapping[str, object]) -> Credentials | ErrorCode:
    """The credentials in an opened `encryptedData`, or why it holds none (domain.md 4, 8).

    FIELD_INVALID_FORMAT when a member is missing, unknown or malformed, or both numbers are the
    same; PAN_LUHN_INVALID when one has another length than 10 to 19 digits or a wrong check digit.
    """
    found = _texts(plaintext)
    if found is None or "pan" not in found or "exp" not in found:
        return ErrorCode.FIELD_INVALID_FORMAT
    if ("auxiliaryPan" in found) != ("auxiliaryExp" in found):
        return ErrorCode.FIELD_INVALID_FORMAT
    if any(not test(found[name]) for name, test in _MEMBERS.items() if name in found):
        return ErrorCode.FIELD_INVALID_FORMAT
    if any(not is_pan(found[name]) for name in _NUMBERS if name in found):
        return ErrorCode.PAN_LUHN_INVALID
    if found.get("auxiliaryPan") == found["pan"]:
        # Two numbers of one card are two numbers.
        return ErrorCode.FIELD_INVALID_FORMAT
    return Credentials(
        pan=found["pan"],
        exp=found["exp"],
        psn=found.get("psn"),
        auxiliary_pan=found.get("auxiliaryPan"),
        auxiliary_exp=found.get("auxiliaryExp"),
        cvv=found.get("cvv"),
    )


def numbers_in(plaintext: Mapping[str, object]) -> tuple[str, ...]:
    """The card numbers in an opened `encryptedData`, also wrong ones: they stand nowhere else.

    A typing error leaves most digits of a number as they are, so that it is no less secret.
    """
    found = []
    for name in _NUMBERS:
        value = plaintext.get(name)
        if isinstance(value, str | int):
            digits = str(value).replace(" ", "").replace("-", "")
            if _is_pan(digits):
                found.append(digits)
    return tuple(found)


def judge_cvv(plaintext: Mapping[str, object]) -> str | ErrorCode:
    """The answer of an ACTIVATE with the method CVV; empty when there is none (domain.md 8).

    It has no pattern: a wrong answer of any form is ACTIVATION_FAILED, as it is with LAST4.
    """
    found = _texts(plaintext)
    return ErrorCode.FIELD_INVALID_FORMAT if found is None else found.get("cvv", "")


def is_pan(text: str) -> bool:
    """Whether `text` is a card number: 10 to 19 digits with the right check digit (domain.md 4)."""
    return _is_pan(text) is not None and passes_luhn(text)


def passes_luhn(digits: str) -> bool:
    """Whether the last of `digits` is the check digit of those before it (ISO/IEC 7812-1)."""
    doubled = sum(_DOUBLED[int(digit)] for digit in digits[-2::-2])
    return (doubled + sum(int(digit) for digit in digits[::-2])) % 10 == 0


def _texts(plaintext: Mapping[str, object]) -> dict[str, str] | None:
    """The members that are there, as texts; None if one is unknown or no text."""
    found = {}
    for name, value in plaintext.items():
        if name not in _KNOWN:
            return None
        if value is None:
            continue
        if not isinstance(value, str):
            return None
        found[name] = value
    return found
