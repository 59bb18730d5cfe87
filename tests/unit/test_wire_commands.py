"""Commands as they arrive: every way to be broken has its code (design.md 3, 5)."""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple

import pytest

from lifecycle.domain.commands import (
    Create,
    DefineProduct,
    Requestor,
    Resume,
    Subject,
    SubjectKind,
    Suspend,
)
from lifecycle.kafka.commands import Broken, Parsed, is_same_content, parse
from lifecycle.kafka.commands import content_hash_of as content_hash_of_opened
from lifecycle.kafka.dead_letters import DeadLetterCode
from lifecycle.worker.opening import Opening
from lifecycle.worker.taken import take
from tests.unit.wire_records import (
    BINARY,
    CREATE,
    DEFINE_PRODUCT,
    ISSUER,
    KEY,
    PAN_16,
    REGISTER_CONSUMER,
    SUSPEND,
    record,
)

Code = DeadLetterCode


def parsed(
    value: bytes | Mapping[str, object],
    *,
    key: bytes = KEY,
    headers: tuple[tuple[str, bytes | None], ...] = (),
) -> Parsed:
    outcome = parse(record(value, key=key, headers=headers))
    assert isinstance(outcome, Parsed), outcome
    return outcome


class Case(NamedTuple):
    code: DeadLetterCode
    value: bytes | Mapping[str, object] | None
    key: bytes | None = KEY
    headers: tuple[tuple[str, bytes | None], ...] = ()


def without(name: str, members: Mapping[str, object] = SUSPEND) -> dict[str, object]:
    return {field: member for field, member in members.items() if field != name}


TEXT = json.dumps(SUSPEND).encode()
CONSUMER_KEY = b"BANK000001/consumer/consumer-1"
PRODUCT_KEY = b"BANK000001/product/gold"

