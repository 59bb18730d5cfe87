"""What `encryptedData` holds: domain.md 4 and 8."""

import pytest

from lifecycle.domain.credentials import (
    Credentials,
    judge_credentials,
    judge_cvv,
    numbers_in,
    passes_luhn,
)
from lifecycle.domain.errors import SENTENCE, ErrorCode
from lifecycle.domain.fields import Refusal

PAN = "4000001234567899"
RIGHT: dict[str, object] = {"pan": PAN, "exp": "0930"}


def refusal_of(judged: object) -> Refusal:
    assert isinstance(judged, Refusal)
    return judged


def test_number_and_expiry_are_enough() -> None:
    assert judge_credentials(RIGHT) == Credentials(pan=PAN, exp="0930")
    nothing_more = {**RIGHT, "psn": None, "auxiliaryPan": None, "auxiliaryExp": None, "cvv": None}
    assert judge_credentials(nothing_more) == Credentials(pan=PAN, exp="0930")
    assert judge_credentials({"psn": None, **RIGHT}) == Credentials(pan=PAN, exp="0930")


def test_all_that_a_card_may_have_is_taken() -> None:
    whole = {**RIGHT, "psn": "01", "auxiliaryPan": "6011000990139424", "auxiliaryExp": "1029"}
    found = judge_credentials({**whole, "cvv": "1234"})
    assert isinstance(found, Credentials)
    assert found.last4 == "7899"
    assert (found.psn, found.auxiliary_pan, found.auxiliary_exp, found.cvv) == (
        "01",
        "6011000990139424",
        "1029",
        "1234",
    )


@pytest.mark.parametrize(
    ("broken", "member"),
    [
        ({}, ".pan"),
        ({"pan": PAN}, ".exp"),
        ({"exp": "0930"}, ".pan"),
        ({**RIGHT, "pan": 4000001234567899}, ".pan"),
        ({**RIGHT, "pan": None}, ".pan"),
        ({**RIGHT, "exp": "1330"}, ".exp"),
        ({**RIGHT, "exp": "12/29"}, ".exp"),
        ({**RIGHT, "exp": 930}, ".exp"),
        ({**RIGHT, "exp": "930"}, ".exp"),
        ({**RIGHT, "exp": "0930\n"}, ".exp"),
        ({**RIGHT, "exp": "٠٩٣٠"}, ".exp"),
        ({**RIGHT, "psn": "1"}, ".psn"),
        ({**RIGHT, "psn": 1}, ".psn"),
        ({**RIGHT, "cvv": "12"}, ".cvv"),
        ({**RIGHT, "cvv": "12345"}, ".cvv"),
        ({**RIGHT, "cvv": 123}, ".cvv"),
        ({**RIGHT, "cvv": {}}, ".cvv"),
        ({**RIGHT, "auxiliaryPan": PAN}, ".auxiliaryExp"),
        ({**RIGHT, "auxiliaryPan": ["0"], "auxiliaryExp": "0930"}, ".auxiliaryPan"),
        ({**RIGHT, "auxiliaryExp": "0930"}, ".auxiliaryPan"),
        ({**RIGHT, "auxiliaryExp": "1/30", "auxiliaryPan": PAN}, ".auxiliaryExp"),
        ({**RIGHT, "auxiliaryPan": PAN, "auxiliaryExp": "0930"}, ".auxiliaryPan"),
        ({**RIGHT, "holder": "ANN"}, ""),
        ({**RIGHT, "4000001234567899": None}, ""),
        ({**RIGHT, "pan": "4000001234567890", "exp": "13"}, ".exp"),
    ],
)
def test_what_is_malformed_is_named_and_told_before_a_wrong_number(
    broken: dict[str, object], member: str
) -> None:
    refusal = refusal_of(judge_credentials(broken))
    assert refusal[:2] == ("FIELD_INVALID_FORMAT", f"encryptedData{member}")


def test_of_several_faults_the_same_one_is_told_whatever_order_they_come_in() -> None:
    broken = {**RIGHT, "psn": 1, "exp": "13", "cvv": "1", "auxiliaryPan": 5}
    first = judge_credentials(broken)
    assert judge_credentials(dict(reversed(broken.items()))) == first
    assert refusal_of(first).field == "encryptedData.psn"


