"""Whatever the bytes, a record has one outcome, and no dead letter a card number (G1, G10)."""

import json
from collections.abc import Mapping
from hashlib import sha256
from itertools import pairwise
from typing import cast

import orjson
import pytest
import rfc8785
from hypothesis import assume, given, reject
from hypothesis import strategies as st

from lifecycle.domain.commands import CommandName
from lifecycle.kafka.commands import Broken, Parsed, parse
from lifecycle.kafka.dead_letters import DeadLetterCode, dead_letter
from lifecycle.kafka.records import RefusedError
from lifecycle.kafka.sensitive import in_free_text, in_text, is_suspicious
from lifecycle.kafka.strict_json import parse_object
from tests.unit.wire_records import BINARY, CREATE, KEY, STRUCTURED_TYPE, SUSPEND, record

FIELDS = [
    "commandId",
    "command",
    "issuerId",
    "cardId",
    "consumerId",
    "cardProductId",
    "requestor",
    "type",
    "id",
    "reason",
    "reasonCode",
    "name",
    "state",
    "lock",
    "validityMonths",
    "autoRenew",
    "encryptedData",
    "specversion",
    "source",
    "data",
    "data_base64",
    "datacontenttype",
]
WORDS = st.sampled_from(
    [*(name.value for name in CommandName), "c1", "BANK000001", "card-1", "1.0"]
)
TEXT_CHARACTERS_MAX = 24
SHORT_TEXTS = st.text(max_size=TEXT_CHARACTERS_MAX)
# The default alphabet of texts has no lone surrogates, that of characters has.
TEXTS = WORDS | SHORT_TEXTS | st.text(st.characters(), max_size=TEXT_CHARACTERS_MAX)
JSON_VALUES: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(FIELDS) | SHORT_TEXTS, inner, max_size=6)
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES, max_size=10)
VALUES = (
    st.none()
    | st.binary(max_size=200)
    | JSON_VALUES.map(lambda value: json.dumps(value).encode())
    | OBJECTS.map(lambda members: json.dumps({**SUSPEND, **members}).encode())
    | OBJECTS.map(lambda members: json.dumps({**CREATE, **members}).encode("utf-16"))
    | st.lists(
        st.sampled_from(["{", "}", "[", "]", '"', "\\", "\\u0000", "\\ud800", ":", ",", "9", "a"]),
        max_size=60,
    ).map(lambda tokens: "".join(tokens).encode())
)
HEADER_NAMES = st.sampled_from(
    ["ce_specversion", "ce_id", "ce_type", "ce_source", "content-type", "traceparent", "x"]
)
HEADER_VALUES = (
    st.none()
    | st.binary(max_size=30)
    | st.sampled_from([value for _, value in (*BINARY, *STRUCTURED_TYPE)])
)
HEADERS = (st.just(()) | st.just(BINARY) | st.just(STRUCTURED_TYPE)) | st.lists(
    st.tuples(HEADER_NAMES | SHORT_TEXTS, HEADER_VALUES), max_size=6
)
KEYS = st.none() | st.just(KEY) | st.binary(max_size=60)


@given(VALUES, KEYS, HEADERS)
def test_g1_no_bytes_make_parse_or_dead_letter_raise(
    value: bytes | None, key: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    raw = record(value, key=key, headers=headers)
    outcome = parse(raw)
    assert outcome == parse(raw)
    if isinstance(outcome, Broken):
        assert 0 < len(outcome.error) <= 256
        letter = dead_letter(raw, *outcome)
        if letter.code is not DeadLetterCode.SENSITIVE_DATA:
            assert (letter.key, letter.value) == (key, value)
    else:
        assert isinstance(outcome, Parsed)
        assert len(outcome.content_hash) == 16


# --- strict JSON against the standard library


@given(st.dictionaries(st.text(st.characters(exclude_characters="\0")), JSON_VALUES, max_size=5))
def test_every_json_object_is_read_as_the_standard_library_reads_it(
    members: Mapping[str, object],
) -> None:
    try:
        text = json.dumps(members, allow_nan=False, ensure_ascii=False)
        value = text.encode()
    except ValueError:  # NaN, or a lone surrogate: refused below
        reject()
    assume("\\u0000" not in text)
    assert parse_object(value) == json.loads(text, parse_int=_double)


def _double(digits: str) -> float:
    number = int(digits)
    return number if abs(number) < 2**53 else float(digits)


@given(
    st.dictionaries(st.text(min_size=1), st.integers(), min_size=1, max_size=4),
    st.data(),
)
def test_a_repeated_name_is_refused_wherever_it_stands(
    members: dict[str, int], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(members)))
    pairs = [*members.items(), (name, 0)]
    inner = "{" + ",".join(f"{json.dumps(key)}:{number}" for key, number in pairs) + "}"
    for text in (inner, f'{{"outer":{inner}}}', f'{{"outer":[1,{inner}]}}'):
        with pytest.raises(RefusedError) as refused:
            parse_object(text.encode())
        assert refused.value.code is DeadLetterCode.NOT_JSON


# --- content


CONTENT_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(st.dictionaries(st.text(st.characters(max_codepoint=127)), CONTENT_TEXTS | st.booleans()))
def test_orjson_with_sorted_names_is_rfc_8785_for_ascii_names_and_texts(
    members: dict[str, str | bool],
) -> None:
    assert orjson.dumps(members, option=orjson.OPT_SORT_KEYS) == rfc8785.dumps(members)


