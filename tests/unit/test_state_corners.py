"""The state corners of domain.md 8, and which error wins (design.md 5): one sentence, one test.

As `test_rule_corners.py`; here the state of the card makes the difference.
"""

from itertools import product as every

import pytest

from lifecycle.domain.cards import State
from lifecycle.domain.operations import Decision, Ignored
from lifecycle.domain.products import Product
from lifecycle.domain.reasons import suspensions_of
from tests.oracle import tables
from tests.oracle.adapters import (
    card_from,
    command_from,
    context_from,
    decide,
    disagreements,
    subject_from,
)
from tests.oracle.asking import CREATE, IN_PLACE, LOST, ask, card_after, pending, suspended
from tests.oracle.fields import Data
from tests.oracle.situations import (
    BEFORE_VERSION,
    CARD,
    ISSUER,
    LAST_EXPIRY,
    OVER,
    PENDING,
    a_card,
    a_command,
    a_context,
    a_product,
)

# --- State corners ---


@pytest.mark.parametrize("state", ["INACTIVE", "ACTIVE", "SUSPENDED"])
def test_a_card_whose_month_is_over_counts_as_expired_before_any_timer(state: str) -> None:
    card = suspended("USER_DECISION", exp=OVER) if state == "SUSPENDED" else a_card(exp=OVER)
    card["state"] = state
    for name in ["SUSPEND", "RESUME"]:
        assert ask(card, name).error_code == "CARD_EXPIRED"
    assert ask(card, "ACTIVATE").error_code == "CARD_EXPIRED"
    assert ask(card, "REPLACE", **LOST).error_code == "CARD_EXPIRED"


def test_an_accepted_command_stores_the_state_that_its_cell_gives() -> None:
    card = card_after(ask(a_card(exp=OVER), "RENEW"))
    assert (card.state, card.ongoing_operation, card.exp) == ("EXPIRED", "RENEWAL", OVER)


def test_a_renewal_that_waits_refuses_another_in_every_state() -> None:
    for card in [
        pending(),
        pending(state="EXPIRED", exp=OVER),
        suspended("ISSUER_DECISION", ongoingOperation="RENEWAL", pendingExp=PENDING),
        suspended("CARD_STOLEN", ongoingOperation="RENEWAL", pendingExp=PENDING),
    ]:
        assert ask(card, "RENEW").error_code == "RENEWAL_IN_PROGRESS"


@pytest.mark.parametrize("reason", ["CARD_LOST", "CARD_STOLEN", "CARD_BROKEN", "FRAUD"])
@pytest.mark.parametrize("state", ["EXPIRED", "SUSPENDED"])
def test_an_expired_card_after_a_loss_can_only_be_replaced(reason: str, state: str) -> None:
    card = {**suspended(reason, exp=OVER), "state": state}
    waiting: Data = {"ongoingOperation": "RENEWAL", "pendingExp": PENDING}
    for decision in [
        ask(card, "RENEW"),
        ask(card, "RENEW", **IN_PLACE),
        ask(card, "ACTIVATE"),
        ask({**card, **waiting}, "ACTIVATE"),
    ]:
        assert decision.error_code == "REPLACEMENT_REQUIRED"
    assert card_after(ask(card, "REPLACE", **LOST)).state == "REPLACED"


@pytest.mark.parametrize("reason", ["USER_DECISION", "ISSUER_DECISION", "PIN_LOCKED"])
def test_an_expired_card_after_another_suspension_ends_suspended_never_active(reason: str) -> None:
    card = suspended(reason, state="EXPIRED", exp=OVER)
    virtual = {**card, "terms": a_product(form="VIRTUAL")}
    waiting: Data = {"ongoingOperation": "RENEWAL", "pendingExp": PENDING}
    for decision in [
        ask(virtual, "RENEW"),
        ask(card, "RENEW", **IN_PLACE),
        ask(card, "RENEW", newCardId=CARD, newCardState="INACTIVE"),
        ask({**card, **waiting}, "ACTIVATE"),
    ]:
        after = card_after(decision)
        assert (after.state, after.state_reason) == ("SUSPENDED", reason)
        assert sorted(after.locks) == card["locks"]
        assert after.pending_exp is None


def test_with_a_lock_only_issuer_decision_resumes_and_clears_every_lock() -> None:
    card = suspended("CARD_LOST", "PIN_LOCKED", "CVV2_LOCKED")
    for code in ["CARD_FOUND", "USER_DECISION"]:
        assert ask(card, "RESUME", reasonCode=code).error_code == "INVALID_REASON"
    after = card_after(ask(card, "RESUME", reasonCode="ISSUER_DECISION"))
    assert after.state == "ACTIVE"
    assert after.locks == frozenset()


