"""CloudEvents 1.0, binary and structured mode (design.md 3)."""

import pytest

from lifecycle.domain.commands import CommandName
from lifecycle.kafka.cloudevents import command_type
from lifecycle.kafka.commands import Broken, Parsed, parse
from lifecycle.kafka.dead_letters import DeadLetterCode
from lifecycle.kafka.sensitive import Suspect
from tests.unit.wire_records import (
    BINARY,
    KEY,
    PAN_13,
    PAN_16,
    STRUCTURED_TYPE,
    SUSPEND,
    envelope,
    record,
)

Headers = tuple[tuple[str, bytes | None], ...]
BODY_ALONE: dict[str, object] = {"issuerId": "BANK000001", "cardId": "card-1"}
PLAIN = parse(record(SUSPEND))


def replaced(name: str, value: bytes | None) -> Headers:
    return tuple((header, value if header == name else content) for header, content in BINARY)


def left_out(name: str) -> Headers:
    return tuple(header for header in BINARY if header[0] != name)


def code_of(outcome: Parsed | Broken) -> DeadLetterCode:
    assert isinstance(outcome, Broken), outcome
    return outcome.code


@pytest.mark.parametrize(
    "body",
    [
        BODY_ALONE,
        {**BODY_ALONE, "commandId": "c1"},
        {**BODY_ALONE, "command": "SUSPEND"},
        {**BODY_ALONE, "command": None, "commandId": None},
        SUSPEND,
    ],
)
def test_binary_mode_is_the_plain_command(body: dict[str, object]) -> None:
    assert parse(record(body, headers=BINARY)) == PLAIN


@pytest.mark.parametrize("body", [BODY_ALONE, SUSPEND])
def test_structured_mode_is_the_plain_command(body: dict[str, object]) -> None:
    assert parse(record(envelope(body), headers=STRUCTURED_TYPE)) == PLAIN


def test_structured_mode_goes_by_the_media_type_alone() -> None:
    headers = (("content-type", b"Application/CloudEvents+JSON; charset=UTF-8"),)
    assert parse(record(envelope(BODY_ALONE), headers=headers)) == PLAIN
    assert code_of(parse(record(envelope(BODY_ALONE)))) is DeadLetterCode.FIELD_MISSING


@pytest.mark.parametrize("name", CommandName)
def test_the_type_is_the_command_in_kebab_case(name: CommandName) -> None:
    words = name.value.lower().split("_")
    assert command_type(name) == "cards.command." + "-".join(words) + ".v1"


@pytest.mark.parametrize(
    "headers",
    [
        replaced("ce_specversion", b"0.3"),
        replaced("ce_specversion", b""),
        replaced("ce_specversion", b"1.0 "),
        left_out("ce_id"),
        left_out("ce_type"),
        left_out("ce_source"),
        replaced("ce_id", b""),
        replaced("ce_source", b""),
        replaced("ce_id", b"c2"),
        replaced("ce_type", b"cards.command.resume.v1"),
        replaced("ce_type", b"cards.command.suspend.v2"),
        replaced("ce_type", b"cards.command.SUSPEND.v1"),
        replaced("ce_type", b"other.command.suspend.v1"),
        replaced("ce_type", b"cards.command.suspend.v1\n"),
    ],
)
def test_a_wrong_binary_event_is_refused(headers: Headers) -> None:
    outcome = parse(record(SUSPEND, headers=headers))
    assert code_of(outcome) is DeadLetterCode.CLOUDEVENT_INVALID


@pytest.mark.parametrize(
    "event",
    [
        envelope(SUSPEND, specversion="0.3"),
        envelope(SUSPEND, specversion=1.0),
        envelope(SUSPEND, id=""),
        envelope(SUSPEND, id=1),
        envelope(SUSPEND, id=None),
        envelope(SUSPEND, source=None),
        envelope(SUSPEND, type="SUSPEND"),
        envelope(SUSPEND, id="c2"),
        envelope(SUSPEND, type="cards.command.resume.v1"),
        envelope(None),
        envelope("{}"),
        envelope([SUSPEND]),
        envelope(SUSPEND, data_base64="e30="),
        envelope(SUSPEND, datacontenttype="text/plain"),
        envelope(SUSPEND, datacontenttype=1),
        {"data": dict(SUSPEND)},
        dict(SUSPEND),
    ],
)
def test_a_wrong_structured_event_is_refused(event: dict[str, object]) -> None:
    outcome = parse(record(event, headers=STRUCTURED_TYPE))
    assert code_of(outcome) is DeadLetterCode.CLOUDEVENT_INVALID


@pytest.mark.parametrize("headers", [BINARY[1:], BINARY[1:2]])
def test_without_specversion_other_attributes_are_ignored(headers: Headers) -> None:
    assert parse(record(SUSPEND, headers=headers)) == PLAIN
    wrong: Headers = (("ce_id", b"another"), ("ce_type", b"nonsense"))
    assert parse(record(SUSPEND, headers=wrong)) == PLAIN


def test_attributes_that_we_do_not_use_are_let_through() -> None:
    headers = (*BINARY, ("ce_time", b"whenever"), ("ce_subject", b"card-9"))
    assert parse(record(SUSPEND, headers=headers)) == PLAIN
    event = envelope(BODY_ALONE, time="whenever", subject=None, sequence=7, datacontenttype=None)
    assert parse(record(event, headers=STRUCTURED_TYPE)) == PLAIN


