"""Cards of the issuer, card numbers and the reuse of ids: domain.md 3, 4 and 8."""

# ruff: noqa: ANN401 - fields of any command, by name

from dataclasses import replace
from typing import Any

import pytest

from lifecycle.domain.cards import TERMINAL, Card, Origin, State
from lifecycle.domain.consumers import ConsumerState
from lifecycle.domain.errors import ErrorCode
from lifecycle.domain.fields import Refusal
from lifecycle.domain.operations import Context, Decision
from lifecycle.domain.products import ActivationMethod
from tests.unit.deciding import (
    CREDENTIALS,
    MANAGED,
    PHYSICAL,
    START_MS,
    VIRTUAL,
    a_card,
    a_context,
    a_registered_card,
    after,
    decided,
    refused,
    with_credentials,
)

GIVEN = {"new_card_id": "card-2", "encrypted_data": "a.b.c.d.e"}
COBADGED = replace(CREDENTIALS, auxiliary_pan="6011000990139424", auxiliary_exp="0830")
SHORT = replace(CREDENTIALS, pan="79927398713")


def moving(state: str = "ACTIVE", **fields: Any) -> dict[str, Any]:
    return {**GIVEN, "new_card_state": state, **fields}


def numbers(decision: Decision) -> list[tuple[str, str]]:
    return [(change.kind.value, change.card_id) for change in decision.numbers]


def successor(decision: Decision) -> Card:
    assert decision.error_code is None, decision.error
    return decision.caused[0].card


class TestRegister:
    def test_its_number_and_expiry_are_those_in_encrypted_data(self) -> None:
        decision = decided(None, "REGISTER", with_credentials(opened=COBADGED))
        card = decision.subject
        assert isinstance(card, Card)
        assert (card.origin, card.state, card.exp) == (Origin.REGISTERED, State.ACTIVE, "0930")
        assert (card.last4, card.has_auxiliary_pan, card.auxiliary_exp) == ("7899", True, "0830")
        assert decision.kind == "REGISTER"
        assert numbers(decision) == [("ASSIGN_GIVEN", "card-1")]
        assert after(None, "REGISTER", with_credentials(), state="INACTIVE").state == "INACTIVE"

    def test_it_registers_an_unknown_consumer_and_no_inactive_one(self) -> None:
        unknown = with_credentials(consumer_state=None)
        assert decided(None, "REGISTER", unknown).registers_consumer
        inactive = with_credentials(consumer_state=ConsumerState.INACTIVE)
        assert refused(None, "REGISTER", inactive, name="?") == "CONSUMER_NOT_ACTIVE"

    def test_what_opened_badly_is_refused_with_its_code(self) -> None:
        nobody = decided(None, "REGISTER", with_credentials(opened=None))
        assert nobody.error_code == "DECRYPTION_FAILED"
        assert nobody.error == "This service has no keys that open encryptedData."
        for code in (ErrorCode.DECRYPTION_FAILED, ErrorCode.PAN_LUHN_INVALID):
            badly = with_credentials(opened=Refusal(code, "encryptedData.pan", "Said closely."))
            decision = decided(None, "REGISTER", badly)
            assert decision.error_code == code
            assert decision.error == "Said closely. Field: encryptedData.pan."

    def test_a_virtual_card_has_13_digits_at_least(self) -> None:
        short = with_credentials(opened=SHORT)
        assert refused(None, "REGISTER", short) == "PAN_LUHN_INVALID"
        assert str(decided(None, "REGISTER", short).error).endswith(" Field: encryptedData.pan.")
        shortest = with_credentials(opened=replace(CREDENTIALS, pan="4000001234562"))
        assert after(None, "REGISTER", shortest).last4 == "4562"
        plastic = with_credentials(opened=SHORT, product=PHYSICAL)
        assert after(None, "REGISTER", plastic).last4 == "8713"

    def test_a_number_that_is_not_new_is_refused_last(self) -> None:
        taken = with_credentials(pan_is_free=False)
        assert refused(None, "REGISTER", taken) == "PAN_NOT_REUSABLE"
        assert refused(None, "REGISTER", taken._replace(opened=SHORT)) == "PAN_LUHN_INVALID"
        assert refused(None, "REGISTER", taken, delete_at="2020-01-01T00:00:00Z") == (
            "DELETE_TIME_NOT_FUTURE"
        )

    def test_too_much_encrypted_data_is_refused_unopened(self) -> None:
        assert refused(None, "REGISTER", with_credentials(), encrypted_data="x" * 8193) == (
            "FIELD_INVALID_FORMAT"
        )


