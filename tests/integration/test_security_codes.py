"""Activation by CVV: the code that counts is the one that came last with the card's number."""

import json
from pathlib import Path

from tests.integration.test_card_numbers import PANS, register
from tests.support import bank
from tests.support.bank import Message, card
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
    # What lies there before a worker comes is taken in one poll, and decided in one transaction.
    places += await bank.send(ground, [message for message, _ in at_once])
    async with running_worker(ground):
        evidence = await verify_all(ground)
    assert evidence.outcomes(places) == [wanted for _, wanted in [*one_by_one, *at_once]]
    assert [batch["records"] for batch in evidence.batches] == [*[1] * 11, len(at_once)]
    async with connected(ground) as connection:
        assert await connection.fetchval("SELECT count(*) FROM pan") == 2
        assert await connection.fetchval("SELECT count(*) FROM retired_pan") == 2
