"""Consumers and products: domain.md 8, "Consumer commands", and design.md 3."""

# ruff: noqa: ANN401 - fields of any command, by name

from dataclasses import replace
from typing import Any

import pytest

from lifecycle.domain.commands import (
    ConsumerCommand,
    DefineProduct,
)
from lifecycle.domain.consumers import Consumer, ConsumerState
from lifecycle.domain.decide import decide_consumer, decide_product
from lifecycle.domain.operations import Status
from lifecycle.domain.products import ActivationMethod, Form, Product, ProductTerms
from tests.unit.deciding import (
    START_MS,
    VIRTUAL,
    a_context,
)

EARLIER, AT_VERSION = "2025-10-09T08:53:19.999Z", "2025-10-09T08:53:20Z"


def a_consumer_command(name: str, **fields: Any) -> ConsumerCommand:
    return ConsumerCommand(
        command_id="c1", command=name, issuer_id="BANK000001", consumer_id="anna", **fields
    )


@pytest.mark.parametrize(
    ("state", "name", "outcome"),
    [
        (None, "CONSUMER_REGISTER", "ACTIVE"),
        (None, "CONSUMER_DEACTIVATE", "CONSUMER_NOT_FOUND"),
        (None, "CONSUMER_REACTIVATE", "CONSUMER_NOT_FOUND"),
        ("ACTIVE", "CONSUMER_REGISTER", "unchanged"),
        ("ACTIVE", "CONSUMER_DEACTIVATE", "INACTIVE"),
        ("ACTIVE", "CONSUMER_REACTIVATE", "unchanged"),
        ("INACTIVE", "CONSUMER_REGISTER", "ACTIVE"),
        ("INACTIVE", "CONSUMER_DEACTIVATE", "unchanged"),
        ("INACTIVE", "CONSUMER_REACTIVATE", "ACTIVE"),
        ("DELETED", "CONSUMER_REGISTER", "CONSUMER_DELETED"),
        ("DELETED", "CONSUMER_DEACTIVATE", "CONSUMER_DELETED"),
        ("DELETED", "CONSUMER_REACTIVATE", "CONSUMER_DELETED"),
        (None, "CONSUMER_DELETE", "CONSUMER_NOT_FOUND"),
        ("ACTIVE", "CONSUMER_DELETE", "DELETED"),
        ("INACTIVE", "CONSUMER_DELETE", "DELETED"),
        ("DELETED", "CONSUMER_DELETE", "CONSUMER_DELETED"),
    ],
)
def test_a_consumer_command_has_its_outcome(state: str | None, name: str, outcome: str) -> None:
    before = (
        None
        if state is None
        else Consumer(issuer_id="BANK000001", consumer_id="anna", state=ConsumerState(state))
    )
    decision = decide_consumer(before, a_consumer_command(name), a_context())
    if decision.status is Status.FAILED or outcome == "unchanged":
        assert decision.subject is before
        assert (decision.error_code or "unchanged") == outcome
    else:
        assert isinstance(decision.subject, Consumer)
        assert decision.subject.state == outcome


def test_a_successful_operation_tells_what_was_sent() -> None:
    said = {"reason": "Welcome", "correlation_id": "trip-7"}
    for decision in (
        decide_consumer(None, a_consumer_command("CONSUMER_REGISTER", **said), a_context()),
        decide_product(None, a_definition(**said), a_context()),
    ):
        assert decision.status is Status.SUCCESSFUL
        assert (decision.reason, decision.correlation_id) == ("Welcome", "trip-7")


def test_a_consumer_command_refuses_each_reason_code() -> None:
    command = a_consumer_command("CONSUMER_REGISTER", reason_code="USER_DECISION")
    assert decide_consumer(None, command, a_context()).error_code == "INVALID_REASON"


def test_deleting_a_consumer_closes_the_account_of_each_card() -> None:
    anna = Consumer(issuer_id="BANK000001", consumer_id="anna", state=ConsumerState.INACTIVE)
    decision = decide_consumer(anna, a_consumer_command("CONSUMER_DELETE"), a_context())
    assert (decision.reason_code, decision.cascade_reason) == ("ISSUER_DECISION", "CLOSED_ACCOUNT")
    by_user = a_consumer_command("CONSUMER_DELETE", reason_code="USER_DECISION")
    assert decide_consumer(anna, by_user, a_context()).reason_code == "USER_DECISION"
    lost = a_consumer_command("CONSUMER_DELETE", reason_code="CLOSED_ACCOUNT")
    refused = decide_consumer(anna, lost, a_context())
    assert (refused.error_code, refused.cascade_reason) == ("INVALID_REASON", None)


