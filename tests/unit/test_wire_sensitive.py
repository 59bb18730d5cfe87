"""SENSITIVE_DATA: card numbers where none may be (design.md 5; G10)."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.domain.credentials import passes_luhn
from lifecycle.kafka.commands import Broken, Parsed, parse
from lifecycle.kafka.dead_letters import DeadLetterCode
from lifecycle.kafka.sensitive import Suspect
from tests.unit.wire_records import (
    CREATE,
    DEFINE_PRODUCT,
    ISSUER,
    KEY,
    PAN_13,
    PAN_15,
    PAN_16,
    PAN_19,
    REGISTER_CONSUMER,
    SUSPEND,
    record,
)

SPACED = "4111 1111 1111 1111"
DASHED = "4111-1111-1111-1111"


def is_refused(members: Mapping[str, object], key: bytes = KEY) -> bool:
    outcome = parse(record(members, key=key))
    if isinstance(outcome, Broken):
        assert outcome.code is DeadLetterCode.SENSITIVE_DATA, outcome
        assert PAN_16 not in outcome.error
        return True
    assert isinstance(outcome, Parsed)
    return False


# Of each beginning that the contract names, with the fewest and the most digits; Luhn-valid.
NUMBERS = [
    *(PAN_13, PAN_15, PAN_16, PAN_19, "2223003122003222", "3530111333300000"),
    *("5123456789012346", "6011000990139424", "8111111111111112", "8200000000000001"),
    *("8600000000000007", "9792100000000001", "9860000000000001238", "9860000000008"),
    "100000000000009",
]
# The same but for one thing each: the beginning, the length, the check digit.
LOOK_ALIKES = [
    *("0123456789012347", "7111111111111114", "8311111111111110", "9792100000000002"),
    *("1000000000000008", "4111111111116", "411111111117", "41111111111111111115"),
    *("9791100000000002", "8610000000000005"),
]


def test_the_numbers_of_these_tests_are_what_they_are_said_to_be() -> None:
    assert all(passes_luhn(number) and 13 <= len(number) <= 19 for number in NUMBERS)
    wrong_for_one_thing = {"9792100000000002", "4111111111116"}
    assert {one for one in LOOK_ALIKES if not passes_luhn(one)} == wrong_for_one_thing


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    "members",
    [
        {**CREATE, "state": "?"},
        {**CREATE, "name": "?"},
        {**CREATE, "secondName": "?"},
        {**CREATE, "statusReason": "?"},
        {**CREATE, "deleteAt": "?"},
        {**SUSPEND, "reason": "?"},
        {**SUSPEND, "reasonCode": "?"},
        {**SUSPEND, "effectiveDate": "?"},
        {**SUSPEND, "requestor": {"type": "?", "id": "u"}},
        {**SUSPEND, "command": "PRODUCE", "distributionChannel": "?"},
        {**SUSPEND, "command": "ACTIVATE", "last4": "?"},
        {**SUSPEND, "command": "RENEW", "newExp": "?"},
        {**SUSPEND, "command": "LOCK", "lock": "?"},
    ],
    ids=lambda members: next(name for name, member in members.items() if "?" in json.dumps(member)),
)
def test_a_card_number_is_refused_in_every_text(members: Mapping[str, object], number: str) -> None:
    holding = json.loads(json.dumps(members).replace("?", number))
    assert is_refused(holding)
    assert not is_refused(json.loads(json.dumps(members).replace("?", "0" + number)))


@pytest.mark.parametrize("look_alike", LOOK_ALIKES)
def test_what_only_resembles_a_card_number_passes(look_alike: str) -> None:
    for name in ("name", "statusReason"):
        assert not is_refused({**CREATE, name: look_alike})


@pytest.mark.parametrize("separator", ["D", "d", "="])
@pytest.mark.parametrize("number", ["4242424242424242", "9792100000000001", PAN_13])
def test_a_track_2_is_found(number: str, separator: str) -> None:
    for name in ("reason", "reasonCode"):
        assert is_refused({**SUSPEND, name: f"{number}{separator}29122011000012300000"})
        assert is_refused({**SUSPEND, name: f";{number}{separator}2912?"})
    assert is_refused({**SUSPEND, "reason": f"4242 4242 4242 4242{separator}29122011"})


@pytest.mark.parametrize("rest", ["D291", "DD2912", "X2912", "D 2912", "D"])
def test_letters_beside_the_digits_are_no_track_2(rest: str) -> None:
    for name in ("reason", "reasonCode"):
        assert not is_refused({**SUSPEND, name: f"4242424242424242{rest}"})
        assert not is_refused({**SUSPEND, name: f"x4242424242424242D2912{rest}"})


def test_digits_of_every_script_are_digits() -> None:
    for zero in "\u0660\u0966\uff10":
        number = PAN_16.translate({ord("0") + at: ord(zero) + at for at in range(10)})
        assert is_refused({**SUSPEND, "command": "CLICK_TO_PAY_UPDATE", "name": number})


# --- identifiers

IDENTIFIERS = {
    "commandId": {**SUSPEND, "commandId": "?"},
    "correlationId": {**SUSPEND, "correlationId": "?"},
    "operationId": {**SUSPEND, "command": "TIME_OUT", "operationId": "?"},
    "cardId": {**SUSPEND, "cardId": "?"},
    "newCardId": {**SUSPEND, "command": "RENEW", "newCardId": "?"},
    "realCardId": {**CREATE, "realCardId": "?"},
    "consumerId": {**CREATE, "consumerId": "?"},
    "cardProductId": {**CREATE, "cardProductId": "?"},
    "newCardProductId": {**SUSPEND, "command": "RENEW", "newCardProductId": "?"},
    "requestor.id": {**SUSPEND, "requestor": {"type": "USER", "id": "?"}},
}


def parsed_with(name: str, value: str, *, strict: bool = False) -> Parsed | Broken:
    members = json.loads(json.dumps(IDENTIFIERS[name]).replace("?", value))
    key = f"{ISSUER}/{members['cardId']}".encode()
    return parse(record(members, key=key), strict_identifiers=strict)


@pytest.mark.parametrize("name", IDENTIFIERS)
@pytest.mark.parametrize("number", [PAN_13, PAN_15, PAN_16, PAN_19, "79927398713", "5123456781"])
def test_a_number_in_an_identifier_is_asked_about(name: str, number: str) -> None:
    """Whether it is one only the fingerprints of the issuer's cards tell."""
    for value in (number, f"job:{number}.1", f"a{number}b", f"{number}-{number}"):
        if name in {"commandId", "requestor.id"} or value == number:
            outcome = parsed_with(name, value)
            assert isinstance(outcome, Parsed), outcome
            wanted = {Suspect(f"field {name}", number)}
            assert set(outcome.suspects) == wanted