def test_what_the_caller_does_not_serve_counts_as_absent() -> None:
    served = Context(start_time_ms=START_MS)._asdict()
    del served["start_time_ms"]
    assert served.pop("issuer_time_zone") == "UTC"
    assert [name for name, value in served.items() if value] == []
    assert refused(None, "REGISTER", a_context(opened=CREDENTIALS)) == "PAN_NOT_REUSABLE"


class TestReuse:
    @pytest.mark.parametrize("state", sorted(TERMINAL))
    def test_an_id_begins_a_new_life_when_its_card_left_for_good(self, state: State) -> None:
        old = a_registered_card(
            state,
            terms=MANAGED,
            incarnation=4,
            state_reason="CARD_LOST",
            successor_card_id="card-9",
            predecessor_card_id="card-0",
            digital_cards_relinked=True,
        )
        decision = decided(old, "REGISTER", with_credentials())
        card = decision.subject
        assert isinstance(card, Card)
        assert (card.incarnation, card.state, card.state_reason) == (5, State.ACTIVE, None)
        assert (card.successor_card_id, card.predecessor_card_id) == (None, None)
        assert not card.digital_cards_relinked
        assert numbers(decision) == [("ASSIGN_GIVEN", "card-1")]

    @pytest.mark.parametrize(
        "old",
        [
            *(a_registered_card(state, terms=MANAGED) for state in State if state not in TERMINAL),
            a_registered_card(State.DELETED),
            a_card(State.DELETED, terms=MANAGED),
            a_registered_card(terms=MANAGED, exp="0925"),
        ],
    )
    def test_any_other_card_keeps_its_id(self, old: Card) -> None:
        assert refused(old, "REGISTER", with_credentials(product=None)) == "CARD_ID_IN_USE"
        held = with_credentials(new_card=replace(old, card_id="card-2"))
        assert refused(a_registered_card(), "REPLACE", held, **GIVEN) == "CARD_ID_IN_USE"
        assert refused(a_registered_card(), "RENEW", held, **moving()) == "CARD_ID_IN_USE"

    def test_create_never_begins_a_second_life(self) -> None:
        assert refused(a_registered_card(State.DELETED, terms=MANAGED), "CREATE") == (
            "CARD_ID_IN_USE"
        )

    def test_a_replacement_may_have_an_id_that_was_left(self) -> None:
        left = a_registered_card(State.DELETED, card_id="card-2", terms=MANAGED, incarnation=2)
        context = with_credentials(new_card=left)
        assert successor(decided(a_registered_card(), "REPLACE", context, **GIVEN)).incarnation == 3

    def test_the_next_life_of_a_predecessor_is_not_relinked(self) -> None:
        card = a_card(State.INACTIVE, predecessor_card_id="card-0")
        old = a_registered_card(
            State.REPLACED, card_id="card-0", successor_card_id="card-7", incarnation=2
        )
        assert decided(card, "ACTIVATE", a_context(predecessor=old)).caused == ()