def test_a_card_suspended_by_the_issuer_and_then_lost_needs_the_issuer() -> None:
    card = suspended("CARD_LOST", "ISSUER_DECISION")
    assert ask(card, "RESUME", reasonCode="CARD_FOUND").error_code == "INVALID_REASON"
    assert card_after(ask(card, "RESUME", reasonCode="ISSUER_DECISION")).state == "ACTIVE"


def test_a_lock_that_is_there_already_is_successful_without_a_change() -> None:
    card = card_from(suspended("PIN_LOCKED"))
    decision = decide(card, command_from(a_command("LOCK", lock="PIN")), context_from(a_context()))
    assert isinstance(decision, Decision)
    assert decision.error_code is None
    assert decision.subject is card


def test_a_lock_is_asked_for_by_the_system_unless_said_otherwise() -> None:
    requestor = ask(a_card(), "LOCK", lock="CVV2").requestor
    assert (requestor.type, requestor.id) == ("SYSTEM", "SYSTEM")


def test_a_card_keeps_the_product_flags_of_its_creation_and_so_does_its_successor() -> None:
    """Design.md 3: defining a product again changes it for cards created later."""
    there = a_context(product=a_product(validityMonths=240))
    renewed = card_after(ask(a_card(validityMonths=12), "RENEW", there))
    assert (renewed.terms.validity_months, renewed.pending_exp) == (12, "0929")
    replaced = ask(a_card(validityMonths=12), "REPLACE", there, **LOST)
    assert card_after(replaced).terms.validity_months == 12
    successor = replaced.caused[0].card
    assert (successor.terms.validity_months, successor.exp) == (240, "0346")


def test_encrypted_data_over_its_limit_is_field_invalid_format() -> None:
    decision = ask(a_card(state="INACTIVE"), "ACTIVATE", encryptedData="a" * 8193)
    assert decision.error_code == "FIELD_INVALID_FORMAT"


def test_wrong_requestors_correlation_ids_and_dates_fail_and_are_not_shown() -> None:
    decision = ask(
        a_card(), "SUSPEND", requestor={"type": "ADMIN", "id": "root"}, correlationId="a-1"
    )
    assert decision.error_code == "FIELD_INVALID_VALUE"
    assert (decision.requestor.type, decision.requestor.id) == ("ISSUER", ISSUER)
    assert decision.correlation_id == "a-1"
    broken = ask(a_card(), "SUSPEND", correlationId="a\nb")
    assert (broken.error_code, broken.correlation_id) == ("FIELD_INVALID_FORMAT", None)
    assert ask(a_card(), "SUSPEND", effectiveDate="now").error_code == "FIELD_INVALID_FORMAT"


def test_a_signal_that_does_not_apply_is_ignored_even_when_another_field_is_bad() -> None:
    bad: Data = {"lock": "FINGER", "reasonCode": "no", "requestor": {"type": "", "id": ""}}
    for card in [
        None,
        a_card(state="INACTIVE"),
        a_card(state="EXPIRED", exp=OVER),
        a_card(exp=OVER),
        a_card(state="DELETED", stateReason="FRAUD"),
    ]:
        command = command_from(a_command("LOCK", **bad))
        decision = decide(subject_from(card), command, context_from(a_context()))
        assert isinstance(decision, Ignored)


def test_every_other_command_for_an_unknown_card_is_card_not_found() -> None:
    for name in ["ACTIVATE", "SUSPEND", "RESUME", "REPLACE", "RENEW", "DELETE"]:
        decision = ask(None, name, reasonCode="NO_SUCH_REASON")
        assert decision.error_code == "CARD_NOT_FOUND"
        assert decision.subject is None


# --- design.md 5, "Which error, when several apply" ---


def test_an_unknown_card_comes_before_a_bad_field() -> None:
    assert ask(None, "SUSPEND", reason="semi;colon").error_code == "CARD_NOT_FOUND"


def test_an_id_in_use_comes_before_an_unknown_product_and_that_before_the_consumer() -> None:
    there = a_context(consumerState="INACTIVE")
    assert ask(a_card(), "CREATE", there, **CREATE).error_code == "CARD_ID_IN_USE"
    assert ask(None, "CREATE", there, **CREATE).error_code == "CARD_PRODUCT_NOT_FOUND"


def test_a_bad_field_comes_before_a_bad_reason_and_that_before_a_stale_date() -> None:
    stale: Data = {"effectiveDate": BEFORE_VERSION, "reasonCode": "NO_SUCH_REASON"}
    dead = a_card(state="DELETED", stateReason="FRAUD")
    both = ask(dead, "SUSPEND", correlationId="a/b", **stale)
    assert both.error_code == "FIELD_INVALID_FORMAT"
    assert ask(dead, "SUSPEND", **stale).error_code == "INVALID_REASON"
    assert ask(dead, "SUSPEND", effectiveDate=BEFORE_VERSION).error_code == "STALE_COMMAND"
    assert ask(dead, "SUSPEND").error_code == "CARD_DELETED"