def test_a_type_of_the_right_form_may_name_an_unknown_command() -> None:
    binary = parse(record(BODY_ALONE, headers=replaced("ce_type", b"cards.command.fly.v1")))
    assert code_of(binary) is DeadLetterCode.UNKNOWN_COMMAND
    event = envelope(BODY_ALONE, type="cards.command.copy-credentials.v1")
    structured = parse(record(event, headers=STRUCTURED_TYPE))
    assert code_of(structured) is DeadLetterCode.UNKNOWN_COMMAND


def test_an_id_of_the_wrong_type_in_the_body_is_a_wrong_type() -> None:
    outcome = parse(record({**SUSPEND, "commandId": 1}, headers=BINARY))
    assert code_of(outcome) is DeadLetterCode.FIELD_TYPE


def test_an_id_from_a_header_has_the_format_of_a_command_id() -> None:
    outcome = parse(record(BODY_ALONE, headers=replaced("ce_id", b"c 1")))
    assert code_of(outcome) is DeadLetterCode.FIELD_INVALID_FORMAT


def test_headers_beside_an_envelope_must_agree_with_it() -> None:
    both = (*STRUCTURED_TYPE, *BINARY)
    assert parse(record(envelope(BODY_ALONE), headers=both)) == PLAIN
    outcome = parse(record(envelope(BODY_ALONE, id="c2"), headers=both))
    assert code_of(outcome) is DeadLetterCode.CLOUDEVENT_INVALID


def test_a_repeated_name_in_the_envelope_is_not_json() -> None:
    value = b'{"specversion":"1.0","specversion":"1.0","data":{}}'
    outcome = parse(record(value, headers=STRUCTURED_TYPE))
    assert code_of(outcome) is DeadLetterCode.NOT_JSON


def test_a_number_in_an_id_header_is_asked_about() -> None:
    outcome = parse(record(BODY_ALONE, headers=replaced("ce_id", PAN_16.encode())))
    assert isinstance(outcome, Parsed)
    assert outcome.suspects == (Suspect("field commandId", PAN_16),)


def test_a_card_number_in_an_envelope_is_found() -> None:
    for event in (envelope(BODY_ALONE, source=PAN_16), envelope({**BODY_ALONE, "reason": PAN_16})):
        outcome = parse(record(event, headers=STRUCTURED_TYPE))
        assert code_of(outcome) is DeadLetterCode.SENSITIVE_DATA


@pytest.mark.parametrize("name", ["subject", "partitionkey", "correlationid"])
def test_a_number_in_an_identifier_of_an_envelope_is_asked_about(name: str) -> None:
    outcome = parse(record(envelope(BODY_ALONE, **{name: PAN_16}), headers=STRUCTURED_TYPE))
    assert isinstance(outcome, Parsed)
    assert outcome.suspects == (Suspect(f"field {name}", PAN_16),)


def test_tracing_in_an_envelope_costs_no_command() -> None:
    trace = f"00-4bf92f3577b34da6a3ce929d0e0e4736-{PAN_16}-01"
    event = envelope(BODY_ALONE, traceparent=trace, tracestate=PAN_16)
    assert isinstance(parse(record(event, headers=STRUCTURED_TYPE)), Parsed)


def test_an_envelope_without_its_content_type_is_told_of_it() -> None:
    for headers in ((), (("Content-Type", b"application/cloudevents+json"),)):
        outcome = parse(record(envelope(BODY_ALONE), headers=headers))
        assert isinstance(outcome, Broken)
        assert outcome.code is DeadLetterCode.FIELD_MISSING
        assert outcome.error == (
            "Field command is missing; send it. This is a CloudEvents envelope: send it with the"
            " header content-type (in lower case) application/cloudevents+json."
        )


def test_headers_without_their_version_are_told_of_it() -> None:
    outcome = parse(record(BODY_ALONE, headers=BINARY[1:]))
    assert isinstance(outcome, Broken)
    assert outcome.code is DeadLetterCode.FIELD_MISSING
    assert outcome.error.endswith("The ce_ headers count only with ce_specversion.")


def test_what_is_no_event_gets_no_hint() -> None:
    outcome = parse(record({"commandId": "c1", "data": {}}))
    assert isinstance(outcome, Broken)
    assert outcome.error == "Field command is missing; send it."


def test_an_envelope_cannot_hide_behind_a_field_of_the_same_name() -> None:
    event = envelope({**BODY_ALONE, "reason": "lost"}, reason=PAN_16)
    outcome = parse(record(event, headers=STRUCTURED_TYPE))
    assert code_of(outcome) is DeadLetterCode.SENSITIVE_DATA


def test_an_id_of_thirteen_digits_is_no_card_number_in_either_mode() -> None:
    binary = parse(record(BODY_ALONE, headers=replaced("ce_id", PAN_13.encode())))
    structured = parse(record(envelope(BODY_ALONE, id=PAN_13), headers=STRUCTURED_TYPE))
    assert isinstance(binary, Parsed)
    assert binary == structured
    assert binary == parse(record({**SUSPEND, "commandId": PAN_13}, key=KEY))