@given(
    extra=st.fixed_dictionaries(
        {},
        optional={
            "reason": CONTENT_TEXTS | st.none(),
            "reasonCode": CONTENT_TEXTS | st.none(),
            "name": CONTENT_TEXTS | st.none(),
            "state": CONTENT_TEXTS | st.none(),
            "requestor": st.none() | st.fixed_dictionaries({"type": TEXTS, "id": CONTENT_TEXTS}),
        },
    ),
    ascii_only=st.booleans(),
)
def test_the_content_hash_is_that_of_an_independent_writer(
    extra: dict[str, object], *, ascii_only: bool
) -> None:
    members = {**CREATE, **extra}
    try:
        value = json.dumps(members, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        reject()
    outcome = parse(record(value))
    if isinstance(outcome, Broken):
        # A text that reads like a card number, or lone surrogates in the requestor's type.
        assert outcome.code in {DeadLetterCode.SENSITIVE_DATA, DeadLetterCode.NOT_JSON}
        return
    content = {name: member for name, member in members.items() if member is not None}
    content.setdefault("requestor", {"type": "ISSUER", "id": "BANK000001"})
    content.setdefault("state", "ACTIVE")
    canonical = rfc8785.dumps(cast("dict[str, str]", content))
    assert outcome.content_hash == sha256(canonical).digest()[:16]


# --- card numbers


def luhn_digit(digits: str) -> str:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit) * (2 if place % 2 == 0 else 1)
        total += number - 9 if number > 9 else number
    return str(-total % 10)


CARD_NUMBERS = st.builds(
    lambda first, rest: first + rest + luhn_digit(first + rest),
    st.sampled_from(["2", "3", "4", "5", "6", "81", "82", "8600", "9792", "9860"]),
    st.text("0123456789", min_size=11, max_size=14),
)


def looks_like_one(digits: str) -> bool:
    begins_well = digits[0] in "23456" or digits[:2] in {"81", "82"}
    begins_well |= digits[:4] in {"8600", "9792", "9860"}
    begins_well |= digits[0] == "1" and len(digits) == 15
    return 13 <= len(digits) <= 19 and begins_well and luhn_digit(digits[:-1]) == digits[-1]


def brute_force(sent: str, *, broken: bool) -> bool:
    """The rule word by word: every start, every end, no cleverness."""
    text = "".join(str(int(sign)) if sign.isdecimal() else sign for sign in sent)
    for start in range(len(text)):
        if not text[start].isdecimal() or (start and text[start - 1].isalnum()):
            continue
        for end in range(start + 13, min(len(text), start + 37) + 1):
            piece = text[start:end]
            digits = piece.replace(" ", "").replace("-", "") if broken else piece
            gaps = any(not (a + b).strip(" -") for a, b in pairwise(piece))
            rest = text[end : end + 5]
            is_track_2 = rest[:1] in set("Dd") and rest[1:].isdecimal() and len(rest) == 5
            if (
                (not rest[:1].isalnum() or is_track_2)
                and piece[-1].isdecimal()
                and digits.isdecimal()
                and looks_like_one(digits)
                and not gaps
            ):
                return True
    return False


NUMBERISH = st.one_of(
    st.text("0123456789 -", max_size=45),
    st.text("0245 -aD_é\u0664", max_size=45),
    st.text("0189 -D", max_size=45),
    st.builds(
        lambda number, gaps, around: (
            around[0] + "".join(a + b for a, b in zip(number, gaps, strict=False)) + around[1]
        ),
        CARD_NUMBERS,
        st.lists(st.sampled_from(["", "", "", " ", "-", "  ", "."]), min_size=19, max_size=19),
        st.tuples(
            st.sampled_from(["", "5 ", "x", "_"]),
            st.sampled_from(["", " 5", "x", ".", "D2912", "d291", "=2912", "D29121", "D\u0661234"]),
        ),
    ),
)


@given(NUMBERISH)
def test_g10_the_search_is_the_rule(text: str) -> None:
    assert in_free_text(text) == brute_force(text, broken=True)
    assert in_text(text) == brute_force(text, broken=False)
    if in_free_text(text) or in_text(text):
        assert is_suspicious(text.encode())


@given(
    CARD_NUMBERS,
    st.sampled_from(FIELDS),
    st.sampled_from(["value", "name", "number", "header", "key", "cut", "utf-16", "escaped"]),
)
def test_g10_no_dead_letter_holds_the_card_number_that_was_sent(
    number: str, field: str, place: str
) -> None:
    value = json.dumps({**SUSPEND, "x": 1}).encode()
    key = KEY
    headers: list[tuple[str, bytes | None]] = []
    match place:
        case "value":
            value = json.dumps({field: number}).encode()
        case "name":
            value = json.dumps({"x": {number: 1}}).encode()
        case "number":
            value = b'{"%b":%b}' % (field.encode(), number.encode())
        case "header":
            headers = [("x", number.encode()), (number, None)]
        case "key":
            key = number.encode()
        case "cut":
            value = b'{"%b":"%b' % (field.encode(), " ".join(number).encode())
        case "utf-16":
            value = json.dumps({field: number}).encode("utf-16")
        case "escaped":
            value = b'{"x":"%b"}' % "".join(f"\\u{ord(d):04X}" for d in number).encode()
    letter = dead_letter(record(value, key=key, headers=headers), DeadLetterCode.INTERNAL, "?")
    assert letter.code is DeadLetterCode.SENSITIVE_DATA
    published = (letter.key or b"") + (letter.value or b"") + letter.error.encode()
    published += b"".join(name.encode() + (content or b"") for name, content in letter.headers)
    for spelling in (number, " ".join(number), "\0".join(number)):
        assert spelling.encode() not in published
