"""Broken records between good neighbours: each gets its reason, no neighbour is touched."""

import json
from hashlib import sha256

import pytest

from lifecycle.kafka.dead_letters import DeadLetterCode
from lifecycle.kafka.topics import topics_of
from lifecycle.settings import Settings
from tests.support import bank
from tests.support.bank import Message, card, create
from tests.support.fixtures import NewGround
from tests.support.ground import connected
from tests.support.guarantees import senders_headers, verify_all
from tests.support.reading import Record, read_topic, until_no_lag, until_settled
from tests.support.worker import running_worker
from tests.unit import evil_batches as evil

KEY = f"{bank.ISSUER}/victim".encode()
CARD_NUMBER = "4111111111111111"
_GOOD = card("victim", "SUSPEND", "poison")
assert _GOOD.value is not None
GOOD_VALUE = _GOOD.value


def _with(**members: object) -> Message:
    body = json.loads(GOOD_VALUE) | members
    return Message(
        KEY, json.dumps({name: body[name] for name in body if body[name] != "absent"}).encode()
    )


def _headed(*headers: tuple[str, bytes | None]) -> Message:
    return Message(KEY, GOOD_VALUE, headers)


POISON: dict[str, tuple[Message, str]] = {
    "no bytes": (Message(KEY, b""), "NOT_JSON"),
    "every byte value": (Message(KEY, bytes(range(256))), "NOT_UTF8"),
    "UTF-16": (Message(KEY, GOOD_VALUE.decode().encode("utf-16")), "NOT_UTF8"),
    "a byte order mark": (Message(KEY, b"\xef\xbb\xbf" + GOOD_VALUE), "NOT_JSON"),
    "half an object": (Message(KEY, GOOD_VALUE[:-1]), "NOT_JSON"),
    "an object and more": (Message(KEY, GOOD_VALUE + b"{}"), "NOT_JSON"),
    "a repeated name": (Message(KEY, GOOD_VALUE[:-1] + b',"command":"DELETE"}'), "NOT_JSON"),
    "a lone surrogate": (_with(reason="\ud800"), "NOT_JSON"),
    "an escaped NUL": (_with(reason="a\0b"), "NOT_JSON"),
    "a raw NUL": (Message(KEY, GOOD_VALUE.replace(b"poison", b"poi\0son")), "NOT_JSON"),
    "not a number": (Message(KEY, GOOD_VALUE[:-1] + b',"x":NaN}'), "NOT_JSON"),
    "64 KB of brackets": (Message(KEY, b"[" * 65_536), "NOT_JSON"),
    "64 KB of braces": (Message(KEY, b'{"a":' * 13_000), "NOT_JSON"),
    "a list": (Message(KEY, b"[" + GOOD_VALUE + b"]"), "NOT_AN_OBJECT"),
    "null as text": (Message(KEY, b"null"), "NOT_AN_OBJECT"),
    "a tombstone": (Message(KEY, None), "NULL_VALUE"),
    "a null header that counts": (_headed(("ce_id", None)), "HEADERS"),
    "a repeated header that counts": (
        _headed(("content-type", b"application/json"), ("content-type", b"application/json")),
        "HEADERS",
    ),
    "a header value that is not UTF-8": (_headed(("ce_x", b"\xff")), "HEADERS"),
    "another content type": (_headed(("content-type", b"text/plain")), "CONTENT_TYPE"),
    "a CloudEvent of another version": (
        _headed(("ce_specversion", b"0.3"), ("ce_id", b"poison")),
        "CLOUDEVENT_INVALID",
    ),
    "an envelope without data": (
        _headed(("content-type", b"application/cloudevents+json")),
        "CLOUDEVENT_INVALID",
    ),
    "one byte too many": (Message(KEY, GOOD_VALUE.ljust(65_537)), "TOO_LARGE"),
    "a missing field": (_with(commandId="absent"), "FIELD_MISSING"),
    "an unknown field": (_with(colour="red"), "FIELD_UNKNOWN"),
    "a field of another type": (_with(reason=7), "FIELD_TYPE"),
    "a command id with a blank": (_with(commandId="poi son"), "FIELD_INVALID_FORMAT"),
    "a reserved command id": (_with(commandId="EXPIRE:1127:1"), "FIELD_INVALID_FORMAT"),
    "an issuer id of nine": (
        Message(b"BANK00001/victim", GOOD_VALUE.replace(b"BANK000001", b"BANK00001")),
        "FIELD_INVALID_FORMAT",
    ),
    "an unknown command": (_with(command="EXPLODE"), "UNKNOWN_COMMAND"),
    "a REGISTER without its fields": (_with(command="REGISTER"), "FIELD_MISSING"),
    "no key": (Message(None, GOOD_VALUE), "KEY_MISMATCH"),
    "an empty key": (Message(b"", GOOD_VALUE), "KEY_MISMATCH"),
    "a key of every byte": (Message(bytes(range(256)), GOOD_VALUE), "KEY_MISMATCH"),
    "the key of another card": (
        Message(f"{bank.ISSUER}/other".encode(), GOOD_VALUE),
        "KEY_MISMATCH",
    ),
    "an id that was taken": (card("before-0", "DELETE", "create"), "IDEMPOTENCY_CONFLICT"),
    "odd names of headers": (
        Message(
            KEY,
            b"{",
            (("a\0b", b"\0"), ("", b""), ("x", None), ("x", b"\xff"), ("é\U0001f0a1", b"1")),
        ),
        "NOT_JSON",
    ),
    "a thousand headers": (
        Message(
            KEY, b"{", tuple((f"h{number % 7}", bytes([number % 256])) for number in range(1_000))
        ),
        "NOT_JSON",
    ),
    "our own headers": (
        Message(
            KEY, b"{", (("resent-from", b"0-1"), ("dlq-error-code", b"MINE"), ("dlq-mine", b"1"))
        ),
        "NOT_JSON",
    ),
}


