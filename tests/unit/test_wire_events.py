"""Events as they are published (design.md 4; domain.md 2.4, 8)."""

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from hashlib import sha256
from typing import cast
from uuid import UUID

import pytest
import rfc8785

from lifecycle.domain.cards import (
    Card,
    Lock,
    OngoingOperation,
    Origin,
    State,
)
from lifecycle.domain.commands import Requestor, Subject, SubjectKind
from lifecycle.domain.consumers import Consumer, ConsumerState
from lifecycle.domain.errors import ErrorCode
from lifecycle.domain.identifiers import event_id, operation_id
from lifecycle.domain.operations import OperationKind, Status
from lifecycle.domain.products import Form, Product, ProductTerms
from lifecycle.domain.settings_objects import canonical
from lifecycle.kafka.events import Event, Recorded, card_view, headers_of, instant, render

SUBJECT = Subject(SubjectKind.CARD, "BANK000001", "card-1")
OPERATION = operation_id(SUBJECT, "c1")
TIME_MS = 1_795_341_421_123
CARD = Card(
    issuer_id="BANK000001",
    card_id="card-1",
    state=State.SUSPENDED,
    state_reason="CARD_LOST",
    suspensions=frozenset({"CARD_LOST"}),
    exp="1127",
    last4="1234",
    consumer_id="consumer-1",
    card_product_id="gold",
    origin=Origin.ISSUED,
    terms=ProductTerms(form=Form.PHYSICAL, scheme="VISA"),
    name="Zoë",
)
RECORDED = Recorded(
    operation_id=OPERATION,
    subject=SUBJECT,
    kind=OperationKind.SUSPEND,
    status=Status.SUCCESSFUL,
    start_time_ms=TIME_MS,
    end_time_ms=TIME_MS + 1_000,
    requestor=Requestor(type="ISSUER", id="BANK000001"),
    reason_code="CARD_LOST",
    reason="Lost at sea",
    command_id="c1",
    correlation_id="corr-1",
    command_partition=3,
    command_offset=1042,
    previous_hash=bytes(range(32)),
    version=3,
    previous_state="ACTIVE",
    after=CARD,
)
CONSUMER = RECORDED._replace(
    subject=Subject(SubjectKind.CONSUMER, "BANK000001", "consumer-1"),
    kind=OperationKind.CONSUMER_REGISTER,
    after=Consumer(issuer_id="BANK000001", consumer_id="consumer-1", state=ConsumerState.ACTIVE),
    previous_state=None,
    reason_code=None,
    reason=None,
)
PRODUCT_GOLD = Product(issuer_id="BANK000001", card_product_id="gold", terms=CARD.terms)
PRODUCT = CONSUMER._replace(
    subject=Subject(SubjectKind.PRODUCT, "BANK000001", "gold"),
    kind=OperationKind.PRODUCT_DEFINE,
    after=PRODUCT_GOLD,
)
UNKNOWN = RECORDED._replace(
    status=Status.FAILED,
    error_code=ErrorCode.CARD_NOT_FOUND,
    error="The issuer has no card with this id.",
    after=None,
    version=0,
    previous_state=None,
    previous_hash=None,
)
PENDING = RECORDED._replace(status=Status.PENDING, end_time_ms=None)
ALL = {
    "card": RECORDED,
    "consumer": CONSUMER,
    "product": PRODUCT,
    "unknown card": UNKNOWN,
    "unknown consumer": UNKNOWN._replace(subject=CONSUMER.subject),
    "unknown product": UNKNOWN._replace(subject=PRODUCT.subject),
    "pending": PENDING,
    "caused": RECORDED._replace(causation_id=UUID(int=7), details={"newCardId": "card-2 é"}),
}


def payload_of(event: Event) -> dict[str, object]:
    return cast("dict[str, object]", json.loads(event.payload))


def member(payload: Mapping[str, object], name: str) -> dict[str, object]:
    return cast("dict[str, object]", payload[name])


