"""Cards, commands and contexts for the tests of the decision, with one field said at a time."""

# ruff: noqa: ANN401 - fields of any command, by name

from dataclasses import replace
from typing import Any

from lifecycle.domain.cards import (
    Card,
    OngoingOperation,
    Origin,
    State,
)
from lifecycle.domain.commands import (
    COMMAND_CLASS,
    CommandName,
    Requestor,
)
from lifecycle.domain.consumers import ConsumerState
from lifecycle.domain.credentials import Credentials
from lifecycle.domain.decide import decide_card
from lifecycle.domain.operations import Context, Decision, Ignored, Status
from lifecycle.domain.products import Form, ProductTerms

START_MS = 1_760_000_000_000  # 2025-10-09T08:53:20Z
VIRTUAL = ProductTerms(form=Form.VIRTUAL, scheme="VISA")
PHYSICAL = ProductTerms(form=Form.PHYSICAL, scheme="VISA")
DEFAULT_REQUESTOR = Requestor(type="ISSUER", id="BANK000001")


CREDENTIALS = Credentials(pan="4000001234567899", exp="0930", cvv="123")
MANAGED = replace(VIRTUAL, transactions=False)  # of such a product an id may be used again


def a_registered_card(state: State = State.ACTIVE, **fields: Any) -> Card:
    return a_card(state, **({"origin": Origin.REGISTERED, "last4": "1111"} | fields))


def with_credentials(*, pan_is_free: bool = True, **changes: Any) -> Context:
    context = a_context(opened=CREDENTIALS, pan_is_free=pan_is_free)
    return context._replace(**changes)


def a_card(state: State = State.ACTIVE, **fields: Any) -> Card:
    if state is State.SUSPENDED and "state_reason" not in fields:
        fields["state_reason"] = "USER_DECISION"
    if fields.get("state_reason") and "suspensions" not in fields:
        fields["suspensions"] = frozenset({fields["state_reason"]})
    if fields.get("pending_exp"):
        fields["ongoing_operation"] = OngoingOperation.RENEWAL
    defaults: dict[str, Any] = {
        "issuer_id": "BANK000001",
        "card_id": "card-1",
        "state": state,
        "exp": "1127",
        "consumer_id": "anna",
        "card_product_id": "gold",
        "origin": Origin.ISSUED,
        "terms": VIRTUAL,
    }
    return Card(**(defaults | fields))


def a_context(**fields: Any) -> Context:
    defaults: dict[str, Any] = {
        "start_time_ms": START_MS,
        "consumer_state": ConsumerState.ACTIVE,
        "product": VIRTUAL,
        "generated_card_id": "card-2",
    }
    return Context(**(defaults | fields))


def a_command(name: str, /, **fields: Any) -> Any:
    if name == "CREATE":
        fields = {"consumer_id": "anna", "card_product_id": "gold"} | fields
    if name == "REGISTER":
        named = {"consumer_id": "anna", "card_product_id": "gold", "encrypted_data": "a.b.c.d.e"}
        fields = named | fields
    if name == "REPLACE":
        fields = {"reason_code": "CARD_LOST", "reason": "Left in a taxi"} | fields
    command_class: Any = COMMAND_CLASS[CommandName(name)]
    return command_class(
        command_id="c1", command=name, issuer_id="BANK000001", card_id="card-1", **fields
    )


def decided(
    card: Card | None, name: str, context: Context | None = None, /, **fields: Any
) -> Decision:
    decision = decide_card(card, a_command(name, **fields), context or a_context())
    assert isinstance(decision, Decision)
    return decision


def is_ignored(
    card: Card | None, name: str, context: Context | None = None, /, **fields: Any
) -> bool:
    return isinstance(decide_card(card, a_command(name, **fields), context or a_context()), Ignored)


def after(card: Card | None, name: str, context: Context | None = None, /, **fields: Any) -> Card:
    decision = decided(card, name, context, **fields)
    assert decision.status is Status.SUCCESSFUL, decision.error
    assert isinstance(decision.subject, Card)
    return decision.subject


def refused(card: Card | None, name: str, context: Context | None = None, /, **fields: Any) -> str:
    decision = decided(card, name, context, **fields)
    assert decision.status is Status.FAILED
    assert decision.subject is card
    assert decision.caused == ()
    assert not decision.registers_consumer
    assert decision.error_code is not None
    assert decision.error is not None
    assert len(decision.error) <= 256
    return str(decision.error_code)
