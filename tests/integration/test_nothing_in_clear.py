"""G10: no card number, security code or key in any log, metric, header, event, error, dead letter.

A worker that logs all that it can is sent planted numbers in every place that a command or reply
has for them, and in all that have none. Then every byte that it left behind is searched.
"""

import json
import random
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer

from lifecycle.kafka.topics import topics_of
from lifecycle.local import Servers
from lifecycle.settings import Settings
from lifecycle.vault.drawing import check_digit
from lifecycle.vault.keys import load_keys
from lifecycle.vault.sealing import CardLife, Sealed, SealError, sealing_with
from tests.integration.test_card_numbers import TRANSIT, transit_product
from tests.support import bank
from tests.support.bank import ISSUER, Message, card, consumer, define
from tests.support.clear_text import (
    Place,
    Secret,
    card_number,
    in_tables,
    key_material,
    keys_of,
    leaks,
    on_topics,
    security_code,
)
from tests.support.evidence import Evidence
from tests.support.ground import connected, open_ground
from tests.support.guarantees import verify_all
from tests.support.outside import Asked, answer, reply, requests
from tests.support.reading import until_settled
from tests.support.worker import worker_process
from tests.unit.vault_keys import encrypted, keys_document, write_keys

BY_CVV, BY_LAST4 = "by-cvv", "by-last4"
_FAILING = "failing-card"


@dataclass(slots=True)
class Planted:
    """Numbers that are handed out once each, and every one of them as a secret to look for."""

    chance: random.Random = field(default_factory=lambda: random.Random(10))  # noqa: S311 - a test
    secrets: list[Secret] = field(default_factory=list)
    codes: set[str] = field(default_factory=set)

    def pan(self, name: str) -> str:
        begin = f"{self.chance.choice('23456')}{self.chance.randrange(10**14):014}"
        number = begin + check_digit(begin)
        self.secrets.append(card_number(f"number of {name}", number))
        return number

    def wrong_pan(self, name: str) -> str:
        """One that fails the Luhn check; it is secret all the same."""
        right = self.pan(f"the right one of {name}")
        wrong = right[:-1] + str((int(right[-1]) + 1) % 10)
        self.secrets.append(card_number(f"number of {name}", wrong))
        return wrong

    def cvv(self, name: str) -> str:
        """Four digits that are no month and year, no year of ours, and no other code."""
        code = str(self.chance.choice([n for n in range(3000, 9999) if str(n) not in self.codes]))
        self.codes.add(code)
        self.secrets.append(security_code(f"code of {name}", code))
        return code

    def credentials(self, name: str, **more: str) -> dict[str, str]:
        return {"pan": self.pan(name), "exp": "1231", "cvv": self.cvv(name), **more}


def _spaced(pan: str, sign: str) -> str:
    return sign.join(pan[at : at + 4] for at in range(0, len(pan), 4))


def _product(name: str, method: str) -> Message:
    message = define(name, "PHYSICAL")
    assert message.value is not None
    body = {**json.loads(message.value), "activationMethod": method, "transactions": False}
    return Message(message.key, json.dumps(body).encode())


def _register(card_id: str, sealed: str, product: str = TRANSIT, **fields: object) -> Message:
    needed = {"consumerId": "consumer-1", "cardProductId": product, "encryptedData": sealed}
    return card(card_id, "REGISTER", "register", **{**needed, **fields})