@pytest.mark.parametrize("name", ["CONSUMER_DEACTIVATE", "CONSUMER_REACTIVATE"])
@pytest.mark.parametrize("state", [ConsumerState.ACTIVE, ConsumerState.INACTIVE])
def test_nothing_but_deleting_a_consumer_touches_the_cards(name: str, state: ConsumerState) -> None:
    anna = Consumer(issuer_id="BANK000001", consumer_id="anna", state=state)
    assert decide_consumer(anna, a_consumer_command(name), a_context()).cascade_reason is None


@pytest.mark.parametrize(("date", "code"), [(EARLIER, "STALE_COMMAND"), (AT_VERSION, None)])
def test_a_command_from_before_the_last_change_is_stale(date: str, code: str | None) -> None:
    there = a_context(version_time_ms=START_MS)
    anna = Consumer(issuer_id="BANK000001", consumer_id="anna", state=ConsumerState.ACTIVE)
    asleep = a_consumer_command("CONSUMER_DEACTIVATE", effective_date=date)
    assert decide_consumer(anna, asleep, there).error_code == code
    gold = Product(issuer_id="BANK000001", card_product_id="gold", terms=VIRTUAL)
    assert decide_product(gold, a_definition(effective_date=date), there).error_code == code


def a_definition(**fields: Any) -> DefineProduct:
    return DefineProduct(
        command_id="c1",
        command="PRODUCT_DEFINE",
        issuer_id="BANK000001",
        card_product_id="gold",
        **({"form": "VIRTUAL", "scheme": "VISA"} | fields),
    )


class TestProduct:
    def test_what_a_definition_leaves_out_has_its_default(self) -> None:
        decision = decide_product(None, a_definition(validity_months=24.0), a_context())
        assert decision.subject == Product(
            issuer_id="BANK000001",
            card_product_id="gold",
            terms=replace(VIRTUAL, validity_months=24),
        )
        again = decide_product(decision.subject, a_definition(), a_context())
        assert isinstance(again.subject, Product)
        assert again.subject.terms == VIRTUAL

    def test_what_a_definition_says_is_taken_whole(self) -> None:
        said: dict[str, Any] = {
            "activation_method": "CVV",
            "implicit_activation": True,
            "auto_renew": True,
            "auto_renew_days": 45.0,
            "transactions": False,
            "dynamic_cvv2": True,
            "validity_months": 24,
            "bin": "510510",
        }
        decision = decide_product(None, a_definition(**said), a_context())
        assert isinstance(decision.subject, Product)
        assert decision.subject.terms == ProductTerms(form=Form.VIRTUAL, scheme="VISA", **said)
        assert isinstance(decision.subject.terms.activation_method, ActivationMethod)
        assert isinstance(decision.subject.terms.auto_renew_days, int)

    def test_the_same_definition_changes_nothing(self) -> None:
        gold = Product(issuer_id="BANK000001", card_product_id="gold", terms=VIRTUAL)
        assert decide_product(gold, a_definition(), a_context()).subject is gold

    @pytest.mark.parametrize("changed", [{"form": "PHYSICAL"}, {"scheme": "AMEX"}])
    def test_form_and_scheme_stay(self, changed: dict[str, str]) -> None:
        gold = Product(issuer_id="BANK000001", card_product_id="gold", terms=VIRTUAL)
        decision = decide_product(gold, a_definition(**changed), a_context())
        assert decision.error_code == "FIELD_INVALID_VALUE"
        assert decision.error is not None
        assert decision.error.endswith(f" Field: {next(iter(changed))}.")
        assert decision.subject is gold

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"form": "PAPER"}, "FIELD_INVALID_VALUE"),
            ({"scheme": "visa"}, "FIELD_INVALID_FORMAT"),
            ({"activation_method": "PIN"}, "FIELD_INVALID_VALUE"),
            ({"validity_months": 0}, "FIELD_INVALID_VALUE"),
            ({"validity_months": 241}, "FIELD_INVALID_VALUE"),
            ({"validity_months": 36.5}, "FIELD_INVALID_VALUE"),
            ({"auto_renew_days": 366}, "FIELD_INVALID_VALUE"),
            ({"auto_renew_days": float("nan")}, "FIELD_INVALID_VALUE"),
            ({"bin": "12345"}, "FIELD_INVALID_FORMAT"),
            ({"reason_code": "FRAUD"}, "INVALID_REASON"),
        ],
    )
    def test_a_bad_definition_is_refused(self, fields: dict[str, Any], code: str) -> None:
        assert decide_product(None, a_definition(**fields), a_context()).error_code == code
