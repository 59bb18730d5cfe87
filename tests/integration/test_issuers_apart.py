"""G12: one issuer never sees or touches what is another's: cards, consumers, products, numbers."""

import json
from pathlib import Path

from tests.integration.test_card_numbers import PANS, register, transit_product
from tests.support import bank
from tests.support.bank import Message, card, consumer, create
from tests.support.dispatching import until_dispatched
from tests.support.evidence import Evidence
from tests.support.fixtures import NewGround
from tests.support.guarantees import verify_all
from tests.support.outside import answer, reply, requests
from tests.support.reading import until_settled
from tests.support.worker import running_worker
from tests.unit.vault_keys import write_keys

OTHER = "BANK000002"


def _of_other(message: Message) -> Message:
    """The same command, all its ids the same, from another issuer."""
    assert message.key is not None
    assert message.value is not None
    body = {**json.loads(message.value), "issuerId": OTHER}
    return Message(message.key.replace(bank.ISSUER.encode(), OTHER.encode()), _json(body))


def _json(body: object) -> bytes:
    return json.dumps(body).encode()


def _history(evidence: Evidence, issuer: str, card_id: str) -> list[tuple[object, ...]]:
    """What became of each command about a card: its id, and the error or the state after it."""
    rows = evidence.by_subject.get(f"{issuer}/{card_id}", [])
    return [
        (
            row.event["commandId"],
            row.event["operation"].get("errorCode")
            or (row.event["operation"]["status"], row.event["card"]["state"]),
        )
        for row in rows
    ]


async def test_issuers_with_the_same_ids_and_numbers_do_not_meet(
    new_ground: NewGround, tmp_path: Path
) -> None:
    write_keys(tmp_path / "keys.json")
    ground = await new_ground(partitions=2)
    ground = ground.model_copy(update={"keys_file": tmp_path / "keys.json"})
    shared = [
        register("card-1", PANS[0]),
        create("card-2"),
        card("card-1", "SUSPEND", "s", reasonCode="FRAUD"),
    ]
    renewal = {"newCardId": "card-9", "newCardState": "ACTIVE", "reasonCode": "USER_DECISION"}
    async with running_worker(ground):
        # The other issuer has no physical product.
        products = [*bank.PRODUCTS, transit_product()]
        await bank.send(ground, [*products, *map(_of_other, products[::2])])
        await until_settled(ground)
        await bank.send(ground, [*shared, *map(_of_other, shared)])
        await until_settled(ground)
        await bank.send(
            ground,
            [
                # Ids that only the first issuer has.
                _of_other(create("card-3", cardProductId=bank.PHYSICAL)),
                create("card-4"),
                _of_other(card("card-4", "DELETE", "d")),
                _of_other(create("card-5", consumerId="consumer-2", realCardId="card-4")),
                _of_other(consumer("consumer-1", "CONSUMER_DELETE", "leave")),
                register("card-6", PANS[1]),
                card("card-6", "RENEW", "r", **renewal),
            ],
        )
        await until_settled(ground)
        await until_dispatched(ground)
        (asked,) = await requests(ground, 1)
        # Somebody answers in the other issuer's name, about the operation of this one.
        stranger = {**asked.body, "issuerId": OTHER}
        await answer(
            ground,
            (
                f"{OTHER}/card-6".encode(),
                _json({**stranger, "result": "FAILED", "errorCode": "NO"}),
            ),
        )
        await until_settled(ground)
        still_open = _history(await verify_all(ground), bank.ISSUER, "card-6")
        await answer(ground, reply(asked, "FAILED", errorCode="NO_PLASTIC"))
        evidence = await verify_all(ground)

    registered = ("register", ("SUCCESSFUL", "ACTIVE"))
    suspended = ("s", ("SUCCESSFUL", "SUSPENDED"))
    created = ("create", ("SUCCESSFUL", "ACTIVE"))
    assert _history(evidence, bank.ISSUER, "card-1") == [registered, suspended]
    assert _history(evidence, bank.ISSUER, "card-2") == [created]
    assert _history(evidence, bank.ISSUER, "card-4") == [created]
    for card_id, before in (("card-1", [registered, suspended]), ("card-2", [created])):
        *earlier, (cascade, after) = _history(evidence, OTHER, card_id)
        assert earlier == before
        assert str(cascade).startswith("CASCADE:")
        assert after == ("SUCCESSFUL", "DELETED")
    assert _history(evidence, OTHER, "card-3") == [("create", "CARD_PRODUCT_NOT_FOUND")]
    assert _history(evidence, OTHER, "card-4") == [("d", "CARD_NOT_FOUND")]
    assert _history(evidence, OTHER, "card-5") == [("create", "CARD_NOT_ACTIVE")]
    assert still_open[-1] == ("r", ("PENDING", "ACTIVE"))
    assert _history(evidence, bank.ISSUER, "card-6")[-1] == ("r", "NO_PLASTIC")
    assert _history(evidence, OTHER, "card-6") == []