def test_an_unknown_member_is_told_without_its_name_and_with_those_that_are_known() -> None:
    """Its name may hold anything, a card number too."""
    for judge in (judge_credentials, judge_cvv):
        refusal = refusal_of(judge({**RIGHT, "4000001234567899": "x"}))
        assert refusal.sentence == (
            "A member of encryptedData is none of pan, exp, psn, auxiliaryPan, auxiliaryExp, cvv."
        )


def test_what_is_wrong_with_a_member_is_told_apart() -> None:
    told = [
        refusal_of(judge_credentials(broken)).sentence
        for broken in (
            {**RIGHT, "exp": 1229},
            {"pan": PAN},
            {**RIGHT, "exp": "12/29"},
            {**RIGHT, "auxiliaryPan": PAN, "auxiliaryExp": "0930"},
        )
    ]
    assert told == [
        "A field has the wrong JSON type, it must be a string.",
        SENTENCE[ErrorCode.FIELD_MISSING],
        None,
        SENTENCE[ErrorCode.FIELD_INVALID_VALUE],
    ]


@pytest.mark.parametrize(
    "pan",
    ["4000001234567890", "0" * 9, "0" * 20, "4000 0012 3456 7899", "", "٤" * 16],
)
def test_a_number_has_10_to_19_digits_and_the_right_check_digit(pan: str) -> None:
    refusal = refusal_of(judge_credentials({**RIGHT, "pan": pan}))
    assert refusal == Refusal(ErrorCode.PAN_LUHN_INVALID, "encryptedData.pan")
    auxiliary = {**RIGHT, "auxiliaryPan": pan, "auxiliaryExp": "0930"}
    refusal = refusal_of(judge_credentials(auxiliary))
    assert refusal == Refusal(ErrorCode.PAN_LUHN_INVALID, "encryptedData.auxiliaryPan")


@pytest.mark.parametrize("pan", ["0000000000", "79927398713", "6304000000000000000"])
def test_short_and_long_numbers_are_numbers(pan: str) -> None:
    assert isinstance(judge_credentials({**RIGHT, "pan": pan}), Credentials)


@pytest.mark.parametrize("cvv", ["123", "1234"])
def test_a_cvv_has_three_or_four_digits(cvv: str) -> None:
    assert judge_credentials({**RIGHT, "cvv": cvv}) == Credentials(pan=PAN, exp="0930", cvv=cvv)


def test_one_wrong_digit_and_two_swapped_ones_are_found() -> None:
    for place in range(len(PAN)):
        for digit in "0123456789":
            changed = PAN[:place] + digit + PAN[place + 1 :]
            assert passes_luhn(changed) is (changed == PAN)
    assert not passes_luhn("4000001235467899")


def test_credentials_show_nothing_of_themselves() -> None:
    whole = Credentials(pan=PAN, exp="0930", cvv="123", auxiliary_pan="6011000990139424")
    assert repr(whole) == "Credentials(...)"
    for shown in (repr(whole), str(whole), f"{whole}", repr([whole]), f"{(whole,)!r}"):
        assert not any(character.isdigit() for character in shown)


@pytest.mark.parametrize(
    ("plaintext", "numbers"),
    [
        ({"pan": PAN, "exp": "0930"}, (PAN,)),
        ({"pan": "79927398713", "auxiliaryPan": "0000000000"}, ("79927398713", "0000000000")),
        ({"auxiliaryPan": PAN}, (PAN,)),
        ({"pan": "4000001235467899"}, ("4000001235467899",)),
        ({"pan": int(PAN)}, (PAN,)),
        ({"pan": "4000 0012-3456 7899"}, ("4000001234567899",)),
        ({"pan": "123456789"}, ()),
        ({"pan": "1" * 20}, ()),
        ({"pan": None, "auxiliaryPan": ["4"]}, ()),
        ({"pan": f"{PAN}x", "cvv": "123"}, ()),
        ({}, ()),
    ],
)
def test_the_numbers_in_what_was_opened_are_secret_right_or_wrong(
    plaintext: dict[str, object], numbers: tuple[str, ...]
) -> None:
    assert numbers_in(plaintext) == numbers


def test_the_answer_of_an_activation_is_any_text() -> None:
    assert judge_cvv({"cvv": "123"}) == "123"
    assert judge_cvv({"cvv": "not a cvv"}) == "not a cvv"
    assert judge_cvv({}) == ""
    for broken, field in (({"cvv": 123}, ".cvv"), ({"cvv": "123", "pin": "1234"}, "")):
        refusal = refusal_of(judge_cvv(broken))
        assert refusal[:2] == ("FIELD_INVALID_FORMAT", f"encryptedData{field}")
