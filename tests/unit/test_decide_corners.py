"""The corners of the decision on a card: domain.md 8."""

from dataclasses import replace
from typing import Any

import pytest

from lifecycle.domain import months
from lifecycle.domain.cards import (
    TERMINAL,
    Card,
    DigitalCards,
    Lock,
    OngoingOperation,
    State,
    digital_cards,
)
from lifecycle.domain.commands import (
    Requestor,
)
from lifecycle.domain.consumers import ConsumerState
from lifecycle.domain.decide import decide_card
from lifecycle.domain.fields import time_ms_of
from lifecycle.domain.operations import Ignored, OperationKind, Status
from lifecycle.domain.products import ActivationMethod, ProductTerms
from tests.unit.deciding import (
    PHYSICAL,
    START_MS,
    VIRTUAL,
    a_card,
    a_command,
    a_context,
    a_registered_card,
    after,
    decided,
    refused,
)

NOTHING: frozenset[str] = frozenset()

# A card of which every field says something, so that none of them is lost unnoticed.
WHOLE = a_registered_card(
    State.SUSPENDED,
    state_reason="USER_DECISION",
    terms=PHYSICAL,
    incarnation=3,
    pending_exp="1130",
    has_auxiliary_pan=True,
    auxiliary_exp="1027",
    pending_auxiliary_exp="1030",
    name="ANNA",
    second_name="B",
    predecessor_card_id="card-0",
    delete_at_ms=START_MS + 1,
    real_card_id="real-1",
    controls="{}",
    limits="{}",
    click_to_pay=True,
)


class TestWhatStays:
    @pytest.mark.parametrize(
        ("name", "fields", "changes"),
        [
            ("RESUME", {}, {"state": State.ACTIVE, "state_reason": None, "suspensions": NOTHING}),
            (
                "SUSPEND",
                {"reason_code": "FRAUD"},
                {"state_reason": "FRAUD", "suspensions": frozenset({"USER_DECISION", "FRAUD"})},
            ),
            (
                "LOCK",
                {"lock": "PIN"},
                {
                    "state_reason": "PIN_LOCKED",
                    "suspensions": frozenset({"USER_DECISION", "PIN_LOCKED"}),
                    "locks": frozenset({Lock.PIN}),
                },
            ),
            (
                "DELETE",
                {"reason_code": "CLOSED_CARD"},
                {
                    "state": State.DELETED,
                    "state_reason": "CLOSED_CARD",
                    "suspensions": NOTHING,
                    "ongoing_operation": OngoingOperation.NONE,
                    "pending_exp": None,
                    "pending_auxiliary_exp": None,
                },
            ),
        ],
    )
    def test_a_command_changes_what_it_speaks_of_and_nothing_else(
        self, name: str, fields: dict[str, Any], changes: dict[str, Any]
    ) -> None:
        assert after(WHOLE, name, **fields) == replace(WHOLE, **changes)

    def test_expiring_changes_the_state_alone(self) -> None:
        there = a_context(start_time_ms=months.month_end_ms("1127", "UTC"))
        assert after(WHOLE, "EXPIRE", there) == replace(WHOLE, state=State.EXPIRED)

    def test_a_new_card_has_the_names_that_were_sent(self) -> None:
        card = after(None, "CREATE", name="ANNA", second_name="B")
        assert (card.name, card.second_name) == ("ANNA", "B")

    def test_a_new_card_of_which_nothing_is_said_has_nothing(self) -> None:
        assert after(None, "CREATE") == a_card(exp="1028")
        assert a_card().name == ""