@pytest.mark.parametrize(
    "value",
    [
        "c1",
        "0b8f7319-7319-8319-9319-73197319a7b2",
        "41111111-1111-4111-8111-111111111111",
        "4111-1111-1111-1111",
        "4111111111111112",
        "411111111",
        "41111111111111111116",
    ],
)
@pytest.mark.parametrize("name", IDENTIFIERS)
def test_most_identifiers_are_not_asked_about(name: str, value: str) -> None:
    outcome = parsed_with(name, value)
    assert isinstance(outcome, Parsed)
    assert outcome.suspects == ()


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("name", IDENTIFIERS)
def test_strict_identifiers_are_searched_as_texts(name: str, number: str) -> None:
    outcome = parsed_with(name, number, strict=True)
    assert isinstance(outcome, Broken)
    assert outcome.code is DeadLetterCode.SENSITIVE_DATA
    assert f"field {name}" in outcome.error
    assert isinstance(parsed_with(name, f"a{number}", strict=True), Parsed)


def test_strict_identifiers_do_not_stop_what_the_service_sends_itself() -> None:
    """A card that was taken before the setting changed still expires."""
    timer = {**SUSPEND, "command": "EXPIRE", "commandId": "EXPIRE:1127:1", "cardId": PAN_16}
    raw = record(timer, key=f"{ISSUER}/{PAN_16}".encode())
    assert isinstance(parse(raw, strict_identifiers=True), Parsed)


def test_consumers_and_products_are_identifiers_as_subjects_too() -> None:
    for members, kind, name in (
        (REGISTER_CONSUMER, "consumer", "consumerId"),
        (DEFINE_PRODUCT, "product", "cardProductId"),
    ):
        key = f"{ISSUER}/{kind}/{PAN_16}".encode()
        outcome = parse(record({**members, name: PAN_16}, key=key))
        assert isinstance(outcome, Parsed)
        assert outcome.suspects == (Suspect(f"field {name}", PAN_16),)


@given(st.integers(10**15, 10**16 - 1))
def test_no_number_is_refused_by_its_looks_in_an_identifier(number: int) -> None:
    """A bank that counts its consumers with 16 digits keeps all of them."""
    for name in IDENTIFIERS:
        assert isinstance(parsed_with(name, str(number)), Parsed)


