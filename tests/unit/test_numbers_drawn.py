"""Card numbers that the platform draws: valid, never one that is taken, and bounded tries."""

from collections.abc import Sequence
from itertools import product

import pytest
from prometheus_client import REGISTRY

from lifecycle.domain.credentials import is_pan
from lifecycle.vault import filling as filling_module
from lifecycle.vault.drawing import (
    CANDIDATES_PER_CARD,
    CANDIDATES_PER_ROUND_MAX,
    Candidate,
    NumberRange,
    Wanted,
    check_digit,
    draw,
    draw_free,
    pan_digits,
)
from lifecycle.vault.filling import RANGES_MAX, Filling
from tests.unit.vault_keys import capture_log

RANGE = NumberRange("BANK000001", "40000000")
TINY = NumberRange("BANK000001", "40000000000", 13)  # ten numbers


class Taken:
    """A claim against numbers in memory: what one call got, no later one gets."""

    def __init__(self, taken: Sequence[str] = ()) -> None:
        self.taken = set(taken)
        self.asked: list[list[Candidate]] = []

    async def claim(self, candidates: Sequence[Candidate]) -> list[bool]:
        self.asked.append(list(candidates))
        granted = []
        for candidate in candidates:
            granted.append(candidate.pan not in self.taken)
            self.taken.add(candidate.pan)
        return granted


def cards(count: int, number_range: NumberRange = RANGE) -> list[Wanted]:
    return [Wanted(number_range, f"card-{number}") for number in range(count)]


def all_of(number_range: NumberRange) -> set[str]:
    free = number_range.digits - 1 - len(number_range.bin)
    bodies = (number_range.bin + "".join(digits) for digits in product("0123456789", repeat=free))
    return {body + check_digit(body) for body in bodies}


@pytest.mark.parametrize(
    ("digits", "expected"),
    [("7992739871", "3"), ("411111111111111", "1"), ("37828224631000", "5"), ("0", "0")],
)
def test_the_check_digit_is_that_of_known_numbers(digits: str, expected: str) -> None:
    assert check_digit(digits) == expected


def test_a_drawn_number_is_of_its_range_and_valid() -> None:
    for number_range in (RANGE, NumberRange("BANK000001", "370000", 15), TINY):
        pan = draw(number_range)
        assert is_pan(pan)
        assert pan.startswith(number_range.bin)
        assert len(pan) == number_range.digits


def test_american_express_has_fifteen_digits() -> None:
    assert pan_digits("AMEX") == 15
    assert pan_digits("VISA") == 16


async def test_each_card_gets_a_number_of_its_own_in_one_round() -> None:
    database = Taken()
    found = await draw_free(cards(500), database.claim, Filling())
    assert None not in found
    assert len(set(found)) == 500
    assert sum(map(len, database.asked)) < 520


async def test_a_clash_is_drawn_again_for_that_card_alone() -> None:
    number_range = NumberRange("BANK000001", "40000000000")
    taken = set(sorted(all_of(number_range))[::2])
    database = Taken(sorted(taken))
    found = await draw_free(cards(20, number_range), database.claim, Filling())
    assert None not in found
    assert len(set(found)) == 20
    assert taken.isdisjoint(found)
    assert len(database.asked[0]) == 20
    assert 1 < len(database.asked) <= len(CANDIDATES_PER_CARD)


async def test_the_last_free_number_of_a_small_range_is_found() -> None:
    number_range = NumberRange("BANK000001", "40000000000")
    assert number_range.size == CANDIDATES_PER_ROUND_MAX
    numbers = all_of(number_range)
    last = numbers.pop()
    found = await draw_free(cards(1, number_range), Taken(sorted(numbers)).claim, Filling())
    assert found == [last]