BROKEN = {
    "a tombstone": Case(Code.NULL_VALUE, None),
    "one byte too many": Case(Code.TOO_LARGE, TEXT + b" " * (65_537 - len(TEXT))),
    "Latin-1": Case(Code.NOT_UTF8, b'{"reason":"\xe9"}'),
    "a surrogate as UTF-8": Case(Code.NOT_UTF8, b'{"reason":"\xed\xa0\x80"}'),
    "nothing": Case(Code.NOT_JSON, b""),
    "only blanks": Case(Code.NOT_JSON, b" \n"),
    "half an object": Case(Code.NOT_JSON, b'{"commandId":'),
    "two objects": Case(Code.NOT_JSON, TEXT + TEXT),
    "a byte order mark": Case(Code.NOT_JSON, b"\xef\xbb\xbf" + TEXT),
    "UTF-16": Case(Code.NOT_JSON, TEXT.decode().encode("utf-16-le")),
    "a repeated key": Case(Code.NOT_JSON, b'{"command":"SUSPEND",' + TEXT[1:]),
    "a repeated key behind an escape": Case(Code.NOT_JSON, b'{"\\u0063ommand":1,' + TEXT[1:]),
    "a repeated key inside": Case(
        Code.NOT_JSON, TEXT[:-1] + b',"requestor":{"type":"USER","id":"1","id":"1"}}'
    ),
    "a lone surrogate": Case(Code.NOT_JSON, TEXT[:-1] + b',"reason":"\\ud800"}'),
    "a lone surrogate in a name": Case(Code.NOT_JSON, TEXT[:-1] + b',"\\udc00":1}'),
    "a NUL": Case(Code.NOT_JSON, TEXT[:-1] + b',"reason":"\\u0000"}'),
    "a NUL inside": Case(Code.NOT_JSON, TEXT[:-1] + b',"x":[{"y":"\\u0000"}]}'),
    "a raw control character": Case(Code.NOT_JSON, TEXT[:-1] + b',"reason":"\t"}'),
    "NaN": Case(Code.NOT_JSON, TEXT[:-1] + b',"reason":NaN}'),
    "Infinity": Case(Code.NOT_JSON, TEXT[:-1] + b',"reason":-Infinity}'),
    "an integer beyond doubles": Case(Code.NOT_JSON, TEXT[:-1] + b',"x":' + b"9" * 5000 + b"}"),
    "a float beyond doubles": Case(Code.NOT_JSON, TEXT[:-1] + b',"x":1e999}'),
    "open brackets": Case(Code.NOT_JSON, b"[" * 65_536),
    "deep nesting": Case(Code.NOT_JSON, b'{"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
    "a comment": Case(Code.NOT_JSON, TEXT + b" // sent by hand"),
    "an array": Case(Code.NOT_AN_OBJECT, b"[" + TEXT + b"]"),
    "a string": Case(Code.NOT_AN_OBJECT, b'"SUSPEND"'),
    "the word null": Case(Code.NOT_AN_OBJECT, b"null"),
    "a null header that counts": Case(Code.HEADERS, SUSPEND, headers=(("ce_id", None),)),
    "a repeated content-type": Case(
        Code.HEADERS, SUSPEND, headers=(("content-type", b"application/json"),) * 2
    ),
    "a null ce_ header": Case(Code.HEADERS, SUSPEND, headers=(("ce_whatever", None),)),
    "a repeated ce_ header": Case(Code.HEADERS, SUSPEND, headers=(("ce_x", b"1"), ("ce_x", b"1"))),
    "a header that is not UTF-8": Case(Code.HEADERS, SUSPEND, headers=(("ce_x", b"\xff"),)),
    "plain text": Case(Code.CONTENT_TYPE, SUSPEND, headers=(("content-type", b"text/plain"),)),
    "an empty content-type": Case(Code.CONTENT_TYPE, SUSPEND, headers=(("content-type", b""),)),
    "JSON of another kind": Case(
        Code.CONTENT_TYPE, SUSPEND, headers=(("content-type", b"text/x+json"),)
    ),
    "no commandId": Case(Code.FIELD_MISSING, without("commandId")),
    "no command": Case(Code.FIELD_MISSING, without("command")),
    "no issuerId": Case(Code.FIELD_MISSING, without("issuerId")),
    "no cardId": Case(Code.FIELD_MISSING, without("cardId")),
    "a CREATE without its product": Case(Code.FIELD_MISSING, without("cardProductId", CREATE)),
    "a CREATE without its consumer": Case(Code.FIELD_MISSING, without("consumerId", CREATE)),
    "a LOCK without its lock": Case(Code.FIELD_MISSING, {**SUSPEND, "command": "LOCK"}),
    "a product without its form": Case(
        Code.FIELD_MISSING, without("form", DEFINE_PRODUCT), PRODUCT_KEY
    ),
    "half a requestor": Case(Code.FIELD_MISSING, {**SUSPEND, "requestor": {"type": "USER"}}),
    "an unknown field": Case(Code.FIELD_UNKNOWN, {**SUSPEND, "colour": "blue"}),
    "an unknown field that is null": Case(Code.FIELD_UNKNOWN, {**SUSPEND, "colour": None}),
    "a field of another command": Case(Code.FIELD_UNKNOWN, {**SUSPEND, "lock": "PIN"}),
    "a field in snake case": Case(Code.FIELD_UNKNOWN, {**SUSPEND, "reason_code": "FRAUD"}),
    "an unknown field inside": Case(
        Code.FIELD_UNKNOWN, {**SUSPEND, "requestor": {"type": "USER", "id": "1", "x": 1}}
    ),
    "a number for a text": Case(Code.FIELD_TYPE, {**SUSPEND, "reason": 1}),
    "an array for a text": Case(Code.FIELD_TYPE, {**SUSPEND, "cardId": ["card-1"]}),
    "a text for an object": Case(Code.FIELD_TYPE, {**SUSPEND, "requestor": "USER"}),
    "a number inside": Case(Code.FIELD_TYPE, {**SUSPEND, "requestor": {"type": 1, "id": "1"}}),
    "null for a required field": Case(Code.FIELD_TYPE, {**SUSPEND, "cardId": None}),
    "null for a required field inside": Case(
        Code.FIELD_TYPE, {**SUSPEND, "requestor": {"type": None, "id": "1"}}
    ),
    "null for the command": Case(Code.FIELD_TYPE, {**SUSPEND, "command": None}),
    "an object for the command": Case(Code.FIELD_TYPE, {**SUSPEND, "command": {}}),
    "a text for a number": Case(
        Code.FIELD_TYPE, {**DEFINE_PRODUCT, "validityMonths": "36"}, PRODUCT_KEY
    ),
    "a truth value for a number": Case(
        Code.FIELD_TYPE, {**DEFINE_PRODUCT, "validityMonths": True}, PRODUCT_KEY
    ),
    "a number for a truth value": Case(
        Code.FIELD_TYPE, {**DEFINE_PRODUCT, "autoRenew": 1}, PRODUCT_KEY
    ),
    "a short issuerId": Case(Code.FIELD_INVALID_FORMAT, {**SUSPEND, "issuerId": "BANK"}),
    "a long issuerId": Case(Code.FIELD_INVALID_FORMAT, {**SUSPEND, "issuerId": "BANK0000012"}),
    "an issuerId with a slash": Case(
        Code.FIELD_INVALID_FORMAT,
        {**SUSPEND, "issuerId": "BANK000001/x"},
        b"BANK000001/x/card-1",
    ),
    "an empty cardId": Case(Code.FIELD_INVALID_FORMAT, {**SUSPEND, "cardId": ""}),
    "a long cardId": Case(Code.FIELD_INVALID_FORMAT, {**SUSPEND, "cardId": "c" * 49}),
    "a cardId with a line end": Case(
        Code.FIELD_INVALID_FORMAT, {**SUSPEND, "cardId": "card-1\n"}, b"BANK000001/card-1\n"
    ),
    "a cardId with an accent": Case(
        Code.FIELD_INVALID_FORMAT, {**SUSPEND, "cardId": "cárd"}, "BANK000001/cárd".encode()
    ),
    "a long consumerId": Case(
        Code.FIELD_INVALID_FORMAT, {**REGISTER_CONSUMER, "consumerId": "c" * 65}, CONSUMER_KEY
    ),
    "a long cardProductId": Case(
        Code.FIELD_INVALID_FORMAT, {**DEFINE_PRODUCT, "cardProductId": "c" * 49}, PRODUCT_KEY
    ),
    "an empty commandId": Case(Code.FIELD_INVALID_FORMAT, {**SUSPEND, "commandId": ""}),
    "a long commandId": Case(Code.FIELD_INVALID_FORMAT, {**SUSPEND, "commandId": "c" * 65}),
    "a commandId with a blank": Case(Code.FIELD_INVALID_FORMAT, {**SUSPEND, "commandId": "c 1"}),
    "a commandId with a line end": Case(
        Code.FIELD_INVALID_FORMAT, {**SUSPEND, "commandId": "c1\n"}
    ),
    "a command of later": Case(Code.UNKNOWN_COMMAND, {**SUSPEND, "command": "DIGITIZE"}),
    "a command in lower case": Case(Code.UNKNOWN_COMMAND, {**SUSPEND, "command": "suspend"}),
    "an unknown command without fields": Case(Code.UNKNOWN_COMMAND, {"command": "FLY"}),
    "no key": Case(Code.KEY_MISMATCH, SUSPEND, None),
    "an empty key": Case(Code.KEY_MISMATCH, SUSPEND, b""),
    "another card's key": Case(Code.KEY_MISMATCH, SUSPEND, b"BANK000001/card-2"),
    "another issuer's key": Case(Code.KEY_MISMATCH, SUSPEND, b"BANK000002/card-1"),
    "a consumer's key": Case(Code.KEY_MISMATCH, SUSPEND, b"BANK000001/consumer/card-1"),
    "a key that is not UTF-8": Case(Code.KEY_MISMATCH, SUSPEND, b"\xff"),
    "a card number": Case(Code.SENSITIVE_DATA, {**SUSPEND, "reason": f"card {PAN_16}"}),
    "an event without a source": Case(Code.CLOUDEVENT_INVALID, SUSPEND, headers=BINARY[:3]),
} | {
    f"the reserved prefix {prefix}": Case(
        Code.FIELD_INVALID_FORMAT, {**SUSPEND, "commandId": f"{prefix}:x"}
    )
    for prefix in ("EXPIRE", "AUTO_RENEW", "DELETE_DUE", "TIME_OUT", "CASCADE")
}


@pytest.mark.parametrize("case", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_record_has_its_code(case: Case) -> None:
    outcome = parse(record(case.value, key=case.key, headers=case.headers))
    assert isinstance(outcome, Broken), outcome
    assert outcome.code is case.code, outcome
    assert 0 < len(outcome.error) <= 256


def test_the_table_holds_every_code_that_a_record_alone_can_lead_to() -> None:
    decided_elsewhere = {Code.IDEMPOTENCY_CONFLICT, Code.INTERNAL}
    assert {case.code for case in BROKEN.values()} == set(Code) - decided_elsewhere


@pytest.mark.parametrize("case", BROKEN.values(), ids=BROKEN.keys())
def test_an_error_does_not_echo_what_was_sent(case: Case) -> None:
    outcome = parse(record(case.value, key=case.key, headers=case.headers))
    assert isinstance(outcome, Broken)
    for sent in ("blue", "FLY", "card-2", "BANK0", PAN_16, "by hand"):
        assert sent not in outcome.error


@pytest.mark.parametrize(
    ("members", "place"),
    [
        (without("commandId"), "commandId"),
        ({**SUSPEND, "requestor": {"type": 1, "id": "1"}}, "requestor.type"),
        ({**SUSPEND, "colour": 1}, "colour"),
        ({**SUSPEND, "cardId": "c" * 49}, "cardId"),
    ],
)
def test_an_error_names_the_field(members: Mapping[str, object], place: str) -> None:
    outcome = parse(record(members))
    assert isinstance(outcome, Broken)
    assert f"Field {place} " in outcome.error


@pytest.mark.parametrize("name", ["4111-1111-1111-1111", "x" * 65, "a\nb", "a12345", "é", ""])
def test_an_odd_name_is_not_echoed(name: str) -> None:
    outcome = parse(record({**SUSPEND, name: 1}))
    assert outcome == Broken(
        Code.FIELD_UNKNOWN,
        "Field (name not shown) is not one of this command; leave it out.",
    )


def test_the_largest_command_is_taken() -> None:
    assert parsed(TEXT + b" " * (65_536 - len(TEXT)))


def test_the_size_limit_is_a_setting() -> None:
    assert isinstance(parse(record(TEXT), max_command_bytes=len(TEXT)), Parsed)
    assert isinstance(parse(record(TEXT), max_command_bytes=len(TEXT) - 1), Broken)


def test_the_smallest_command_of_the_contract() -> None:
    value = b'{"commandId":"c1","command":"SUSPEND","issuerId":"BANK000001","cardId":"card-1"}'
    outcome = parsed(value, key=b"BANK000001/card-1")
    assert outcome.command == Suspend(
        command_id="c1", command="SUSPEND", issuer_id="BANK000001", card_id="card-1"
    )
    assert outcome.subject == Subject(SubjectKind.CARD, "BANK000001", "card-1")
    assert outcome.traceparent is None


def test_consumers_and_products_are_subjects_too() -> None:
    consumer = parsed(REGISTER_CONSUMER, key=CONSUMER_KEY)
    assert consumer.subject == Subject(SubjectKind.CONSUMER, ISSUER, "consumer-1")
    product = parsed({**DEFINE_PRODUCT, "autoRenew": True, "validityMonths": 24}, key=PRODUCT_KEY)
    assert product.subject == Subject(SubjectKind.PRODUCT, ISSUER, "gold")
    assert isinstance(product.command, DefineProduct)
    assert (product.command.auto_renew, product.command.validity_months) == (True, 24)


def test_blanks_around_the_object_are_json() -> None:
    assert parsed(b"\r\n\t " + TEXT + b" \n").command == parsed(TEXT).command


def test_an_optional_null_counts_as_absent() -> None:
    nulls = dict.fromkeys(
        ("requestor", "reasonCode", "reason", "effectiveDate", "correlationId"), None
    )
    assert parsed({**SUSPEND, **nulls}) == parsed(SUSPEND)


def test_a_bad_value_of_the_right_type_is_no_broken_record() -> None:
    outcome = parsed(
        {
            **CREATE,
            "state": "FLYING",
            "consumerId": "not a consumer id!",
            "cardProductId": "",
            "reasonCode": "x" * 500,
            "correlationId": "\u2028",
            "requestor": {"type": "?", "id": ""},
        }
    )
    assert isinstance(outcome.command, Create)
    assert outcome.command.consumer_id == "not a consumer id!"
    assert outcome.command.requestor == Requestor(type="?", id="")


@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        (b"24.0", 24),
        (b"2.4e1", 24),
        (b"-0.0", 0),
        (b"-0", 0),
        (b"24.5", 24.5),
        (b"9007199254740993", 9007199254740992.0),
        (b"9" * 30, 1e30),
    ],
)
def test_numbers_are_doubles_as_in_rfc_8785(sent: bytes, taken: float) -> None:
    value = json.dumps(DEFINE_PRODUCT).encode()[:-1] + b',"validityMonths":' + sent + b"}"
    command = parsed(value, key=PRODUCT_KEY).command
    assert isinstance(command, DefineProduct)
    assert command.validity_months == taken
    assert type(command.validity_months) is type(taken)