def test_the_issuers_own_example_of_a_random_command_id_is_taken() -> None:
    outcome = parse(record({**SUSPEND, "commandId": "4250455349467741"}))
    assert isinstance(outcome, Parsed)


# --- texts


@pytest.mark.parametrize("name", ["name", "secondName", "reason"])
@pytest.mark.parametrize(
    "text",
    [
        SPACED,
        DASHED,
        f"card {SPACED} lost",
        f"12 {SPACED} 34",
        f"flat 5 {PAN_16}",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
        "4111 1111-1111 1111",
        f"({PAN_16})",
        f"_{PAN_16}_",
        f"{PAN_16}.",
    ],
)
def test_free_texts_hide_nothing_behind_single_blanks_and_dashes(name: str, text: str) -> None:
    assert is_refused({**CREATE, name: text})


@pytest.mark.parametrize(
    "text",
    [
        "4111  1111 1111 1111",
        "4111.1111.1111.1111",
        "4111 1111 1111 1112",
        f"x{PAN_16}",
        f"{PAN_16}x",
        f"é{PAN_16}",
        f"x{SPACED}",
        f"{SPACED}x",
        "1111 1111 1111 1117",
        "7111111111111110",
        "born 2026-11-22, moved 2026-11-23",
        "7f0c7b0e-5f0e-4d7e-9a55-3f3f0f4a2b11",
    ],
)
def test_what_is_no_card_number_passes(text: str) -> None:
    assert not is_refused({**CREATE, "name": text})


@pytest.mark.parametrize("text", [SPACED, DASHED])
def test_outside_free_texts_the_digits_are_unbroken(text: str) -> None:
    assert not is_refused({**CREATE, "statusReason": text})
    assert not is_refused({**SUSPEND, "reasonCode": text})


def test_ciphertext_may_hold_anything() -> None:
    assert not is_refused({**SUSPEND, "command": "ACTIVATE", "encryptedData": PAN_16})


def test_uuids_are_no_card_numbers() -> None:
    decimal = "41111111-1111-4111-8111-111111111111"
    key = f"{ISSUER}/{decimal}".encode()
    assert not is_refused({**SUSPEND, "cardId": decimal, "commandId": decimal}, key)


def test_an_escape_hides_nothing() -> None:
    escaped = "".join(f"\\u{ord(digit):04x}" for digit in PAN_16)
    value = json.dumps(SUSPEND)[:-1] + f', "reason": "{escaped}"}}'
    outcome = parse(record(value.encode()))
    assert isinstance(outcome, Broken)
    assert outcome.code is DeadLetterCode.SENSITIVE_DATA


def test_the_error_names_the_field() -> None:
    outcome = parse(record({**SUSPEND, "requestor": {"type": PAN_16, "id": "u"}}))
    assert isinstance(outcome, Broken)
    assert "requestor.type" in outcome.error


@pytest.mark.parametrize("name", ["controls", "limits"])
def test_a_card_number_is_refused_as_a_number_of_controls_and_limits(name: str) -> None:
    """They are published as they are; no other field shows a number."""
    body = {**SUSPEND, "command": f"UPDATE_{name.upper()}"}
    number = int(PAN_16)
    beyond_doubles = int(PAN_19) + 18
    assert passes_luhn(str(beyond_doubles))
    assert int(float(beyond_doubles)) != beyond_doubles
    for holding in (
        {"a": number},
        {"a": [{"b": number}]},
        {"a": float(number)},
        {"a": -number},
        {"a": int(PAN_19)},
        {"a": [beyond_doubles]},
    ):
        assert is_refused({**body, name: holding})
    assert not is_refused({**body, name: {"perDay": number - 1}})
    assert not is_refused({**DEFINE_PRODUCT, "validityMonths": number}, b"BANK000001/product/gold")


@pytest.mark.parametrize("text", [PAN_16, SPACED, DASHED, f"flat 5 {SPACED}"])
@pytest.mark.parametrize("name", ["controls", "limits"])
def test_inside_controls_and_limits_no_text_hides_a_card_number(name: str, text: str) -> None:
    """They are published as they are, their names too."""
    body = {**SUSPEND, "command": f"UPDATE_{name.upper()}"}
    for holding in (
        {"note": text},
        {"shops": [{"ids": [["x", text]]}]},
        {"commandId": text},
        {"encryptedData": text},
        {"a": {text: True}},
    ):
        assert is_refused({**body, name: holding})
    assert not is_refused({**body, name: {"note": SPACED.replace(" ", "  "), "encryptedData": "x"}})
