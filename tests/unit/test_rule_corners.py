"""The corners that domain.md 8 rules for commands, fields and operations: one sentence, one test.

Each speaks to production alone and says its answer in plain words, so that it reads beside the
rule book; the products over all situations are in `test_rule_book.py`.
"""

import pytest

from lifecycle.domain.cards import DigitalCards, Lock, digital_cards
from lifecycle.domain.consumers import Consumer
from lifecycle.domain.operations import Decision
from tests.oracle.adapters import card_from, command_from, context_from, decide, subject_from
from tests.oracle.asking import CREATE, IN_PLACE, LOST, ask, card_after, pending, suspended
from tests.oracle.fields import Data
from tests.oracle.situations import (
    BEFORE_VERSION,
    BY_USER,
    CARD,
    ISSUER,
    OVER,
    PENDING,
    PREDECESSOR,
    RELINKED,
    a_card,
    a_command,
    a_context,
    a_product,
)

# --- Commands and fields ---


def test_a_user_resumes_with_user_decision_by_default() -> None:
    decision = ask(suspended("USER_DECISION"), "RESUME", requestor=BY_USER)
    assert card_after(decision).state == "ACTIVE"
    assert decision.reason_code == "USER_DECISION"


def test_everyone_else_resumes_with_issuer_decision_by_default() -> None:
    for requestor in [None, {"type": "TSP", "id": "tsp"}, {"type": "CCI", "id": "agent-7"}]:
        decision = ask(suspended("ISSUER_DECISION"), "RESUME", requestor=requestor)
        assert card_after(decision).state == "ACTIVE"
        assert decision.reason_code == "ISSUER_DECISION"


def test_a_user_does_not_resume_with_issuer_decision() -> None:
    decision = ask(
        suspended("USER_DECISION"), "RESUME", requestor=BY_USER, reasonCode="ISSUER_DECISION"
    )
    assert decision.error_code == "INVALID_REASON"


def test_commands_without_a_list_of_reasons_refuse_every_reason_code() -> None:
    there = a_context(product=a_product(), versionTimeMs=None)
    asked = [
        ask(None, "CREATE", there, reasonCode="ISSUER_DECISION", **CREATE),
        ask(a_card(), "ACTIVATE", reasonCode="ISSUER_DECISION"),
        ask(a_card(), "LOCK", lock="PIN", reasonCode="PIN_LOCKED"),
    ]
    assert {decision.error_code for decision in asked} == {"INVALID_REASON"}


def test_their_successful_operations_carry_no_reason_code() -> None:
    there = a_context(product=a_product(), versionTimeMs=None)
    asked = [
        ask(None, "CREATE", there, **CREATE),
        ask(a_card(state="INACTIVE"), "ACTIVATE"),
        ask(a_card(), "LOCK", lock="PIN"),
    ]
    assert [decision.reason_code for decision in asked] == [None, None, None]


def test_a_successful_operation_carries_the_reason_that_was_meant() -> None:
    for name in ["SUSPEND", "RENEW", "DELETE"]:
        assert ask(a_card(), name).reason_code == "ISSUER_DECISION"


def test_replace_without_a_reason_code_is_invalid_reason() -> None:
    assert ask(a_card(), "REPLACE", reason="Left in a taxi").error_code == "INVALID_REASON"


def test_replace_without_a_reason_text_is_field_missing() -> None:
    assert ask(a_card(), "REPLACE", reasonCode="CARD_LOST").error_code == "FIELD_MISSING"


def test_an_issued_card_forbids_a_new_card_id_and_encrypted_data_on_replace() -> None:
    not_its: list[Data] = [{"newCardId": "card-2"}, {"newCardId": CARD}, {"encryptedData": "a.b"}]
    for forbidden in not_its:
        decision = ask(a_card(), "REPLACE", **LOST, **forbidden)
        assert decision.error_code == "FIELD_INVALID_VALUE"


def test_an_issued_card_forbids_a_new_expiry_and_encrypted_data_on_renew() -> None:
    not_its: list[Data] = [{"newExp": "0931"}, {"encryptedData": "a.b.c.d.e"}]
    for forbidden in not_its:
        assert ask(a_card(), "RENEW", **forbidden).error_code == "FIELD_INVALID_VALUE"