def test_every_dead_letter_code_is_among_the_poison() -> None:
    elsewhere = {"SENSITIVE_DATA", "INTERNAL"}  # below; test_broken_commands.py
    assert {code for _, code in POISON.values()} | elsewhere == set(DeadLetterCode)


async def test_every_kind_of_poison_leaves_its_neighbours_in_one_poll_untouched(
    new_ground: NewGround,
) -> None:
    """G1; design.md 5: original key, value and headers, and why."""
    # One partition, and everything there before the worker: one poll takes it all.
    ground = await new_ground(partitions=1, poll_records_max=10_000)
    messages = list(bank.PRODUCTS)
    for number, (poison, _) in enumerate(POISON.values()):
        messages += [create(f"before-{number}"), poison, create(f"after-{number}")]
    places = await bank.send(ground, messages)
    async with running_worker(ground):
        evidence = await verify_all(ground)
    outcomes = evidence.outcomes(places[len(bank.PRODUCTS) :])
    assert dict(zip(POISON, outcomes[1::3], strict=True)) == {
        name: code for name, (_, code) in POISON.items()
    }
    assert set(outcomes[0::3] + outcomes[2::3]) == {"SUCCESSFUL"}
    assert len(evidence.batches) == 1
    for (name, (poison, _)), letter in zip(POISON.items(), evidence.dead_letters[0], strict=True):
        assert (letter.key, letter.value) == (poison.key, poison.value), name
        assert senders_headers(letter) == senders_headers(poison), name
    # Nothing of it reached the victim, which nobody created.
    assert f"{bank.ISSUER}/victim" not in evidence.by_subject


async def test_a_good_command_may_carry_headers_that_do_not_count(ground: Settings) -> None:
    """design.md 3: others may be null or repeated, and so may those of tracing."""
    headers: list[tuple[str, bytes | None]] = [
        *(("x", None), ("x", b"\xff"), ("a\0b", b"\0"), ("ce_subject", b"anything")),
    ]
    trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    headers += [("traceparent", value) for value in (None, b"\xff", trace[:-1], trace, None)]
    commands = [create("card-1"), card("card-1", "SUSPEND", "s"), card("card-1", "RESUME", "r")]
    async with running_worker(ground):
        await bank.send(ground, bank.PRODUCTS)
        await until_settled(ground)
        places = await bank.send(
            ground, [Message(sent.key, sent.value, headers) for sent in commands]
        )
        evidence = await verify_all(ground)
    assert evidence.outcomes(places) == ["SUCCESSFUL"] * 3
    published = [one for records in evidence.events.values() for one in records]
    traces = [one.header("traceparent") for one in published if one.key == commands[0].key]
    assert traces == [trace] * 3


async def test_a_card_number_is_published_nowhere(ground: Settings) -> None:
    """G10: what holds it is left out; the hash of the value stands for it."""
    numbered = [
        card("card-1", "SUSPEND", "in-text", reason=f"is {CARD_NUMBER} lost"),
        # Each is broken for another reason: then identifiers are searched as texts too.
        card("card-1", "SUSPEND", CARD_NUMBER, colour="red"),
        card(CARD_NUMBER, "SUSPEND", "in-card-id", colour="red"),
        Message(b"key", f"no JSON {CARD_NUMBER}".encode()),
        Message(CARD_NUMBER.encode(), b"{}"),
        Message(b"key", b"{", (("x", CARD_NUMBER.encode()), (CARD_NUMBER, b"y"), ("z", b"z"))),
    ]
    async with running_worker(ground):
        places = await bank.send(ground, [message.on(1) for message in numbered])
        evidence = await verify_all(ground)
    assert evidence.outcomes(places) == ["SENSITIVE_DATA"] * len(numbered)
    in_text, in_command_id, in_card_id, in_bytes, in_key, in_headers = evidence.dead_letters[1]
    for message, letter in zip(numbered[:4], evidence.dead_letters[1][:4], strict=True):
        assert letter.value == b""
        assert message.value is not None
        assert letter.header("dlq-value-sha256") == sha256(message.value).hexdigest().encode()
    assert in_text.key == in_command_id.key == numbered[0].key
    assert in_bytes.key == b"key"
    assert (in_card_id.key, in_key.key) == (None, None)
    assert in_key.value == b"{}"
    assert ("z", b"z") in in_headers.headers
    assert in_headers.value == b"{"
    for letter in evidence.dead_letters[1]:
        assert CARD_NUMBER not in repr(letter)