def test_the_payload_is_that_of_the_contract() -> None:
    event = render(RECORDED)
    expected = {
        "eventId": str(event_id(OPERATION, "SUCCESSFUL")),
        "issuerId": "BANK000001",
        "cardId": "card-1",
        "version": 3,
        "previousState": "ACTIVE",
        "operation": {
            "operationId": str(OPERATION),
            "operation": "SUSPEND",
            "status": "SUCCESSFUL",
            "startTime": "2026-11-22T09:57:01.123Z",
            "endTime": "2026-11-22T09:57:02.123Z",
            "requestorType": "ISSUER",
            "requestorId": "BANK000001",
            "reasonCode": "CARD_LOST",
            "reason": "Lost at sea",
            "details": {},
        },
        "card": {
            "state": "SUSPENDED",
            "stateReason": "CARD_LOST",
            "locks": [],
            "ongoingOperation": "NONE",
            "exp": "1127",
            "pendingExp": None,
            "last4": "1234",
            "consumerId": "consumer-1",
            "cardProductId": "gold",
            "origin": "ISSUED",
            "form": "PHYSICAL",
            "incarnation": 1,
            "predecessorCardId": None,
            "successorCardId": None,
            "deleteAt": None,
            "usage": {"authorisations": "NO", "digitise": "NO", "digitalCards": "YES"},
            "realCardId": None,
            "controls": None,
            "limits": None,
            "clickToPay": False,
            "realCardIncarnation": None,
            "suspensions": ["CARD_LOST"],
            "terms": {
                "activationMethod": "NOTHING",
                "autoRenew": False,
                "autoRenewDays": 30,
                "bin": "40000000",
                "dynamicCvv2": False,
                "form": "PHYSICAL",
                "implicitActivation": False,
                "scheme": "VISA",
                "transactions": True,
                "validityMonths": 36,
            },
            "hasAuxiliaryPan": False,
            "auxiliaryExp": None,
            "pendingAuxiliaryExp": None,
        },
        "commandId": "c1",
        "correlationId": "corr-1",
        "causationId": None,
        "command": {"partition": 3, "offset": 1042},
        "previousHash": bytes(range(32)).hex(),
        "hash": event.hash.hex(),
    }
    # Compared as text: the order of the members is that of the contract's example.
    assert json.dumps(payload_of(event)) == json.dumps(expected)
    assert event.event_id == event_id(OPERATION, "SUCCESSFUL")
    assert event.type == "cards.suspend.successful.v1"


def test_controls_and_limits_are_shown_as_they_were_given_and_hashed_as_rfc_8785_writes_them() -> (
    None
):
    limits = {"b": 2**53 - 1, "a": 0.1, "\u20ac": 1.0, "\U0001f600": [1e-7, True, None], "\r": {}}
    text = canonical(limits)
    event = render(RECORDED._replace(after=replace(CARD, controls="{}", limits=text)))
    payload = payload_of(event)
    card = member(payload, "card")
    assert (card["limits"], card["controls"]) == (limits, {})
    del payload["hash"]
    canonical_event = rfc8785.dumps(cast("dict[str, str]", payload))
    assert event.hash == sha256(canonical_event).digest()


@pytest.mark.parametrize("recorded", ALL.values(), ids=ALL.keys())
def test_the_hash_is_sha_256_over_the_canonical_event_without_it(recorded: Recorded) -> None:
    event = render(recorded)
    payload = payload_of(event)
    assert payload.pop("hash") == event.hash.hex()
    canonical = rfc8785.dumps(cast("dict[str, str]", payload))
    assert event.hash == sha256(canonical).digest()


@pytest.mark.parametrize("recorded", ALL.values(), ids=ALL.keys())
def test_rendering_again_gives_the_same(recorded: Recorded) -> None:
    assert render(recorded) == render(recorded._replace())


def test_events_of_a_subject_are_chained() -> None:
    first = render(RECORDED._replace(previous_hash=None))
    second = render(RECORDED._replace(previous_hash=first.hash))
    assert payload_of(first)["previousHash"] is None
    assert payload_of(second)["previousHash"] == payload_of(first)["hash"]
    assert first.hash != second.hash