class TestReplace:
    def test_a_registered_card_needs_id_and_number_of_the_new_one(self) -> None:
        card = a_registered_card()
        for fields in ({}, {"encrypted_data": "a.b"}, {"new_card_id": "card-2"}):
            assert refused(card, "REPLACE", with_credentials(), **fields) == "FIELD_MISSING"
        same = GIVEN | {"new_card_id": "card-1"}
        assert refused(card, "REPLACE", with_credentials(), **same) == "FIELD_INVALID_VALUE"

    def test_the_new_card_is_registered_with_the_given_number(self) -> None:
        old = a_registered_card(
            terms=PHYSICAL, real_card_id="real-1", real_card_incarnation=1, exp="1227"
        )
        context = with_credentials(opened=COBADGED, real_card=a_card(card_id="real-1"))
        decision = decided(old, "REPLACE", context, **GIVEN)
        new = successor(decision)
        assert decision.caused[0].kind == "REGISTER"
        assert (new.card_id, new.origin, new.state) == ("card-2", Origin.REGISTERED, "INACTIVE")
        assert (new.exp, new.last4, new.has_auxiliary_pan) == ("0930", "7899", True)
        assert (new.predecessor_card_id, new.real_card_id) == ("card-1", "real-1")
        assert new.real_card_incarnation == old.real_card_incarnation
        assert decision.details == {"newCardId": "card-2"}
        assert numbers(decision) == [("RETIRE", "card-1"), ("ASSIGN_GIVEN", "card-2")]

    def test_it_may_end_earlier_than_the_old_one(self) -> None:
        early = with_credentials(opened=replace(CREDENTIALS, exp="0126"))
        assert successor(decided(a_registered_card(), "REPLACE", early, **GIVEN)).exp == "0126"

    def test_a_deleted_consumer_gets_no_new_card(self) -> None:
        gone = with_credentials(consumer_state=ConsumerState.DELETED)
        assert refused(a_registered_card(), "REPLACE", gone, **GIVEN) == "CONSUMER_NOT_ACTIVE"
        assert refused(a_card(), "REPLACE", gone) == "CONSUMER_NOT_ACTIVE"
        assert refused(a_registered_card(), "RENEW", gone, **moving()) == "CONSUMER_NOT_ACTIVE"
        asleep = with_credentials(consumer_state=ConsumerState.INACTIVE)
        assert successor(decided(a_registered_card(), "REPLACE", asleep, **GIVEN))

    def test_an_issued_card_gets_the_drawn_number(self) -> None:
        decision = decided(a_card(last4="1111"), "REPLACE", a_context(generated_last4="2222"))
        assert successor(decision).last4 == "2222"
        assert numbers(decision) == [("RETIRE", "card-1"), ("ASSIGN_GENERATED", "card-2")]

    def test_without_a_number_to_draw_no_card_is_made(self) -> None:
        empty = a_context(generated_last4=ErrorCode.BIN_RANGE_EXHAUSTED)
        assert refused(a_card(), "REPLACE", empty) == "BIN_RANGE_EXHAUSTED"
        assert refused(None, "CREATE", empty) == "BIN_RANGE_EXHAUSTED"

    def test_a_created_card_has_the_drawn_number(self) -> None:
        decision = decided(None, "CREATE", a_context(generated_last4="2222"))
        assert isinstance(decision.subject, Card)
        assert decision.subject.last4 == "2222"
        assert numbers(decision) == [("ASSIGN_GENERATED", "card-1")]
        assert numbers(decided(None, "CREATE")) == []


