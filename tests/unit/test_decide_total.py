"""Whatever a command holds and wherever its card is, there is a decision."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.domain import months
from lifecycle.domain.cards import (
    TERMINAL,
    Card,
    Lock,
    Origin,
    State,
)
from lifecycle.domain.commands import (
    COMMAND_CLASS,
    CardCommand,
    Requestor,
)
from lifecycle.domain.consumers import ConsumerState
from lifecycle.domain.decide import decide_card, decide_reply
from lifecycle.domain.errors import ErrorCode
from lifecycle.domain.fields import Refusal
from lifecycle.domain.operations import Context, Decision, Ignored, Pending, Reply, Status
from lifecycle.domain.products import ActivationMethod
from tests.unit.deciding import (
    CREDENTIALS,
    PHYSICAL,
    START_MS,
    VIRTUAL,
    a_card,
    a_command,
    a_context,
)

ANY_TEXT = st.none() | st.text(max_size=8) | st.sampled_from(["ACTIVE", "CARD_LOST", "1127", "PIN"])
BUSY = replace(
    PHYSICAL,
    implicit_activation=True,
    auto_renew=True,
    auto_renew_days=365,
    transactions=False,
    activation_method=ActivationMethod.CVV,
)
CREATION = ["state", "name", "second_name", "status_reason", "delete_at", "real_card_id"]
OWN_FIELDS = {
    "CREATE": CREATION,
    "REGISTER": CREATION,
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
    "CLICK_TO_PAY_OPTOUT": ["name"],
}
NEEDED_FIELDS = {
    "REGISTER": ["encrypted_data"],
    "LOCK": ["lock"],
    "TIME_OUT": ["operation_id"],
    "PRODUCE": ["distribution_channel"],
    "CLICK_TO_PAY_ENROLMENT": ["name"],
    "CLICK_TO_PAY_UPDATE": ["name"],
}
SETTINGS = {"UPDATE_CONTROLS": "controls", "UPDATE_LIMITS": "limits"}
SIGNALS = ("LOCK", "CARD_PRESENT", "EXPIRE", "AUTO_RENEW", "DELETE_DUE", "TIME_OUT")
CARD_COMMANDS = [
    name.value for name, made in COMMAND_CLASS.items() if issubclass(made, CardCommand)
]
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=8,
)


@st.composite
def any_command(draw: st.DrawFn) -> CardCommand:
    name = draw(st.sampled_from(CARD_COMMANDS))
    common = ["reason_code", "reason", "effective_date", "correlation_id"]
    fields: dict[str, Any] = {field: draw(ANY_TEXT) for field in common + OWN_FIELDS.get(name, [])}
    for needed in NEEDED_FIELDS.get(name, []):
        fields[needed] = draw(ANY_TEXT.filter(lambda text: text is not None))
    if name in SETTINGS:
        fields[SETTINGS[name]] = draw(st.dictionaries(st.text(max_size=2), ANY_JSON, max_size=3))
    if draw(st.booleans()):
        fields["requestor"] = Requestor(type=draw(st.text(max_size=6)), id=draw(st.text()))
    command: CardCommand = a_command(name, **fields)
    return command


SHUT = Refusal(ErrorCode.DECRYPTION_FAILED)


@st.composite
def any_context(draw: st.DrawFn) -> Context:
    codes = [None, ErrorCode.DECRYPTION_FAILED, ErrorCode.BIN_RANGE_EXHAUSTED]
    return a_context(
        consumer_state=draw(st.none() | st.sampled_from(ConsumerState)),
        product=draw(st.sampled_from([None, VIRTUAL, PHYSICAL])),
        opened=draw(st.sampled_from([CREDENTIALS, CREDENTIALS, None, SHUT])),
        generated_last4=draw(st.sampled_from(["1111", *codes])),
        pan_is_free=draw(st.booleans()),
        card_cvv_matches=draw(st.sampled_from([None, True, False])),
        new_card=draw(st.none() | any_card()),
        real_card=draw(st.none() | any_card()),
        real_card_virtual_cards=draw(st.sampled_from([0, 99, 100])),
        enrolment_is_pending=draw(st.booleans()),
    )


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
    state = draw(st.sampled_from(State))
    held = draw(st.frozensets(st.sampled_from(reasons)))
    return a_card(
        state,
        exp=draw(st.sampled_from([None, "0925", "1025", "1127", "1299"])),
        pending_exp=draw(st.sampled_from([None, "1130"])),
        state_reason=draw(st.sampled_from([None, *reasons])),
        suspensions=held if state in (State.SUSPENDED, State.EXPIRED) else frozenset(),
        locks=draw(st.frozensets(st.sampled_from(Lock))),
        terms=draw(st.sampled_from([VIRTUAL, PHYSICAL, BUSY])),
        origin=draw(st.sampled_from(Origin)),
        last4=draw(st.sampled_from([None, "1111"])),
        delete_at_ms=draw(st.sampled_from([None, START_MS, START_MS + 1])),
        has_auxiliary_pan=draw(st.booleans()),
        auxiliary_exp=draw(st.sampled_from([None, "0925", "1127"])),
        click_to_pay=draw(st.booleans()),
    )


@settings(max_examples=600)
@given(st.none() | any_card(), any_command(), any_context())
def test_each_command_in_each_state_has_a_decision(
    card: Card | None, command: CardCommand, context: Context
) -> None:
    decision = decide_card(card, command, context)
    if isinstance(decision, Ignored):
        assert command.command in SIGNALS
        return
    assert (decision.error_code is not None) is (decision.status is Status.FAILED)
    assert (decision.request is not None) is (decision.status is Status.PENDING)
    if decision.status is not Status.SUCCESSFUL:
        assert decision.subject is card
        assert (decision.caused, decision.numbers, decision.cascade_reason) == ((), (), None)
        return
    after_ = decision.subject
    assert isinstance(after_, Card)
    if after_ is card:
        assert decision.numbers == ()
        return
    assert after_.suspensions == frozenset() or after_.state in (State.SUSPENDED, State.EXPIRED)
    if after_.state in TERMINAL:
        assert (after_.locks, after_.pending_exp) == (frozenset(), None)
    assert decide_card(card, command, context) == decision


@settings(max_examples=300)
@given(any_card(), any_command(), any_context(), st.none() | st.text(max_size=8), st.booleans())
def test_each_reply_has_a_decision(
    card: Card,
    command: CardCommand,
    context: Context,
    code: str | None,
    good: bool,  # noqa: FBT001
) -> None:
    waited = decide_card(card, command, context)
    if isinstance(waited, Ignored) or waited.status is not Status.PENDING:
        return
    pending = Pending(
        command=command, start_time_ms=START_MS, deadline_ms=START_MS + 1, incarnation=1
    )
    there = context._replace(pending=pending)
    decision = decide_reply(card, Reply(is_successful=good, error_code=code), there)
    assert isinstance(decision, Decision)
    assert decision.ends_pending
    assert decision.kind is waited.kind
    assert decision.status is not Status.PENDING
    if decision.status is Status.FAILED:
        assert decision.subject is card


@given(st.integers(min_value=0, max_value=months.MONTH_MAX - 24_000))
def test_an_expiry_names_its_month(offset: int) -> None:
    month = 24_000 + offset
    assert months.month_of_expiry(months.expiry_of_month(month)) == month