def test_a_consumers_event_has_no_card() -> None:
    payload = payload_of(render(CONSUMER))
    assert (payload["cardId"], payload["card"]) == (None, None)
    assert (payload["consumerId"], payload["consumer"]) == ("consumer-1", {"state": "ACTIVE"})
    assert render(CONSUMER).type == "cards.consumer-register.successful.v1"


def test_a_products_event_shows_its_terms() -> None:
    payload = payload_of(render(PRODUCT))
    assert (payload["cardId"], payload["card"]) == (None, None)
    assert payload["cardProductId"] == "gold"
    assert payload["product"] == {
        "form": "PHYSICAL",
        "scheme": "VISA",
        "activationMethod": "NOTHING",
        "implicitActivation": False,
        "autoRenew": False,
        "autoRenewDays": 30,
        "transactions": True,
        "dynamicCvv2": False,
        "validityMonths": 36,
        "bin": "40000000",
    }
    assert "consumer" not in payload


def test_only_a_failed_operation_has_an_error() -> None:
    payload = payload_of(render(UNKNOWN))
    operation = member(payload, "operation")
    assert (operation["errorCode"], operation["error"]) == (
        "CARD_NOT_FOUND",
        "The issuer has no card with this id.",
    )
    assert (payload["card"], payload["version"], payload["previousHash"]) == (None, 0, None)
    assert not {"errorCode", "error"} & member(payload_of(render(RECORDED)), "operation").keys()


def test_a_pending_operation_has_no_end() -> None:
    assert member(payload_of(render(PENDING)), "operation")["endTime"] is None


@pytest.mark.parametrize(
    "impossible",
    [
        {"end_time_ms": None},
        {"status": Status.PENDING},
        {"status": Status.FAILED},
        {"error_code": ErrorCode.CARD_EXPIRED},
        {"subject": CONSUMER.subject},
        {"after": CONSUMER.after},
    ],
)
def test_what_cannot_have_been_recorded_is_not_published(impossible: dict[str, object]) -> None:
    with pytest.raises(AssertionError):
        render(RECORDED._replace(**impossible))  # type: ignore[arg-type] # any field


@pytest.mark.parametrize(
    ("state", "relinked", "usage"),
    [  # domain.md 2.4 and 8
        (State.INACTIVE, False, ("NO", "NO", "NO_CHANGE")),
        (State.ACTIVE, False, ("YES", "YES", "YES")),
        (State.SUSPENDED, False, ("NO", "NO", "YES")),
        (State.EXPIRED, False, ("NO", "NO", "NO_CHANGE")),
        (State.RENEWED, False, ("NO", "NO", "RELINK_PENDING")),
        (State.RENEWED, True, ("NO", "NO", "RELINKED")),
        (State.REPLACED, False, ("NO", "NO", "RELINK_PENDING")),
        (State.REPLACED, True, ("NO", "NO", "RELINKED")),
        (State.DELETED, False, ("NO", "NO", "DELETED")),
    ],
)
def test_usage_follows_the_state(
    state: State, usage: tuple[str, str, str], *, relinked: bool
) -> None:
    view = card_view(replace(CARD, state=state, digital_cards_relinked=relinked))
    assert tuple(member(view, "usage").values()) == usage


def test_the_card_shows_what_is_beside_its_state() -> None:
    view = card_view(
        replace(
            CARD,
            locks=frozenset({Lock.EXPIRY_DATE, Lock.PIN, Lock.CVV2}),
            ongoing_operation=OngoingOperation.RENEWAL,
            pending_exp="1130",
            delete_at_ms=TIME_MS,
            predecessor_card_id="card-0",
            successor_card_id="card-2",
            incarnation=2,
        )
    )
    assert view["locks"] == ["PIN", "CVV2", "EXPIRY_DATE"]
    assert view["deleteAt"] == "2026-11-22T09:57:01.123Z"
    assert (view["predecessorCardId"], view["successorCardId"]) == ("card-0", "card-2")
    assert (view["ongoingOperation"], view["pendingExp"]) == ("RENEWAL", "1130")
    assert view["incarnation"] == 2


