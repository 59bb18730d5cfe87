"""Which characters, and how many of them, each field takes: domain.md 1, 2.2, 5, 8 and design.md 3.

Every ASCII character is tried, and some that look like one or are of another script.
"""

from datetime import UTC, datetime
from string import ascii_letters, ascii_uppercase, digits
from typing import Any, NamedTuple

import pytest

from lifecycle.domain.commands import COMMAND_CLASS, CommandName, DefineProduct, Requestor
from lifecycle.domain.decide import decide_card
from lifecycle.domain.errors import ErrorCode
from lifecycle.domain.fields import Refusal, judge, time_ms_of
from lifecycle.domain.operations import Decision
from tests.unit.deciding import START_MS, a_card, a_command, a_context

OTHERS = "éж٣½\u00a0\u2028\u212a"
CHARACTERS = [*map(chr, range(128)), *OTHERS]
ID = f"{ascii_letters}{digits}_-"


class Pattern(NamedTuple):
    """`least` to `most` characters of `alphabet`."""

    command: str
    field: str
    alphabet: str
    least: int
    most: int


PATTERNS = [
    Pattern("SUSPEND", "reason", f"{ascii_letters}{digits} ", 1, 64),
    Pattern("SUSPEND", "reasonCode", f"{ascii_uppercase}{digits}_", 1, 64),
    Pattern("SUSPEND", "correlationId", f"{ascii_letters}{digits}_. -", 1, 64),
    Pattern("SUSPEND", "requestor.id", f"{ascii_letters}{digits}_.-", 1, 64),
    *(
        pattern
        for command in ("CREATE", "REGISTER")
        for pattern in (
            Pattern(command, "consumerId", ID, 1, 64),
            Pattern(command, "cardProductId", ID, 1, 48),
            Pattern(command, "name", f"{ascii_letters}. -", 0, 26),
            Pattern(command, "secondName", f"{ascii_letters}. -", 0, 26),
            Pattern(command, "statusReason", ascii_letters, 0, 2),
            Pattern(command, "realCardId", ID, 1, 48),
        )
    ),
    Pattern("REPLACE", "newCardId", ID, 1, 48),
    Pattern("RENEW", "newCardId", ID, 1, 48),
    Pattern("PRODUCE", "distributionChannel", ID, 1, 64),
    Pattern("PRODUCT_DEFINE", "bin", digits, 6, 11),
]
LONGEST = "x" * 8_192


def refusal(name: str, field: str, value: object) -> Refusal | None:
    """What is wrong with `field` (its name on the wire), by itself."""
    fields: dict[str, Any] = {_python_name(field): value}
    if field == "requestor.id":
        fields = {"requestor": Requestor(type="TSP", id=str(value))}
    if name == "PRODUCT_DEFINE":
        needed = {"card_product_id": "gold", "form": "PHYSICAL", "scheme": "VISA"}
        fields = {"command_id": "c1", "command": name, "issuer_id": "BANK000001"} | needed | fields
        product = DefineProduct(**fields)
        return judge(product, CommandName.PRODUCT_DEFINE, START_MS).refusal
    return judge(a_command(name, **fields), CommandName(name), START_MS).refusal


def _python_name(field: str) -> str:
    return "".join(f"_{one.lower()}" if one.isupper() else one for one in field)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda one: f"{one.command}-{one.field}")
def test_a_field_takes_its_characters_and_no_other(pattern: Pattern) -> None:
    name, field, alphabet, least, most = pattern
    broken = Refusal(ErrorCode.FIELD_INVALID_FORMAT, field)
    for character in CHARACTERS:
        expected = None if character in alphabet else broken
        assert refusal(name, field, character * max(least, 1)) == expected, repr(character)
    for count in range(most + 3):
        expected = None if least <= count <= most else broken
        assert refusal(name, field, alphabet[0] * count) == expected, count
    assert refusal(name, field, f"{alphabet[0] * max(least, 1)}\n") == broken