def _by_the_book(planted: Planted) -> list[tuple[Message, str]]:
    """Every way in which a number or code may come, with what becomes of it."""
    first = planted.credentials("a card that is activated by its code")
    first |= {"auxiliaryPan": planted.pan("its other number"), "auxiliaryExp": "1231"}
    second = planted.credentials("a card that is activated by its last digits")
    new = planted.credentials("a replacement")
    in_place = planted.credentials("a renewal in place")
    moved = planted.credentials("a renewal elsewhere")
    replacing = {"reasonCode": "CARD_LOST", "reason": "lost", "newCardId": "new-1"}
    here = {"newCardId": "card-2", "newCardState": "INACTIVE", "newExp": "1232"}
    there = {"newCardId": "new-2", "newCardState": "ACTIVE"}

    def activate(number: int, command_id: str, **fields: object) -> Message:
        return card(f"card-{number}", "ACTIVATE", command_id, **fields)

    wrong, shown = encrypted({"cvv": planted.cvv("a wrong answer")}), second["pan"][-4:]
    return [
        (_register("card-1", encrypted(first), BY_CVV, state="INACTIVE"), "SUCCESSFUL"),
        (_register("card-1", encrypted(first), BY_CVV, state="INACTIVE"), "NOTHING"),
        (_register("card-1", encrypted(second), BY_CVV), "IDEMPOTENCY_CONFLICT"),
        (activate(1, "wrong", encryptedData=wrong), "ACTIVATION_FAILED"),
        (activate(1, "right", encryptedData=encrypted({"cvv": first["cvv"]})), "SUCCESSFUL"),
        (_register("card-2", encrypted(second), BY_LAST4, state="INACTIVE"), "SUCCESSFUL"),
        (activate(2, "wrong", last4="0000"), "ACTIVATION_FAILED"),
        (activate(2, "right", last4=shown), "SUCCESSFUL"),
        (_register("card-3", encrypted(first)), "PAN_NOT_REUSABLE"),
        (card("card-1", "REPLACE", "r", **replacing, encryptedData=encrypted(new)), "SUCCESSFUL"),
        (card("card-2", "RENEW", "1", **here, encryptedData=encrypted(in_place | {"exp": "1232"})),
         "SUCCESSFUL"),
        (card("card-2", "RENEW", "2", **there, encryptedData=encrypted(moved | {"exp": "1233"})),
         "NOT_ACTIVATED"),
        (activate(2, "again", last4=in_place["pan"][-4:]), "SUCCESSFUL"),
        (card("card-2", "RENEW", "3", **there, encryptedData=encrypted(moved | {"exp": "1233"})),
         "SUCCESSFUL"),
        (_register("card-4", encrypted(planted.credentials("a deleted card"))), "SUCCESSFUL"),
        (card("card-4", "DELETE", "d"), "SUCCESSFUL"),
        (_register(_FAILING, encrypted(planted.credentials("a fault"))), "INTERNAL"),
    ]  # fmt: skip


def _that_do_not_open(planted: Planted) -> list[tuple[Message, str]]:
    """`encryptedData` that is not what it should be, with a number in it all the same."""

    def with_member(name: str) -> dict[str, str]:
        return {**planted.credentials(f"the member {name}"), name: planted.pan(f"member {name}")}

    good = encrypted(planted.credentials("a JWE that was changed"))
    head, _, rest = encrypted(planted.credentials("a JWE under another header")).partition(".")
    kid = json.dumps({"alg": "RSA-OAEP-256", "enc": "A256GCM", "kid": planted.pan("a kid")})
    unsecured = json.dumps(planted.credentials("a JWT that hides nothing"))
    as_number = b'{"pan":%s,"exp":"1231"}' % planted.pan("a number that is no text").encode()
    cases = [
        (planted.pan("encryptedData in clear"), "DECRYPTION_FAILED"),
        (_spaced(planted.pan("encryptedData with blanks"), " "), "DECRYPTION_FAILED"),
        (good[:-4] + "AAAA", "DECRYPTION_FAILED"),
        (f"{_base64url(kid)}.{rest}", "DECRYPTION_FAILED"),
        (f"{head}.{_base64url(unsecured)}...", "DECRYPTION_FAILED"),
        (encrypted(with_member("note")), "FIELD_INVALID_FORMAT"),
        (encrypted(with_member("exp")), "FIELD_INVALID_FORMAT"),
        (encrypted(with_member("cvv")), "FIELD_INVALID_FORMAT"),
        (encrypted(with_member(planted.pan("the name of a member"))), "FIELD_INVALID_FORMAT"),
        (encrypted({"track2": f";{planted.pan('a track')}=3112"}), "FIELD_INVALID_FORMAT"),
        (encrypted(planted.pan("a plaintext that is no object").encode()), "FIELD_INVALID_FORMAT"),
        (encrypted(as_number), "FIELD_INVALID_FORMAT"),
        (encrypted({"pan": planted.pan("what is cut off")}) + "A" * 8192, "FIELD_INVALID_FORMAT"),
        (encrypted({"pan": planted.wrong_pan("a typing error"), "exp": "1231"}),
         "PAN_LUHN_INVALID"),
    ]  # fmt: skip
    return [
        (_register(f"odd-{number}", sealed), code) for number, (sealed, code) in enumerate(cases)
    ]


