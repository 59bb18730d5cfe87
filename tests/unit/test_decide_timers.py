"""Signals and timers: domain.md 2.1 and 8, "State corners"."""

from dataclasses import replace
from uuid import UUID

import pytest

from lifecycle.domain import months
from lifecycle.domain.cards import TERMINAL, Card, Lock, Origin, State
from lifecycle.domain.commands import Requestor
from lifecycle.domain.consumers import ConsumerState
from lifecycle.domain.fields import time_ms_of
from lifecycle.domain.operations import Context
from lifecycle.domain.timers import cascade_id, cause_of, due_timers, time_out_id
from tests.unit.deciding import (
    PHYSICAL,
    START_MS,
    VIRTUAL,
    a_card,
    a_context,
    a_registered_card,
    after,
    decided,
    is_ignored,
    refused,
)

IMPLICIT = replace(PHYSICAL, implicit_activation=True)
RENEWING = replace(VIRTUAL, auto_renew=True)
BY_SYSTEM = Requestor(type="SYSTEM", id="SYSTEM")
SIGNALS = ("CARD_PRESENT", "EXPIRE", "AUTO_RENEW", "DELETE_DUE")


def at(text: str, time_zone: str = "UTC") -> Context:
    time_ms = time_ms_of(text)
    assert time_ms is not None
    return a_context(start_time_ms=time_ms, issuer_time_zone=time_zone)


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_that_does_not_apply_leaves_nothing_even_with_a_bad_field(name: str) -> None:
    assert is_ignored(None, name, correlation_id="a/b")
    for state in State:
        assert is_ignored(a_card(state), name, correlation_id="a/b")


class TestCardPresent:
    def test_it_activates_new_plastic_where_the_product_says_so(self) -> None:
        decision = decided(a_card(State.INACTIVE, terms=IMPLICIT), "CARD_PRESENT")
        assert isinstance(decision.subject, Card)
        assert decision.subject.state is State.ACTIVE
        assert (decision.kind, decision.reason_code) == ("ACTIVATE", None)
        assert decision.requestor == BY_SYSTEM

    def test_it_ends_a_renewal(self) -> None:
        card = a_card(terms=IMPLICIT, pending_exp="1130")
        renewed = after(card, "CARD_PRESENT")
        assert (renewed.exp, renewed.pending_exp, renewed.ongoing_operation) == (
            "1130",
            None,
            "NONE",
        )

    def test_it_relinks_the_digital_cards_of_the_old_card(self) -> None:
        old = a_card(State.REPLACED, card_id="card-0", successor_card_id="card-1")
        card = a_card(State.INACTIVE, terms=IMPLICIT, predecessor_card_id="card-0")
        decision = decided(card, "CARD_PRESENT", a_context(predecessor=old))
        assert [caused.kind for caused in decision.caused] == ["RELINK"]

    @pytest.mark.parametrize(
        "card",
        [
            a_card(State.INACTIVE, terms=PHYSICAL),
            a_card(State.INACTIVE, terms=replace(VIRTUAL, implicit_activation=True)),
            a_card(State.INACTIVE, terms=IMPLICIT, exp="0925"),
            a_card(terms=IMPLICIT),
            a_card(terms=PHYSICAL, pending_exp="1130"),
            a_card(State.SUSPENDED, terms=IMPLICIT, pending_exp="1130"),
            a_card(State.EXPIRED, terms=IMPLICIT, pending_exp="1130"),
            *(a_card(state, terms=IMPLICIT) for state in TERMINAL),
        ],
    )
    def test_everything_else_is_ignored(self, card: Card) -> None:
        assert is_ignored(card, "CARD_PRESENT")

    @pytest.mark.parametrize("state", [ConsumerState.INACTIVE, ConsumerState.DELETED, None])
    def test_it_needs_an_active_consumer(self, state: ConsumerState | None) -> None:
        context = a_context(consumer_state=state)
        assert is_ignored(a_card(State.INACTIVE, terms=IMPLICIT), "CARD_PRESENT", context)
        assert is_ignored(a_card(terms=IMPLICIT, pending_exp="1130"), "CARD_PRESENT", context)

    def test_where_it_applies_its_fields_are_judged(self) -> None:
        card = a_card(State.INACTIVE, terms=IMPLICIT)
        assert refused(card, "CARD_PRESENT", correlation_id="a/b") == "FIELD_INVALID_FORMAT"
        assert refused(card, "CARD_PRESENT", reason_code="USER_DECISION") == "INVALID_REASON"