def test_the_state_comes_before_forbidden_fields_and_these_before_an_id_in_use() -> None:
    there = a_context(generatedCardIdInUse=True)
    over = ask(a_card(exp=OVER), "REPLACE", there, newCardId="card-2", **LOST)
    fine = ask(a_card(), "REPLACE", there, newCardId="card-2", **LOST)
    assert (over.error_code, fine.error_code) == ("CARD_EXPIRED", "FIELD_INVALID_VALUE")


def test_an_inactive_consumer_comes_before_the_reasons_of_a_resume_and_the_answer() -> None:
    there = a_context(consumerState="INACTIVE")
    assert ask(suspended("FRAUD"), "RESUME", there).error_code == "CONSUMER_NOT_ACTIVE"
    card = a_card(state="INACTIVE", activationMethod="CVV")
    assert ask(card, "ACTIVATE", there).error_code == "CONSUMER_NOT_ACTIVE"


# --- PRODUCT_DEFINE (design.md 3) ---


def define(product: Data | None, **fields: object) -> Decision:
    command = a_command("PRODUCT_DEFINE", cardProductId="product-1", **fields)
    del command["cardId"]
    named = product and {"issuerId": ISSUER, "cardProductId": "product-1", "terms": product}
    decision = decide(subject_from(named or None), command_from(command), context_from(a_context()))
    assert isinstance(decision, Decision)
    return decision


def test_form_and_scheme_of_a_product_do_not_change() -> None:
    for form, scheme in [("VIRTUAL", "VISA"), ("PHYSICAL", "AMEX")]:
        decision = define(a_product(), form=form, scheme=scheme)
        assert decision.error_code == "FIELD_INVALID_VALUE"


def test_defining_a_product_again_changes_the_rest() -> None:
    decision = define(a_product(), form="PHYSICAL", scheme="VISA", validityMonths=24)
    assert isinstance(decision.subject, Product)
    assert decision.subject.terms.validity_months == 24


def test_whole_numbers_that_json_writes_with_a_point_are_whole() -> None:
    decision = define(None, form="VIRTUAL", scheme="VISA", validityMonths=24.0, autoRenewDays=7.0)
    assert isinstance(decision.subject, Product)
    terms = decision.subject.terms
    assert (type(terms.validity_months), type(terms.auto_renew_days)) == (int, int)


def test_an_expiry_that_cannot_grow_any_more_is_not_renewed() -> None:
    decision = ask(a_card(exp=LAST_EXPIRY), "RENEW")
    assert decision.error_code == "FIELD_INVALID_VALUE"


def test_a_second_suspension_is_strictly_stronger_than_the_first() -> None:
    for held, reason in every(tables.STRENGTH, tables.REASONS["SUSPEND"]):
        command = a_command("SUSPEND", reasonCode=reason)
        assert disagreements(suspended(held), command, a_context()) == []


def test_each_suspension_is_lifted_by_the_resumes_of_its_row() -> None:
    for held, reason in every(tables.RESUME_TABLE, tables.REASONS["RESUME"]):
        command = a_command("RESUME", reasonCode=reason)
        assert disagreements(suspended(held), command, a_context()) == []


@pytest.mark.parametrize("reason", [None, "CLOSED_CARD"])
def test_a_suspension_that_no_table_knows_is_the_weakest(reason: str | None) -> None:
    card = a_card(state="SUSPENDED", stateReason=reason)
    assert card_after(ask(card, "SUSPEND", reasonCode="USER_DECISION")).state == "SUSPENDED"


def test_a_suspension_that_no_table_knows_is_never_resumed() -> None:
    card = a_card(state="SUSPENDED", stateReason="CLOSED_CARD")
    assert ask(card, "RESUME", reasonCode="ISSUER_DECISION").error_code == "INVALID_REASON"


def test_a_suspended_card_that_lost_its_reason_never_ends_active_after_its_month() -> None:
    card = a_card(state="SUSPENDED", exp=OVER, form="VIRTUAL")
    assert card_after(ask(card, "RENEW")).state == "SUSPENDED"


def test_only_a_suspended_or_expired_card_is_held_by_what_it_was_suspended_for() -> None:
    for state in State:
        card = a_card(state=state, stateReason="CARD_LOST", suspensions=["FRAUD"], locks=["PIN"])
        is_held = state in (State.SUSPENDED, State.EXPIRED)
        held = {"CARD_LOST", "FRAUD", "PIN_LOCKED"} if is_held else set()
        assert suspensions_of(card_from(card)) == held
