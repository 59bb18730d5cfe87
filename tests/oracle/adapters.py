"""Where the oracle and production meet: dictionaries to domain objects, and the comparison.

Only tests import this. `disagreements` is the single judge of "the same": it names every field
in which production left the rule book.
"""

from functools import cache
from typing import Any

from pydantic import TypeAdapter

from lifecycle.domain.cards import Card, Lock, OngoingOperation, Origin, State
from lifecycle.domain.commands import (
    COMMAND_CLASS,
    CardCommand,
    Command,
    CommandName,
    ConsumerCommand,
    DefineProduct,
)
from lifecycle.domain.consumers import Consumer, ConsumerState
from lifecycle.domain.credentials import Credentials
from lifecycle.domain.decide import decide_card, decide_consumer, decide_product, decide_reply
from lifecycle.domain.errors import RAISED_BY, SENTENCE, ErrorCode
from lifecycle.domain.fields import Refusal
from lifecycle.domain.operations import Context, Decision, Ignored, Pending, Reply
from lifecycle.domain.products import ActivationMethod, Form, Product, ProductTerms
from tests.oracle.fields import Data
from tests.oracle.rule_book import expected, expected_reply, expected_time_out
from tests.oracle.views import comparable

Subject = Card | Consumer | Product

ERROR_CHARACTERS_MAX = 256


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(COMMAND_CLASS[CommandName(name)])


def command_from(data: Data) -> Command:
    command = _adapter(data["command"]).validate_python(data)
    assert isinstance(command, Command)
    return command


def terms_from(data: Data) -> ProductTerms:
    return ProductTerms(
        form=Form(data["form"]),
        scheme=data["scheme"],
        activation_method=ActivationMethod(data["activationMethod"]),
        implicit_activation=data["implicitActivation"],
        auto_renew=data["autoRenew"],
        auto_renew_days=data["autoRenewDays"],
        transactions=data["transactions"],
        dynamic_cvv2=data["dynamicCvv2"],
        validity_months=data["validityMonths"],
        bin=data["bin"],
    )


def terms_to(terms: ProductTerms) -> Data:
    return {
        "form": str(terms.form),
        "scheme": terms.scheme,
        "activationMethod": str(terms.activation_method),
        "implicitActivation": terms.implicit_activation,
        "autoRenew": terms.auto_renew,
        "autoRenewDays": terms.auto_renew_days,
        "transactions": terms.transactions,
        "dynamicCvv2": terms.dynamic_cvv2,
        "validityMonths": terms.validity_months,
        "bin": terms.bin,
    }


def card_from(data: Data) -> Card:
    return Card(
        issuer_id=data["issuerId"],
        card_id=data["cardId"],
        incarnation=data["incarnation"],
        state=State(data["state"]),
        state_reason=data["stateReason"],
        suspensions=frozenset(data["suspensions"]),
        locks=frozenset(Lock(lock) for lock in data["locks"]),
        ongoing_operation=OngoingOperation(data["ongoingOperation"]),
        exp=data["exp"],
        pending_exp=data["pendingExp"],
        last4=data["last4"],
        consumer_id=data["consumerId"],
        card_product_id=data["cardProductId"],
        origin=Origin(data["origin"]),
        terms=terms_from(data["terms"]),
        name=data["name"],
        second_name=data["secondName"],
        predecessor_card_id=data["predecessorCardId"],
        successor_card_id=data["successorCardId"],
        delete_at_ms=data["deleteAtMs"],
        digital_cards_relinked=data["digitalCardsRelinked"],
        has_auxiliary_pan=data["hasAuxiliaryPan"],
        auxiliary_exp=data["auxiliaryExp"],
        pending_auxiliary_exp=data["pendingAuxiliaryExp"],
        real_card_id=data["realCardId"],
        real_card_incarnation=data["realCardIncarnation"],
        controls=data["controls"],
        limits=data["limits"],
        click_to_pay=data["clickToPay"],
    )