class TestSuspensions:
    def test_a_user_resumes_with_user_decision_by_default_and_not_as_the_issuer(self) -> None:
        user = Requestor(type="USER", id="anna")
        card = a_card(State.SUSPENDED)
        assert decided(card, "RESUME", requestor=user).reason_code == "USER_DECISION"
        assert refused(card, "RESUME", requestor=user, reason_code="ISSUER_DECISION") == (
            "INVALID_REASON"
        )

    def test_a_stronger_suspension_keeps_what_the_weaker_one_needed(self) -> None:
        card = after(a_card(), "SUSPEND", reason_code="ISSUER_DECISION")
        card = after(card, "SUSPEND", reason_code="CARD_LOST")
        assert card.state_reason == "CARD_LOST"
        assert refused(card, "RESUME", reason_code="CARD_FOUND") == "INVALID_REASON"
        assert after(card, "RESUME").suspensions == frozenset()

    def test_an_equal_or_weaker_suspension_is_refused(self) -> None:
        card = a_card(State.SUSPENDED, state_reason="CARD_LOST")
        for reason in ("CARD_LOST", "CARD_BROKEN", "USER_DECISION"):
            assert refused(card, "SUSPEND", reason_code=reason) == "ALREADY_SUSPENDED"

    def test_with_a_lock_only_the_issuer_resumes_whatever_came_after_it(self) -> None:
        card = after(after(a_card(), "LOCK", lock="PIN"), "SUSPEND", reason_code="CARD_LOST")
        assert refused(card, "RESUME", reason_code="CARD_FOUND") == "INVALID_REASON"
        resumed = after(card, "RESUME", reason_code="ISSUER_DECISION")
        assert (resumed.state, resumed.state_reason, resumed.locks) == (
            State.ACTIVE,
            None,
            frozenset(),
        )

    def test_after_a_fraud_the_consumer_is_asked_for_before_the_reason(self) -> None:
        card = a_card(State.SUSPENDED, state_reason="FRAUD")
        assert refused(card, "RESUME", reason_code="CARD_FOUND") == "REPLACEMENT_REQUIRED"
        context = a_context(consumer_state=ConsumerState.INACTIVE)
        assert refused(card, "RESUME", context) == "CONSUMER_NOT_ACTIVE"

    def test_a_lock_takes_over_a_weaker_reason_only(self) -> None:
        card = after(a_card(State.SUSPENDED), "LOCK", lock="CVV2")
        assert card.state_reason == "CVV2_LOCKED"
        card = after(a_card(State.SUSPENDED, state_reason="ISSUER_DECISION"), "LOCK", lock="PIN")
        assert (card.state_reason, card.locks) == ("ISSUER_DECISION", frozenset({Lock.PIN}))

    def test_a_lock_that_is_set_already_changes_nothing(self) -> None:
        card = after(a_card(), "LOCK", lock="PIN")
        decision = decided(card, "LOCK", lock="PIN")
        assert decision.subject is card
        assert decision.status is Status.SUCCESSFUL
        assert decision.reason_code is None
        assert decision.requestor == Requestor(type="SYSTEM", id="SYSTEM")

    def test_a_lock_that_does_not_apply_is_ignored_even_with_a_bad_field(self) -> None:
        for card in (None, *(a_card(state) for state in (State.INACTIVE, *sorted(TERMINAL)))):
            command = a_command("LOCK", lock="?", reason_code="?")
            assert decide_card(card, command, a_context()) is Ignored.IGNORED
        over = a_card(exp="0925")
        assert decide_card(over, a_command("LOCK", lock="PIN"), a_context()) is Ignored.IGNORED