def _base64url(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


# Identifiers: a number in them counts when it is on a card (design.md 5).
_IDENTIFIERS = frozenset(
    {"correlationId", "operationId", "newCardId", "consumerId", "cardProductId", "realCardId"}
)


def _in_clear(planted: Planted) -> list[tuple[Message, str]]:
    """A number in every place of a command, of a readable one and of one that is none."""
    pan = planted.pan
    holders: list[tuple[Message, str]] = []

    def on_a_card(name: str) -> str:
        """A number whose card is registered before everything else here."""
        number = pan(name)
        sealed = encrypted({"pan": number, "exp": "1231"})
        holders.append((_register(f"holder-{len(holders)}", sealed), "SUCCESSFUL"))
        return number

    victim = f"{ISSUER}/victim".encode()
    good = card("victim", "SUSPEND", "s")
    assert good.value is not None

    def named(name: str, sign: str = "") -> dict[str, str]:
        number = (on_a_card if name in _IDENTIFIERS else pan)(f"field {name}")
        return {name: _spaced(number, sign)}

    messages = [card("victim", "SUSPEND", f"f-{name}", **named(name))
        for name in ("correlationId", "effectiveDate", "reasonCode", "reason", "unknown")
    ]  # fmt: skip
    messages += [card("victim", "SUSPEND", f"s-{sign}", **named("reason", sign)) for sign in " -"]
    messages += [
        card("victim", "SUSPEND", "r-id", requestor={"type": "USER", "id": on_a_card("an asker")}),
        card("victim", "SUSPEND", "r-type", requestor={"type": pan("requestor.type"), "id": "a"}),
        card("victim", "SUSPEND", on_a_card("commandId")),
        card("victim", "SUSPEND", f"job:{on_a_card('a longer commandId')}.1"),
        card("victim", pan("command"), "c"),
        card(on_a_card("cardId"), "SUSPEND", "s"),
        card("victim", "ACTIVATE", "a", **named("last4")),
        card("victim", "LOCK", "l", **named("lock")),
        card("victim", "TIME_OUT", "t", **named("operationId")),
        card("victim", "PRODUCE", "p", **named("distributionChannel")),
        card("victim", "CLICK_TO_PAY_ENROLMENT", "e", **named("name", " ")),
        card("victim", "UPDATE_CONTROLS", "u", controls={"a": [{"b": pan("a deep control")}]}),
        card("victim", "UPDATE_LIMITS", "u", limits={pan("the name of a limit"): 1}),
        card("victim", "REPLACE", "x", reasonCode="FRAUD", reason="r", **named("newCardId")),
        card("victim", "SUSPEND", "n", reason=int(pan("a number where a text belongs"))),
        card("victim", "SUSPEND", "m", **{pan("the name of a field"): "x"}),
        consumer(on_a_card("consumerId"), "CONSUMER_REGISTER", "c"),
        consumer("consumer-9", "CONSUMER_REGISTER", "c", **named("correlationId")),
        define(on_a_card("cardProductId"), "VIRTUAL"),
        replace(good, key=f"{ISSUER}/{pan('a key')}".encode()),
        replace(good, key=None, value=b'{"a":"%s"}' % pan("a value without a key").encode()),
        replace(good, key=pan("the key of a tombstone").encode(), value=None),
    ]
    for member in ("consumerId", "cardProductId", "name", "secondName", "state", "statusReason",
                   "deleteAt", "realCardId"):  # fmt: skip
        sealed = encrypted(planted.credentials(f"the command with {member}"))
        messages.append(_register("victim", sealed, **named(member)))
    messages += [_with_its_own_number(planted, member) for member in _OF_ITS_OWN]
    texts = [
        f"{{{pan('half an object')}",
        f'["{pan("a list")}"]',
        f'"{_spaced(pan("a text with dashes"), "-")}"',
        _spaced(pan("a value with blanks"), " "),
        good.value.decode()[:-1] + f',"reason":"a","reason":"{pan("a repeated name")}"}}',
        good.value.decode()[:-1] + f',"reason":"{_escaped(pan("an escaped text"))}"}}',
        f'{{"reason":"{_escaped(pan("an escaped text that breaks off"))}"',
        f'{{"pan":"{pan("what is too large")}"}}'.ljust(70_000),
        f'{{"pan":"{pan("a known name")}","cvv":"{planted.cvv("its code")}"}}',
    ]
    messages += [Message(victim, text.encode()) for text in texts]
    messages += [
        Message(victim, f'{{"pan":"{pan("UTF-16")}"}}'.encode("utf-16")),
        Message(victim, b"\xff" + pan("what is no text").encode()),
        Message(victim, b"{", [("x-card", pan("a header").encode())]),
        Message(victim, b"{", [(pan("the name of a header"), b"1")]),
        Message(victim, good.value, [("content-type", pan("content-type").encode())]),
        _cloud_event(victim, {"data_base64": b64encode(pan("base64").encode()).decode()}),
        _cloud_event(victim, {"data": {"reason": pan("the data of an event")}}),
        _cloud_event(victim, {"data": {}, "extension": pan("an extension")}),
    ]
    return [*holders, *((message, "SENSITIVE_DATA") for message in messages)]


_OF_ITS_OWN: dict[str, Callable[[str], object]] = {
    "requestor": lambda number: {"type": "USER", "id": number},
    "correlationId": lambda number: number,
    "consumerId": lambda number: f"a{number}b",
    "cardProductId": lambda number: _spaced(number, "-"),
    "realCardId": lambda number: number,
    "reason": lambda number: f"was {_spaced(number, ' ')}",
    "commandId": lambda number: f"job:{number}.1",
}


def _with_its_own_number(planted: Planted, member: str) -> Message:
    """A number of ten digits, which looks like none in a text, in two fields of one command."""
    begin = f"7{planted.chance.randrange(10**8):08}"
    number = begin + check_digit(begin)
    planted.secrets.append(card_number(f"its own number beside {member}", number))
    message = _register("victim", encrypted({"pan": number, "exp": "1231"}))
    assert message.value is not None
    body = {**json.loads(message.value), member: _OF_ITS_OWN[member](number)}
    return replace(message, value=json.dumps(body).encode())


def _escaped(digits: str) -> str:
    return "".join(f"\\u{ord(digit):04x}" for digit in digits)


def _cloud_event(key: bytes, members: dict[str, object]) -> Message:
    event = {"specversion": "1.0", "id": "e", "type": "cards.command.suspend.v1", "source": "/x"}
    headers = [("content-type", b"application/cloudevents+json")]
    return Message(key, json.dumps({**event, **members}).encode(), headers)


def _where_nobody_looks(planted: Planted) -> list[Message]:
    """Good commands with a number where nobody reads, or where any number may stand."""
    trace = f"00-4bf92f3577b34da6a3ce929d0e0e4736-{planted.pan('a trace')}-01"
    odd = define("odd", "VIRTUAL")
    assert odd.value is not None
    months = {**json.loads(odd.value), "validityMonths": int(planted.pan("a count of months"))}
    return [
        replace(
            consumer("c-1", "CONSUMER_REGISTER", "c"), headers=[("traceparent", trace.encode())]
        ),
        replace(
            consumer("c-2", "CONSUMER_REGISTER", "c"),
            headers=[("x", planted.pan("a header that does not count").encode())],
        ),
        replace(odd, value=json.dumps(months).encode()),
    ]


# What becomes of the operations that these answers are for, in their order.
_AFTER_REPLIES = ["SUCCESSFUL", "FIELD_INVALID_FORMAT", "DECRYPTION_FAILED", *["PENDING"] * 5]


def _replies(planted: Planted, asked: list[Asked]) -> list[tuple[bytes | None, bytes | None]]:
    """Answers to as many requests, good and hostile ones."""
    number = encrypted(planted.credentials("a reply", exp="1233"))
    malformed = encrypted({"pan": planted.pan("a malformed reply"), "cvv": planted.cvv("its code")})
    in_clear = {"pan": planted.pan("a reply in clear"), "cvv": planted.cvv("a reply in clear")}
    ways: list[Callable[[Asked], tuple[bytes | None, bytes | None]]] = [
        lambda one: reply(one, data={"encryptedData": number}),
        lambda one: reply(one, data={"encryptedData": malformed}),
        lambda one: reply(one, data={"encryptedData": planted.pan("a reply that is no JWE")}),
        lambda one: reply(one, data=in_clear),
        lambda one: reply(one, "FAILED", errorCode=planted.pan("an error code")),
        lambda one: reply(one, planted.pan("a result")),
        lambda one: (one.key, reply(one)[1] + planted.pan("a broken reply").encode()),
        lambda one: (planted.pan("the key of a reply").encode(), reply(one)[1]),
    ]
    in_order = sorted(asked, key=lambda one: one.key)
    return [way(one) for way, one in zip(ways, in_order, strict=True)]


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What a worker left behind, and what it must not have."""

    settings: Settings
    evidence: Evidence
    found: list[str]
    wanted: list[str]
    secrets: list[Secret]
    output: list[Place]

    async def everything(self) -> list[Place]:
        return [
            *self.output,
            *await on_topics(self.settings),
            *await in_tables(self.settings),
        ]


@pytest_asyncio.fixture(scope="module")
async def aftermath(
    servers: Servers, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Aftermath]:
    folder = Path(tmp_path_factory.mktemp("clear"))
    write_keys(folder / "keys.json")
    planted = Planted()
    talkative = {
        "TEST_LOG_LEVEL": "DEBUG",
        "TEST_METRICS_FILE": str(folder / "metrics"),
        "TEST_FAIL_ON_CARD": _FAILING,
        "PYTHONASYNCIODEBUG": "1",
    }
    async with open_ground(servers, template, partitions=1) as empty:
        ground = empty.model_copy(update={"keys_file": folder / "keys.json"})
        async with worker_process(ground, more_environment=talkative) as worker:
            products = [_product(BY_CVV, "CVV"), _product(BY_LAST4, "LAST4"), transit_product()]
            # What lies first in a batch is the first that a client's log would show of it.
            await bank.send(ground, [Message(planted.pan("the first key").encode(), None)])
            await until_settled(ground)
            await bank.send(ground, [*products, *_where_nobody_looks(planted)])
            sent = [*_by_the_book(planted), *_that_do_not_open(planted)]
            sent += _in_clear(planted)
            for number, ending in enumerate(_AFTER_REPLIES):
                old = _register(f"old-{number}", encrypted(planted.credentials(f"card {number}")))
                moving = {"newCardId": f"next-{number}", "newCardState": "ACTIVE"}
                sent += [
                    (old, "SUCCESSFUL"),
                    (card(f"old-{number}", "RENEW", "r", **moving), ending),
                ]
            places = await bank.send(ground, [message for message, _ in sent])
            asked = await requests(ground, len(_AFTER_REPLIES))
            await answer(ground, *_replies(planted, asked))
            evidence = await verify_all(ground)
            await worker.stopped()
            log = worker.log.read_bytes()
        metrics = (folder / "metrics").read_bytes()
        yield Aftermath(
            settings=ground,
            evidence=evidence,
            found=evidence.outcomes(places),
            wanted=[wanted for _, wanted in sent],
            secrets=[*planted.secrets, *keys_of(keys_document())],
            output=[Place("the log", log), Place("the metrics", metrics)],
        )


async def test_g10_no_number_code_or_key_is_left_in_clear_anywhere(aftermath: Aftermath) -> None:
    everything = await aftermath.everything()
    assert leaks(everything, aftermath.secrets) == []


async def test_g10_every_hostile_place_was_reached(aftermath: Aftermath) -> None:
    """Or the search would find nothing because nothing was there."""
    assert aftermath.found == aftermath.wanted
    of_replies = Counter(aftermath.evidence.reply_dead_letter_rows.values())
    assert of_replies == {"SENSITIVE_DATA": 5}
    log, metrics = (place.content for place in aftermath.output)
    assert b"record_failed" in log
    assert b"debug" in log, "the worker was as talkative as it can be"
    assert b"lifecycle_" in metrics


async def test_numbers_at_rest_are_encrypted_and_authenticated(aftermath: Aftermath) -> None:
    """domain.md 4: a sealed number opens with the keys; with one bit changed it does not."""
    assert aftermath.settings.keys_file is not None
    sealing = sealing_with(load_keys(aftermath.settings.keys_file))
    async with connected(aftermath.settings) as connection:
        rows = await connection.fetch("SELECT * FROM pan")
    assert len(rows) >= len(_AFTER_REPLIES)
    for row in rows:
        life = CardLife(row["issuer_id"], row["card_id"], row["incarnation"])
        number = sealing.unseal(life, Sealed(row["key_id"], row["sealed"])).pan
        assert leaks([Place("what was opened", number.encode())], aftermath.secrets)
        changed = bytes([row["sealed"][0] ^ 1]) + row["sealed"][1:]
        with pytest.raises(SealError):
            sealing.unseal(life, Sealed(row["key_id"], changed))


# --- the search can fail

_PAN, _CVV = "4539148803436467", "7319"
_KEY = "Zm9ydHktdHdvLWJ5dGVzLW9mLWtleS1tYXRlcmlhbC0xMjM"

_FORMS: dict[str, bytes] = {
    "plain": _PAN.encode(),
    "with blanks": _spaced(_PAN, " ").encode(),
    "with dashes": _spaced(_PAN, "-").encode(),
    "wrapped": _spaced(_PAN, "\n").encode(),
    "hexadecimal": _PAN.encode().hex().encode(),
    "base64": b64encode(_PAN.encode()),
    "inside base64": urlsafe_b64encode(b'{"pan":"' + _PAN.encode() + b'"}'),
    "UTF-16": _PAN.encode("utf-16"),
    "escaped": _escaped(_PAN).encode(),
    "packed": bytes.fromhex(_PAN),
    "an integer": int(_PAN).to_bytes(8, "big"),
    "hashed without a key": sha256(_PAN.encode()).hexdigest().encode(),
    "a code in JSON": b'{"cvv": "7319"}',
    "a code in escaped JSON": json.dumps('{"cvv":"7319"}').encode(),
    "a code in a sentence": b"the code 7319 is wrong",
    "a code as a number": b'{"cvv":7319}',
    "a code in base64": b64encode(b'"cvv":"7319"'),
    "a key": _KEY.encode(),
    "a key in a PEM file": b"\n".join(
        b64encode(b"0123" + urlsafe_b64decode(_KEY + "="))[at : at + 24] for at in range(0, 64, 24)
    ),
    "a key in hexadecimal": urlsafe_b64decode(_KEY + "=").hex().encode(),
}


@pytest.mark.parametrize("form", _FORMS)
def test_the_search_finds_a_secret_in_every_form(form: str) -> None:
    secrets = [
        *(card_number("pan", _PAN), security_code("cvv", _CVV), key_material("key", _KEY)),
    ]
    assert len(leaks([Place("here", b"before " + _FORMS[form] + b" after")], secrets)) == 1


def test_the_search_is_not_mistaken_about_a_code() -> None:
    innocent = [
        b"0b8f7319-7319-8319-9319-73197319a7b2",
        sha256(b"7319").hexdigest().encode(),
        b'{"last4":"7319","offset":17319,"time":"2026-11-22T09:57:01.7319Z"}',
        bytes(range(256)) + b"7319",
    ]
    places = [Place(str(number), content) for number, content in enumerate(innocent)]
    assert leaks(places, [security_code("cvv", _CVV)]) == []


async def test_the_search_finds_what_is_planted_in_a_table_a_header_and_a_log(
    aftermath: Aftermath,
) -> None:
    settings, number = aftermath.settings, card_number("the planted number", _PAN)
    async with connected(settings) as connection:
        await connection.execute("UPDATE card SET name = $1 WHERE card_id = 'card-1'", _PAN)
        await connection.execute(
            "UPDATE pan SET sealed = $1 WHERE card_id = 'old-1'", b"\x00" + _PAN.encode() + b"\xff"
        )
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers)
    await producer.start()
    try:
        await producer.send_and_wait(
            topics_of(settings).events, b"{}", headers=[("traceparent", _PAN.encode())]
        )
    finally:
        await producer.stop()
    log = Place("the log", b'{"event": "oops", "pan": "%s"}' % _PAN.encode())
    found = leaks([*await aftermath.everything(), log], [number])
    assert {leak.partition(" of ")[0].rpartition(" in ")[2] for leak in found} == {
        *("card.name", "pan.sealed", "header traceparent", "the log"),
    }
