"""The number of a command's own `encryptedData` stands in no other field (design.md 5)."""

import json
from collections.abc import Mapping

import pytest

from lifecycle.kafka.commands import Broken, Parsed, parse
from lifecycle.kafka.dead_letters import DeadLetterCode
from lifecycle.kafka.requests import ParsedReply, parse_reply
from lifecycle.worker.opening import Opening, without_number_elsewhere
from tests.unit.wire_records import CREATE, ISSUER, SUSPEND, record

# Ten digits are a number too, and look like none in a text.
SHORT, AUXILIARY = "5123456781", "79927398713"
TRACE = "00-{}b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
REGISTER: Mapping[str, object] = {**CREATE, "command": "REGISTER", "encryptedData": "a.b.c.d.e"}
RENEW: Mapping[str, object] = {**SUSPEND, "command": "RENEW", "encryptedData": "a.b.c.d.e"}


def opening(*numbers: str) -> Opening:
    return Opening(None, None, b"", "identity", numbers=numbers)


def judged(
    members: Mapping[str, object], *numbers: str, trace: str = TRACE
) -> Parsed | ParsedReply | Broken:
    key = f"{ISSUER}/{members['cardId']}".encode()
    found = parse(record(members, key=key, headers=(("traceparent", trace.encode()),)))
    assert isinstance(found, Parsed), found
    return without_number_elsewhere(found, opening(*numbers))


PLACES: dict[str, Mapping[str, object]] = {
    "requestor.id": {**REGISTER, "requestor": {"type": "USER", "id": "?"}},
    "requestor.type": {**REGISTER, "requestor": {"type": "?", "id": "anna"}},
    "commandId": {**REGISTER, "commandId": "job:?.1"},
    "correlationId": {**REGISTER, "correlationId": "?"},
    "cardId": {**REGISTER, "cardId": "card-?"},
    "consumerId": {**REGISTER, "consumerId": "a?b"},
    "cardProductId": {**REGISTER, "cardProductId": "?"},
    "realCardId": {**REGISTER, "realCardId": "00?00"},
    "name": {**REGISTER, "name": "?"},
    "secondName": {**REGISTER, "secondName": "?"},
    "reason": {**REGISTER, "reason": "was ? before"},
    "reasonCode": {**REGISTER, "reasonCode": "?"},
    "effectiveDate": {**REGISTER, "effectiveDate": "?"},
    "deleteAt": {**REGISTER, "deleteAt": "?"},
    "newCardId": {**RENEW, "newCardId": "?"},
    "newCardProductId": {**RENEW, "newCardProductId": "?"},
    "last4": {**RENEW, "command": "ACTIVATE", "last4": "?"},
}


@pytest.mark.parametrize("field", PLACES)
@pytest.mark.parametrize("written", [SHORT, "5123-4567-81", AUXILIARY])
def test_it_is_found_in_every_field(field: str, written: str) -> None:
    members = json.loads(json.dumps(PLACES[field]).replace("?", written))
    found = judged(members, SHORT, AUXILIARY)
    assert isinstance(found, Broken)
    assert found.code is DeadLetterCode.SENSITIVE_DATA
    assert f"field {field} " in found.error
    assert SHORT not in found.error


@pytest.mark.parametrize("field", PLACES)
def test_another_number_of_its_length_stands_there_by_right(field: str) -> None:
    members = json.loads(json.dumps(PLACES[field]).replace("?", SHORT[:-1] + "0"))
    assert isinstance(judged(members, SHORT, AUXILIARY), Parsed)


def test_the_ciphertext_is_no_other_field() -> None:
    assert isinstance(judged({**REGISTER, "encryptedData": SHORT}, SHORT), Parsed)


def test_it_does_not_travel_as_a_trace_and_costs_no_command() -> None:
    hiding = TRACE.format(SHORT)
    found = judged(REGISTER, SHORT, trace=hiding)
    assert isinstance(found, Parsed)
    assert found.traceparent is None
    other = judged(REGISTER, AUXILIARY, trace=hiding)
    assert isinstance(other, Parsed)
    assert other.traceparent == hiding


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"errorCode": "E?"}, "errorCode"),
        ({"operationId": "?"}, "operationId"),
        ({"cardId": "card-?"}, "cardId"),
        ({"data": {"note": "?"}}, "data.note"),
        ({"data": {"more": [{"deep": ["x", "51 2345-6781"]}]}}, "data.more.deep"),
        ({"data": {"51 2345-6781": 1}}, "the name of a field"),
        ({"data": {"number": int(SHORT)}}, "data.number"),
    ],
)
def test_it_is_found_in_a_reply(changes: dict[str, object], place: str) -> None:
    reply = {"operationId": "o", "issuerId": ISSUER, "cardId": "card-1", "result": "SUCCESSFUL"}
    body = json.loads(json.dumps({**reply, **changes}).replace("?", SHORT))
    body["data"] = {**body.get("data", {}), "encryptedData": f"a.{SHORT}.c.d.e"}
    key = f"{ISSUER}/{body['cardId']}".encode()
    found = parse_reply(record(body, key=key), max_reply_bytes=1_000)
    assert isinstance(found, ParsedReply), found
    broken = without_number_elsewhere(found, opening(SHORT))
    assert isinstance(broken, Broken)
    assert place in broken.error
    assert without_number_elsewhere(found, opening(AUXILIARY)) is found


def test_an_opening_shows_nothing_of_itself() -> None:
    assert not any(sign.isdigit() for sign in f"{opening(SHORT)!r}{opening(SHORT)}")