def test_nesting_within_strings_is_no_nesting() -> None:
    assert parsed({**SUSPEND, "reason": '{["\\' * 200}).command.reason == '{["\\' * 200


def test_the_cascade_may_use_its_prefix() -> None:
    assert parsed({**SUSPEND, "command": "DELETE", "commandId": "CASCADE:x"})


def test_a_word_that_only_begins_like_a_reserved_one_is_free() -> None:
    assert parsed({**SUSPEND, "commandId": "EXPIRED:x"})
    assert parsed({**SUSPEND, "commandId": "expire:x"})


def test_surrogate_pairs_are_characters() -> None:
    assert parsed(TEXT[:-1] + b',"reason":"\\ud83d\\ude00"}').command.reason == "\U0001f600"


# --- headers


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"application/json; charset=utf-8",
        b"APPLICATION/JSON ;charset=UTF-8",
        b"application/vnd.bank.v1+json",
    ],
)
def test_content_types_that_are_json(content_type: bytes) -> None:
    assert parsed(SUSPEND, headers=(("content-type", content_type),)) == parsed(SUSPEND)


def test_other_headers_may_be_anything() -> None:
    headers = (
        ("x", None),
        ("x", b"\xff"),
        ("Content-Type", b"text/plain"),
        ("CE_ID", b"other"),
        ("", None),
        ("resent-from", b"3-4"),
    )
    assert parsed(SUSPEND, headers=headers) == parsed(SUSPEND)