class TestRenew:
    def test_a_registered_card_needs_its_new_expiries(self) -> None:
        assert refused(a_registered_card(), "RENEW") == "FIELD_MISSING"
        cobadged = a_registered_card(has_auxiliary_pan=True, auxiliary_exp="1126")
        assert refused(cobadged, "RENEW", new_exp="1130") == "FIELD_MISSING"
        card = after(cobadged, "RENEW", new_exp="1130", new_auxiliary_exp="1029")
        assert (card.exp, card.auxiliary_exp) == ("1130", "1029")

    def test_an_issued_amex_card_is_renewed_in_place_without_a_number(self) -> None:
        card = a_card(terms=replace(VIRTUAL, scheme="AMEX"))
        assert after(card, "RENEW", new_card_id="card-1", new_card_state="ACTIVE").exp == "1130"

    def test_a_loss_is_renewed_under_another_id_with_no_later_expiry(self) -> None:
        same = with_credentials(opened=replace(CREDENTIALS, exp="1127"))
        fields = moving(new_exp="1127")
        assert refused(a_registered_card(), "RENEW", same, **fields) == "FIELD_INVALID_VALUE"
        lost = decided(a_registered_card(), "RENEW", same, **fields, reason_code="CARD_LOST")
        assert successor(lost).exp == "1127"

    def test_an_auxiliary_expiry_may_come_before_its_number(self) -> None:
        fields = {"new_card_id": "card-2", "new_card_state": "ACTIVE", "new_auxiliary_exp": "1130"}
        assert decided(a_registered_card(), "RENEW", **fields).status == "PENDING"

    def test_a_new_number_without_an_auxiliary_one_leaves_that_as_it_is(self) -> None:
        cobadged = a_registered_card(has_auxiliary_pan=True, auxiliary_exp="1126")
        fields = moving(new_card_id="card-1", new_exp="0930", new_auxiliary_exp="1029")
        card = after(cobadged, "RENEW", with_credentials(), **fields)
        assert (card.last4, card.has_auxiliary_pan, card.auxiliary_exp) == ("7899", True, "1029")

    def test_an_auxiliary_expiry_needs_an_auxiliary_number(self) -> None:
        fields = {"new_exp": "1130", "new_auxiliary_exp": "1029"}
        assert refused(a_registered_card(), "RENEW", **fields) == "FIELD_INVALID_VALUE"

    @pytest.mark.parametrize("exp", ["1127", "1027", "1226"])
    def test_the_new_expiry_is_later(self, exp: str) -> None:
        assert refused(a_registered_card(), "RENEW", new_exp=exp) == "FIELD_INVALID_VALUE"
        cobadged = a_registered_card(has_auxiliary_pan=True, auxiliary_exp="1127")
        fields = {"new_exp": "1130", "new_auxiliary_exp": exp}
        assert refused(cobadged, "RENEW", **fields) == "FIELD_INVALID_VALUE"

    def test_the_number_stays_and_its_expiry_moves(self) -> None:
        decision = decided(a_registered_card(), "RENEW", new_exp="1130")
        assert numbers(decision) == [("KEEP_WITH_NEW_EXPIRY", "card-1")]
        assert decision.details == {"newExp": "1130"}

    def test_plastic_waits_for_its_activation_with_both_expiries(self) -> None:
        card = a_registered_card(terms=PHYSICAL, has_auxiliary_pan=True, auxiliary_exp="1126")
        decision = decided(card, "RENEW", new_exp="1130", new_auxiliary_exp="1029")
        waiting = decision.subject
        assert isinstance(waiting, Card)
        assert (waiting.exp, waiting.pending_exp) == ("1127", "1130")
        assert (waiting.auxiliary_exp, waiting.pending_auxiliary_exp) == ("1126", "1029")
        assert numbers(decision) == []
        activated = decided(waiting, "ACTIVATE")
        assert isinstance(activated.subject, Card)
        assert (activated.subject.exp, activated.subject.auxiliary_exp) == ("1130", "1029")
        assert activated.subject.pending_auxiliary_exp is None
        assert numbers(activated) == [("KEEP_WITH_NEW_EXPIRY", "card-1")]

    def test_a_relink_gives_no_card_a_number(self) -> None:
        old = a_registered_card(State.REPLACED, card_id="card-0", successor_card_id="card-1")
        new = a_registered_card(State.INACTIVE, predecessor_card_id="card-0")
        activated = decided(new, "ACTIVATE", a_context(predecessor=old))
        assert [one.kind for one in activated.caused] == ["RELINK"]
        assert numbers(activated) == []

    def test_v2_takes_no_number(self) -> None:
        fields = {"new_exp": "1130", "encrypted_data": "a.b.c.d.e"}
        assert refused(a_registered_card(), "RENEW", **fields) == "FIELD_INVALID_VALUE"

    def test_v1_in_place_may_bring_another_number(self) -> None:
        in_place = moving(new_card_id="card-1", new_exp="0930")
        decision = decided(a_registered_card(), "RENEW", with_credentials(), **in_place)
        assert isinstance(decision.subject, Card)
        assert (decision.subject.last4, decision.subject.exp) == ("7899", "0930")
        assert numbers(decision) == [("ASSIGN_GIVEN", "card-1")]
        unlike = in_place | {"new_exp": "1030"}
        assert refused(a_registered_card(), "RENEW", with_credentials(), **unlike) == (
            "FIELD_INVALID_VALUE"
        )

    def test_v1_in_place_needs_the_new_expiry(self) -> None:
        fields = {"new_card_id": "card-1", "new_card_state": "ACTIVE"}
        assert refused(a_registered_card(), "RENEW", **fields) == "FIELD_MISSING"

    def test_an_amex_card_is_renewed_by_v1_with_its_number_only(self) -> None:
        amex = a_registered_card(terms=replace(VIRTUAL, scheme="AMEX"))
        psn = with_credentials(opened=replace(CREDENTIALS, psn="01"))
        bare = {"new_card_state": "ACTIVE", "new_exp": "0930"}
        for new_card_id in ("card-1", "card-2"):
            fields = bare | {"new_card_id": new_card_id}
            assert refused(amex, "RENEW", psn, **fields) == "FIELD_MISSING"
            assert after(amex, "RENEW", psn, **fields, encrypted_data="a.b.c.d.e")
        assert after(amex, "RENEW", new_exp="0930").exp == "0930"


