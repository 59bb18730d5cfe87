"""CREATE, and what is judged of each command before its card: steps (3) to (5) of design.md 5."""

from dataclasses import replace
from typing import Any

import pytest

from lifecycle.domain.cards import (
    State,
)
from lifecycle.domain.commands import CommandName, Requestor
from lifecycle.domain.consumers import ConsumerState
from lifecycle.domain.defaults import default_requestor, default_state
from lifecycle.domain.fields import time_ms_of
from tests.unit.deciding import (
    DEFAULT_REQUESTOR,
    START_MS,
    VIRTUAL,
    a_card,
    a_context,
    a_registered_card,
    after,
    decided,
    refused,
)

IN_PLACE = {"new_card_id": "card-1", "new_card_state": "ACTIVE"}


SYSTEM_COMMANDS = {"LOCK", "CARD_PRESENT", "EXPIRE", "AUTO_RENEW", "DELETE_DUE", "TIME_OUT"}


@pytest.mark.parametrize("name", CommandName)
def test_the_system_asks_for_locks_signals_and_timers_else_the_issuer(name: CommandName) -> None:
    system = Requestor(type="SYSTEM", id="SYSTEM")
    expected = system if name in SYSTEM_COMMANDS else DEFAULT_REQUESTOR
    assert default_requestor(name, "BANK000001") == expected


@pytest.mark.parametrize("name", CommandName)
def test_a_card_is_made_active_unless_the_command_says_otherwise(name: CommandName) -> None:
    assert default_state(name) == ("ACTIVE" if name in ("CREATE", "REGISTER") else None)


class TestCreate:
    def test_a_card_is_active_unless_inactive_is_asked(self) -> None:
        assert after(None, "CREATE").state is State.ACTIVE
        assert after(None, "CREATE", state="INACTIVE").state is State.INACTIVE
        assert refused(None, "CREATE", state="SUSPENDED") == "FIELD_INVALID_VALUE"
        assert refused(None, "CREATE", state="") == "FIELD_INVALID_VALUE"

    def test_the_expiry_counts_from_the_month_of_the_start_in_the_issuers_zone(self) -> None:
        new_year = time_ms_of("2025-12-31T22:30:00Z")
        assert new_year is not None
        assert after(None, "CREATE", a_context(start_time_ms=new_year)).exp == "1228"
        context = a_context(start_time_ms=new_year, issuer_time_zone="Africa/Cairo")
        assert after(None, "CREATE", context).exp == "0129"

    def test_an_unknown_consumer_is_registered_and_one_that_is_not_active_refused(self) -> None:
        assert decided(None, "CREATE", a_context(consumer_state=None)).registers_consumer
        assert not decided(None, "CREATE").registers_consumer
        for state in (ConsumerState.INACTIVE, ConsumerState.DELETED):
            context = a_context(consumer_state=state)
            assert refused(None, "CREATE", context, name="?") == "CONSUMER_NOT_ACTIVE"

    def test_what_exists_is_looked_at_before_the_fields(self) -> None:
        nothing = a_context(product=None, consumer_state=ConsumerState.INACTIVE)
        bad: dict[str, Any] = {"name": "?", "reason_code": "FRAUD"}
        assert refused(a_card(State.DELETED), "CREATE", nothing, **bad) == "CARD_ID_IN_USE"
        assert refused(None, "CREATE", nothing, **bad) == "CARD_PRODUCT_NOT_FOUND"
        assert refused(None, "CREATE", nothing, state="INACTIVE") == "CARD_PRODUCT_NOT_FOUND"
        assert refused(None, "CREATE", **bad) == "FIELD_INVALID_FORMAT"
        assert refused(None, "CREATE", reason_code="FRAUD") == "INVALID_REASON"

    def test_a_card_is_deleted_in_the_future_only(self) -> None:
        assert after(None, "CREATE", delete_at="2025-10-09T08:53:20.001Z").delete_at_ms == (
            START_MS + 1
        )
        for past in ("2025-10-09T08:53:20Z", "2025-10-09T08:53:20.000999Z"):
            decision = decided(None, "CREATE", delete_at=past)
            assert decision.error_code == "DELETE_TIME_NOT_FUTURE"
            assert decision.error is not None
            assert decision.error.endswith(" Field: deleteAt.")
        assert refused(None, "CREATE", delete_at="2026-02-30T00:00:00Z") == "FIELD_INVALID_FORMAT"

    def test_its_operation_carries_no_reason_code(self) -> None:
        decision = decided(None, "CREATE", reason="Welcome")
        assert decision.reason_code is None
        assert decision.reason == "Welcome"