def test_headers_are_not_part_of_the_size() -> None:
    assert parsed(SUSPEND, headers=(("x", b"x" * 100_000),))


TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_valid_traceparent_is_carried() -> None:
    assert parsed(SUSPEND, headers=(("traceparent", TRACE),)).traceparent == TRACE.decode()


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"garbage",
        TRACE.upper(),
        TRACE + b"\n",
        b"ff" + TRACE[2:],
        b"00-" + b"0" * 32 + TRACE[35:],
        TRACE[:36] + b"0" * 16 + b"-01",
        TRACE[:36] + b"4111111111111111-01",
    ],
)
def test_an_invalid_traceparent_counts_as_absent(value: bytes) -> None:
    assert parsed(SUSPEND, headers=(("traceparent", value),)).traceparent is None


OTHER_TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


@pytest.mark.parametrize(
    ("values", "taken"),
    [
        ((None,), None),
        ((b"\xff",), None),
        ((None, None, b"garbage"), None),
        ((OTHER_TRACE, TRACE), TRACE),
        ((TRACE, TRACE), TRACE),
        ((TRACE, None), TRACE),
        ((TRACE, b"\xff\xfe"), TRACE),
        ((None, TRACE, b"ff" + OTHER_TRACE[2:]), TRACE),
    ],
)
def test_tracing_never_costs_a_command(
    values: tuple[bytes | None, ...], taken: bytes | None
) -> None:
    """Of several the last valid one is taken (design.md 3)."""
    headers = [("traceparent", value) for value in values]
    for also in ((), BINARY, (("content-type", b"application/json"),)):
        outcome = parsed(SUSPEND, headers=(*headers, *also, ("tracestate", None)))
        assert outcome.traceparent == (None if taken is None else taken.decode())