class TestRenewUnderAnotherId:
    @pytest.mark.parametrize(
        ("reason_code", "state"),
        [
            (None, "RENEWED"),
            ("USER_DECISION", "RENEWED"),
            ("ISSUER_DECISION", "RENEWED"),
            ("CARD_LOST", "REPLACED"),
            ("CARD_STOLEN", "REPLACED"),
            ("CARD_BROKEN", "REPLACED"),
            ("CARD_NOT_RECEIVED", "REPLACED"),
            ("FRAUD", "REPLACED"),
        ],
    )
    def test_the_old_card_leaves_as_the_reason_says(
        self, reason_code: str | None, state: str
    ) -> None:
        for old in (
            a_registered_card(),
            a_registered_card(State.SUSPENDED, state_reason="CARD_STOLEN"),
            a_registered_card(State.EXPIRED),
        ):
            decision = decided(old, "RENEW", with_credentials(), **moving(reason_code=reason_code))
            left = decision.subject
            assert isinstance(left, Card)
            assert (left.state, left.successor_card_id) == (state, "card-2")
            assert left.state_reason == (reason_code or "ISSUER_DECISION")
            assert decision.details == {"newCardId": "card-2", "newExp": "0930"}
            assert numbers(decision) == [("RETIRE", "card-1"), ("ASSIGN_GIVEN", "card-2")]

    @pytest.mark.parametrize("state", ["ACTIVE", "INACTIVE"])
    def test_the_new_card_is_in_the_state_that_was_asked(self, state: str) -> None:
        old = a_registered_card(terms=PHYSICAL)
        decision = decided(old, "RENEW", with_credentials(), **moving(state))
        assert (successor(decision).state, decision.caused[0].kind) == (state, "REGISTER")
        assert isinstance(decision.subject, Card)
        assert decision.subject.digital_cards_relinked is (state == "ACTIVE")

    def test_a_renewal_that_waits_and_a_loss_before_the_end_are_in_the_way(self) -> None:
        waits = a_registered_card(terms=PHYSICAL, pending_exp="1130")
        assert refused(waits, "RENEW", with_credentials(), **moving()) == "RENEWAL_IN_PROGRESS"
        lost = a_registered_card(State.EXPIRED, state_reason="CARD_LOST")
        assert refused(lost, "RENEW", with_credentials(), **moving()) == "REPLACEMENT_REQUIRED"
        new = a_registered_card(State.INACTIVE)
        assert refused(new, "RENEW", with_credentials(), **moving()) == "NOT_ACTIVATED"

    def test_it_lasts_longer_unless_the_old_one_was_lost(self) -> None:
        early = with_credentials(opened=replace(CREDENTIALS, exp="1127"))
        assert refused(a_registered_card(), "RENEW", early, **moving()) == "FIELD_INVALID_VALUE"
        lost = moving(reason_code="CARD_LOST")
        assert after(a_registered_card(), "RENEW", early, **lost).state == "REPLACED"
        named = moving(new_exp="1127")
        assert refused(a_registered_card(), "RENEW", early, **named) == "FIELD_INVALID_VALUE"

    @pytest.mark.parametrize(
        ("opened", "fields", "field"),
        [
            ({}, {"new_exp": "0931"}, "newExp"),
            ({}, {"new_auxiliary_exp": "0831"}, "newAuxiliaryExp"),
            ({"exp": "1127"}, {}, "encryptedData.exp"),
            ({"auxiliary_exp": "1126"}, {}, "encryptedData.auxiliaryExp"),
        ],
    )
    def test_what_does_not_fit_its_number_is_named(
        self, opened: dict[str, Any], fields: dict[str, Any], field: str
    ) -> None:
        cobadged = a_registered_card(has_auxiliary_pan=True, auxiliary_exp="1126")
        there = with_credentials(opened=replace(COBADGED, **opened))
        decision = decided(cobadged, "RENEW", there, **moving(**fields))
        assert decision.error is not None
        assert decision.error.endswith(f" Field: {field}.")

    def test_who_may_have_no_new_card_is_told_before_the_number_is_judged(self) -> None:
        closed = a_context(consumer_state=ConsumerState.DELETED)
        assert refused(a_registered_card(), "REPLACE", closed, **GIVEN) == "CONSUMER_NOT_ACTIVE"
        virtual = a_registered_card(real_card_id="real-1")
        assert refused(virtual, "REPLACE", **GIVEN) == "CARD_NOT_ACTIVE"

    def test_an_issued_card_keeps_its_id(self) -> None:
        assert refused(a_card(), "RENEW", with_credentials(), **moving()) == "FIELD_INVALID_VALUE"

    def test_the_number_is_judged_after_the_id(self) -> None:
        taken = with_credentials(pan_is_free=False)
        assert refused(a_registered_card(), "RENEW", taken, **moving()) == "PAN_NOT_REUSABLE"
        held = taken._replace(new_card=a_card(card_id="card-2"))
        assert refused(a_registered_card(), "RENEW", held, **moving()) == "CARD_ID_IN_USE"