def test_g7_the_card_shows_everything_but_what_is_secret_or_personal() -> None:
    """Each field of a card is seen in its event, when it changes, but its names."""
    before = render(RECORDED).payload
    other: dict[str, object] = {
        "incarnation": 2,
        "state": State.EXPIRED,
        "state_reason": "FRAUD",
        "suspensions": frozenset({"USER_DECISION", "CARD_LOST"}),
        "locks": frozenset({Lock.PIN}),
        "ongoing_operation": OngoingOperation.RENEWAL,
        "exp": "1199",
        "pending_exp": "1299",
        "last4": "9999",
        "consumer_id": "consumer-2",
        "card_product_id": "silver",
        "origin": Origin.REGISTERED,
        "terms": replace(CARD.terms, auto_renew_days=31),
        "predecessor_card_id": "card-0",
        "successor_card_id": "card-2",
        "delete_at_ms": TIME_MS,
        "has_auxiliary_pan": True,
        "auxiliary_exp": "0931",
        "pending_auxiliary_exp": "0932",
        "real_card_id": "real",
        "real_card_incarnation": 3,
        "controls": "{}",
        "limits": '{"a":1}',
        "click_to_pay": True,
    }
    hidden = {"name", "second_name"}
    # They name the card; `digitalCards` tells the last one where it means something.
    named = {"issuer_id", "card_id", "digital_cards_relinked"}
    assert {one.name for one in fields(Card)} == {*other, *hidden, *named}
    for name, value in other.items():
        changed = replace(CARD, **{name: value})  # type: ignore[arg-type] # any field
        assert changed != CARD, name
        assert render(RECORDED._replace(after=changed)).payload != before, name
    for name in hidden:
        changed = replace(CARD, **{name: "ANN SHOWN"})  # type: ignore[arg-type] # any field
        assert render(RECORDED._replace(after=changed)).payload == before, name


def test_the_terms_of_a_card_are_those_of_its_own_product() -> None:
    """They are rendered once and remembered by all that is in them."""
    for terms in (CARD.terms, replace(CARD.terms, bin="41111100"), CARD.terms):
        card = member(
            payload_of(render(RECORDED._replace(after=replace(CARD, terms=terms)))), "card"
        )
        product = render(PRODUCT._replace(after=replace(PRODUCT_GOLD, terms=terms)))
        assert card["terms"] == payload_of(product)["product"]
        assert member(card, "terms")["bin"] == terms.bin


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (999, "1970-01-01T00:00:00.999Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (1_709_164_800_001, "2024-02-29T00:00:00.001Z"),
    ],
)
def test_times_are_utc_with_milliseconds(time_ms: int, text: str) -> None:
    assert instant(time_ms) == text


def test_headers_are_cloudevents_binary_mode() -> None:
    event = render(RECORDED)
    headers = headers_of(
        event_id=event.event_id,
        type=event.type,
        issuer_id="BANK000001",
        subject_id_for_ce_subject="card-1",
        time=TIME_MS,
        sequence=42,
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )
    assert headers == [
        ("ce_specversion", b"1.0"),
        ("ce_id", str(event.event_id).encode()),
        ("ce_type", b"cards.suspend.successful.v1"),
        ("ce_source", b"/issuers/BANK000001"),
        ("ce_subject", b"card-1"),
        ("ce_time", b"2026-11-22T09:57:01.123Z"),
        ("ce_sequence", b"00000000000000000042"),
        ("content-type", b"application/json"),
        ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ]


def test_without_a_trace_there_is_no_traceparent() -> None:
    headers = headers_of(
        event_id=OPERATION,
        type="t",
        issuer_id="i",
        subject_id_for_ce_subject="s",
        time=0,
        sequence=1,
        traceparent=None,
    )
    assert "traceparent" not in dict(headers)