async def test_the_largest_records_fit_the_dead_letter_topic(new_ground: NewGround) -> None:
    """design.md 5: it takes larger messages, so that every record that Kafka took fits."""
    ground = await new_ground(partitions=1)
    batch_bytes_max, batch_bytes_around = 1024 * 1024, 61 + 24
    large = [
        Message(b"key", b"x" * 900_000),
        Message(b"key", bytes(range(256)) * 3_500),
        Message(b"key", b"\xff" * (batch_bytes_max - batch_bytes_around)),
        Message(b"key" * 300_000, b"{"),
        Message(b"key", b"{", (("x", b"y" * 900_000),)),
        Message(b"key", b"{", tuple(("x", b"") for _ in range(150_000))),
    ]
    messages = list(bank.PRODUCTS)
    for number, message in enumerate(large):
        messages += [message, create(f"after-{number}")]
    places = await bank.send(ground, messages)
    async with running_worker(ground):
        await until_settled(ground)
    # The note that they are published is lost: the topic's end must tell it, large as they are.
    async with connected(ground) as connection:
        await connection.execute("UPDATE lane_pub SET published_seq = 0, dead_letter_offset = -1")
    async with running_worker(ground):
        evidence = await verify_all(ground)
    outcomes = evidence.outcomes(places[len(bank.PRODUCTS) :])
    assert outcomes[0::2] == ["TOO_LARGE"] * 3 + ["NOT_JSON"] * 3
    assert outcomes[1::2] == ["SUCCESSFUL"] * len(large)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_commands_are_taken(ground: Settings, codec: str) -> None:
    """Any producer may compress its batches."""
    async with running_worker(ground):
        await bank.send(ground, bank.PRODUCTS, compression=codec)
        await until_settled(ground)
        load = bank.day(12, cards=10, commands_of_a_card=8)
        await bank.send(ground, load, compression=codec)
        evidence = await verify_all(ground)
    assert evidence.count("records") == len(bank.PRODUCTS) + len(load)


async def test_batches_that_no_client_would_send_stop_nothing(new_ground: NewGround) -> None:
    """G1: the broker takes them; each of their offsets gets an outcome."""
    ground = await new_ground(partitions=1)
    await bank.send(ground, bank.PRODUCTS)
    batches = [
        *evil.READABLE.values(),
        *evil.UNREADABLE.values(),
        (evil.record(None, key=None), 1, 0),
        (evil.record(None, key=b"", headers=[(b"a\0b", None), (b"", b"\0")]), 1, 0),
    ]
    good = []
    for number, (payload, count, codec) in enumerate(batches):
        good += await bank.send(ground, [create(f"before-{number}")])
        await bank.send_batch(ground, evil.batch_to_send(payload, count, codec), 0)
        good += await bank.send(ground, [create(f"after-{number}")])
    async with running_worker(ground):
        evidence = await verify_all(ground)
    assert evidence.outcomes(good) == ["SUCCESSFUL"] * len(good)
    assert len(evidence.dead_letter_rows) == sum(count for _, count, _ in batches)


async def test_only_committed_transactions_of_a_bank_are_taken(ground: Settings) -> None:
    """G1: aborted records and markers leave holes in the offsets, and no outcome."""
    load = bank.day(13, cards=10, commands_of_a_card=8)
    fifth = len(load) // 5
    async with running_worker(ground):
        await bank.send_in_transaction(ground, bank.PRODUCTS, commit=True)
        await until_settled(ground)
        never = [create(f"never-{number}") for number in range(9)]
        for step in range(5):
            part = load[step * fifth : (step + 1) * fifth]
            await bank.send_in_transaction(ground, part, commit=True)
            await bank.send_in_transaction(ground, never, commit=False)
            await bank.send(ground, [create(f"plain-{step}")])
        await bank.send_in_transaction(ground, never, commit=False)
        evidence = await verify_all(ground)
    assert evidence.count("records") == len(bank.PRODUCTS) + 5 * fifth + 5
    assert not any("never-" in key for key in evidence.by_subject)
    uncommitted = await read_topic(ground, topics_of(ground).commands, "read_uncommitted")
    assert _count(uncommitted) == _count(evidence.commands) + 6 * len(never)


async def test_markers_of_transactions_are_no_lag(ground: Settings) -> None:
    """G9: also for a tool that compares the group's offsets with the ends of the partitions."""
    replies = topics_of(ground).replies
    everywhere = [create(f"never-{number}").on(number) for number in range(ground.partitions)]
    async with running_worker(ground):
        await bank.send_in_transaction(ground, bank.PRODUCTS, commit=True)
        await bank.send_in_transaction(ground, [Message(b"key", b"{")], commit=True, topic=replies)
        await until_no_lag(ground)
        await bank.send_in_transaction(ground, everywhere, commit=False)
        await bank.send_in_transaction(ground, everywhere, commit=False, topic=replies)
        await until_no_lag(ground)


def _count(records: dict[int, list[Record]]) -> int:
    return sum(map(len, records.values()))