class TestExpired:
    def test_a_card_expires_with_its_month_in_the_issuers_zone(self) -> None:
        end = time_ms_of("2025-10-31T23:00:00Z")
        assert end is not None
        card = a_card(exp="1025")
        assert after(card, "SUSPEND", a_context(start_time_ms=end - 1))
        assert after(card, "SUSPEND", a_context(start_time_ms=end))
        paris = a_context(start_time_ms=end, issuer_time_zone="Europe/Paris")
        assert refused(card, "SUSPEND", paris) == "CARD_EXPIRED"
        assert after(card, "SUSPEND", paris._replace(start_time_ms=end - 1))

    def test_an_expired_card_that_is_renewed_ends_where_its_cell_says(self) -> None:
        card = after(a_card(exp="0925"), "RENEW")
        assert (card.state, card.exp) == (State.ACTIVE, "1028")
        card = after(a_card(exp="0925", terms=PHYSICAL), "RENEW")
        assert (card.state, card.exp, card.pending_exp) == (State.EXPIRED, "0925", "1028")
        card = after(card, "ACTIVATE")
        assert (card.state, card.exp, card.pending_exp) == (State.ACTIVE, "1028", None)
        assert card.ongoing_operation is OngoingOperation.NONE

    def test_an_expired_card_is_activated_only_to_end_a_renewal(self) -> None:
        assert refused(a_card(State.INACTIVE, exp="0925"), "ACTIVATE") == "CARD_EXPIRED"

    @pytest.mark.parametrize("stored", [State.SUSPENDED, State.EXPIRED])
    def test_after_a_decision_it_ends_suspended_and_never_active(self, stored: State) -> None:
        held: dict[str, Any] = {"state_reason": "PIN_LOCKED", "locks": frozenset({Lock.PIN})}
        card = a_card(stored, exp="0925", **held)
        for renewed in (
            after(card, "RENEW"),
            after(card, "RENEW", new_card_id="card-1", new_card_state="ACTIVE"),
            after(card, "RENEW", new_card_id="card-1", new_card_state="INACTIVE"),
            after(a_card(stored, exp="0925", pending_exp="1028", **held), "ACTIVATE"),
        ):
            assert (renewed.state, renewed.exp, renewed.pending_exp) == (
                State.SUSPENDED,
                "1028",
                None,
            )
            assert (renewed.state_reason, renewed.locks) == (
                "PIN_LOCKED",
                frozenset({Lock.PIN}),
            )

    @pytest.mark.parametrize("reason", ["CARD_LOST", "CARD_STOLEN", "CARD_BROKEN", "FRAUD"])
    def test_after_a_loss_it_is_replaced_and_nothing_else(self, reason: str) -> None:
        card = a_card(State.EXPIRED, exp="0925", state_reason=reason)
        assert refused(card, "RENEW") == "REPLACEMENT_REQUIRED"
        assert refused(card, "ACTIVATE") == "REPLACEMENT_REQUIRED"
        assert after(card, "REPLACE").state is State.REPLACED
        assert refused(card, "RENEW", new_card_id="other", new_card_state="ACTIVE") == (
            "REPLACEMENT_REQUIRED"
        )

    def test_otherwise_it_is_not_replaced(self) -> None:
        assert refused(a_card(State.EXPIRED), "REPLACE") == "CARD_EXPIRED"
        assert refused(a_card(State.EXPIRED, state_reason="USER_DECISION"), "REPLACE") == (
            "CARD_EXPIRED"
        )