# --- content


def content_hash_of(text: str) -> bytes:
    return sha256(text.encode()).digest()[:16]


@pytest.mark.parametrize(
    ("members", "key", "canonical"),
    [
        (
            SUSPEND,
            KEY,
            (
                '{"cardId":"card-1","command":"SUSPEND","commandId":"c1","issuerId":"BANK000001",'
                '"reasonCode":"ISSUER_DECISION","requestor":{"id":"BANK000001","type":"ISSUER"}}'
            ),
        ),
        (
            {**SUSPEND, "command": "LOCK", "lock": "PIN"},
            KEY,
            (
                '{"cardId":"card-1","command":"LOCK","commandId":"c1","issuerId":"BANK000001",'
                '"lock":"PIN","requestor":{"id":"SYSTEM","type":"SYSTEM"}}'
            ),
        ),
        (
            {**SUSPEND, "command": "RESUME", "requestor": {"type": "USER", "id": "u"}},
            KEY,
            (
                '{"cardId":"card-1","command":"RESUME","commandId":"c1","issuerId":"BANK000001",'
                '"reasonCode":"USER_DECISION","requestor":{"id":"u","type":"USER"}}'
            ),
        ),
        (
            {**SUSPEND, "command": "REPLACE"},
            KEY,
            (
                '{"cardId":"card-1","command":"REPLACE","commandId":"c1","issuerId":"BANK000001",'
                '"requestor":{"id":"BANK000001","type":"ISSUER"}}'
            ),
        ),
        (
            {**CREATE, "name": "Zoë \u20ac\n"},
            KEY,
            (
                '{"cardId":"card-1","cardProductId":"gold","command":"CREATE","commandId":"c1",'
                '"consumerId":"consumer-1","issuerId":"BANK000001","name":"Zoë \u20ac\\n",'
                '"requestor":{"id":"BANK000001","type":"ISSUER"},"state":"ACTIVE"}'
            ),
        ),
        (
            {**DEFINE_PRODUCT, "validityMonths": 24.0, "autoRenewDays": 1e30, "bin": None},
            PRODUCT_KEY,
            (
                '{"autoRenewDays":1e+30,"cardProductId":"gold","command":"PRODUCT_DEFINE",'
                '"commandId":"c1","form":"VIRTUAL","issuerId":"BANK000001",'
                '"requestor":{"id":"BANK000001","type":"ISSUER"},"scheme":"VISA",'
                '"validityMonths":24}'
            ),
        ),
    ],
)
def test_the_content_hash_is_over_the_canonical_json_with_defaults(
    members: Mapping[str, object], key: bytes, canonical: str
) -> None:
    assert parsed(members, key=key).content_hash == content_hash_of(canonical)