def test_the_reserved_new_card_product_id_is_the_current_one_or_refused() -> None:
    same = ask(a_card(), "RENEW", newCardProductId="product-1", **IN_PLACE)
    other = ask(a_card(), "RENEW", newCardProductId="product-2", **IN_PLACE)
    assert (same.error_code, other.error_code) == (None, "FIELD_INVALID_VALUE")


def test_v1_renew_of_an_issued_card_takes_its_own_card_id_only() -> None:
    decision = ask(a_card(), "RENEW", newCardId="card-2", newCardState="ACTIVE")
    assert decision.error_code == "FIELD_INVALID_VALUE"


def test_v1_renew_needs_both_the_card_id_and_the_state() -> None:
    halves: list[Data] = [{"newCardId": CARD}, {"newCardState": "ACTIVE"}]
    for half in halves:
        assert ask(a_card(), "RENEW", **half).error_code == "FIELD_MISSING"


def test_v1_renew_in_place_refuses_what_v2_refuses() -> None:
    assert ask(pending(), "RENEW", **IN_PLACE).error_code == "RENEWAL_IN_PROGRESS"
    stolen = ask(suspended("CARD_STOLEN"), "RENEW", **IN_PLACE)
    assert stolen.error_code == "REPLACEMENT_REQUIRED"


def test_v1_renew_in_place_never_lifts_a_suspension() -> None:
    for state in ["ACTIVE", "INACTIVE"]:
        before = suspended("PIN_LOCKED", form="VIRTUAL")
        card = card_after(ask(before, "RENEW", newCardId=CARD, newCardState=state))
        assert (card.state, card.state_reason) == ("SUSPENDED", "PIN_LOCKED")
        assert card.locks == {Lock.PIN}
        assert card.exp == "0931"


def test_v1_renew_in_place_to_active_gives_the_new_expiry_at_once_also_to_plastic() -> None:
    for before in [a_card(), a_card(state="EXPIRED", exp=OVER)]:
        card = card_after(ask(before, "RENEW", **IN_PLACE))
        assert (card.state, card.ongoing_operation, card.pending_exp) == ("ACTIVE", "NONE", None)
        assert card.exp == ("0931" if before["exp"] != OVER else "0329")


def test_v1_renew_in_place_to_inactive_waits_for_the_activation() -> None:
    card = card_after(ask(a_card(), "RENEW", newCardId=CARD, newCardState="INACTIVE"))
    assert (card.state, card.exp, card.ongoing_operation) == ("INACTIVE", "0931", "NONE")


def test_v1_renew_accepts_the_replace_reasons_and_v2_does_not() -> None:
    assert ask(a_card(), "RENEW", reasonCode="CARD_BROKEN", **IN_PLACE).error_code is None
    assert ask(a_card(), "RENEW", reasonCode="CARD_BROKEN").error_code == "INVALID_REASON"


def test_delete_at_lies_in_the_future() -> None:
    there = a_context(product=a_product(), versionTimeMs=None)
    now = ask(None, "CREATE", there, deleteAt="2026-03-15T12:00:00Z", **CREATE)
    later = ask(None, "CREATE", there, deleteAt="2026-03-15T12:00:00.001Z", **CREATE)
    assert now.error_code == "DELETE_TIME_NOT_FUTURE"
    assert card_after(later).delete_at_ms == a_context()["startTimeMs"] + 1


@pytest.mark.parametrize("state", ["INACTIVE", "DELETED"])
def test_activate_resume_and_create_need_an_active_consumer(state: str) -> None:
    there = a_context(consumerState=state, product=a_product())
    for decision in [
        ask(a_card(state="INACTIVE"), "ACTIVATE", there),
        ask(a_card(), "ACTIVATE", there),
        ask(suspended("USER_DECISION"), "RESUME", there),
        ask(None, "CREATE", there, **CREATE),
    ]:
        assert decision.error_code == "CONSUMER_NOT_ACTIVE"


def test_create_registers_an_unknown_consumer() -> None:
    there = a_context(consumerState=None, product=a_product(), versionTimeMs=None)
    assert ask(None, "CREATE", there, **CREATE).registers_consumer
    known = a_context(consumerState="ACTIVE", product=a_product(), versionTimeMs=None)
    assert not ask(None, "CREATE", known, **CREATE).registers_consumer


