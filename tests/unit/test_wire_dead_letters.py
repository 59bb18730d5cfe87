"""Dead letters: the original, what was wrong, and no card number (design.md 5; G10)."""

import json
from base64 import b64encode
from hashlib import sha256

import pytest

from lifecycle.kafka.dead_letters import DeadLetter, DeadLetterCode, dead_letter
from lifecycle.kafka.records import RawRecord
from tests.unit.wire_records import (
    KEY,
    PAN_13,
    PAN_16,
    STRUCTURED_TYPE,
    SUSPEND,
    envelope,
    record,
)

PAN = PAN_16.encode()
SPACED = b"4111 1111 1111 1111"
BLAND = b'{"commandId":"c1"}'
OWN = (
    ("dlq-error-code", b"FIELD_MISSING"),
    ("dlq-error", b"Field command is missing; send it."),
    ("dlq-topic", b"cards.commands.v1"),
    ("dlq-partition", b"3"),
    ("dlq-offset", b"1042"),
    ("dlq-timestamp", b"1790000000123"),
)


def buried(raw: RawRecord) -> DeadLetter:
    return dead_letter(raw, DeadLetterCode.FIELD_MISSING, "Field command is missing; send it.")


def test_the_original_is_kept_and_ours_is_added() -> None:
    headers = (("x", None), ("x", b"\xff"), ("traceparent", b""))
    letter = buried(record(b"\xff\x00 anything", key=b"\xfe", headers=headers))
    assert letter == DeadLetter(
        b"\xfe",
        b"\xff\x00 anything",
        (*headers, *OWN),
        DeadLetterCode.FIELD_MISSING,
        "Field command is missing; send it.",
    )


def test_a_tombstone_stays_one() -> None:
    letter = buried(record(None, key=None))
    assert (letter.key, letter.value, letter.headers) == (None, None, OWN)


def test_headers_of_an_earlier_burial_are_replaced() -> None:
    headers = (("dlq-error", b"old"), ("resent-from", b"1-2"), ("dlq-value-sha256", PAN))
    assert buried(record(BLAND, headers=headers)).headers == (("resent-from", b"1-2"), *OWN)


def test_a_header_of_the_sender_that_only_begins_like_ours_is_kept() -> None:
    headers = (("dlq-mine", b"1"), ("dlq-", None), ("dlq-error-codes", b"2"), ("DLQ-Topic", b"3"))
    letter = buried(record(BLAND, headers=headers))
    assert letter.headers == (*headers, *OWN)
    again = buried(record(BLAND, headers=letter.headers))
    assert again.headers == letter.headers


def test_a_long_error_is_cut() -> None:
    letter = dead_letter(record(BLAND), DeadLetterCode.INTERNAL, "é" * 300)
    assert letter.error == "é" * 256
    assert ("dlq-error", letter.error.encode()) in letter.headers


@pytest.mark.parametrize("code", DeadLetterCode)
def test_a_card_number_wins_over_every_code(code: DeadLetterCode) -> None:
    value = json.dumps({**SUSPEND, "reason": PAN_16}).encode()
    letter = dead_letter(record(value), code, "something else")
    assert letter.code is DeadLetterCode.SENSITIVE_DATA
    assert letter.value == b""
    assert letter.key == KEY
    assert ("dlq-error-code", b"SENSITIVE_DATA") in letter.headers
    assert ("dlq-value-sha256", sha256(value).hexdigest().encode()) in letter.headers
    assert "field reason" in letter.error
    assert ("dlq-error", letter.error.encode()) in letter.headers


def test_what_the_finder_saw_is_left_out_even_if_we_do_not_see_it() -> None:
    letter = dead_letter(record(BLAND), DeadLetterCode.SENSITIVE_DATA, "seen")
    assert (letter.code, letter.key, letter.value) == (DeadLetterCode.SENSITIVE_DATA, None, b"")


@pytest.mark.parametrize("name", ["issuerId", "cardId", "consumerId", "requestor", "commandId"])
def test_a_key_that_holds_no_number_stays(name: str) -> None:
    letter = buried(record({name: PAN_16}, key=b"innocent"))
    assert (letter.key, letter.value) == (b"innocent", b"")
    assert name in letter.error


# Luhn-valid, and of no beginning that looks like a card number's.
KNOWN = "7992739871300000003"
OTHER_KNOWN = "5123456781"


@pytest.mark.parametrize(
    ("raw", "expected_key", "place"),
    [
        (record({**SUSPEND, "requestor": {"id": f"x{OTHER_KNOWN}"}}), KEY, "requestor.id"),
        (record({**SUSPEND, "cardId": KNOWN}, key=f"BANK/{KNOWN}".encode()), None, "cardId"),
        (record({**SUSPEND, "x": "51 2345-6781"}), KEY, "field x"),
        (record({**SUSPEND, "x": [{OTHER_KNOWN: 1}]}), KEY, "the name of a field"),
        (record(b'{"x":' + KNOWN.encode() + b"}"), KEY, "the value"),
        (record(b'{"x":"\\u0035123456781'), KEY, "the value"),
        (record({**SUSPEND, "encryptedData": OTHER_KNOWN}), KEY, "the value"),
    ],
)
def test_a_number_that_is_known_is_found_wherever_it_stands(
    raw: RawRecord, expected_key: bytes | None, place: str
) -> None:
    """That of its own encryptedData, and what an identifier was found to be."""
    assert buried(raw).value == raw.value
    known = [KNOWN, OTHER_KNOWN]
    letter = dead_letter(raw, DeadLetterCode.IDEMPOTENCY_CONFLICT, "Conflict.", known)
    assert letter.code is DeadLetterCode.SENSITIVE_DATA
    assert (letter.key, letter.value) == (expected_key, b"")
    assert place in letter.error
    assert sha256(raw.value or b"").hexdigest().encode() in dict(letter.headers).values()


