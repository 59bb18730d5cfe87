"""Production against the oracle: every cell of domain.md 2.1, every reason, every history.

Each test walks through one command's whole product in plain loops, because a million test ids
would say no more. The corners of domain.md 8 are in `test_rule_corners.py`, one sentence each.
"""

from collections.abc import Iterable, Iterator
from itertools import product as every

import pytest

from tests.oracle import tables
from tests.oracle.adapters import disagreements, served
from tests.oracle.fields import Data
from tests.oracle.rule_book import expected
from tests.oracle.situations import (
    AT_VERSION,
    BEFORE_VERSION,
    BROKEN_FIELDS,
    BROKEN_OWN_FIELDS,
    ISSUER,
    OVER,
    QUESTIONS,
    REASON_CODES,
    REQUESTORS,
    a_command,
    a_context,
    a_product,
    situations,
)

SHOWN_MAX = 15
Case = tuple[str, Data | None, Data, Data]


def assert_agreement(cases: Iterable[Case], *, at_least: int) -> None:
    """Every case has the same outcome on both sides; `at_least` guards against an empty loop."""
    count, wrong = 0, []
    for label, subject, command, context in cases:
        count += 1
        wrong += [
            f"{label} | {command} | {sentence}"
            for sentence in disagreements(subject, command, context)
        ]
    assert not wrong, f"{len(wrong)} disagreements in {count} cases:\n" + "\n".join(
        wrong[:SHOWN_MAX]
    )
    assert count >= at_least


def cases_of(command: str) -> Iterator[Case]:
    for label, card, predecessor in situations():
        if command == "CREATE" and card is not None and card["exp"] == OVER:
            continue  # an id in use is in use, whatever its card may do
        for fields, context in QUESTIONS[command]():
            yield (
                label,
                card,
                a_command(command, **fields),
                a_context(predecessor=predecessor, **context),
            )


@pytest.mark.parametrize("command", sorted(QUESTIONS))
def test_production_says_what_the_rule_book_says_in_every_situation(command: str) -> None:
    assert_agreement(cases_of(command), at_least=5_000)


@pytest.mark.parametrize(
    ("method", "last4"), [("LAST4", None), ("LAST4", "1234"), ("CVV", None), ("CVV", "1234")]
)
def test_every_activation_method_asks_for_its_answer(method: str, last4: str | None) -> None:
    def cases() -> Iterator[Case]:
        for label, card, command, context in cases_of("ACTIVATE"):
            if card is not None and command.get("reasonCode") in (None, "USER_DECISION"):
                terms = {**card["terms"], "activationMethod": method}
                yield label, {**card, "terms": terms, "last4": last4}, command, context

    assert_agreement(cases(), at_least=5_000)


@pytest.mark.parametrize("command", sorted(BROKEN_OWN_FIELDS))
def test_a_broken_field_fails_the_command_and_is_not_shown(command: str) -> None:
    right: Data = {
        "CREATE": {"consumerId": "consumer-1", "cardProductId": "product-1"},
        "REPLACE": {"reasonCode": "FRAUD", "reason": "Skimmed"},
        "LOCK": {"lock": "PIN"},
    }.get(command, {})

    def cases() -> Iterator[Case]:
        for label, card, predecessor in situations():
            for broken in [*BROKEN_FIELDS, *BROKEN_OWN_FIELDS[command]]:
                context = a_context(predecessor=predecessor, product=a_product())
                yield label, card, a_command(command, **{**right, **broken}), context

    assert_agreement(cases(), at_least=2_000)


EFFECTIVE_DATES: list[Data] = [{"effectiveDate": BEFORE_VERSION}, {"effectiveDate": AT_VERSION}]


def consumer_command(name: str, /, **fields: object) -> Data:
    command = {**a_command(name, **fields), "consumerId": "consumer-1"}
    del command["cardId"]
    return command


@pytest.mark.parametrize("name", sorted(tables.CONSUMER_TABLE))
def test_consumer_commands_agree_with_the_rule_book(name: str) -> None:
    def cases() -> Iterator[Case]:
        for state in [None, "ACTIVE", "INACTIVE", "DELETED"]:
            consumer = state and {"issuerId": ISSUER, "consumerId": "consumer-1", "state": state}
            for code, requestor in every(REASON_CODES, REQUESTORS):
                command = consumer_command(name, reasonCode=code, requestor=requestor)
                yield f"{state}", consumer or None, command, a_context()
            for fields in [*BROKEN_FIELDS, *EFFECTIVE_DATES]:
                yield f"{state}", consumer or None, consumer_command(name, **fields), a_context()

    assert_agreement(cases(), at_least=200)