def card_to(card: Card) -> Data:
    return {
        "issuerId": card.issuer_id,
        "cardId": card.card_id,
        "incarnation": card.incarnation,
        "state": str(card.state),
        "stateReason": card.state_reason,
        "suspensions": sorted(card.suspensions),
        "locks": sorted(str(lock) for lock in card.locks),
        "ongoingOperation": str(card.ongoing_operation),
        "exp": card.exp,
        "pendingExp": card.pending_exp,
        "last4": card.last4,
        "consumerId": card.consumer_id,
        "cardProductId": card.card_product_id,
        "origin": str(card.origin),
        "terms": terms_to(card.terms),
        "name": card.name,
        "secondName": card.second_name,
        "predecessorCardId": card.predecessor_card_id,
        "successorCardId": card.successor_card_id,
        "deleteAtMs": card.delete_at_ms,
        "digitalCardsRelinked": card.digital_cards_relinked,
        "hasAuxiliaryPan": card.has_auxiliary_pan,
        "auxiliaryExp": card.auxiliary_exp,
        "pendingAuxiliaryExp": card.pending_auxiliary_exp,
        "realCardId": card.real_card_id,
        "realCardIncarnation": card.real_card_incarnation,
        "controls": card.controls,
        "limits": card.limits,
        "clickToPay": card.click_to_pay,
    }


def subject_from(data: Data | None) -> Subject | None:
    if data is None:
        return None
    if "cardId" in data:
        return card_from(data)
    if "consumerId" in data:
        return Consumer(
            issuer_id=data["issuerId"],
            consumer_id=data["consumerId"],
            state=ConsumerState(data["state"]),
        )
    return Product(
        issuer_id=data["issuerId"],
        card_product_id=data["cardProductId"],
        terms=terms_from(data["terms"]),
    )


def subject_to(subject: Subject | None) -> Data | None:
    match subject:
        case None:
            return None
        case Card():
            return card_to(subject)
        case Consumer():
            return {
                "issuerId": subject.issuer_id,
                "consumerId": subject.consumer_id,
                "state": str(subject.state),
            }
        case Product():
            return {
                "issuerId": subject.issuer_id,
                "cardProductId": subject.card_product_id,
                "terms": terms_to(subject.terms),
            }


def context_from(data: Data) -> Context:
    product, consumer = data["product"], data["consumerState"]
    drawn, pending = data["generatedLast4"], data["pending"]
    return Context(
        start_time_ms=data["startTimeMs"],
        version_time_ms=data["versionTimeMs"],
        issuer_time_zone=data["issuerTimeZone"],
        consumer_state=None if consumer is None else ConsumerState(consumer),
        product=None if product is None else terms_from(product),
        generated_card_id=data["generatedCardId"],
        generated_card_id_in_use=data["generatedCardIdInUse"],
        predecessor=_card_or_none(data["predecessor"]),
        generated_last4=drawn if drawn is None or drawn.isdigit() else ErrorCode(drawn),
        opened=_opened_from(data["opened"]),
        pan_is_free=data["panIsFree"],
        card_cvv_matches=data["cardCvvMatches"],
        new_card=_card_or_none(data["newCard"]),
        real_card=_card_or_none(data["realCard"]),
        real_card_virtual_cards=data["realCardVirtualCards"],
        pending=None if pending is None else pending_from(pending),
        enrolment_is_pending=data["enrolmentIsPending"],
    )


def _card_or_none(data: Data | None) -> Card | None:
    return None if data is None else card_from(data)


def _opened_from(data: Data | str | None) -> Credentials | Refusal | None:
    if data is None:
        return None
    if isinstance(data, str):
        return Refusal(ErrorCode(data))
    return Credentials(
        pan=data["pan"],
        exp=data["exp"],
        psn=data["psn"],
        auxiliary_pan=data["auxiliaryPan"],
        auxiliary_exp=data["auxiliaryExp"],
    )


def pending_from(data: Data) -> Pending:
    command = command_from(data["command"])
    assert isinstance(command, CardCommand)
    return Pending(
        command=command,
        start_time_ms=data["startTimeMs"],
        deadline_ms=data["deadlineMs"],
        incarnation=data["incarnation"],
    )


def decide(subject: Subject | None, command: Command, context: Context) -> Decision | Ignored:
    """Production's answer, whatever the command is about."""
    if isinstance(command, CardCommand):
        assert subject is None or isinstance(subject, Card)
        return decide_card(subject, command, context)
    if isinstance(command, ConsumerCommand):
        assert subject is None or isinstance(subject, Consumer)
        return decide_consumer(subject, command, context)
    assert isinstance(command, DefineProduct)
    assert subject is None or isinstance(subject, Product)
    return decide_product(subject, command, context)


def served(subject: Data | None, command: Data, context: Data) -> Data:
    """A card that may get a successor is decided with its product, unchanged unless said."""
    has_successor = command["command"] in ("REPLACE", "RENEW")
    if subject is None or not has_successor or context["product"] is not None:
        return context
    return {**context, "product": subject["terms"]}