def test_a_scheme_begins_with_a_letter() -> None:
    broken = Refusal(ErrorCode.FIELD_INVALID_FORMAT, "scheme")
    for character in CHARACTERS:
        first = None if character in ascii_uppercase else broken
        then = None if character in f"{ascii_uppercase}{digits}_" else broken
        assert refusal("PRODUCT_DEFINE", "scheme", character) == first, repr(character)
        assert refusal("PRODUCT_DEFINE", "scheme", f"V{character}") == then, repr(character)
    assert refusal("PRODUCT_DEFINE", "scheme", "V" * 32) is None
    assert refusal("PRODUCT_DEFINE", "scheme", "V" * 33) == broken
    assert refusal("PRODUCT_DEFINE", "scheme", "") == broken


@pytest.mark.parametrize("field", ["newExp", "newAuxiliaryExp"])
def test_an_expiry_is_a_month_and_two_digits_of_its_year(field: str) -> None:
    right = {f"{month:02}{year:02}" for month in range(1, 13) for year in range(100)}
    for text in (*(f"{number:04}" for number in range(10_000)), "131", "01311", "", "٠١٣١"):
        expected = None if text in right else Refusal(ErrorCode.FIELD_INVALID_FORMAT, field)
        assert refusal("RENEW", field, text) == expected, text


@pytest.mark.parametrize("command", ["ENROLMENT", "UPDATE", "OPTOUT"])
def test_the_holders_name_for_a_scheme_has_letters_of_any_script(command: str) -> None:
    name = f"CLICK_TO_PAY_{command}"
    broken = Refusal(ErrorCode.FIELD_INVALID_FORMAT, "name")
    signs, arabic = " ,.'_#;:/-", "\u0600\u060c\u06d4\u06ff"
    for character in CHARACTERS:
        is_right = character in f"{ascii_letters}{digits}{signs}éж٣½\u212a"
        assert refusal(name, "name", character) == (None if is_right else broken), repr(character)
    for character in f"中{arabic}":
        assert refusal(name, "name", character) is None, repr(character)
    for character in "\u05f3\u0700\u0301€":
        assert refusal(name, "name", character) == broken, repr(character)
    for count, expected in ((0, broken), (1, None), (26, None), (27, broken)):
        assert refusal(name, "name", "A" * count) == expected


@pytest.mark.parametrize("command", ["ENROLMENT", "UPDATE", "OPTOUT"])
def test_the_holders_name_for_a_scheme_is_taken_in_its_composed_form(command: str) -> None:
    """domain.md 8: what counts is the letter, not in how many characters it was sent."""
    name = f"CLICK_TO_PAY_{command}"
    broken = Refusal(ErrorCode.FIELD_INVALID_FORMAT, "name")
    for text in ("Zoe\u0308", "Nguye\u0302\u0303n", "\u1112\u1161\u11ab", "e\u0301" * 26):
        assert refusal(name, "name", text) is None, text
    for text in ("e\u0301" * 27, "x\u0301", "\u0301", "e\u0301\u0301"):
        assert refusal(name, "name", text) == broken, text


@pytest.mark.parametrize(
    "command",
    sorted(name for name, made in COMMAND_CLASS.items() if hasattr(made, "encrypted_data")),
)
def test_encrypted_data_has_a_limit(command: CommandName) -> None:
    broken = Refusal(ErrorCode.FIELD_INVALID_FORMAT, "encryptedData")
    assert refusal(command, "encryptedData", LONGEST) is None
    assert refusal(command, "encryptedData", f"{LONGEST}x") == broken


@pytest.mark.parametrize(
    ("field", "least", "most"), [("autoRenewDays", 1, 365), ("validityMonths", 1, 240)]
)
def test_days_and_months_of_a_product_have_limits(field: str, least: int, most: int) -> None:
    broken = Refusal(ErrorCode.FIELD_INVALID_VALUE, field)
    for number in (least, most, float(most)):
        assert refusal("PRODUCT_DEFINE", field, number) is None
    for number in (least - 1, most + 1, least + 0.5):
        assert refusal("PRODUCT_DEFINE", field, number) == broken


@pytest.mark.parametrize(
    ("name", "field", "values"),
    [
        ("CREATE", "state", ["INACTIVE", "ACTIVE"]),
        ("REGISTER", "state", ["INACTIVE", "ACTIVE"]),
        ("RENEW", "newCardState", ["INACTIVE", "ACTIVE"]),
        ("LOCK", "lock", ["PIN", "CVV2", "EXPIRY_DATE"]),
        ("PRODUCT_DEFINE", "form", ["VIRTUAL", "PHYSICAL"]),
        ("PRODUCT_DEFINE", "activationMethod", ["CVV", "LAST4", "NOTHING"]),
    ],
)
def test_a_field_with_a_list_takes_the_words_of_it(
    name: str, field: str, values: list[str]
) -> None:
    for value in values:
        assert refusal(name, field, value) is None
        for wrong in (value.lower(), f"{value} ", "SUSPENDED", ""):
            expected = Refusal(ErrorCode.FIELD_INVALID_VALUE, field)
            assert refusal(name, field, wrong) == expected