async def test_a_range_gives_all_its_numbers_and_then_says_that_it_is_exhausted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database = Taken()
    logs = capture_log(monkeypatch, filling_module)
    found = await draw_free(cards(12, TINY), database.claim, Filling())
    assert {pan for pan in found if pan is not None} == all_of(TINY)
    assert found.count(None) == 2
    assert [line["event"] for line in logs] == ["bin_range_exhausted"]


async def test_a_full_range_costs_its_own_cards_their_numbers_and_no_others() -> None:
    database = Taken(sorted(all_of(TINY)))
    other = NumberRange("BANK000002", "50000000")
    wanted = [*cards(3, TINY), *cards(3, other)]
    found = await draw_free(wanted, database.claim, Filling())
    assert found[:3] == [None] * 3
    assert all(pan is not None and is_pan(pan) for pan in found[3:])


async def test_the_tries_for_a_batch_are_bounded() -> None:
    async def nothing(candidates: Sequence[Candidate]) -> list[bool]:
        asked.append(len(candidates))
        return [False] * len(candidates)

    asked: list[int] = []
    found = await draw_free(cards(2_000), nothing, Filling())
    assert found == [None] * 2_000
    assert len(asked) == len(CANDIDATES_PER_CARD)
    assert max(asked) <= CANDIDATES_PER_ROUND_MAX
    asked.clear()
    ranges = [NumberRange("BANK000001", f"4{number:05}") for number in range(100)]
    await draw_free([Wanted(one, "card-1") for one in ranges], nothing, Filling())
    assert max(asked) <= CANDIDATES_PER_ROUND_MAX


async def test_ranges_that_overlap_give_no_number_twice() -> None:
    async def ours(candidates: Sequence[Candidate]) -> list[bool]:
        # As in the database: what this transaction has claimed is its own, for whichever card.
        return [True] * len(candidates)

    wider = NumberRange(TINY.issuer_id, TINY.bin[:-1], TINY.digits)
    found = await draw_free([*cards(10, TINY), *cards(90, wider)], ours, Filling())
    numbers = [pan for pan in found if pan is not None]
    assert len(numbers) >= 90
    assert len(set(numbers)) == len(numbers)


async def test_nothing_wanted_is_nothing_asked() -> None:
    database = Taken()
    assert await draw_free([], database.claim, Filling()) == []
    assert database.asked == []


def test_a_few_draws_tell_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    filling = Filling()
    logs = capture_log(monkeypatch, filling_module)
    filling.record(RANGE, drawn=99, taken=99)
    assert filling.share(RANGE) is None
    assert logs == []


def test_a_filling_range_is_told_once_at_each_mark_and_shown_in_a_metric(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    filling = Filling()
    logs = capture_log(monkeypatch, filling_module)
    key = ("BANKFILL01", "41111111", 16)
    for taken in (40, 60, 60, 100, 100):
        filling.record(key, drawn=100, taken=taken)
    assert [(line["event"], line["share"]) for line in logs] == [
        ("bin_range_filling", 0.5),
        ("bin_range_filling", 0.72),
    ]
    assert filling.share(key) == pytest.approx(0.72)
    labels = {"issuer_id": key[0], "bin": key[1]}
    shown = REGISTRY.get_sample_value("lifecycle_bin_range_fill_ratio", labels)
    assert shown == pytest.approx(0.72)


def test_the_sample_follows_a_range_that_fills() -> None:
    filling = Filling()
    for _ in range(1_000):
        filling.record(RANGE, drawn=100, taken=0)
    for _ in range(100):
        filling.record(RANGE, drawn=100, taken=80)
    share = filling.share(RANGE)
    assert share is not None
    assert share == pytest.approx(0.8, abs=0.01)


def test_the_ranges_watched_are_bounded() -> None:
    filling = Filling()
    first = ("BANK000001", "0", 16)
    filling.record(first, drawn=100, taken=50)
    for number in range(1, RANGES_MAX + 1):
        filling.record(("BANK000001", str(number), 16), drawn=1, taken=0)
    assert filling.share(first) is None