def product_command(**fields: object) -> Data:
    named: Data = {"cardProductId": "product-1", "form": "PHYSICAL", "scheme": "VISA"}
    command = a_command("PRODUCT_DEFINE", **{**named, **fields})
    del command["cardId"]
    return command


PRODUCT_VALUES: dict[str, list[object]] = {
    "form": ["VIRTUAL", "PHYSICAL", "virtual", "", "METAL"],
    "scheme": ["VISA", "AMEX", "A", "A" * 32, "A" * 33, "", "visa", "1VISA", "VISA\n", "V-PAY"],
    "activationMethod": [None, "CVV", "LAST4", "NOTHING", "PIN", ""],
    "implicitActivation": [None, True, False],
    "autoRenew": [None, True, False],
    "autoRenewDays": [None, 1, 30, 365, 0, -1, 366, 30.0, 30.5, 10**30, float("inf")],
    "transactions": [None, True, False],
    "dynamicCvv2": [None, True, False],
    "validityMonths": [None, 1, 36, 240, 0, -1, 241, 12.0, 12.5, 1e300, float("nan")],
    "bin": [None, "400000", "40000000000", "40000", "400000000000", "4000o0", "", "٤٠٠٠٠٠"],
    "reasonCode": [*REASON_CODES],
}


def test_product_definitions_agree_with_the_rule_book() -> None:
    known = [None, a_product(), a_product(form="VIRTUAL"), a_product(scheme="AMEX", autoRenew=True)]

    def cases() -> Iterator[Case]:
        for terms in known:
            product = terms and {
                "issuerId": ISSUER,
                "cardProductId": "product-1",
                "terms": terms,
            }
            for name, values in PRODUCT_VALUES.items():
                for value in values:
                    command = product_command(**{name: value})
                    yield f"{terms}", product, command, a_context()
            for fields in [*BROKEN_FIELDS, *EFFECTIVE_DATES]:
                yield f"{terms}", product, product_command(**fields), a_context()

    assert_agreement(cases(), at_least=300)


def test_the_oracle_itself_reaches_every_cell_and_every_error() -> None:
    """An oracle that refuses everything would agree with a production that does the same."""
    reached: set[tuple[str, str, str | None]] = set()
    for command in QUESTIONS:
        for label, card, asked, context in cases_of(command):
            if asked.get("requestor") is None and ">" not in label:
                outcome = expected(card, asked, served(card, asked, context))
                state = card["state"] if card else "unknown"
                seen = "IGNORED" if outcome["ignored"] else outcome["errorCode"]
                reached.add((command, state, seen))
    succeeded = {(command, state) for command, state, seen in reached if seen is None}
    assert succeeded == {
        ("CREATE", "unknown"),
        *every(["ACTIVATE"], ["INACTIVE", "ACTIVE", "EXPIRED", "SUSPENDED"]),
        *every(["SUSPEND"], ["ACTIVE", "SUSPENDED"]),
        *every(["RESUME"], ["SUSPENDED"]),
        *every(["REPLACE"], ["INACTIVE", "ACTIVE", "SUSPENDED", "EXPIRED"]),
        *every(["RENEW"], ["INACTIVE", "ACTIVE", "SUSPENDED", "EXPIRED"]),
        *every(["DELETE"], ["INACTIVE", "ACTIVE", "SUSPENDED", "EXPIRED"]),
        *every(["LOCK"], ["ACTIVE", "SUSPENDED"]),
    }
    assert {seen for _, _, seen in reached} >= {
        "CARD_NOT_FOUND",
        "CARD_PRODUCT_NOT_FOUND",
        "CARD_ID_IN_USE",
        "CONSUMER_NOT_ACTIVE",
        "DELETE_TIME_NOT_FUTURE",
        "FIELD_INVALID_FORMAT",
        "FIELD_INVALID_VALUE",
        "FIELD_MISSING",
        "INVALID_REASON",
        "STALE_COMMAND",
        "NOT_ACTIVATED",
        "OPERATION_NOT_ALLOWED",
        "ALREADY_SUSPENDED",
        "NOT_SUSPENDED",
        "REPLACEMENT_REQUIRED",
        "RENEWAL_IN_PROGRESS",
        "CARD_EXPIRED",
        "CARD_RENEWED",
        "CARD_REPLACED",
        "CARD_DELETED",
        "IGNORED",
    }