class TestRealCard:
    def test_a_virtual_card_stands_for_an_active_one(self) -> None:
        real = a_card(card_id="real-1", terms=PHYSICAL)
        context = a_context(real_card=real)
        virtual = after(None, "CREATE", context, real_card_id="real-1")
        assert (virtual.real_card_id, virtual.real_card_incarnation) == ("real-1", 1)
        over = replace(real, exp="0925")
        for other in (None, over, *(replace(real, state=s) for s in State if s != "ACTIVE")):
            there = a_context(real_card=other)
            assert refused(None, "CREATE", there, real_card_id="real-1") == "CARD_NOT_ACTIVE"

    def test_plastic_stands_for_none(self) -> None:
        there = a_context(real_card=a_card(), product=PHYSICAL)
        assert refused(None, "CREATE", there, real_card_id="r") == "FIELD_INVALID_VALUE"
        assert refused(None, "CREATE", there, real_card_id="no blanks") == "FIELD_INVALID_FORMAT"

    def test_a_real_card_has_a_hundred_of_them_at_most(self) -> None:
        real = a_card(card_id="real-1")
        last = a_context(real_card=real, real_card_virtual_cards=99)
        assert after(None, "CREATE", last, real_card_id="real-1")
        full = with_credentials(real_card=real, real_card_virtual_cards=100)
        for name in ("CREATE", "REGISTER"):
            assert refused(None, name, full, real_card_id="real-1") == (
                "VIRTUAL_CARD_LIMIT_REACHED"
            )

    def test_a_real_card_that_is_not_active_is_told_before_its_number_of_virtual_ones(self) -> None:
        held = a_card(State.SUSPENDED, card_id="real-1")
        full = a_context(real_card=held, real_card_virtual_cards=100)
        assert refused(None, "CREATE", full, real_card_id="real-1") == "CARD_NOT_ACTIVE"

    def test_a_card_that_stands_for_itself_minds_no_such_limit(self) -> None:
        assert after(None, "CREATE", a_context(real_card_virtual_cards=100))

    def test_it_takes_its_virtual_cards_with_it(self) -> None:
        for decision in (
            decided(a_card(), "DELETE"),
            decided(a_card(), "REPLACE"),
            decided(a_registered_card(), "RENEW", with_credentials(), **moving()),
            decided(a_card(delete_at_ms=0), "DELETE_DUE"),
        ):
            assert decision.cascade_reason == "CLOSED_CARD"
        for decision in (
            decided(a_card(), "SUSPEND"),
            decided(None, "CREATE"),
            decided(a_card(State.DELETED), "DELETE"),
            decided(
                a_registered_card(State.DELETED, terms=MANAGED), "REGISTER", with_credentials()
            ),
        ):
            assert decision.cascade_reason is None

    def test_none_of_them_gets_a_successor_after_that(self) -> None:
        virtual = a_card(real_card_id="real-1", real_card_incarnation=1)
        gone = a_card(State.REPLACED, card_id="real-1")
        for real in (None, gone, a_card(card_id="real-1", incarnation=2)):
            assert refused(virtual, "REPLACE", a_context(real_card=real)) == "CARD_NOT_ACTIVE"
        held = a_context(real_card=a_card(State.SUSPENDED, card_id="real-1"))
        assert successor(decided(virtual, "REPLACE", held)).real_card_id == "real-1"

    def test_a_delete_that_means_an_earlier_life_of_the_id_is_stale(self) -> None:
        card = a_card(incarnation=2)
        for state in State:
            assert refused(replace(card, state=state), "DELETE", incarnation=1) == "STALE_COMMAND"
        assert after(card, "DELETE", incarnation=2).state == "DELETED"
        assert after(card, "DELETE").state == "DELETED"
        for no_life in (0, 1.5, -2, 2**31):
            assert refused(card, "DELETE", incarnation=no_life) == "FIELD_INVALID_VALUE"
        assert refused(card, "DELETE", incarnation=2**31 - 1) == "STALE_COMMAND"


