"""Numbers and codes are the same whatever polls their commands lie in.

What lies on the topic before a worker comes is taken in one poll, and in one transaction if it may.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lifecycle.vault.keys import load_keys
from lifecycle.vault.sealing import CardLife, Sealed, sealing_with
from tests.integration.test_card_numbers import PANS, register, transit_product
from tests.support import bank
from tests.support.bank import Message, card, create
from tests.support.fixtures import NewGround
from tests.support.ground import connected
from tests.support.guarantees import verify_all
from tests.support.reading import until_settled
from tests.support.worker import running_worker
from tests.unit.vault_keys import encrypted, write_keys

_BY_CVV = "by-cvv"
_OLD, _NEW = "1234", "5678"


def _product() -> Message:
    message = bank.define(_BY_CVV, "PHYSICAL")
    assert message.value is not None
    body = {**json.loads(message.value), "activationMethod": "CVV"}
    return Message(message.key, json.dumps(body).encode())


def _registered(card_id: str, pan: str) -> Message:
    sealed = encrypted({"pan": pan, "exp": "1229", "cvv": _OLD})
    fields = {"cardProductId": _BY_CVV, "state": "INACTIVE", "encryptedData": sealed}
    return register(card_id, pan, **fields)


def _activate(card_id: str, command_id: str, cvv: str) -> Message:
    return card(card_id, "ACTIVATE", command_id, encryptedData=encrypted({"cvv": cvv}))


def _renewed(card_id: str, command_id: str, pan: str, exp: str, **more: str) -> Message:
    place = {"newCardId": card_id, "newCardState": "INACTIVE", "newExp": exp}
    sealed = encrypted({"pan": pan, "exp": exp, **more})
    return card(card_id, "RENEW", command_id, **place, encryptedData=sealed)


def _life(card_id: str, pan: str, other: str) -> list[tuple[Message, str]]:
    """What is sent about a card, and what becomes of it."""
    return [
        (_registered(card_id, pan), "SUCCESSFUL"),
        (_activate(card_id, "1", _NEW), "ACTIVATION_FAILED"),
        (_activate(card_id, "2", _OLD), "SUCCESSFUL"),
        (_renewed(card_id, "3", pan, "1230", cvv=_NEW), "SUCCESSFUL"),
        (_activate(card_id, "4", _OLD), "ACTIVATION_FAILED"),
        (_activate(card_id, "5", _NEW), "SUCCESSFUL"),
        (_renewed(card_id, "6", pan, "1231"), "SUCCESSFUL"),
        (_activate(card_id, "7", _NEW), "SUCCESSFUL"),
        (_renewed(card_id, "8", other, "1232"), "SUCCESSFUL"),
        (_activate(card_id, "9", _NEW), "ACTIVATION_FAILED"),
    ]


async def test_a_code_counts_from_the_command_that_brought_it_whatever_poll_that_lies_in(
    new_ground: NewGround, tmp_path: Path
) -> None:
    """decisions/0016; a renewal that keeps the number brings another code, or none and keeps it."""
    path = tmp_path / "keys.json"
    write_keys(path)
    ground = (await new_ground(partitions=1)).model_copy(update={"keys_file": path})
    one_by_one, at_once = _life("slow", PANS[0], PANS[1]), _life("quick", PANS[2], PANS[3])
    async with running_worker(ground.model_copy(update={"poll_records_max": 1})):
        await bank.send(ground, [_product()])
        await until_settled(ground)
        places = await bank.send(ground, [message for message, _ in one_by_one])
        await until_settled(ground)
    places += await bank.send(ground, [message for message, _ in at_once])
    async with running_worker(ground):
        evidence = await verify_all(ground)
    assert evidence.outcomes(places) == [wanted for _, wanted in [*one_by_one, *at_once]]
    assert [batch["records"] for batch in evidence.batches] == [*[1] * 11, len(at_once)]
    async with connected(ground) as connection:
        assert await connection.fetchval("SELECT count(*) FROM pan") == 2
        assert await connection.fetchval("SELECT count(*) FROM retired_pan") == 2


async def test_a_card_has_a_number_even_in_one_poll_with_its_product_or_its_predecessor(
    new_ground: NewGround, tmp_path: Path
) -> None:
    """A number is drawn before the decisions, from the range of the product as it is then."""
    path = tmp_path / "keys.json"
    write_keys(path)
    ground = (await new_ground(partitions=1)).model_copy(update={"keys_file": path})
    replaced = card("card-1", "REPLACE", "2", reasonCode="CARD_LOST", reason="lost")
    at_once = [_product(), create("card-1", cardProductId=_BY_CVV), replaced]
    # Another range for the cards that come after it, and for no others.
    (first_range, second_range), product = ("40000000", "50000000"), _product()
    assert product.value is not None
    body = {**json.loads(product.value), "commandId": "again", "bin": second_range}
    at_once += [
        replace(product, value=json.dumps(body).encode()),
        create("card-2", cardProductId=_BY_CVV),
    ]
    places = await bank.send(ground, at_once)
    async with running_worker(ground):
        evidence = await verify_all(ground)
    assert evidence.outcomes(places) == ["SUCCESSFUL"] * len(at_once)
    sealing = sealing_with(load_keys(path))
    async with connected(ground) as connection:
        rows = await connection.fetch("SELECT * FROM pan JOIN card USING (issuer_id, card_id)")
    numbers = {
        row["card_id"]: sealing.unseal(
            CardLife(bank.ISSUER, row["card_id"], 1), Sealed(row["key_id"], row["sealed"])
        ).pan
        for row in rows
    }
    for row in rows:
        number = numbers[row["card_id"]]
        assert number.startswith(second_range if row["card_id"] == "card-2" else first_range)
        assert number.endswith(row["last4"])
    assert len(numbers) == 2


@pytest.mark.parametrize("together", [True, False], ids=["in one poll", "one by one"])
async def test_a_card_may_change_one_of_its_two_numbers(
    new_ground: NewGround, tmp_path: Path, *, together: bool
) -> None:
    """domain.md 4: what it keeps stays its own, what it gives up never returns."""
    write_keys(tmp_path / "keys.json")
    ground = await new_ground(partitions=1)
    ground = ground.model_copy(update={"keys_file": tmp_path / "keys.json"})

    def pair(pan: str, auxiliary: str, exp: str) -> str:
        numbers = {"pan": pan, "auxiliaryPan": auxiliary}
        return encrypted({**numbers, "exp": exp, "auxiliaryExp": exp})

    def renew(command_id: str, pan: str, auxiliary: str, exp: str) -> Message:
        place = {"newCardId": "card", "newCardState": "ACTIVE"}
        expiries = {"newExp": exp, "newAuxiliaryExp": exp}
        sealed = pair(pan, auxiliary, exp)
        return card("card", "RENEW", command_id, **place, **expiries, encryptedData=sealed)

    commands = [
        register("card", PANS[0], encryptedData=pair(PANS[0], PANS[1], "1229")),
        renew("another-auxiliary", PANS[0], PANS[2], "1230"),
        renew("another-number", PANS[3], PANS[2], "1231"),
        renew("the-first-again", PANS[0], PANS[2], "1232"),
        *(register(f"of-{number}", PANS[number]) for number in range(4)),
    ]
    async with running_worker(ground):
        await bank.send(ground, [*bank.PRODUCTS, transit_product()])
        await until_settled(ground)
        places = []
        for group in [commands] if together else [[one] for one in commands]:
            places += await bank.send(ground, group)
            await until_settled(ground)
        places += await bank.send(ground, [card("card", "DELETE", "delete")])
        await until_settled(ground)
        places += await bank.send(
            ground, [register(f"late-{number}", PANS[number]) for number in range(4)]
        )
        evidence = await verify_all(ground)
    assert evidence.outcomes(places) == [
        *("SUCCESSFUL", "SUCCESSFUL", "SUCCESSFUL", "PAN_NOT_REUSABLE"),
        *["PAN_NOT_REUSABLE"] * 4,
        "SUCCESSFUL",
        *["PAN_NOT_REUSABLE"] * 4,
    ]
