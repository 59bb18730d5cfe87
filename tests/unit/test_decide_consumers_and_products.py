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
from lifecycle.domain.products import Product
from tests.unit.deciding import (
    VIRTUAL,
    a_context,
)


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
    asleep = a_consumer_command("CONSUMER_DEACTIVATE")
    assert decide_consumer(anna, asleep, a_context()).cascade_reason is None


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

    def test_the_same_definition_changes_nothing(self) -> None:
        gold = Product(issuer_id="BANK000001", card_product_id="gold", terms=VIRTUAL)
        assert decide_product(gold, a_definition(), a_context()).subject is gold

    @pytest.mark.parametrize("changed", [{"form": "PHYSICAL"}, {"scheme": "AMEX"}])
    def test_form_and_scheme_stay(self, changed: dict[str, str]) -> None:
        gold = Product(issuer_id="BANK000001", card_product_id="gold", terms=VIRTUAL)
        decision = decide_product(gold, a_definition(**changed), a_context())
        assert decision.error_code == "FIELD_INVALID_VALUE"
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
