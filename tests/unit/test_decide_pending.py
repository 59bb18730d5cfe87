"""PENDING operations, their replies and time-outs: domain.md 3.3, 5, 7 and 8."""

# ruff: noqa: ANN401 - fields of any command, by name

from dataclasses import replace
from typing import Any

import pytest

from lifecycle.domain.cards import TERMINAL, Card, State
from lifecycle.domain.consumers import ConsumerState
from lifecycle.domain.decide import decide_card, decide_reply
from lifecycle.domain.errors import ErrorCode
from lifecycle.domain.fields import Refusal
from lifecycle.domain.operations import Context, Decision, Ignored, Pending, Reply, Status
from tests.unit.deciding import (
    CREDENTIALS,
    MANAGED,
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
    with_credentials,
)

MOVE = {"new_card_id": "card-2", "new_card_state": "ACTIVE", "correlation_id": "trip-7"}
DEADLINE_MS = START_MS + 60_000
GOOD = Reply(is_successful=True)
BAD = Reply(is_successful=False, error_code="CMS_DOWN")


def pending(name: str = "RENEW", /, **fields: Any) -> Pending:
    command = a_command(name, **(MOVE if name == "RENEW" else {}) | fields)
    return Pending(command=command, start_time_ms=START_MS, deadline_ms=DEADLINE_MS, incarnation=1)


def answered(
    card: Card, context: Context, reply: Reply = GOOD, waiting: Pending | None = None
) -> Decision:
    there = context._replace(pending=waiting or pending(), start_time_ms=START_MS + 5_000)
    decision = decide_reply(card, reply, there)
    assert isinstance(decision, Decision)
    assert decision.ends_pending
    return decision


def timed_out(card: Card | None, waiting: Pending | None, time_ms: int) -> Decision | Ignored:
    command = a_command("TIME_OUT", operation_id="o1")
    return decide_card(card, command, a_context(pending=waiting, start_time_ms=time_ms))