def test_a_number_that_is_known_leaves_the_value_when_only_a_header_holds_it() -> None:
    raw = record(SUSPEND, headers=(("x", OTHER_KNOWN.encode()), (KNOWN, b"1"), ("y", b"1")))
    letter = dead_letter(raw, DeadLetterCode.INTERNAL, "Failed.", [KNOWN, OTHER_KNOWN])
    assert (letter.code, letter.key) == (DeadLetterCode.SENSITIVE_DATA, KEY)
    assert letter.value == raw.value
    assert [name for name, _ in letter.headers if name in {"x", "y", KNOWN}] == ["y"]


def test_who_knew_the_number_says_where_it_stands() -> None:
    raw = record({**SUSPEND, "cardId": KNOWN})
    letter = dead_letter(raw, DeadLetterCode.SENSITIVE_DATA, "In field cardId.", [KNOWN])
    assert (letter.error, letter.value, letter.key) == ("In field cardId.", b"", KEY)


def test_a_number_in_the_key_leaves_the_value() -> None:
    letter = buried(record(BLAND, key=b"BANK000001/" + PAN))
    assert (letter.key, letter.value) == (None, BLAND)
    assert "the key" in letter.error
    assert not [name for name, _ in letter.headers if name == "dlq-value-sha256"]


def test_a_header_that_holds_a_number_is_left_out() -> None:
    headers = (("x-card", PAN), ("x-good", b"1"), (PAN_16, b"1"), ("x-null", None))
    letter = buried(record(BLAND, headers=headers))
    own = [(name, value) for name, value in letter.headers if not name.startswith("dlq-")]
    assert own == [("x-good", b"1"), ("x-null", None)]
    assert (letter.key, letter.value) == (KEY, BLAND)
    assert "header x-card" in letter.error
    assert "the name of a header" in letter.error


def test_a_field_name_that_holds_the_number_is_not_named() -> None:
    letter = buried(record({**SUSPEND, PAN_16: PAN_16}))
    assert letter.value == b""
    assert PAN_16 not in letter.error


HIDING_PLACES: dict[str, bytes] = {
    "a text": json.dumps({"x": PAN_16}).encode(),
    "deep inside": json.dumps({"x": [{"y": [PAN_16]}]}).encode(),
    "a name": json.dumps({PAN_16: 1}).encode(),
    "a number": b'{"x":' + PAN + b"}",
    "ciphertext": json.dumps({"encryptedData": PAN_16}).encode(),
    "free text": json.dumps({"reason": SPACED.decode()}).encode(),
    "free text in an envelope": json.dumps(envelope({"name": "4111-1111-1111-1111"})).encode(),
    "base64": json.dumps({"data_base64": b64encode(b'{"name":"%b"}' % SPACED).decode()}).encode(),
    "behind escapes": b'{"x":"\\u0034111111111111111"}',
    "beside an escape": b'{"x":"\\n' + PAN + b'"}',
    "an id of thirteen digits": json.dumps({"commandId": PAN_13}).encode(),
    "a track 2": json.dumps({"x": f"{PAN_16}D29122011"}).encode(),
    "a track 2 in plain text": b";" + SPACED + b"=29122011?",
    "a Troy number": json.dumps({"x": "9792100000000001"}).encode(),
    "a tracing extension": json.dumps(envelope({}, tracestate=PAN_16)).encode(),
    "plain text": b"my card is " + SPACED,
    "an array": b'["' + SPACED + b'"]',
    "half an object": b'{"reason":"' + SPACED,
    "half an object with escapes": b'{"reason":"\\u0034111111111111111',
    "half an object, beside an escape": b'{"reason":"\\n' + PAN,
    "a repeated name": b'{"x":"' + SPACED + b'","x":1}',
    "after a byte order mark": b'\xef\xbb\xbf{"x":"' + SPACED + b'"}',
    "Latin-1": b'{"x":"\xe9 ' + PAN + b'"}',
    "UTF-16": json.dumps({"x": SPACED.decode()}).encode("utf-16"),
    "UTF-16, big-endian": json.dumps({"x": PAN_16}).encode("utf-16-be"),
    "UTF-32": json.dumps({"x": PAN_16}).encode("utf-32"),
    "a large value": b" " * 70_000 + json.dumps({"x": PAN_16}).encode(),
    "deep nesting": b"[" * 5_000 + PAN,
}


@pytest.mark.parametrize("value", HIDING_PLACES.values(), ids=HIDING_PLACES.keys())
def test_a_dead_letter_is_searched_whole(value: bytes) -> None:
    letter = buried(record(value))
    assert letter.code is DeadLetterCode.SENSITIVE_DATA
    assert letter.value == b""


@pytest.mark.parametrize(
    "value",
    [
        json.dumps({"x": SPACED.decode()}).encode(),
        json.dumps({"x": "a" + PAN_16}).encode(),
        json.dumps({"x": "4111111111111112"}).encode(),
        json.dumps({"x": "é" + PAN_16}, ensure_ascii=False).encode(),
        b"a" + SPACED,
        b"7f0c7b0e-5f0e-4d7e-9a55-3f3f0f4a2b11",
    ],
)
def test_what_holds_no_card_number_is_kept(value: bytes) -> None:
    letter = buried(record(value))
    assert (letter.code, letter.value) == (DeadLetterCode.FIELD_MISSING, value)


def test_a_structured_event_is_searched_by_its_fields() -> None:
    event = envelope({"cardId": PAN_16})
    letter = buried(record(event, key=b"innocent", headers=STRUCTURED_TYPE))
    assert (letter.key, letter.value) == (b"innocent", b"")
    assert "data.cardId" in letter.error
