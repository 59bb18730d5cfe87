"""G10: an identifier counts as a card number only when it is the number of a card (design.md 5)."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from lifecycle.settings import Settings
from tests.integration.test_card_numbers import PANS, register, transit_product
from tests.support import bank
from tests.support.bank import ISSUER, PHYSICAL, PRODUCTS, Message, card, consumer, create
from tests.support.clear_text import card_number, in_tables, leaks, on_topics
from tests.support.evidence import Evidence
from tests.support.fixtures import NewGround
from tests.support.guarantees import verify_all
from tests.support.outside import answer, reply, requests
from tests.support.reading import Record, until_settled
from tests.support.worker import running_worker
from tests.unit.vault_keys import encrypted, write_keys

# Numbers of every length are looked up; the first looks like none in a text.
SHORT = "5123456781"
TROY = "9792100000000001"
OTHER_ISSUER = "BANK000002"


@pytest.fixture
async def one_lane(new_ground: NewGround, tmp_path: Path) -> Settings:
    """One partition, so that what is sent together is taken in one batch and in its order."""
    write_keys(tmp_path / "keys.json")
    ground = await new_ground(partitions=1)
    return ground.model_copy(update={"keys_file": tmp_path / "keys.json"})


def with_number(number: str) -> list[Message]:
    """Good commands with `number` in each of their identifiers."""
    return [
        card("victim", "SUSPEND", number),
        card("victim", "SUSPEND", f"job:{number}.1"),
        card("victim", "SUSPEND", "s1", requestor={"type": "USER", "id": number}),
        card("victim", "RESUME", "s2", correlationId=f"a{number}"),
        card(number, "SUSPEND", "s3"),
        create("of-somebody", consumerId=number),
        create("of-another", realCardId=number),
        consumer(number, "CONSUMER_REGISTER", "c"),
        card("victim", "TIME_OUT", "t", operationId=number),
        register(f"new-{number[-4:]}", PANS[7], "r", consumerId=number),
    ]


async def taken(ground: Settings, *messages: Message) -> tuple[list[str], Evidence]:
    async with running_worker(ground):
        places = await bank.send(ground, messages)
        evidence = await verify_all(ground)
    return evidence.outcomes(places), evidence


def letter_of(evidence: Evidence, offset: int) -> Record:
    (letter,) = (one for one in evidence.dead_letters[0] if one.number("dlq-offset") == offset)
    return letter


@pytest.mark.parametrize("number", [SHORT, TROY])
async def test_what_is_on_a_card_counts_in_every_identifier_live_or_retired(
    one_lane: Settings, number: str
) -> None:
    """In the batch that registers it, in a later one, and after its card has left."""
    await taken(one_lane, *PRODUCTS, transit_product(), create("victim"))
    # A virtual card's number has 13 digits at least.
    holder = register("holder", number, cardProductId=PHYSICAL)
    first = await bank.send(one_lane, [holder, *with_number(number)])
    outcomes, evidence = await taken(one_lane, *with_number(number))
    everywhere = ["SENSITIVE_DATA"] * len(with_number(number))
    assert evidence.outcomes(first) == ["SUCCESSFUL", *everywhere]
    assert outcomes == everywhere
    outcomes, evidence = await taken(one_lane, card("holder", "DELETE", "d"), *with_number(number))
    assert outcomes == ["SUCCESSFUL", *everywhere]
    places = [*await on_topics(one_lane), *await in_tables(one_lane)]
    assert leaks(places, [card_number("the number", number)]) == []
    for row in evidence.dead_letters[0]:
        sent = next(one for one in evidence.commands[0] if one.offset == row.number("dlq-offset"))
        holds_it = number.encode() in (sent.key or b"")
        assert row.key == (None if holds_it else sent.key), "a key without the number stays"
        assert row.value == b""
        assert row.header("dlq-value-sha256")
        assert b"stands in field " in (row.header("dlq-error") or b"")


async def test_what_is_on_no_card_of_the_issuer_is_an_identifier_like_any_other(
    one_lane: Settings,
) -> None:
    """Before its card is registered, when that was refused, and for another issuer."""
    refused = register("refused", TROY, state="NOWHERE")
    other = json.loads(consumer(TROY, "CONSUMER_REGISTER", "c").value or b"")
    other_issuer = Message(
        f"{OTHER_ISSUER}/consumer/{TROY}".encode(),
        json.dumps({**other, "issuerId": OTHER_ISSUER}).encode(),
    )
    messages = [
        *(*PRODUCTS, transit_product(), create("victim")),
        card("victim", "SUSPEND", TROY),
        refused,
        consumer(TROY, "CONSUMER_REGISTER", "c"),
        register("holder", TROY),
        card("victim", "RESUME", f"job:{TROY}"),
        other_issuer,
    ]
    places = await bank.send(one_lane, messages)
    async with running_worker(one_lane):
        evidence = await verify_all(one_lane)
    assert evidence.outcomes(places)[4:] == [
        *("SUCCESSFUL", "FIELD_INVALID_VALUE", "SUCCESSFUL"),
        *("SUCCESSFUL", "SENSITIVE_DATA", "SUCCESSFUL"),
    ]


async def test_strict_identifiers_are_judged_as_texts(new_ground: NewGround) -> None:
    ground = await new_ground(partitions=1, sensitive_identifiers="strict")
    sent = [*PRODUCTS, create("victim"), card("victim", "SUSPEND", PANS[0]), create("a" + PANS[0])]
    outcomes, _ = await taken(ground, *sent)
    assert outcomes[3:] == ["SENSITIVE_DATA", "SUCCESSFUL"]


async def test_a_card_whose_id_became_a_number_later_still_expires(one_lane: Settings) -> None:
    """Its id is told already; what the service itself sends must not be buried for it."""
    await taken(one_lane, *PRODUCTS, transit_product())
    named = create(TROY, deleteAt="2099-01-01T00:00:00+00:00")
    timer = card(TROY, "LOCK", "l", lock="PIN")
    assert timer.value is not None
    delete_due = {**json.loads(timer.value), "command": "DELETE_DUE", "commandId": "DELETE_DUE:1:1"}
    del delete_due["lock"]
    cascade = {**delete_due, "command": "DELETE", "commandId": f"CASCADE:{UUID(int=7)}"}
    outcomes, _ = await taken(
        one_lane,
        named,
        register("holder", TROY),
        card(TROY, "SUSPEND", "s"),
        replace(timer, value=json.dumps(delete_due).encode()),
        replace(timer, value=json.dumps(cascade).encode()),
    )
    assert outcomes == ["SUCCESSFUL", "SUCCESSFUL", "SENSITIVE_DATA", "NOTHING", "SUCCESSFUL"]


@pytest.mark.parametrize("number", [SHORT, TROY, "4000000000000003"])
async def test_the_number_of_its_own_encrypted_data_counts_in_every_field_also_when_it_is_wrong(
    one_lane: Settings, number: str
) -> None:
    """The last one has another check digit: a typing error is no less secret."""
    fields: dict[str, Any] = {
        "requestor": {"type": "USER", "id": number},
        "correlationId": number,
        "consumerId": f"a{number}",
        "reason": f"was {number[:4]} {number[4:]} before",
        "secondName": number,
        "realCardId": f"{number[:4]}-{number[4:]}",
    }
    messages = [register("card", number, "c", **{name: field}) for name, field in fields.items()]
    messages.append(replace(register("card", number, "c2"), headers=[("x", number.encode())]))
    outcomes, evidence = await taken(one_lane, *PRODUCTS, transit_product(), *messages)
    judged = outcomes[len(PRODUCTS) + 1 :]
    assert judged[:-1] == ["SENSITIVE_DATA"] * len(fields)
    assert judged[-1] in {"SUCCESSFUL", "PAN_LUHN_INVALID"}, "other headers do not count"
    places = [*await on_topics(one_lane), *await in_tables(one_lane)]
    assert leaks(places, [card_number("the number", number)]) == []
    first = len(PRODUCTS) + 1
    for at, name in enumerate(fields):
        letter = letter_of(evidence, first + at)
        assert letter.key == f"{ISSUER}/card".encode()
        field = "requestor.id" if name == "requestor" else name
        assert f"field {field}" in (letter.header("dlq-error") or b"").decode()


async def test_the_number_of_a_reply_counts_in_every_field_of_it(one_lane: Settings) -> None:
    moving = {"newCardId": "next", "newCardState": "ACTIVE"}
    async with running_worker(one_lane):
        places = await bank.send(
            one_lane,
            [
                *PRODUCTS,
                transit_product(),
                register("old", PANS[0]),
                card("old", "RENEW", "r", **moving),
            ],
        )
        await until_settled(one_lane)
        (asked,) = await requests(one_lane, 1)
        sealed = encrypted({"pan": SHORT, "exp": "1233"})
        data = {"encryptedData": sealed, "note": [{"number": SHORT}]}
        await answer(one_lane, reply(asked, data=data))
        evidence = await verify_all(one_lane)
    assert evidence.outcomes(places)[-1] == "PENDING"
    assert list(evidence.reply_dead_letter_rows.values()) == ["SENSITIVE_DATA"]
    assert leaks(await on_topics(one_lane), [card_number("the number", SHORT)]) == []