class TestRenewWithoutANumber:
    def test_it_waits_and_changes_nothing(self) -> None:
        card = a_registered_card(State.SUSPENDED)
        decision = decided(card, "RENEW", **MOVE)
        assert decision.status is Status.PENDING
        assert decision.subject is card
        assert (decision.caused, decision.numbers, decision.cascade_reason) == ((), (), None)
        assert decision.request is not None
        assert (decision.request.kind, dict(decision.request.data)) == (
            "RENEW",
            {"newCardId": "card-2", "newCardState": "ACTIVE"},
        )
        assert decision.details == {"newCardId": "card-2"}
        assert decision.reason_code == "ISSUER_DECISION"
        assert not decision.ends_pending

    def test_what_can_be_refused_is_refused_at_once(self) -> None:
        held = a_context(new_card=a_card(card_id="card-2"))
        assert refused(a_registered_card(), "RENEW", held, **MOVE) == "CARD_ID_IN_USE"
        assert refused(a_card(), "RENEW", **MOVE) == "FIELD_INVALID_VALUE"
        waits = a_registered_card(terms=PHYSICAL, pending_exp="1130")
        assert refused(waits, "RENEW", **MOVE) == "RENEWAL_IN_PROGRESS"
        early = MOVE | {"new_exp": "1127"}
        assert refused(a_registered_card(), "RENEW", **early) == "FIELD_INVALID_VALUE"

    def test_the_reply_ends_it_in_one_step(self) -> None:
        decision = answered(a_registered_card(), with_credentials())
        assert isinstance(decision.subject, Card)
        assert (decision.kind, decision.status) == ("RENEW", Status.SUCCESSFUL)
        assert (decision.subject.state, decision.subject.successor_card_id) == (
            "RENEWED",
            "card-2",
        )
        assert decision.correlation_id == "trip-7"
        assert decision.details == {"newCardId": "card-2", "newExp": "0930"}
        assert [change.kind for change in decision.numbers] == ["RETIRE", "ASSIGN_GIVEN"]
        (caused,) = decision.caused
        assert (caused.kind, caused.card.last4, caused.card.state) == ("REGISTER", "7899", "ACTIVE")
        assert decision.cascade_reason == "CLOSED_CARD"

    def test_a_failure_outside_ends_it_with_the_code_from_there(self) -> None:
        card = a_registered_card()
        decision = answered(card, with_credentials(), BAD)
        assert (decision.status, decision.error_code) == (Status.FAILED, "CMS_DOWN")
        assert decision.subject is card
        for shown in ("E", "404030000", "A" * 64):
            failed = answered(card, with_credentials(), BAD._replace(error_code=shown))
            assert failed.error_code == shown
        for code in (None, "", "no words", "1234567890", "4000001234567899", "CMS\n", "A" * 65):
            failed = answered(card, with_credentials(), Reply(is_successful=False, error_code=code))
            assert failed.error_code == "OUTSIDE_PARTY_FAILED"

    @pytest.mark.parametrize(
        ("context", "code"),
        [
            (with_credentials(opened=None), "FIELD_MISSING"),
            (with_credentials(opened=Refusal(ErrorCode.DECRYPTION_FAILED)), "DECRYPTION_FAILED"),
            (with_credentials(pan_is_free=False), "PAN_NOT_REUSABLE"),
            (with_credentials(opened=replace(CREDENTIALS, exp="1127")), "FIELD_INVALID_VALUE"),
            (with_credentials(new_card=a_card(card_id="card-2")), "CARD_ID_IN_USE"),
            (with_credentials(consumer_state=ConsumerState.DELETED), "CONSUMER_NOT_ACTIVE"),
        ],
    )
    def test_what_is_wrong_with_the_number_fails_it(self, context: Context, code: str) -> None:
        card = a_registered_card()
        decision = answered(card, context)
        assert (decision.error_code, decision.subject) == (code, card)

    def test_a_reply_without_a_number_is_told_what_it_lacks(self) -> None:
        decision = answered(a_registered_card(), a_context())
        assert decision.error is not None
        assert decision.error.endswith(" Field: encryptedData.")

    @pytest.mark.parametrize("state", sorted(TERMINAL))
    def test_a_card_that_left_meanwhile_is_not_renewed(self, state: State) -> None:
        decision = answered(a_registered_card(state), with_credentials())
        assert decision.error_code == f"CARD_{state}"

    def test_nor_is_the_next_life_of_its_id(self) -> None:
        decision = answered(a_registered_card(incarnation=2, terms=MANAGED), with_credentials())
        assert decision.error_code == "CARD_DELETED"

    def test_a_date_that_was_not_stale_does_not_become_so(self) -> None:
        waiting = pending(effective_date="2025-10-09T08:53:20Z")
        context = with_credentials(version_time_ms=START_MS + 1)
        assert answered(a_registered_card(), context, GOOD, waiting).error_code is None