class TestExpire:
    @pytest.mark.parametrize("state", [State.INACTIVE, State.ACTIVE, State.SUSPENDED])
    def test_a_card_expires_when_its_month_is_over_and_not_before(self, state: State) -> None:
        card = a_card(state, exp="1127")
        assert is_ignored(card, "EXPIRE", at("2027-11-30T23:59:59.999Z"))
        assert after(card, "EXPIRE", at("2027-12-01T00:00:00Z")).state is State.EXPIRED
        assert decided(card, "EXPIRE", at("2027-12-01T00:00:00Z")).kind == "EXPIRE"

    def test_the_month_ends_where_the_issuer_is(self) -> None:
        card = a_card(exp="1127")
        assert is_ignored(card, "EXPIRE", at("2027-12-01T04:59:59.999Z", "America/New_York"))
        later = at("2027-12-01T05:00:00Z", "America/New_York")
        assert after(card, "EXPIRE", later).state is State.EXPIRED
        earlier = at("2027-11-30T10:00:00Z", "Pacific/Kiritimati")
        assert after(card, "EXPIRE", earlier).state is State.EXPIRED

    def test_it_keeps_what_the_card_was_suspended_for_and_its_renewal(self) -> None:
        card = a_card(
            State.SUSPENDED,
            state_reason="PIN_LOCKED",
            locks=frozenset({Lock.PIN}),
            terms=PHYSICAL,
            pending_exp="1130",
            exp="0925",
        )
        assert after(card, "EXPIRE") == replace(card, state=State.EXPIRED)

    @pytest.mark.parametrize("state", [State.EXPIRED, *sorted(TERMINAL)])
    def test_what_is_over_already_is_left_alone(self, state: State) -> None:
        assert is_ignored(a_card(state, exp="0925"), "EXPIRE")

    def test_a_card_without_an_expiry_never_expires(self) -> None:
        assert is_ignored(a_card(exp=None), "EXPIRE")


class TestAutoRenew:
    CARD = a_card(exp="1127", terms=RENEWING)

    def test_it_renews_within_the_window_and_not_outside(self) -> None:
        assert is_ignored(self.CARD, "AUTO_RENEW", at("2027-10-31T23:59:59.999Z"))
        decision = decided(self.CARD, "AUTO_RENEW", at("2027-11-01T00:00:00Z"))
        assert isinstance(decision.subject, Card)
        assert decision.subject.exp == "1130"
        assert (decision.kind, decision.reason_code) == ("RENEW", "ISSUER_DECISION")
        assert (decision.requestor, decision.details) == (BY_SYSTEM, {"newExp": "1130"})
        assert after(self.CARD, "AUTO_RENEW", at("2027-11-30T23:59:59.999Z")).exp == "1130"
        assert is_ignored(self.CARD, "AUTO_RENEW", at("2027-12-01T00:00:00Z"))

    def test_days_are_those_of_the_issuers_calendar(self) -> None:
        # Clocks go back on 31 October 2027 in Berlin: 30 days are an hour longer there.
        card = a_card(exp="1127", terms=replace(RENEWING, auto_renew_days=31))
        assert is_ignored(card, "AUTO_RENEW", at("2027-10-30T21:59:59.999Z", "Europe/Berlin"))
        assert after(card, "AUTO_RENEW", at("2027-10-30T22:00:00Z", "Europe/Berlin")).exp == "1130"

    def test_plastic_waits_for_its_activation(self) -> None:
        card = replace(self.CARD, terms=replace(RENEWING, form=PHYSICAL.form))
        renewed = after(card, "AUTO_RENEW", at("2027-11-15T00:00:00Z"))
        assert (renewed.state, renewed.exp, renewed.pending_exp) == (State.ACTIVE, "1127", "1130")
        assert is_ignored(renewed, "AUTO_RENEW", at("2027-11-15T00:00:00Z"))

    @pytest.mark.parametrize(
        "card",
        [
            replace(CARD, terms=VIRTUAL),
            replace(CARD, origin=Origin.REGISTERED),
            replace(CARD, exp=None),
            *(
                a_card(state, exp="1127", terms=RENEWING)
                for state in State
                if state is not State.ACTIVE
            ),
        ],
    )
    def test_every_other_card_is_skipped(self, card: Card) -> None:
        assert is_ignored(card, "AUTO_RENEW", at("2027-11-15T00:00:00Z"))

    def test_an_expiry_that_cannot_grow_is_left_alone(self) -> None:
        card = a_card(exp="1299", terms=RENEWING)
        assert is_ignored(card, "AUTO_RENEW", at("2099-12-15T00:00:00Z"))

    def test_it_takes_no_other_reason(self) -> None:
        context = at("2027-11-15T00:00:00Z")
        assert after(self.CARD, "AUTO_RENEW", context, reason_code="ISSUER_DECISION")
        assert refused(self.CARD, "AUTO_RENEW", context, reason_code="USER_DECISION") == (
            "INVALID_REASON"
        )