def test_the_first_broken_field_is_named() -> None:
    broken = {
        "requestor": Requestor(type="USER", id=""),
        "correlation_id": "",
        "effective_date": "",
        "reason_code": "",
        "reason": "",
    }
    for field in ("requestor.id", "correlationId", "effectiveDate", "reasonCode", "reason"):
        command = a_command("SUSPEND", **broken)
        found = judge(command, CommandName.SUSPEND, START_MS).refusal
        assert found == Refusal(ErrorCode.FIELD_INVALID_FORMAT, field)
        del broken[next(iter(broken))]


@pytest.mark.parametrize(
    ("fraction", "milliseconds"),
    [
        ("", 0),
        (".5", 500),
        (".05", 50),
        (".005", 5),
        (".0059", 5),
        (".123456789", 123),
        (".1234567891", None),
        (".", None),
    ],
)
def test_a_time_has_milliseconds_and_drops_what_is_finer(
    fraction: str, milliseconds: int | None
) -> None:
    found = time_ms_of(f"1970-01-01T00:00:01{fraction}Z")
    assert found == (None if milliseconds is None else 1_000 + milliseconds)


@pytest.mark.parametrize("fraction", ["", ".5", ".123456"])
def test_a_time_is_utc_with_z_or_a_zero_offset(fraction: str) -> None:
    """`+00:00` is what Python's isoformat() writes."""
    z = time_ms_of(f"2027-01-31T00:00:00{fraction}Z")
    assert z is not None
    assert time_ms_of(f"2027-01-31T00:00:00{fraction}+00:00") == z
    moment = datetime(2027, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)
    assert time_ms_of(moment.isoformat()) == round(moment.timestamp() * 1000)
    for other in (
        *("", "z", "+01:00", "-00:00", "+00", "+0000", "+00:00Z", "Z+00:00", "+00:00+00:00", "ZZ"),
        *("+00:00\n", " +00:00"),
    ):
        assert time_ms_of(f"2027-01-31T00:00:00{fraction}{other}") is None, other


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        (
            {"a": [{"perDay": float(9_223_372_036_854_775_807)}]},
            (
                "A whole number lies beyond 9007199254740991 (2^53-1), the largest that every"
                " reader of JSON keeps; send it as a string, or in a larger unit."
            ),
        ),
        ({"a": -float(2**53)}, "A whole number lies beyond 9007199254740991 (2^53-1)"),
        ({"a": 2**53}, "A whole number lies beyond 9007199254740991 (2^53-1)"),
        ({"a": {"b": {"c": {"d": {"e": {}}}}}}, "It has more than 5 levels; send it flatter."),
        ({"a": "x" * 4_096}, "It is more than 4096 characters of RFC 8785 JSON; send less."),
    ],
)
@pytest.mark.parametrize("name", ["controls", "limits"])
def test_controls_and_limits_that_are_refused_say_what_to_send(
    name: str, settings: dict[str, object], advice: str
) -> None:
    command = a_command(f"UPDATE_{name.upper()}", **{name: settings})
    decision = decide_card(a_card(), command, a_context())
    assert isinstance(decision, Decision)
    assert decision.error_code is ErrorCode.FIELD_INVALID_FORMAT
    assert decision.error is not None
    assert f"Field: {name}. {advice}" in decision.error
    assert len(decision.error) <= 256


@pytest.mark.parametrize("name", ["controls", "limits"])
def test_controls_and_limits_at_their_bounds_are_taken(name: str) -> None:
    for settings in (
        {"a": 2**53 - 1, "b": -(2**53) + 1, "c": 0.5},
        {"a": {"b": {"c": {"d": {"e": 1}}}}},
        {"a": "x" * (4_096 - len('{"a":""}'))},
    ):
        assert refusal(f"UPDATE_{name.upper()}", name, settings) is None