class TestOtherKinds:
    def test_plastic_is_ordered(self) -> None:
        card = a_card(State.INACTIVE, terms=PHYSICAL, name="ANN", exp="1127")
        decision = decided(card, "PRODUCE", distribution_channel="BRANCH_7")
        assert decision.status is Status.PENDING
        assert decision.subject is card
        assert decision.details == {"distributionChannel": "BRANCH_7"}
        assert decision.request is not None
        assert dict(decision.request.data) == {
            "distributionChannel": "BRANCH_7",
            "name": "ANN",
            "secondName": "",
            "exp": "1127",
        }
        waiting = pending("PRODUCE", distribution_channel="BRANCH_7", reason="New branch")
        done = answered(card, a_context(), GOOD, waiting)
        assert (done.kind, done.status, done.subject) == ("PRODUCE", Status.SUCCESSFUL, card)
        assert done.reason == "New branch"
        assert done.details == {"distributionChannel": "BRANCH_7"}

    @pytest.mark.parametrize(
        ("exps", "printed"),
        [(("1127", "1130"), "1130"), (("1127", None), "1127"), ((None, None), "")],
    )
    def test_plastic_bears_the_expiry_that_it_will_have(
        self, exps: tuple[str | None, str | None], printed: str
    ) -> None:
        exp, pending_exp = exps
        card = a_card(terms=PHYSICAL, second_name="B", exp=exp, pending_exp=pending_exp)
        request = decided(card, "PRODUCE", distribution_channel="BRANCH_7").request
        assert request is not None
        assert (request.data["exp"], request.data["secondName"]) == (printed, "B")

    @pytest.mark.parametrize(
        ("card", "code"),
        [
            (a_card(State.SUSPENDED, terms=PHYSICAL), "OPERATION_NOT_ALLOWED"),
            (a_card(State.EXPIRED, terms=PHYSICAL), "OPERATION_NOT_ALLOWED"),
            (a_card(State.DELETED, terms=PHYSICAL), "CARD_DELETED"),
            (None, "CARD_NOT_FOUND"),
        ],
    )
    def test_other_cards_are_not(self, card: Card | None, code: str) -> None:
        assert refused(card, "PRODUCE", distribution_channel="BRANCH_7") == code

    @pytest.mark.parametrize("name", ["CLICK_TO_PAY_ENROLMENT", "CLICK_TO_PAY_UPDATE"])
    def test_only_an_active_card_is_enrolled_or_updated(self, name: str) -> None:
        decision = decided(a_card(), name, name="Zoë O'Hara")
        assert (decision.status, decision.reason_code) == (Status.PENDING, "ISSUER_DECISION")
        assert decision.request is not None
        assert dict(decision.request.data) == {
            "scheme": "VISA",
            "consumerId": "anna",
            "name": "Zoë O'Hara",
        }
        for state in (State.INACTIVE, State.SUSPENDED, State.EXPIRED):
            assert refused(a_card(state), name, name="Ann") == "CARD_NOT_ACTIVE"
        assert refused(a_card(State.RENEWED), name, name="Ann") == "CARD_RENEWED"
        assert refused(None, name, name="Ann") == "CARD_NOT_FOUND"
        for broken in ("", "A" * 27, "a@b", "a\n"):
            assert refused(a_card(), name, name=broken) == "FIELD_INVALID_FORMAT"
        assert refused(a_card(), name, name="Ann", reason_code="FRAUD") == "INVALID_REASON"

    @pytest.mark.parametrize("state", list(State))
    def test_a_card_that_was_never_enrolled_opts_out_at_once(self, state: State) -> None:
        card = a_card(state)
        assert after(card, "CLICK_TO_PAY_OPTOUT") is card

    def test_an_enrolled_card_opts_out_at_the_scheme(self) -> None:
        enrolled = answered(
            a_card(), a_context(), GOOD, pending("CLICK_TO_PAY_ENROLMENT", name="A")
        )
        assert isinstance(enrolled.subject, Card)
        assert enrolled.subject.click_to_pay
        asked = decided(enrolled.subject, "CLICK_TO_PAY_OPTOUT")
        assert asked.status is Status.PENDING
        assert asked.request is not None
        assert dict(asked.request.data) == {"scheme": "VISA", "consumerId": "anna"}
        left = answered(enrolled.subject, a_context(), GOOD, pending("CLICK_TO_PAY_OPTOUT"))
        assert isinstance(left.subject, Card)
        assert not left.subject.click_to_pay

    def test_what_the_scheme_tells_twice_changes_nothing_the_second_time(self) -> None:
        enrolled, other = a_card(click_to_pay=True), a_card()
        again = answered(enrolled, a_context(), GOOD, pending("CLICK_TO_PAY_ENROLMENT", name="A"))
        assert again.subject is enrolled
        left = answered(other, a_context(), GOOD, pending("CLICK_TO_PAY_OPTOUT"))
        assert left.subject is other

    def test_so_does_one_whose_enrolment_is_on_its_way(self) -> None:
        decision = decided(a_card(), "CLICK_TO_PAY_OPTOUT", a_context(enrolment_is_pending=True))
        assert decision.status is Status.PENDING

    def test_what_happened_outside_is_told_of_a_card_that_left_too(self) -> None:
        gone = a_card(State.DELETED)
        decision = answered(gone, a_context(), GOOD, pending("CLICK_TO_PAY_ENROLMENT", name="A"))
        assert isinstance(decision.subject, Card)
        assert (decision.subject.state, decision.subject.click_to_pay) == ("DELETED", True)
        again = a_card(incarnation=2)
        waiting = pending("CLICK_TO_PAY_ENROLMENT", name="A")
        assert answered(again, a_context(), GOOD, waiting).subject is again

    def test_a_failure_changes_nothing(self) -> None:
        card = a_card()
        waiting = pending("CLICK_TO_PAY_ENROLMENT", name="A", reason_code="USER_DECISION")
        decision = answered(card, a_context(), BAD, waiting)
        assert (decision.subject, decision.kind) == (card, "CLICK_TO_PAY_ENROLMENT")
        assert decision.reason_code == "USER_DECISION"


