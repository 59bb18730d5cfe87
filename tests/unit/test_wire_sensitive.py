"""SENSITIVE_DATA: card numbers where none may be (design.md 5; G10)."""

import json
from collections.abc import Mapping

import pytest

from lifecycle.kafka.commands import Broken, Parsed, parse
from lifecycle.kafka.dead_letters import DeadLetterCode
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


@pytest.mark.parametrize("number", [PAN_13, PAN_15, PAN_16, PAN_19, "2223003122003222"])
@pytest.mark.parametrize(
    "members",
    [
        {**CREATE, "consumerId": "?"},
        {**CREATE, "cardProductId": "?"},
        {**CREATE, "state": "?"},
        {**CREATE, "name": "?"},
        {**CREATE, "secondName": "?"},
        {**CREATE, "statusReason": "?"},
        {**CREATE, "deleteAt": "?"},
        {**SUSPEND, "reason": "?"},
        {**SUSPEND, "reasonCode": "?"},
        {**SUSPEND, "effectiveDate": "?"},
        {**SUSPEND, "requestor": {"type": "?", "id": "u"}},
        {**SUSPEND, "requestor": {"type": "USER", "id": "?"}},
        {**SUSPEND, "command": "RENEW", "newCardId": "?"},
        {**SUSPEND, "command": "LOCK", "lock": "?"},
    ],
    ids=lambda members: next(name for name, member in members.items() if "?" in json.dumps(member)),
)
def test_a_card_number_is_refused_in_every_text(members: Mapping[str, object], number: str) -> None:
    holding = json.loads(json.dumps(members).replace("?", number))
    assert is_refused(holding)
    assert not is_refused(json.loads(json.dumps(members).replace("?", "0" + number)))


def test_identifiers_are_searched() -> None:
    assert is_refused({**SUSPEND, "cardId": PAN_16}, f"{ISSUER}/{PAN_16}".encode())
    consumer = {**REGISTER_CONSUMER, "consumerId": PAN_16}
    assert is_refused(consumer, f"{ISSUER}/consumer/{PAN_16}".encode())
    product = {**DEFINE_PRODUCT, "cardProductId": PAN_16}
    assert is_refused(product, f"{ISSUER}/product/{PAN_16}".encode())


@pytest.mark.parametrize("name", ["commandId", "correlationId"])
@pytest.mark.parametrize(
    ("value", "refused"),
    [(PAN_13, False), (PAN_15, True), (PAN_16, True), (PAN_19, False), (f"a-{PAN_16}", True)],
)
def test_ids_of_the_sender_count_only_with_15_or_16_digits(
    name: str, value: str, *, refused: bool
) -> None:
    assert is_refused({**SUSPEND, name: value}) is refused


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
    assert not is_refused({**CREATE, "consumerId": text})
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
    outcome = parse(record({**SUSPEND, "requestor": {"type": "USER", "id": PAN_16}}))
    assert isinstance(outcome, Broken)
    assert "requestor.id" in outcome.error


@pytest.mark.parametrize("name", ["controls", "limits"])
def test_a_card_number_is_refused_as_a_number_of_controls_and_limits(name: str) -> None:
    """They are published as they are; no other field shows a number."""
    body = {**SUSPEND, "command": f"UPDATE_{name.upper()}"}
    number = int(PAN_16)
    for holding in ({"a": number}, {"a": [{"b": number}]}, {"a": float(number)}):
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
