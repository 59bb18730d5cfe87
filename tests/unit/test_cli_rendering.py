"""What is shown to people: no byte of a topic moves their cursor, no event breaks a line."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.cli.rendering import event_line, printable


@given(st.text())
def test_whatever_a_topic_holds_is_printable(text: str) -> None:
    assert printable(text).isprintable()


def test_what_is_printable_already_stays() -> None:
    assert printable("Straße 1, naïve") == "Straße 1, naïve"
    assert printable("\x1b[2J\n") == "\\x1b[2J\\n"


def event(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    operation = {
        "operation": "SUSPEND",
        "status": "SUCCESSFUL",
        "startTime": "2026-11-22T10:00:00.001Z",
        "endTime": "2026-11-22T10:00:00.001Z",
        "reasonCode": "CARD_LOST",
    }
    card = {"state": "SUSPENDED"}
    subject = {"issuerId": "BANK000001", "cardId": "card-1"}
    return {**subject, "previousState": "ACTIVE", "operation": operation, "card": card, **changes}


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (event(), ["BANK000001/card-1", "SUSPEND", "ACTIVE -> SUSPENDED", "CARD_LOST"]),
        (event(previousState=None), ["SUSPENDED"]),
        (
            event(
                operation={
                    **event()["operation"],
                    "status": "FAILED",
                    "errorCode": "NOT_ACTIVATED",
                },
                card={"state": "INACTIVE"},
            ),
            ["FAILED", "NOT_ACTIVATED", "stays INACTIVE"],
        ),
        (
            event(operation={**event()["operation"], "status": "PENDING", "endTime": None}),
            ["PENDING"],
        ),
        (
            event(cardId=None, card=None, consumerId="anna", consumer={"state": "INACTIVE"}),
            ["BANK000001/consumer/anna", "ACTIVE -> INACTIVE"],
        ),
        (
            event(
                cardId=None,
                card=None,
                previousState=None,
                cardProductId="debit",
                product={"form": "VIRTUAL", "scheme": "VISA"},
            ),
            ["BANK000001/product/debit", "VIRTUAL VISA"],
        ),
    ],
)
def test_an_event_is_one_line_that_says_what_became_of_whom(
    shown: dict[str, Any], words: list[str]
) -> None:
    line = event_line(shown).plain
    assert line.isprintable()
    for word in ("10:00:00.001", *words):
        assert word in line
