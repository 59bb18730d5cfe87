"""Whatever a command holds and wherever its card is, there is a decision."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lifecycle.domain import months
from lifecycle.domain.cards import (
    TERMINAL,
    Card,
    Lock,
    State,
)
from lifecycle.domain.commands import (
    CardCommand,
    Requestor,
)
from lifecycle.domain.consumers import ConsumerState
from lifecycle.domain.decide import decide_card
from lifecycle.domain.operations import Ignored, Status
from lifecycle.domain.products import ProductTerms
from tests.unit.deciding import PHYSICAL, VIRTUAL, a_card, a_command, a_context

ANY_TEXT = st.none() | st.text(max_size=8) | st.sampled_from(["ACTIVE", "CARD_LOST", "1127", "PIN"])
OWN_FIELDS = {
    "CREATE": ["state", "name", "second_name", "status_reason", "delete_at"],
    "ACTIVATE": ["last4", "encrypted_data"],
    "REPLACE": ["new_card_id", "encrypted_data"],
    "RENEW": [
        "new_card_id",
        "new_card_state",
        "new_card_product_id",
        "new_exp",
        "new_auxiliary_exp",
        "encrypted_data",
    ],
}


@st.composite
def any_command(draw: st.DrawFn) -> CardCommand:
    names = ["CREATE", "ACTIVATE", "SUSPEND", "RESUME", "REPLACE", "RENEW", "DELETE", "LOCK"]
    name = draw(st.sampled_from(names))
    common = ["reason_code", "reason", "effective_date", "correlation_id"]
    fields: dict[str, Any] = {field: draw(ANY_TEXT) for field in common + OWN_FIELDS.get(name, [])}
    if name == "LOCK":
        fields["lock"] = draw(ANY_TEXT.filter(lambda text: text is not None))
    if draw(st.booleans()):
        fields["requestor"] = Requestor(type=draw(st.text(max_size=6)), id=draw(st.text()))
    command: CardCommand = a_command(name, **fields)
    return command


@st.composite
def any_card(draw: st.DrawFn) -> Card:
    reasons = [
        "USER_DECISION",
        "ISSUER_DECISION",
        "CARD_LOST",
        "FRAUD",
        "PIN_LOCKED",
        "CLOSED_CARD",
    ]
    return a_card(
        draw(st.sampled_from(State)),
        exp=draw(st.sampled_from([None, "0925", "1025", "1127", "1299"])),
        pending_exp=draw(st.sampled_from([None, "1130"])),
        state_reason=draw(st.sampled_from([None, *reasons])),
        suspensions=draw(st.frozensets(st.sampled_from(reasons))),
        locks=draw(st.frozensets(st.sampled_from(Lock))),
        terms=draw(st.sampled_from([VIRTUAL, PHYSICAL])),
    )


@given(
    st.none() | any_card(),
    any_command(),
    st.none() | st.sampled_from(ConsumerState),
    st.none() | st.just(VIRTUAL),
)
def test_each_command_in_each_state_has_a_decision(
    card: Card | None,
    command: CardCommand,
    consumer_state: ConsumerState | None,
    product: ProductTerms | None,
) -> None:
    context = a_context(consumer_state=consumer_state, product=product)
    decision = decide_card(card, command, context)
    if isinstance(decision, Ignored):
        assert command.command == "LOCK"
        return
    assert (decision.error_code is None) is (decision.status is Status.SUCCESSFUL)
    if decision.status is Status.FAILED:
        assert decision.subject is card
        return
    after_ = decision.subject
    assert isinstance(after_, Card)
    assert after_.suspensions == frozenset() or after_.state in (State.SUSPENDED, State.EXPIRED)
    if after_.state in TERMINAL:
        assert (after_.locks, after_.pending_exp) == (frozenset(), None)
    assert decide_card(card, command, context) == decision


@given(st.integers(min_value=0, max_value=months.MONTH_MAX - 24_000))
def test_an_expiry_names_its_month(offset: int) -> None:
    month = 24_000 + offset
    assert months.month_of_expiry(months.expiry_of_month(month)) == month