class TestRenew:
    def test_the_expiry_counts_from_the_later_of_expiry_and_start(self) -> None:
        assert after(a_card(exp="1127"), "RENEW").exp == "1130"
        assert after(a_card(exp="0925"), "RENEW").exp == "1028"

    def test_a_card_without_an_expiry_gets_one_from_the_start(self) -> None:
        assert after(a_card(exp=None), "RENEW").exp == "1028"

    def test_no_expiry_lies_behind_december_2099(self) -> None:
        assert after(a_card(exp="1198"), "RENEW").exp == "1299"
        assert refused(a_card(exp="1299"), "RENEW") == "FIELD_INVALID_VALUE"

    @pytest.mark.parametrize("state", [State.ACTIVE, State.SUSPENDED, State.EXPIRED])
    @pytest.mark.parametrize("terms", [VIRTUAL, PHYSICAL])
    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"new_card_id": "card-1", "new_card_state": "ACTIVE"},
            {"new_card_id": "card-1", "new_card_state": "INACTIVE"},
        ],
    )
    def test_one_renewal_at_a_time(
        self, state: State, terms: ProductTerms, fields: dict[str, Any]
    ) -> None:
        card = a_card(state, terms=terms, pending_exp="1130")
        assert refused(card, "RENEW", **fields) == "RENEWAL_IN_PROGRESS"
        held = replace(card, suspensions=frozenset({"USER_DECISION"}))
        assert refused(held, "RENEW", **fields) == "RENEWAL_IN_PROGRESS"

    def test_a_renewal_in_progress_wins_over_a_due_replacement_and_over_fields(self) -> None:
        card = a_card(State.SUSPENDED, state_reason="FRAUD", pending_exp="1130")
        assert refused(card, "RENEW", new_exp="1140") == "RENEWAL_IN_PROGRESS"
        card = replace(card, ongoing_operation=OngoingOperation.NONE, pending_exp=None)
        assert refused(card, "RENEW", new_exp="1140") == "REPLACEMENT_REQUIRED"
        assert refused(a_card(), "RENEW", new_exp="1140") == "FIELD_INVALID_VALUE"

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"new_card_id": "card-1"}, "FIELD_MISSING"),
            ({"new_card_state": "ACTIVE"}, "FIELD_MISSING"),
            ({"new_card_id": "card-9", "new_card_state": "ACTIVE"}, "FIELD_INVALID_VALUE"),
            ({"new_card_product_id": "silver"}, "FIELD_INVALID_VALUE"),
            ({"new_auxiliary_exp": "1130"}, "FIELD_INVALID_VALUE"),
            ({"encrypted_data": "x"}, "FIELD_INVALID_VALUE"),
            ({"reason_code": "CARD_LOST"}, "INVALID_REASON"),
        ],
    )
    def test_an_issued_card_refuses_fields(self, fields: dict[str, Any], code: str) -> None:
        assert refused(a_card(), "RENEW", **fields) == code

    def test_under_another_id_the_id_is_at_fault_and_not_the_suspension(self) -> None:
        card = a_card(State.SUSPENDED, state_reason="FRAUD")
        assert refused(card, "RENEW", new_card_id="card-1", new_card_state="ACTIVE") == (
            "REPLACEMENT_REQUIRED"
        )
        assert refused(card, "RENEW", new_card_id="card-9", new_card_state="ACTIVE") == (
            "FIELD_INVALID_VALUE"
        )

    def test_the_current_product_may_be_named(self) -> None:
        assert after(a_card(), "RENEW", new_card_product_id="gold").exp == "1130"

    @pytest.mark.parametrize("terms", [VIRTUAL, PHYSICAL])
    def test_v1_in_place_has_its_expiry_at_once(self, terms: ProductTerms) -> None:
        v1: dict[str, Any] = {"new_card_id": "card-1", "reason_code": "CARD_LOST"}
        card = a_card(terms=terms)
        active = after(card, "RENEW", new_card_state="ACTIVE", **v1)
        assert (active.state, active.exp, active.pending_exp) == (State.ACTIVE, "1130", None)
        inactive = after(card, "RENEW", new_card_state="INACTIVE", **v1)
        assert (inactive.state, inactive.exp, inactive.pending_exp) == (
            State.INACTIVE,
            "1130",
            None,
        )
        assert after(inactive, "ACTIVATE").state is State.ACTIVE

    def test_v1_never_lifts_a_suspension(self) -> None:
        for asked in ("ACTIVE", "INACTIVE"):
            card = after(
                a_card(State.SUSPENDED), "RENEW", new_card_id="card-1", new_card_state=asked
            )
            assert (card.state, card.state_reason) == (State.SUSPENDED, "USER_DECISION")
            assert card.exp == "1130"


