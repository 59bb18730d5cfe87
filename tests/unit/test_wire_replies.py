"""Replies of outside parties (design.md 2, 5): whatever bytes they are, an answer or a reason."""

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.domain.commands import CardCommand
from lifecycle.domain.decide import decide_card
from lifecycle.domain.operations import OUTSIDE_KINDS, Decision
from lifecycle.domain.sources import Source
from lifecycle.kafka.commands import Broken, parse
from lifecycle.kafka.requests import ParsedReply, parse_reply
from lifecycle.postgres.pending import PendingRow
from lifecycle.settings import PENDING_TIMEOUT_SECONDS_DEFAULT, Settings
from lifecycle.worker.pending import command_of, pending_row
from lifecycle.worker.taken import take
from tests.unit.deciding import PHYSICAL, a_card, a_context, a_registered_card
from tests.unit.wire_records import record

OPERATION_ID = "0e2f0d5a-1c7f-8d52-9d4b-6a4f6b3f3f10"
GOOD: dict[str, Any] = {
    "operationId": OPERATION_ID,
    "issuerId": "BANK000001",
    "cardId": "card-1",
    "result": "SUCCESSFUL",
    "data": {"encryptedData": "a.b.c.d.e", "more": [1, {"is": "allowed"}]},
}
KEY = b"BANK000001/card-1"


def parsed(body: object, key: bytes | None = KEY) -> ParsedReply | Broken:
    return parse_reply(record(json.dumps(body).encode(), key=key), max_reply_bytes=1_000)


def test_a_good_reply_is_read() -> None:
    reply = parsed(GOOD)
    assert isinstance(reply, ParsedReply)
    assert reply.operation_id == UUID(OPERATION_ID)
    assert (reply.reply.is_successful, reply.encrypted_data) == (True, "a.b.c.d.e")
    failed = parsed({**GOOD, "result": "FAILED", "errorCode": "E", "data": None})
    assert isinstance(failed, ParsedReply)
    assert (failed.reply.is_successful, failed.reply.error_code) == (False, "E")
    unknown = parsed({**GOOD, "operationId": "not-ours"})
    assert isinstance(unknown, ParsedReply)
    assert unknown.operation_id is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"result": None}, "FIELD_TYPE"),
        ({"result": "DONE"}, "FIELD_INVALID_FORMAT"),
        ({"operationId": "a b"}, "FIELD_INVALID_FORMAT"),
        ({"operationId": "a\n"}, "FIELD_INVALID_FORMAT"),
        ({"issuerId": "BANK"}, "FIELD_INVALID_FORMAT"),
        ({"cardId": 7}, "FIELD_TYPE"),
        ({"errorCode": 7}, "FIELD_TYPE"),
        ({"data": "text"}, "FIELD_TYPE"),
        ({"data": {"encryptedData": 7}}, "FIELD_TYPE"),
        ({"kind": "RENEW"}, "FIELD_UNKNOWN"),
        ({"cardId": "card-2"}, "KEY_MISMATCH"),
        ({"errorCode": "4000000000000002"}, "SENSITIVE_DATA"),
        ({"data": {"text": "x" * 1_000}}, "TOO_LARGE"),
    ],
)
def test_a_broken_reply_says_why(changes: dict[str, Any], code: str) -> None:
    broken = parsed({**GOOD, **changes})
    assert isinstance(broken, Broken)
    assert broken.code == code
    assert "4000000000000002" not in broken.error


def test_a_number_in_an_identifier_of_a_reply_is_asked_about() -> None:
    number = "4000000000000002"
    body = {**GOOD, "operationId": number, "cardId": number, "data": {"newCardId": number}}
    key = f"BANK000001/{number}".encode()
    reply = parsed(body, key)
    assert isinstance(reply, ParsedReply)
    places = {suspect.place for suspect in reply.suspects}
    assert places == {"field operationId", "field cardId", "field data.newCardId"}
    raw = record(json.dumps(body).encode(), key=key)
    strict = parse_reply(raw, max_reply_bytes=1_000, strict_identifiers=True)
    assert isinstance(strict, Broken)
    assert strict.code == "SENSITIVE_DATA"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    value=st.none() | st.binary() | st.dictionaries(st.sampled_from(sorted(GOOD)), _JSON),
    key=st.none() | st.binary() | st.just(KEY),
)
def test_no_bytes_raise(value: bytes | dict[str, Any] | None, key: bytes | None) -> None:
    raw = json.dumps({**GOOD, **value}).encode() if isinstance(value, dict) else value
    found = parse_reply(record(raw, key=key), max_reply_bytes=65_536)
    assert isinstance(found, ParsedReply | Broken)


@pytest.mark.parametrize(
    "fields",
    [
        {"command": "RENEW", "newCardId": "card-2", "newCardState": "ACTIVE"},
        {"command": "PRODUCE", "distributionChannel": "B", "reason": "new"},
        {"command": "CLICK_TO_PAY_ENROLMENT", "name": "ANN", "correlationId": "x"},
        {"command": "CLICK_TO_PAY_UPDATE", "name": "Zoë"},
        {"command": "CLICK_TO_PAY_OPTOUT", "requestor": {"type": "USER", "id": "anna"}},
    ],
)
def test_what_waits_is_read_back_as_it_was(fields: dict[str, Any]) -> None:
    body = {"commandId": "c1", "issuerId": "BANK000001", "cardId": "card-1", **fields}
    command = parse(record(json.dumps(body).encode(), key=KEY))
    assert not isinstance(command, Broken)
    assert isinstance(command.command, CardCommand)
    taken = take(record(json.dumps(body).encode(), key=KEY), command, 3)
    assert taken.source is Source.COMMANDS
    card = (
        a_registered_card()
        if fields["command"] == "RENEW"
        else a_card(terms=PHYSICAL, click_to_pay=True)
    )
    decision = decide_card(card, command.command, a_context())
    assert isinstance(decision, Decision)
    assert decision.request is not None, decision.error
    row: PendingRow = pending_row(taken, decision, 1_000, incarnation=1, settings=Settings())
    assert command_of(row) == command.command
    assert row.deadline_ms == 1_000 + PENDING_TIMEOUT_SECONDS_DEFAULT[decision.kind] * 1_000


def test_every_kind_that_may_wait_has_a_time_out() -> None:
    assert PENDING_TIMEOUT_SECONDS_DEFAULT.keys() == OUTSIDE_KINDS


def test_a_source_has_the_name_that_its_rows_bear() -> None:
    assert [source.value for source in Source] == ["commands", "replies"]
