"""Card numbers that the platform makes: drawn at random, free by the database's word.

Runs inside the transaction that creates the cards and outside the core, which knows no chance. A
number that another card has or had is drawn again, for that card alone; the batch goes on. Relies
on the caller for the claim: `lifecycle.postgres.pans`.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from lifecycle.domain.credentials import PAN_DIGITS_MAX, PAN_DIGITS_MIN
from lifecycle.vault.filling import Filling

PAN_DIGITS = 16
_PAN_DIGITS_OF_SCHEME = {"AMEX": 15}

CANDIDATES_PER_CARD = (1, 8, 64)
"""How many numbers each round draws for every card that has none yet."""
CANDIDATES_PER_ROUND_MAX = 10_000
"""For one range. A range that is not larger is searched whole before it counts as exhausted."""

# The generator behind `secrets`, which has no `sample` of its own.
_chance = secrets.SystemRandom()
_DOUBLED = tuple(sum(divmod(2 * digit, 10)) for digit in range(10))


class NumberRange(NamedTuple):
    """The numbers of an issuer that begin with a BIN. `digits` counts the check digit."""

    issuer_id: str
    bin: str
    digits: int = PAN_DIGITS

    @property
    def size(self) -> int:
        """How many numbers there are, taken or not."""
        return int(10 ** (self.digits - 1 - len(self.bin)))


class Wanted(NamedTuple):
    """A card that needs a number."""

    range: NumberRange
    card_id: str


class Candidate(NamedTuple):
    """A number that a card might get, if it can be claimed."""

    range: NumberRange
    card_id: str
    pan: str


Claim = Callable[[Sequence[Candidate]], Awaitable[Sequence[bool]]]
"""Claims every candidate for this transaction; whether it got it, for each in order."""


def pan_digits(scheme: str) -> int:
    """The length of a card number of a scheme."""
    return _PAN_DIGITS_OF_SCHEME.get(scheme, PAN_DIGITS)


def check_digit(digits: str) -> str:
    """The digit that makes `digits` and it pass the Luhn check (ISO/IEC 7812-1)."""
    doubled = sum(_DOUBLED[int(digit)] for digit in digits[-1::-2])
    return str(-(doubled + sum(int(digit) for digit in digits[-2::-2])) % 10)


def draw(number_range: NumberRange) -> str:
    """A number of the range, each as likely as every other."""
    return _number(number_range, _chance.randrange(number_range.size))


def _number(number_range: NumberRange, index: int) -> str:
    free_digits = number_range.digits - 1 - len(number_range.bin)
    assert free_digits >= 1, "decide refuses a BIN that leaves no digit free"
    assert PAN_DIGITS_MIN <= number_range.digits <= PAN_DIGITS_MAX, "a length of a card number"
    digits = f"{number_range.bin}{index:0{free_digits}}"
    return digits + check_digit(digits)


async def draw_free(wanted: Sequence[Wanted], claim: Claim, filling: Filling) -> list[str | None]:
    """A number for every card, claimed for this transaction; None where the range has none left.

    More may be claimed than is used: the caller settles its claims when it stores the numbers. The
    rounds, and what one of them claims, are bounded, so that a full range costs little more than an
    empty one. The price: in a range that is nearly full a card may find no number although there is
    one, unless the range is small enough to be searched.
    """
    found: dict[int, str] = {}
    drawn: set[tuple[str, str]] = set()
    for round_, candidates_per_card in enumerate(CANDIDATES_PER_CARD, start=1):
        without: dict[NumberRange, list[int]] = {}
        for at, card in enumerate(wanted):
            if at not in found:
                without.setdefault(card.range, []).append(at)
        if not without:
            break
        share_max = CANDIDATES_PER_ROUND_MAX // len(without)
        candidates: list[Candidate] = []
        for number_range, cards in without.items():
            count = max(len(cards), min(len(cards) * candidates_per_card, share_max))
            is_last = round_ == len(CANDIDATES_PER_CARD)
            if is_last and number_range.size <= share_max:
                count = number_range.size
            candidates += [
                Candidate(number_range, wanted[cards[place % len(cards)]].card_id, pan)
                for place, pan in enumerate(_fresh(number_range, count, drawn))
            ]
        granted = await claim(candidates)
        _distribute(candidates, granted, without, found, filling)
    for at, card in enumerate(wanted):
        if at not in found:
            filling.record_exhausted(card.range)
    return [found.get(at) for at in range(len(wanted))]


def _fresh(number_range: NumberRange, count: int, drawn: set[tuple[str, str]]) -> list[str]:
    """`count` numbers of a range, none of them in `drawn`, to which they are added.

    Fewer when some of those that chance chose are in `drawn`.
    """
    fresh = []
    for index in _chance.sample(range(number_range.size), min(count, number_range.size)):
        pan = _number(number_range, index)
        key = (number_range.issuer_id, pan)
        if key not in drawn:
            drawn.add(key)
            fresh.append(pan)
    return fresh


def _distribute(
    candidates: Sequence[Candidate],
    granted: Sequence[bool],
    without: Mapping[NumberRange, Sequence[int]],
    found: dict[int, str],
    filling: Filling,
) -> None:
    """Give what was granted of each range to the cards that have no number yet, in their order."""
    free: dict[NumberRange, list[str]] = {number_range: [] for number_range in without}
    taken = dict.fromkeys(without, 0)
    for candidate, is_granted in zip(candidates, granted, strict=True):
        if is_granted:
            free[candidate.range].append(candidate.pan)
        else:
            taken[candidate.range] += 1
    for number_range, cards in without.items():
        found.update(zip(cards, free[number_range], strict=False))
        filling.record(
            number_range,
            drawn=taken[number_range] + len(free[number_range]),
            taken=taken[number_range],
        )