def test_the_last_four_digits_activate_and_nothing_else_does() -> None:
    card = a_card(state="INACTIVE", activationMethod="LAST4", last4="1234")
    assert card_after(ask(card, "ACTIVATE", last4="1234")).state == "ACTIVE"
    for wrong in [None, "9999", "", "12345"]:
        assert ask(card, "ACTIVATE", last4=wrong).error_code == "ACTIVATION_FAILED"
    unnumbered = {**card, "last4": None}
    assert ask(unnumbered, "ACTIVATE", last4="1234").error_code == "ACTIVATION_FAILED"


def test_a_product_without_an_activation_method_needs_no_answer() -> None:
    answers: list[Data] = [{}, {"last4": "9999"}, {"last4": "four"}, {"encryptedData": "a.b"}]
    for answer in answers:
        decision = ask(a_card(state="INACTIVE"), "ACTIVATE", **answer)
        assert card_after(decision).state == "ACTIVE"


def test_a_cvv_that_nobody_can_open_does_not_activate() -> None:
    card = a_card(state="INACTIVE", activationMethod="CVV")
    for answer in [None, "a.b.c.d.e"]:
        assert ask(card, "ACTIVATE", encryptedData=answer).error_code == "ACTIVATION_FAILED"


def test_create_and_replace_count_the_expiry_from_the_month_of_the_start() -> None:
    there = a_context(product=a_product(validityMonths=10), versionTimeMs=None)
    assert card_after(ask(None, "CREATE", there, **CREATE)).exp == "0127"
    replaced = ask(a_card(validityMonths=10, exp="1230"), "REPLACE", **LOST)
    assert replaced.caused[0].card.exp == "0127"


def test_renew_counts_the_expiry_from_the_later_of_expiry_and_start() -> None:
    assert card_after(ask(a_card(form="VIRTUAL"), "RENEW")).exp == "0931"
    over = a_card(form="VIRTUAL", state="EXPIRED", exp=OVER)
    assert card_after(ask(over, "RENEW")).exp == "0329"


def test_a_command_from_before_the_last_change_is_stale() -> None:
    stale = ask(a_card(), "SUSPEND", effectiveDate=BEFORE_VERSION)
    at_it = ask(a_card(), "SUSPEND", effectiveDate="2026-03-14T12:00:00Z")
    assert (stale.error_code, at_it.error_code) == ("STALE_COMMAND", None)


# --- Operations and events ---


def test_the_new_card_of_a_replace_gets_an_operation_create() -> None:
    decision = ask(a_card(form="PHYSICAL"), "REPLACE", **LOST)
    old, (caused,) = card_after(decision), decision.caused
    assert (old.state, old.state_reason, old.successor_card_id) == (
        "REPLACED",
        "CARD_LOST",
        "generated-1",
    )
    assert (caused.kind, caused.card.card_id, caused.card.state) == (
        "CREATE",
        "generated-1",
        "INACTIVE",
    )
    assert caused.card.predecessor_card_id == CARD
    assert digital_cards(old) is DigitalCards.RELINK_PENDING


def test_the_replacement_of_a_virtual_card_is_active_and_relinked_at_once() -> None:
    decision = ask(a_card(form="VIRTUAL"), "REPLACE", **LOST)
    assert [caused.kind for caused in decision.caused] == ["CREATE"]
    assert decision.caused[0].card.state == "ACTIVE"
    assert digital_cards(card_after(decision)) is DigitalCards.RELINKED


def test_a_generated_card_id_that_is_taken_is_not_used() -> None:
    decision = ask(a_card(), "REPLACE", a_context(generatedCardIdInUse=True), **LOST)
    assert decision.error_code == "CARD_ID_IN_USE"


def test_a_terminal_state_clears_locks_renewal_and_pending_expiry() -> None:
    before = suspended("PIN_LOCKED", ongoingOperation="RENEWAL", pendingExp=PENDING)
    for decision in [ask(before, "DELETE"), ask(before, "REPLACE", **LOST)]:
        card = card_after(decision)
        assert card.locks == frozenset()
        assert (card.ongoing_operation, card.pending_exp) == ("NONE", None)


def test_the_reason_of_a_state_is_kept_only_where_the_book_keeps_it() -> None:
    assert card_after(ask(a_card(), "SUSPEND", reasonCode="FRAUD")).state_reason == "FRAUD"
    assert card_after(ask(a_card(), "DELETE")).state_reason == "ISSUER_DECISION"
    assert card_after(ask(suspended("USER_DECISION"), "RESUME")).state_reason is None
    assert card_after(ask(a_card(state="INACTIVE"), "ACTIVATE")).state_reason is None