def disagreements(subject: Data | None, command: Data, context: Data) -> list[str]:
    """Run both sides on the same input; one sentence for each thing they see differently."""
    context = served(subject, command, context)
    before = subject_from(subject)
    decision = decide(before, command_from(command), context_from(context))
    if isinstance(decision, Decision) and decision.error_code is not None:
        name = CommandName(decision.kind if decision.ends_pending else command["command"])
        assert name in RAISED_BY[ErrorCode(decision.error_code)], "the reference leaves it out"
    if command["command"] == "TIME_OUT":
        wanted: Data = {"ignored": True}
        if subject is not None:
            wanted = expected_time_out(subject, context["pending"], context)
    else:
        wanted = expected(subject, command, context)
    return _differences(subject, before, wanted, decision)


def reply_disagreements(card: Data, reply: Data, context: Data) -> list[str]:
    """The same for the reply to the PENDING operation of the context."""
    if context["pending"] is not None:
        context = served(card, context["pending"]["command"], context)
    before = card_from(card)
    said = Reply(is_successful=reply["result"] == "SUCCESSFUL", error_code=reply.get("errorCode"))
    decision = decide_reply(before, said, context_from(context))
    pending = context["pending"]
    wanted: Data = {"ignored": True}
    if pending is not None:
        wanted = expected_reply(card, pending, reply, context)
    return _differences(card, before, wanted, decision)


def _differences(
    subject: Data | None, before: Subject | None, wanted: Data, decision: Decision | Ignored
) -> list[str]:
    if isinstance(decision, Ignored) or wanted["ignored"]:
        same = isinstance(decision, Ignored) and wanted["ignored"]
        return [] if same else [f"ignored: expected {_brief(wanted)}, got {decision!r}"]
    found = _outcome_to(decision)
    wanted = {name: value for name, value in wanted.items() if name != "ignored"}
    wrong = [
        f"{name}: expected {wanted[name]!r}, got {found[name]!r}"
        for name in wanted
        if name not in ("subject", "caused") and wanted[name] != found[name]
    ]
    wrong += _different_fields("subject", wanted["subject"], found["subject"])
    if [one["kind"] for one in wanted["caused"]] != [one["kind"] for one in found["caused"]]:
        wrong.append(f"caused: expected {wanted['caused']!r}, got {found['caused']!r}")
    else:
        for one, other in zip(wanted["caused"], found["caused"], strict=True):
            wrong += _different_fields(f"caused {one['kind']}", one["card"], other["card"])
    unchanged = comparable(wanted["subject"]) == comparable(subject)
    if unchanged and decision.subject is not before:
        wrong.append("nothing changed, and yet the subject is another object")
    if (decision.error is None) != (decision.error_code is None):
        wrong.append(f"error {decision.error!r} with errorCode {decision.error_code!r}")
    if decision.error_code in list(ErrorCode) and ErrorCode(decision.error_code) not in SENTENCE:
        wrong.append(f"{decision.error_code} has no sentence")
    if decision.error is not None and not 0 < len(decision.error) <= ERROR_CHARACTERS_MAX:
        wrong.append(f"error has {len(decision.error)} characters")
    return wrong


def _outcome_to(decision: Decision) -> Data:
    return {
        "kind": str(decision.kind),
        "status": str(decision.status),
        "errorCode": None if decision.error_code is None else str(decision.error_code),
        "requestor": {"type": decision.requestor.type, "id": decision.requestor.id},
        "reasonCode": decision.reason_code,
        "reason": decision.reason,
        "correlationId": decision.correlation_id,
        "subject": subject_to(decision.subject),
        "caused": [{"kind": str(one.kind), "card": card_to(one.card)} for one in decision.caused],
        "registersConsumer": decision.registers_consumer,
        "numbers": [[str(change.kind), change.card_id] for change in decision.numbers],
        "cascadeReason": decision.cascade_reason,
        "request": None if decision.request is None else str(decision.request.kind),
        "endsPending": decision.ends_pending,
    }


def _different_fields(label: str, wanted: Data | None, found: Data | None) -> list[str]:
    wanted, found = comparable(wanted), comparable(found)
    if wanted is None or found is None:
        return [] if wanted is found else [f"{label}: expected {wanted!r}, got {found!r}"]
    return [
        f"{label}.{name}: expected {wanted.get(name)!r}, got {found.get(name)!r}"
        for name in sorted({*wanted, *found})
        if wanted.get(name) != found.get(name)
    ]


def _brief(outcome: Data) -> str:
    return "ignored" if outcome["ignored"] else f"{outcome['status']} {outcome['errorCode']}"