class TestDeleteDue:
    @pytest.mark.parametrize("state", [s for s in State if s not in TERMINAL])
    def test_a_card_is_deleted_from_delete_at_on(self, state: State) -> None:
        early = a_card(state, delete_at_ms=START_MS + 1, last4="1111")
        assert is_ignored(early, "DELETE_DUE")
        due = replace(early, delete_at_ms=START_MS)
        decision = decided(due, "DELETE_DUE")
        assert isinstance(decision.subject, Card)
        assert (decision.subject.state, decision.subject.state_reason) == (
            State.DELETED,
            "CLOSED_CARD",
        )
        assert (decision.kind, decision.reason_code) == ("DELETE", None)
        assert [change.kind for change in decision.numbers] == ["RETIRE"]

    def test_a_card_without_delete_at_stays(self) -> None:
        assert is_ignored(a_card(), "DELETE_DUE")

    def test_it_takes_no_reason(self) -> None:
        due = a_card(delete_at_ms=START_MS)
        assert refused(due, "DELETE_DUE", reason_code="CLOSED_CARD") == "INVALID_REASON"


class TestDueTimers:
    def test_a_card_has_the_timers_of_its_state(self) -> None:
        card = a_card(exp="1127", terms=RENEWING, delete_at_ms=5, incarnation=3)
        assert [(timer.kind.value, timer.command_id) for timer in due_timers(card, "UTC")] == [
            ("AUTO_RENEW", "AUTO_RENEW:1127:3"),
            ("EXPIRE", "EXPIRE:1127:3"),
            ("DELETE_DUE", "DELETE_DUE:5:3"),
        ]
        held = a_card(State.SUSPENDED, exp="1127", terms=RENEWING)
        assert [timer.kind for timer in due_timers(held, "UTC")] == ["EXPIRE"]
        assert due_timers(a_card(State.EXPIRED, terms=RENEWING), "UTC") == ()
        assert due_timers(a_registered_card(exp=None), "UTC") == ()
        last = a_card(exp="1299", terms=RENEWING)
        assert [timer.kind for timer in due_timers(last, "UTC")] == ["EXPIRE"]
        for state in TERMINAL:
            assert due_timers(a_card(state, delete_at_ms=5, terms=RENEWING), "UTC") == ()

    @pytest.mark.parametrize("state", [State.INACTIVE, State.ACTIVE, State.SUSPENDED])
    def test_every_card_that_can_expire_has_a_timer_for_it(self, state: State) -> None:
        assert [timer.kind for timer in due_timers(a_card(state), "UTC")] == ["EXPIRE"]

    @pytest.mark.parametrize("time_zone", ["UTC", "Europe/Berlin", "Pacific/Kiritimati"])
    @pytest.mark.parametrize("days", [1, 30, 365])
    def test_each_applies_at_its_time_and_not_a_moment_before(
        self, time_zone: str, days: int
    ) -> None:
        card = a_card(
            exp="0328",
            terms=replace(RENEWING, auto_renew_days=days),
            delete_at_ms=START_MS + 7,
        )
        timers = due_timers(card, time_zone)
        assert len(timers) == 3
        for timer in timers:
            then = a_context(start_time_ms=timer.due_ms, issuer_time_zone=time_zone)
            before = then._replace(start_time_ms=timer.due_ms - 1)
            assert is_ignored(card, timer.kind.value, before)
            assert after(card, timer.kind.value, then) is not card

    def test_a_timer_that_fires_twice_changes_nothing_the_second_time(self) -> None:
        card = a_card(exp="1127", terms=RENEWING, delete_at_ms=START_MS)
        for timer in due_timers(card, "UTC"):
            then = a_context(start_time_ms=timer.due_ms)
            assert is_ignored(after(card, timer.kind.value, then), timer.kind.value, then)

    def test_a_renewed_card_has_a_timer_of_its_own(self) -> None:
        renewed = after(a_card(exp="1127", terms=VIRTUAL), "RENEW")
        ids = [timer.command_id for timer in due_timers(renewed, "UTC")]
        assert ids == [f"EXPIRE:{renewed.exp}:1"]


def test_the_id_of_a_cascade_names_its_cause() -> None:
    cause = UUID("0e2a7f3c-1111-8222-9333-444455556666")
    assert cascade_id(cause) == f"CASCADE:{cause}"
    assert cause_of(cascade_id(cause)) == cause
    assert cause_of("CASCADE:x") is None
    assert cause_of(f"c{cause}") is None
    assert cause_of(str(cause)) is None
    assert cause_of(time_out_id(cause)) is None
    assert max(len(cascade_id(cause)), len(time_out_id(cause))) <= 64


def test_the_id_of_a_time_out_names_what_was_waited_for() -> None:
    waited = UUID("0e2a7f3c-1111-8222-9333-444455556666")
    assert time_out_id(waited) == f"TIME_OUT:{waited}"


def test_days_before_the_end_of_a_month_reach_into_other_years() -> None:
    assert months.month_end_ms("0128", "UTC", days_before=31) == time_ms_of("2028-01-01T00:00:00Z")
    assert months.month_end_ms("0228", "UTC", days_before=366) == time_ms_of("2027-03-01T00:00:00Z")