class TestNumbersOfOtherCommands:
    @pytest.mark.parametrize("name", ["DELETE", "REPLACE"])
    def test_the_number_of_a_card_that_leaves_never_returns(self, name: str) -> None:
        decision = decided(a_card(last4="1111"), name)
        assert ("RETIRE", "card-1") in numbers(decision)

    @pytest.mark.parametrize("name", ["SUSPEND", "ACTIVATE"])
    def test_nothing_else_touches_it(self, name: str) -> None:
        assert numbers(decided(a_card(last4="1111"), name)) == []


class TestCvv:
    CARD = a_registered_card(
        State.INACTIVE, terms=replace(VIRTUAL, activation_method=ActivationMethod.CVV)
    )

    def test_the_right_cvv_activates(self) -> None:
        right = a_context(card_cvv_matches=True)
        assert after(self.CARD, "ACTIVATE", right, encrypted_data="a.b.c.d.e").state == "ACTIVE"
        decision = decided(self.CARD, "ACTIVATE", right, encrypted_data="a.b.c.d.e")
        assert numbers(decision) == []

    def test_no_other_answer_does(self) -> None:
        for matches in (False, None):
            wrong = a_context(card_cvv_matches=matches)
            assert refused(self.CARD, "ACTIVATE", wrong, encrypted_data="a.b") == (
                "ACTIVATION_FAILED"
            )
        assert refused(self.CARD, "ACTIVATE", a_context(card_cvv_matches=True)) == (
            "ACTIVATION_FAILED"
        )

    def test_what_does_not_open_is_told_before(self) -> None:
        shut = a_context(opened=Refusal(ErrorCode.DECRYPTION_FAILED), card_cvv_matches=None)
        assert refused(self.CARD, "ACTIVATE", shut, encrypted_data="a.b") == "DECRYPTION_FAILED"
        inactive = shut._replace(consumer_state=ConsumerState.INACTIVE)
        assert refused(self.CARD, "ACTIVATE", inactive, encrypted_data="a.b") == (
            "CONSUMER_NOT_ACTIVE"
        )
        # Where no answer is asked for, nobody minds what comes instead.
        asked_no_more = replace(self.CARD, state=State.ACTIVE)
        assert after(asked_no_more, "ACTIVATE", shut, encrypted_data="a.b") is asked_no_more
        other = replace(self.CARD, terms=VIRTUAL)
        assert after(other, "ACTIVATE", shut, encrypted_data="a.b").state == "ACTIVE"