def test_a_successor_activated_later_relinks_the_digital_cards_of_the_old_card() -> None:
    successor = a_card(state="INACTIVE", predecessorCardId="card-0")
    decision = ask(successor, "ACTIVATE", a_context(predecessor=PREDECESSOR))
    (caused,) = decision.caused
    assert (caused.kind, caused.card.card_id) == ("RELINK", "card-0")
    assert digital_cards(caused.card) is DigitalCards.RELINKED
    assert caused.card.state == "REPLACED"


def test_digital_cards_are_relinked_once() -> None:
    successor = a_card(state="INACTIVE", predecessorCardId="card-0")
    assert ask(successor, "ACTIVATE", a_context(predecessor=RELINKED)).caused == ()


def test_deleting_an_unactivated_successor_leaves_the_old_card_alone() -> None:
    successor = a_card(state="INACTIVE", predecessorCardId="card-0")
    decision = ask(successor, "DELETE", a_context(predecessor=PREDECESSOR))
    assert card_after(decision).state == "DELETED"
    assert decision.caused == ()


def test_a_failed_operation_carries_the_reasons_as_given() -> None:
    decision = ask(a_card(), "RESUME", reasonCode="NO_SUCH_REASON", reason="Found it")
    assert (decision.reason_code, decision.reason) == ("NO_SUCH_REASON", "Found it")
    unsaid = ask(a_card(), "RESUME")
    assert (unsaid.error_code, unsaid.reason_code) == ("NOT_SUSPENDED", None)


def test_a_failed_operation_does_not_carry_a_reason_that_broke_its_pattern() -> None:
    decision = ask(a_card(), "SUSPEND", reasonCode="card lost", reason="Found it")
    assert decision.error_code == "FIELD_INVALID_FORMAT"
    assert (decision.reason_code, decision.reason) == (None, "Found it")
    other = ask(a_card(), "SUSPEND", reasonCode="CARD_LOST", reason="1; drop")
    assert (other.reason_code, other.reason) == ("CARD_LOST", None)


def ask_consumer(state: str | None, name: str) -> Decision:
    consumer = state and {"issuerId": ISSUER, "consumerId": "consumer-1", "state": state}
    command = {**a_command(name), "consumerId": "consumer-1"}
    del command["cardId"]
    decision = decide(
        subject_from(consumer or None), command_from(command), context_from(a_context())
    )
    assert isinstance(decision, Decision)
    return decision


@pytest.mark.parametrize(
    ("state", "name", "after"),
    [
        (None, "CONSUMER_REGISTER", "ACTIVE"),
        ("ACTIVE", "CONSUMER_REGISTER", "ACTIVE"),
        ("INACTIVE", "CONSUMER_REGISTER", "ACTIVE"),
        ("DELETED", "CONSUMER_REGISTER", "CONSUMER_DELETED"),
        (None, "CONSUMER_DEACTIVATE", "CONSUMER_NOT_FOUND"),
        ("ACTIVE", "CONSUMER_DEACTIVATE", "INACTIVE"),
        ("DELETED", "CONSUMER_DEACTIVATE", "CONSUMER_DELETED"),
        (None, "CONSUMER_REACTIVATE", "CONSUMER_NOT_FOUND"),
        ("INACTIVE", "CONSUMER_REACTIVATE", "ACTIVE"),
        ("DELETED", "CONSUMER_REACTIVATE", "CONSUMER_DELETED"),
    ],
)
def test_consumers_come_and_go_as_the_book_says(state: str | None, name: str, after: str) -> None:
    decision = ask_consumer(state, name)
    if decision.error_code is not None:
        assert decision.error_code == after
        return
    assert isinstance(decision.subject, Consumer)
    assert decision.subject.state == after


def test_the_activation_answer_is_asked_for_pending_renewals() -> None:
    card = pending(activationMethod="LAST4", last4="1234")
    assert ask(card, "ACTIVATE").error_code == "ACTIVATION_FAILED"
    assert card_after(ask(card, "ACTIVATE", last4="1234")).exp == PENDING


def test_activating_an_active_card_without_a_pending_renewal_needs_no_answer() -> None:
    card = card_from(a_card(activationMethod="LAST4", last4="1234"))
    decision = decide(card, command_from(a_command("ACTIVATE")), context_from(a_context()))
    assert isinstance(decision, Decision)
    assert decision.error_code is None
    assert decision.subject is card
