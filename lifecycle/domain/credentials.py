"""What `encryptedData` holds once it is open: judged here, opened and stored elsewhere.

The number of a card is nowhere else in the domain. `Credentials` shows nothing of itself, so that
no log line, error or failed assertion can tell what was in it (guarantee G10).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lifecycle.domain.errors import SENTENCE, ErrorCode
from lifecycle.domain.fields import Refusal

ENCRYPTED_DATA = "encryptedData"
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
_PAIR = ("auxiliaryPan", "auxiliaryExp")
# In the order in which they are named: of several faults the first is told.
_KNOWN = dict.fromkeys(("pan", "exp", "psn", "auxiliaryPan", "auxiliaryExp", "cvv"))
_UNKNOWN_MEMBER = f"A member of encryptedData is none of {', '.join(_KNOWN)}."
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


def judge_credentials(plaintext: Mapping[str, object]) -> Credentials | Refusal:
    """The credentials in an opened `encryptedData`, or why it holds none (domain.md 4, 8).

    FIELD_INVALID_FORMAT when a member is missing, unknown or malformed, or both numbers are the
    same; PAN_LUHN_INVALID when one has another length than 10 to 19 digits or a wrong check digit.
    The refusal names the member, but for an unknown one: its name may hold anything.
    """
    refusal = _refused_as_texts(plaintext)
    if refusal is not None:
        return refusal
    found = _texts(plaintext)
    needed = _PAIR if any(name in found for name in _PAIR) else ()
    for name in ("pan", "exp", *needed):
        if name not in found:
            return _malformed(name, SENTENCE[ErrorCode.FIELD_MISSING])
    for name, test in _MEMBERS.items():
        if name in found and not test(found[name]):
            return _malformed(name)
    for name in _NUMBERS:
        if name in found and not is_pan(found[name]):
            return Refusal(ErrorCode.PAN_LUHN_INVALID, member(name))
    if found.get("auxiliaryPan") == found["pan"]:
        # Two numbers of one card are two numbers.
        return _malformed("auxiliaryPan", SENTENCE[ErrorCode.FIELD_INVALID_VALUE])
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


def judge_cvv(plaintext: Mapping[str, object]) -> str | Refusal:
    """The answer of an ACTIVATE with the method CVV; empty when there is none (domain.md 8).

    It has no pattern: a wrong answer of any form is ACTIVATION_FAILED, as it is with LAST4.
    """
    return _refused_as_texts(plaintext) or _texts(plaintext).get("cvv", "")


def member(name: str) -> str:
    """A member of `encryptedData`, as errors name it."""
    return f"{ENCRYPTED_DATA}.{name}"


def is_pan(text: str) -> bool:
    """Whether `text` is a card number: 10 to 19 digits with the right check digit (domain.md 4)."""
    return _is_pan(text) is not None and passes_luhn(text)


def passes_luhn(digits: str) -> bool:
    """Whether the last of `digits` is the check digit of those before it (ISO/IEC 7812-1)."""
    doubled = sum(_DOUBLED[int(digit)] for digit in digits[-2::-2])
    return (doubled + sum(int(digit) for digit in digits[::-2])) % 10 == 0


def _refused_as_texts(plaintext: Mapping[str, object]) -> Refusal | None:
    """What is wrong with the names and JSON types of the members."""
    if not plaintext.keys() <= _KNOWN.keys():
        return Refusal(ErrorCode.FIELD_INVALID_FORMAT, ENCRYPTED_DATA, _UNKNOWN_MEMBER)
    for name in _KNOWN:
        if not isinstance(plaintext.get(name), str | None):
            return _malformed(name, "A field has the wrong JSON type, it must be a string.")
    return None


def _texts(plaintext: Mapping[str, object]) -> dict[str, str]:
    """The members that are there."""
    return {name: value for name, value in plaintext.items() if isinstance(value, str)}


def _malformed(name: str, sentence: str | None = None) -> Refusal:
    return Refusal(ErrorCode.FIELD_INVALID_FORMAT, member(name), sentence)