class TestFields:
    @pytest.mark.parametrize(
        ("field", "value", "code"),
        [
            ("reason", "", "FIELD_INVALID_FORMAT"),
            ("reason", "a\n", "FIELD_INVALID_FORMAT"),
            ("reason", "é", "FIELD_INVALID_FORMAT"),
            ("reason", "a" * 65, "FIELD_INVALID_FORMAT"),
            ("reason_code", "lost", "FIELD_INVALID_FORMAT"),
            ("reason_code", "", "FIELD_INVALID_FORMAT"),
            ("reason_code", "CARD_NOT_RECEIVED", "INVALID_REASON"),
            ("correlation_id", "a/b", "FIELD_INVALID_FORMAT"),
            ("effective_date", "2025-10-09T08:53:20", "FIELD_INVALID_FORMAT"),
            ("effective_date", "2025-10-09T24:00:00Z", "FIELD_INVALID_FORMAT"),
            ("effective_date", "2025-10-09T08:53:60Z", "FIELD_INVALID_FORMAT"),
            ("effective_date", "٢٠٢٥-10-09T08:53:20Z", "FIELD_INVALID_FORMAT"),
            ("requestor", Requestor(type="BOT", id="x"), "FIELD_INVALID_VALUE"),
            ("requestor", Requestor(type="USER", id="x y"), "FIELD_INVALID_FORMAT"),
        ],
    )
    def test_a_common_field_is_judged_for_each_command(
        self, field: str, value: object, code: str
    ) -> None:
        assert refused(a_card(), "SUSPEND", **{field: value}) == code

    @pytest.mark.parametrize(
        ("name", "field", "value", "code"),
        [
            ("RENEW", "new_exp", "1327", "FIELD_INVALID_FORMAT"),
            ("RENEW", "new_exp", "11٢7", "FIELD_INVALID_FORMAT"),
            ("RENEW", "new_exp", "1127\n", "FIELD_INVALID_FORMAT"),
            ("RENEW", "new_card_id", "a" * 49, "FIELD_INVALID_FORMAT"),
            ("RENEW", "new_card_state", "SUSPENDED", "FIELD_INVALID_VALUE"),
            ("REPLACE", "encrypted_data", "x" * 8193, "FIELD_INVALID_FORMAT"),
            ("REPLACE", "encrypted_data", "x" * 8192, "FIELD_INVALID_VALUE"),
            ("REPLACE", "new_card_id", "card-9", "FIELD_INVALID_VALUE"),
            ("LOCK", "lock", "pin", "FIELD_INVALID_VALUE"),
        ],
    )
    def test_a_field_of_one_command_is_judged(
        self, name: str, field: str, value: object, code: str
    ) -> None:
        assert refused(a_card(), name, **{field: value}) == code

    def test_no_refused_value_is_shown_whatever_error_won(self) -> None:
        decision = decided(
            None,
            "SUSPEND",
            requestor=Requestor(type="BOT", id="x"),
            correlation_id="a/b",
            reason="<b>",
            reason_code="Lost",
        )
        assert decision.error_code == "CARD_NOT_FOUND"
        assert decision.requestor == DEFAULT_REQUESTOR
        assert decision.correlation_id is None
        assert decision.reason is None
        assert decision.reason_code is None

    def test_a_failed_operation_shows_the_reason_as_given_and_no_default(self) -> None:
        assert decided(None, "SUSPEND", reason_code="NO_SUCH").reason_code == "NO_SUCH"
        assert decided(None, "SUSPEND").reason_code is None
        assert decided(a_card(), "SUSPEND").reason_code == "ISSUER_DECISION"

    def test_the_error_names_the_field_and_not_its_value(self) -> None:
        error = decided(a_card(), "RENEW", new_exp="9999").error
        assert error is not None
        assert "newExp" in error
        assert "9999" not in error

    def test_an_error_that_is_about_no_field_names_none(self) -> None:
        assert decided(a_card(State.DELETED), "SUSPEND").error == "The card was deleted."

    @pytest.mark.parametrize(
        ("name", "fields", "field"),
        [
            ("SUSPEND", {"correlation_id": "a/b"}, "correlationId"),
            ("SUSPEND", {"effective_date": "x"}, "effectiveDate"),
            ("SUSPEND", {"reason_code": "x"}, "reasonCode"),
            ("SUSPEND", {"reason": "é"}, "reason"),
            ("SUSPEND", {"requestor": Requestor(type="USER", id="x y")}, "requestor.id"),
            ("SUSPEND", {"requestor": Requestor(type="BOT", id="x")}, "requestor.type"),
            ("REPLACE", {"reason": None}, "reason"),
            ("REPLACE", {"new_card_id": "card-9", "encrypted_data": "x"}, "newCardId"),
            ("REPLACE", {"encrypted_data": "x"}, "encryptedData"),
            ("RENEW", {"new_card_state": "ACTIVE"}, "newCardId"),
            ("RENEW", {"new_card_id": "card-1"}, "newCardState"),
            ("RENEW", {"new_card_id": "card-9", "new_card_state": "ACTIVE"}, "newCardId"),
            ("RENEW", {"new_exp": "1130"}, "newExp"),
            ("RENEW", {"new_auxiliary_exp": "1130", "encrypted_data": "x"}, "newAuxiliaryExp"),
            ("RENEW", {**IN_PLACE, "encrypted_data": "x"}, "encryptedData"),
            ("RENEW", {"new_card_product_id": "silver"}, "newCardProductId"),
        ],
    )
    def test_each_field_at_fault_is_named_as_on_the_wire(
        self, name: str, fields: dict[str, Any], field: str
    ) -> None:
        error = decided(a_card(), name, **fields).error
        assert error is not None
        assert error.endswith(f" Field: {field}.")

    @pytest.mark.parametrize(
        ("name", "fields", "field"),
        [
            ("REPLACE", {}, "newCardId"),
            ("REPLACE", {"new_card_id": "card-2"}, "encryptedData"),
            ("REPLACE", {"new_card_id": "card-1", "encrypted_data": "x"}, "newCardId"),
            ("RENEW", {}, "newExp"),
            ("RENEW", {"new_exp": "1130"}, "newAuxiliaryExp"),
            ("RENEW", {"new_exp": "1127", "new_auxiliary_exp": "1130"}, "newExp"),
            ("RENEW", {"new_exp": "1130", "new_auxiliary_exp": "1126"}, "newAuxiliaryExp"),
            (
                "RENEW",
                {**IN_PLACE, "new_exp": "1130", "new_auxiliary_exp": "1130"},
                "encryptedData",
            ),
        ],
    )
    def test_so_is_each_field_of_a_registered_card(
        self, name: str, fields: dict[str, Any], field: str
    ) -> None:
        amex = replace(VIRTUAL, scheme="AMEX")
        card = a_registered_card(terms=amex, has_auxiliary_pan=True, auxiliary_exp="1126")
        error = decided(card, name, **fields).error
        assert error is not None
        assert error.endswith(f" Field: {field}.")

    def test_fields_win_over_reasons_and_reasons_over_a_stale_date(self) -> None:
        context = a_context(version_time_ms=START_MS)
        old: dict[str, Any] = {"effective_date": "2025-10-09T08:53:19.999Z"}
        assert refused(a_card(), "SUSPEND", context, **old) == "STALE_COMMAND"
        assert after(a_card(), "SUSPEND", context, effective_date="2025-10-09T08:53:20Z")
        assert refused(a_card(), "SUSPEND", context, reason_code="X", **old) == "INVALID_REASON"
        assert refused(None, "SUSPEND", context, **old) == "CARD_NOT_FOUND"
        assert refused(a_card(State.DELETED), "SUSPEND", context, **old) == "STALE_COMMAND"

    def test_replace_asks_for_the_code_before_the_text(self) -> None:
        assert refused(a_card(), "REPLACE", reason_code=None) == "INVALID_REASON"
        assert refused(a_card(), "REPLACE", reason=None) == "FIELD_MISSING"
        assert refused(a_card(), "REPLACE", reason=None, reason_code=None) == "INVALID_REASON"
        assert refused(a_card(State.REPLACED), "REPLACE", reason=None) == "FIELD_MISSING"