class TestReplace:
    def test_a_virtual_successor_is_active_and_relinked_in_the_same_step(self) -> None:
        decision = decided(a_card(name="ANNA", second_name="B"), "REPLACE")
        old = decision.subject
        assert isinstance(old, Card)
        assert (old.state, old.state_reason, old.successor_card_id) == (
            State.REPLACED,
            "CARD_LOST",
            "card-2",
        )
        assert digital_cards(old) is DigitalCards.RELINKED
        (caused,) = decision.caused
        assert caused.kind is OperationKind.CREATE
        assert caused.card == a_card(
            card_id="card-2",
            exp="1028",
            predecessor_card_id="card-1",
            name="ANNA",
            second_name="B",
        )

    def test_a_physical_successor_relinks_when_it_is_activated_and_once(self) -> None:
        decision = decided(a_card(terms=PHYSICAL), "REPLACE")
        old, new = decision.subject, decision.caused[0].card
        assert isinstance(old, Card)
        assert new.state is State.INACTIVE
        assert digital_cards(old) is DigitalCards.RELINK_PENDING
        activation = decided(new, "ACTIVATE", a_context(predecessor=old))
        (caused,) = activation.caused
        assert caused.kind is OperationKind.RELINK
        assert caused.card == replace(old, digital_cards_relinked=True)
        again = decided(new, "ACTIVATE", a_context(predecessor=caused.card))
        assert again.caused == ()
        assert decided(new, "ACTIVATE", a_context(predecessor=None)).caused == ()

    def test_a_generated_id_that_is_taken_is_refused_after_the_fields(self) -> None:
        taken = a_context(generated_card_id_in_use=True)
        for state in (State.INACTIVE, State.ACTIVE, State.SUSPENDED):
            assert refused(a_card(state), "REPLACE", taken) == "CARD_ID_IN_USE"
        assert refused(a_card(), "REPLACE", taken, new_card_id="x") == "FIELD_INVALID_VALUE"
        assert refused(a_card(State.EXPIRED), "REPLACE", taken) == "CARD_EXPIRED"

    @pytest.mark.parametrize("name", ["REPLACE", "DELETE"])
    def test_an_end_clears_locks_and_a_pending_renewal(self, name: str) -> None:
        card = a_card(
            State.SUSPENDED,
            state_reason="PIN_LOCKED",
            locks=frozenset({Lock.PIN}),
            pending_exp="1130",
        )
        ended = after(card, name)
        assert (ended.locks, ended.pending_exp, ended.ongoing_operation) == (
            frozenset(),
            None,
            OngoingOperation.NONE,
        )


class TestActivate:
    def test_the_answer_is_asked_for_inactive_cards_and_pending_renewals(self) -> None:
        terms = replace(PHYSICAL, activation_method=ActivationMethod.LAST4)
        card = a_card(State.INACTIVE, terms=terms, last4="1234")
        assert refused(card, "ACTIVATE") == "ACTIVATION_FAILED"
        assert refused(card, "ACTIVATE", last4="4321") == "ACTIVATION_FAILED"
        assert after(card, "ACTIVATE", last4="1234").state is State.ACTIVE
        active = a_card(terms=terms, last4="1234")
        assert after(active, "ACTIVATE", last4="4321") is active
        pending = a_card(terms=terms, last4="1234", pending_exp="1130")
        assert refused(pending, "ACTIVATE") == "ACTIVATION_FAILED"

    def test_without_a_number_nothing_is_right(self) -> None:
        for method in (ActivationMethod.LAST4, ActivationMethod.CVV):
            card = a_card(State.INACTIVE, terms=replace(PHYSICAL, activation_method=method))
            answers: dict[str, Any] = {"last4": "1234", "encrypted_data": "x"}
            assert refused(card, "ACTIVATE", **answers) == "ACTIVATION_FAILED"

    def test_the_consumer_must_be_active_even_when_nothing_changes(self) -> None:
        inactive = a_context(consumer_state=ConsumerState.INACTIVE)
        assert refused(a_card(), "ACTIVATE", inactive) == "CONSUMER_NOT_ACTIVE"


class TestDetails:
    """domain.md 5: what an operation tells of its kind beside the card."""

    def test_a_lock_names_what_was_locked(self) -> None:
        assert decided(a_card(), "LOCK", lock="PIN").details == {"lock": "PIN"}

    def test_a_replace_names_the_new_card(self) -> None:
        decision = decided(a_card(), "REPLACE")
        assert decision.details == {"newCardId": decision.caused[0].card.card_id}

    def test_a_renew_names_the_new_expiry(self) -> None:
        decision = decided(a_card(), "RENEW")
        assert decision.details == {"newExp": "1130"}

    def test_a_renew_of_plastic_names_the_expiry_to_come(self) -> None:
        assert decided(a_card(terms=PHYSICAL), "RENEW").details == {"newExp": "1130"}

    def test_other_kinds_tell_nothing_more(self) -> None:
        assert decided(a_card(), "SUSPEND").details == {}

    def test_a_refused_command_tells_none(self) -> None:
        assert decided(a_card(State.DELETED), "REPLACE").details == {}