@pytest.mark.parametrize(
    "same",
    [
        {**SUSPEND, "reasonCode": "ISSUER_DECISION"},
        {**SUSPEND, "requestor": {"type": "ISSUER", "id": ISSUER}},
        {**SUSPEND, "reason": None},
        dict(reversed(list(SUSPEND.items()))),
    ],
)
def test_saying_the_default_is_the_same_content(same: Mapping[str, object]) -> None:
    assert parsed(same).content_hash == parsed(SUSPEND).content_hash


@pytest.mark.parametrize(
    "other",
    [
        {**SUSPEND, "reasonCode": "FRAUD"},
        {**SUSPEND, "requestor": {"type": "USER", "id": ISSUER}},
        {**SUSPEND, "reason": ""},
        {**SUSPEND, "command": "RESUME"},
        {**SUSPEND, "effectiveDate": "2026-11-22T00:00:00Z"},
    ],
)
def test_saying_something_else_is_other_content(other: Mapping[str, object]) -> None:
    assert parsed(other).content_hash != parsed(SUSPEND).content_hash


def test_a_user_resumes_with_user_decision_by_default() -> None:
    resume = {**SUSPEND, "command": "RESUME", "requestor": {"type": "USER", "id": "u"}}
    outcome = parsed(resume)
    assert isinstance(outcome.command, Resume)
    assert outcome.content_hash == parsed({**resume, "reasonCode": "USER_DECISION"}).content_hash


# --- what is no part of the content, and what is written in two ways