class TestTimeOut:
    def test_it_ends_the_operation_from_the_deadline_on(self) -> None:
        card = a_registered_card()
        assert timed_out(card, pending(), DEADLINE_MS - 1) is Ignored.IGNORED
        decision = timed_out(card, pending(), DEADLINE_MS)
        assert isinstance(decision, Decision)
        assert (decision.kind, decision.status) == ("RENEW", Status.FAILED)
        assert (decision.error_code, decision.subject) == ("OPERATION_TIMED_OUT", card)
        assert decision.correlation_id == "trip-7"
        assert decision.ends_pending

    def test_what_has_ended_is_left_alone(self) -> None:
        assert timed_out(a_registered_card(), None, DEADLINE_MS) is Ignored.IGNORED
        assert timed_out(None, None, DEADLINE_MS) is Ignored.IGNORED
        assert decide_reply(a_registered_card(), GOOD, with_credentials()) is Ignored.IGNORED


class TestSettings:
    @pytest.mark.parametrize(
        ("name", "field"), [("UPDATE_CONTROLS", "controls"), ("UPDATE_LIMITS", "limits")]
    )
    def test_they_are_replaced_and_not_merged(self, name: str, field: str) -> None:
        card = after(a_card(), name, **{field: {"b": [1, {"c": None}], "a": 0.5}})
        assert getattr(card, field) == '{"a":0.5,"b":[1,{"c":null}]}'
        assert getattr(after(card, name, **{field: {"d": True}}), field) == '{"d":true}'
        assert after(card, name, **{field: {"a": 0.5, "b": [1, {"c": None}]}}) is card

    def test_states_allow_them_as_the_book_says(self) -> None:
        for state in (State.INACTIVE, State.ACTIVE, State.SUSPENDED):
            assert after(a_card(state), "UPDATE_LIMITS", limits={"day": 5}).limits == '{"day":5}'
        assert refused(a_card(State.EXPIRED), "UPDATE_LIMITS", limits={}) == (
            "OPERATION_NOT_ALLOWED"
        )
        assert refused(a_card(State.REPLACED), "UPDATE_CONTROLS", controls={}) == "CARD_REPLACED"
        assert refused(None, "UPDATE_CONTROLS", controls={}) == "CARD_NOT_FOUND"

    @pytest.mark.parametrize(
        "settings",
        [
            {"a": [[[[[1]]]]]},
            {"a": [[[[[]]]]]},
            {"a": "x" * 4096},
            {str(number): number for number in range(1000)},
            {"a": 2**60},
            {"a": 2.0**53},
            {"a": [{"b": -1e16}]},
            {"a": float("nan")},
            {"a": object()},
            {"a": "\ud800"},
            {"\ud800": 1},
            {"a": {1: 2}},
        ],
    )
    def test_they_are_bounded(self, settings: dict[str, object]) -> None:
        assert refused(a_card(), "UPDATE_CONTROLS", controls=settings) == "FIELD_INVALID_FORMAT"

    def test_a_successor_keeps_them(self) -> None:
        card = a_card(controls='{"a":1}', limits='{"b":2}', click_to_pay=True)
        new = decided(card, "REPLACE").caused[0].card
        assert (new.controls, new.limits, new.click_to_pay) == ('{"a":1}', '{"b":2}', False)

    def test_they_outlast_other_commands(self) -> None:
        card = a_card(controls='{"a":1}', limits='{"b":2}', click_to_pay=True, terms=VIRTUAL)
        for name in ("SUSPEND", "RENEW", "DELETE"):
            changed = after(card, name)
            assert (changed.controls, changed.limits, changed.click_to_pay) == (
                '{"a":1}',
                '{"b":2}',
                True,
            )
