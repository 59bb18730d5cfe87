"""Card numbers at rest, and what is looked up in their place (domain.md 4)."""

from dataclasses import asdict

import pytest

from lifecycle.vault.fingerprints import FINGERPRINT_BYTES
from lifecycle.vault.sealing import CardLife, CardNumbers, Sealed, SealError
from tests.unit.vault_keys import PLAINTEXT, fingerprints, sealing

LIFE = CardLife("BANK000001", "card-1", 1)
NUMBERS = CardNumbers(pan="4000000000000002", auxiliary_pan="5555555555554444", psn="01", cvv="123")


def test_what_is_sealed_is_unsealed_for_the_same_card() -> None:
    assert sealing().unseal(LIFE, sealing().seal(LIFE, NUMBERS)) == NUMBERS


@pytest.mark.parametrize(
    "other",
    [
        LIFE._replace(issuer_id="BANK000002"),
        LIFE._replace(card_id="card-2"),
        LIFE._replace(incarnation=2),
    ],
)
def test_a_row_that_was_moved_to_another_card_does_not_open(other: CardLife) -> None:
    with pytest.raises(SealError, match="do not open"):
        sealing().unseal(other, sealing().seal(LIFE, NUMBERS))


def test_a_row_under_an_unknown_key_says_which_key_is_missing() -> None:
    sealed = sealing().seal(LIFE, NUMBERS)
    with pytest.raises(SealError, match="the key other, which the keys file does not have"):
        sealing().unseal(LIFE, Sealed("other", sealed.box))


@pytest.mark.parametrize("length", [0, 1, 7, 8, 12, 27, 28])
def test_a_row_that_was_cut_short_does_not_open(length: int) -> None:
    sealed = sealing().seal(LIFE, NUMBERS)
    with pytest.raises(SealError, match="do not open"):
        sealing().unseal(LIFE, Sealed(sealed.kid, sealed.box[:length]))


def test_equal_numbers_are_never_sealed_equally() -> None:
    assert len({sealing().seal(LIFE, NUMBERS).box for _ in range(100)}) == 100


def test_a_sealed_row_holds_no_number_in_clear() -> None:
    box = sealing().seal(LIFE, NUMBERS).box
    for number in asdict(NUMBERS).values():
        assert number.encode() not in box


def test_numbers_show_nothing_of_themselves() -> None:
    assert repr(NUMBERS) == "CardNumbers()"
    with pytest.raises(SealError) as refused:
        sealing().unseal(LIFE._replace(incarnation=2), sealing().seal(LIFE, NUMBERS))
    assert NUMBERS.pan not in repr(refused.value)


def test_a_fingerprint_is_of_the_issuer_and_the_number() -> None:
    of = fingerprints().of_number
    (one,) = of("BANK000001", "4000000000000002")
    assert len(one) == FINGERPRINT_BYTES
    assert of("BANK000001", "4000000000000002") == (one,)
    others = {*of("BANK000002", "4000000000000002"), *of("BANK000001", "4000000000000010")}
    assert len(others | {one}) == 3
    assert of("BANK", "14000000000") != of("BANK1", "4000000000")


def test_no_fingerprint_of_one_use_is_one_of_another() -> None:
    content = {"pan": PLAINTEXT["pan"]}
    as_content = fingerprints().of_content(content)
    as_bytes = fingerprints().of_plaintext(b'{"pan":"4000000000000002"}')
    (as_number,) = fingerprints().of_number("", '{"pan":"4000000000000002"}')
    assert len({as_content, as_bytes, f"hmac-sha256:{as_number.hex()}"}) == 3


def test_the_fingerprint_of_content_does_not_depend_on_the_order_of_its_members() -> None:
    assert fingerprints().of_content(PLAINTEXT) == fingerprints().of_content(
        dict(reversed(PLAINTEXT.items()))
    )