def same_content(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    return parsed(one).content_hash == parsed(other).content_hash


def test_the_correlation_id_is_no_part_of_the_content() -> None:
    """A gateway stamps a new one on every attempt."""
    assert same_content({**SUSPEND, "correlationId": "a"}, {**SUSPEND, "correlationId": "b"})
    assert same_content({**SUSPEND, "correlationId": "a"}, SUSPEND)
    assert parsed({**SUSPEND, "correlationId": "a"}).command.correlation_id == "a"


@pytest.mark.parametrize("field", ["effectiveDate", "deleteAt"])
def test_a_time_is_the_same_content_with_z_and_with_a_zero_offset(field: str) -> None:
    moment = "2027-01-31T00:00:00"
    for fraction in ("", ".5", ".123456"):
        z, offset = (f"{moment}{fraction}{zone}" for zone in ("Z", "+00:00"))
        assert same_content({**CREATE, field: z}, {**CREATE, field: offset})
    for other in ("+01:00", "+00:00Z", "+00:00+00:00", "-00:00", "+0000", "z", ""):
        assert not same_content({**CREATE, field: f"{moment}Z"}, {**CREATE, field: moment + other})
    doubled = (f"{moment}+00:00Z", f"{moment}+00:00+00:00")
    assert not same_content(*({**CREATE, field: time} for time in doubled))


@pytest.mark.parametrize("kind", ["ENROLMENT", "UPDATE", "OPTOUT"])
def test_a_name_for_click_to_pay_is_the_same_content_composed_and_decomposed(kind: str) -> None:
    body = {**SUSPEND, "command": f"CLICK_TO_PAY_{kind}"}
    assert same_content({**body, "name": "Zo\u00eb"}, {**body, "name": "Zoe\u0308"})
    assert not same_content({**body, "name": "Zo\u00eb"}, {**body, "name": "Zoe"})
    assert not same_content({**CREATE, "name": "Zo\u00eb"}, {**CREATE, "name": "Zoe\u0308"})


@pytest.mark.parametrize(
    ("members", "as_sent"),
    [
        (
            {**SUSPEND, "correlationId": "a"},
            (
                '{"cardId":"card-1","command":"SUSPEND","commandId":"c1","correlationId":"a",'
                '"issuerId":"BANK000001","reasonCode":"ISSUER_DECISION",'
                '"requestor":{"id":"BANK000001","type":"ISSUER"}}'
            ),
        ),
        (
            {**SUSPEND, "command": "UPDATE_LIMITS", "limits": {"a": 1.5}, "correlationId": "a"},
            (
                '{"cardId":"card-1","command":"UPDATE_LIMITS","commandId":"c1","correlationId":"a",'
                '"issuerId":"BANK000001","limits":{"a":1.5},'
                '"requestor":{"id":"BANK000001","type":"ISSUER"}}'
            ),
        ),
        (
            {**SUSPEND, "command": "DELETE", "effectiveDate": "2026-11-22T00:00:00+00:00"},
            (
                '{"cardId":"card-1","command":"DELETE","commandId":"c1",'
                '"effectiveDate":"2026-11-22T00:00:00+00:00","issuerId":"BANK000001",'
                '"reasonCode":"ISSUER_DECISION","requestor":{"id":"BANK000001","type":"ISSUER"}}'
            ),
        ),
    ],
)
def test_a_command_of_before_the_upgrade_is_still_the_same_content(
    members: Mapping[str, object], as_sent: str
) -> None:
    """Until then all that was sent was its content, and that hash is stored."""
    outcome = parsed(members)
    before = content_hash_of(as_sent)
    assert outcome.content_hash != before
    assert is_same_content(outcome, before)
    assert is_same_content(outcome, outcome.content_hash)
    assert not is_same_content(outcome, content_hash_of(as_sent.replace('"a"', '"b"') + " "))


def test_what_was_opened_before_the_upgrade_is_still_the_same_content() -> None:
    """In both forms a keyed fingerprint of the plaintext stands for `encryptedData`."""
    register = {
        **CREATE,
        "command": "REGISTER",
        "encryptedData": "a.b.c.d.e",
        "correlationId": "a",
    }
    outcome = parsed(register)
    assert outcome.content is not None
    opening = Opening(None, None, content_hash_of_opened(outcome.content, "keyed"), "keyed")
    opened = take(record(register), outcome, 12, opening).parsed
    assert isinstance(opened, Parsed)
    defaults = {"requestor": {"id": ISSUER, "type": "ISSUER"}, "state": "ACTIVE"}
    as_sent = {**register, **defaults, "encryptedData": "keyed"}
    before = content_hash_of(json.dumps(as_sent, sort_keys=True, separators=(",", ":")))
    assert opened.content_hash != before
    assert is_same_content(opened, before)
    del as_sent["correlationId"]
    now = content_hash_of(json.dumps(as_sent, sort_keys=True, separators=(",", ":")))
    assert opened.content_hash == now
