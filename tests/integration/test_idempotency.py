"""The same command twice: at once, after a restart, and long after its card has forgotten it."""

import json
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import rfc8785

from lifecycle.settings import Settings
from tests.integration.test_card_numbers import PANS, register, transit_product
from tests.support import bank
from tests.support.bank import card, consumer, create
from tests.support.fixtures import NewGround
from tests.support.ground import connected
from tests.support.guarantees import verify_all
from tests.support.outside import answer, reply, requests
from tests.support.reading import until_settled
from tests.support.worker import running_worker
from tests.unit.vault_keys import encrypted, write_keys

_REMEMBERED = 2


async def test_a_command_sent_again_takes_effect_once(new_ground: NewGround) -> None:
    """G2: whether its card still remembers it, only the log does, or another worker took it."""
    ground = await new_ground(recent_commands_max=_REMEMBERED)
    first = [
        create("card-1"),
        card("card-1", "SUSPEND", "s1", reasonCode="CARD_LOST", reason="in a taxi"),
        card("card-1", "RESUME", "r1", reasonCode="CARD_FOUND"),
        card("card-1", "SUSPEND", "s2", reasonCode="USER_DECISION"),
        card("card-1", "RESUME", "r2", reasonCode="USER_DECISION"),
    ]
    assert len(first) > 2 * _REMEMBERED, "the first are found in the log only"
    async with running_worker(ground):
        await _define_products(ground)
        taken = await bank.send(ground, first)
        at_once = await bank.send(ground, first)
        await verify_all(ground)
    async with running_worker(ground):
        later = await bank.send(ground, reversed(first))
        evidence = await verify_all(ground)
    assert evidence.outcomes(taken) == ["SUCCESSFUL"] * len(first)
    assert evidence.outcomes(at_once + later) == ["NOTHING"] * 2 * len(first)
    assert evidence.count("duplicates") == 2 * len(first)


async def test_a_command_written_otherwise_with_the_same_content_is_the_same(
    ground: Settings,
) -> None:
    """G2: defaults filled in, nulls, order and blanks make no other content (design.md 5)."""
    short = card("card-1", "SUSPEND", "s1")
    long = card(
        "card-1",
        "SUSPEND",
        "s1",
        reason=None,
        correlationId=None,
        reasonCode="ISSUER_DECISION",
        requestor={"id": bank.ISSUER, "type": "ISSUER"},
    )
    assert long.value is not None
    spaced = bank.Message(long.key, b" \n" + long.value.replace(b",", b" ,\t") + b"\r\n")
    through_a_gateway = [
        card("card-1", "SUSPEND", "s1", correlationId=f"attempt {number}") for number in range(3)
    ]
    created = create("card-1", deleteAt="2099-01-01T00:00:00Z")
    in_python = create("card-1", deleteAt=datetime(2099, 1, 1, tzinfo=UTC).isoformat())
    enrolled = (
        card("card-1", "RESUME", "r1"),
        card("card-1", "CLICK_TO_PAY_ENROLMENT", "e1", name="Zo\u00eb"),
    )
    decomposed = card("card-1", "CLICK_TO_PAY_ENROLMENT", "e1", name="Zoe\u0308")
    first = [created, short, *enrolled]
    again = [in_python, long, spaced, *through_a_gateway, decomposed]
    async with running_worker(ground):
        await _define_products(ground)
        places = await bank.send(ground, [*first, *again])
        evidence = await verify_all(ground)
    assert evidence.outcomes(places[:4]) == ["SUCCESSFUL", "SUCCESSFUL", "SUCCESSFUL", "PENDING"]
    assert evidence.outcomes(places[4:]) == ["NOTHING"] * len(again)


async def test_a_retry_across_an_upgrade_is_still_a_duplicate(ground: Settings) -> None:
    """Decision 43: until then `correlationId` was part of the content, and its hash is stored."""
    sent = card("card-1", "SUSPEND", "s1", correlationId="attempt-1")
    async with running_worker(ground):
        await _define_products(ground)
        await bank.send(ground, [create("card-1"), sent])
        await verify_all(ground)
    assert sent.value is not None
    defaults: dict[str, Any] = {
        "reasonCode": "ISSUER_DECISION",
        "requestor": {"type": "ISSUER", "id": bank.ISSUER},
    }
    as_it_was = sha256(rfc8785.dumps({**json.loads(sent.value), **defaults})).digest()[:16]
    async with connected(ground) as connection:
        before = await connection.fetchval("SELECT recent_commands FROM card")
        assert before[-16:] != as_it_was
        await connection.execute("UPDATE card SET recent_commands = $1", before[:-16] + as_it_was)
    other = card("card-1", "SUSPEND", "s1", correlationId="attempt-1", reasonCode="FRAUD")
    async with running_worker(ground):
        places = await bank.send(ground, [sent, other])
        evidence = await verify_all(ground)
    assert evidence.outcomes(places) == ["NOTHING", "IDEMPOTENCY_CONFLICT"]


async def test_other_content_under_the_same_id_is_a_conflict(new_ground: NewGround) -> None:
    """G2: refused as a dead letter, also when only the log knows the first (design.md 5)."""
    ground = await new_ground(recent_commands_max=_REMEMBERED)
    taken = [
        create("card-1"),
        card("card-1", "SUSPEND", "s1"),
        card("card-1", "RESUME", "r1"),
        card("card-1", "SUSPEND", "s2"),
        card("card-1", "RESUME", "r2"),
    ]
    conflicts = [
        card("card-1", "DELETE", "s1"),
        card("card-1", "SUSPEND", "s1", reasonCode="FRAUD"),
        create("card-1", consumerId="someone-else"),
        card("card-1", "RESUME", "r2", effectiveDate="2026-11-22T00:00:00Z"),
    ]
    async with running_worker(ground):
        await _define_products(ground)
        await bank.send(ground, taken)
        at_once = await bank.send(ground, conflicts)
        # The id is the card's own: another card may use it.
        other = await bank.send(ground, [create("card-2"), card("card-2", "DELETE", "s1")])
        await until_settled(ground)
    async with running_worker(ground):
        later = await bank.send(ground, conflicts)
        evidence = await verify_all(ground)
    assert evidence.outcomes(at_once + later) == ["IDEMPOTENCY_CONFLICT"] * 2 * len(conflicts)
    assert evidence.outcomes(other) == ["SUCCESSFUL", "SUCCESSFUL"]


async def test_a_refused_command_is_remembered_before_its_card_is_known(
    new_ground: NewGround,
) -> None:
    """G2: a SUSPEND before its CREATE stays refused when it is delivered again after it."""
    ground = await new_ground(recent_commands_max=_REMEMBERED)
    early = [card("card-1", "SUSPEND", f"early-{number}") for number in range(2 * _REMEMBERED)]
    async with running_worker(ground):
        await _define_products(ground)
        refused = await bank.send(ground, early)
        again = await bank.send(ground, early)
        await until_settled(ground)
    async with running_worker(ground):
        created = await bank.send(ground, [create("card-1")])
        after = await bank.send(ground, early)
        conflict = await bank.send(ground, [card("card-1", "DELETE", "early-0")])
        evidence = await verify_all(ground)
    assert evidence.outcomes(refused) == ["CARD_NOT_FOUND"] * len(early)
    assert evidence.outcomes(created) == ["SUCCESSFUL"]
    assert evidence.outcomes(again + after) == ["NOTHING"] * 2 * len(early)
    assert evidence.outcomes(conflict) == ["IDEMPOTENCY_CONFLICT"]
    (stored,) = evidence.cards
    assert (stored["state"], stored["version"]) == ("ACTIVE", 1)


async def test_a_refused_command_is_remembered_whatever_brings_its_subject_into_being(
    new_ground: NewGround, tmp_path: Path
) -> None:
    """G2: the new card of a REPLACE, RENEW or reply, and the consumer that a CREATE names."""
    write_keys(tmp_path / "keys.json")
    ground = await new_ground(partitions=2)
    ground = ground.model_copy(update={"keys_file": tmp_path / "keys.json"})
    lost = {"reasonCode": "CARD_LOST", "reason": "lost"}
    moving = {"newCardState": "ACTIVE", "reasonCode": "USER_DECISION"}
    early = [card(name, "DELETE", "early") for name in ("replaced-by", "renewed-by", "answered-by")]
    early.append(consumer("anna", "CONSUMER_DELETE", "early"))
    async with running_worker(ground):
        refused = await bank.send(ground, [*early, *bank.PRODUCTS, transit_product()])
        refused = refused[: len(early)]
        await until_settled(ground)
        old = [register(f"old-{number}", PANS[number]) for number in range(3)]
        await bank.send(ground, old)
        await until_settled(ground)
    async with running_worker(ground):
        sealed = [encrypted({"pan": PANS[number], "exp": "1231"}) for number in (4, 5, 6)]
        await bank.send(
            ground,
            [
                create("hers", consumerId="anna"),
                card(
                    *("old-0", "REPLACE", "replace"),
                    **{**lost, "newCardId": "replaced-by", "encryptedData": sealed[0]},
                ),
                card(
                    *("old-1", "RENEW", "renew"),
                    **{**moving, "newCardId": "renewed-by", "encryptedData": sealed[1]},
                ),
                card("old-2", "RENEW", "renew", **{**moving, "newCardId": "answered-by"}),
            ],
        )
        (asked,) = await requests(ground, 1)
        await answer(ground, reply(asked, data={"encryptedData": sealed[2]}))
        await until_settled(ground)
        again = await bank.send(ground, early)
        evidence = await verify_all(ground)
    assert evidence.outcomes(refused) == ["CARD_NOT_FOUND"] * 3 + ["CONSUMER_NOT_FOUND"]
    assert evidence.outcomes(again) == ["NOTHING"] * len(early)
    states = {row["card_id"]: row["state"] for row in evidence.cards}
    for card_id in ("replaced-by", "renewed-by", "answered-by", "hers"):
        assert states[card_id] == "ACTIVE"


async def test_a_signal_that_was_ignored_is_not_remembered(ground: Settings) -> None:
    """A LOCK for an unknown card is ignored, and takes effect once the card is there."""
    lock = card("card-1", "LOCK", "lock-1", lock="PIN")
    async with running_worker(ground):
        await _define_products(ground)
        places = await bank.send(ground, [lock, create("card-1"), lock, lock])
        evidence = await verify_all(ground)
    assert evidence.outcomes(places) == ["NOTHING", "SUCCESSFUL", "SUCCESSFUL", "NOTHING"]
    assert (evidence.count("ignored"), evidence.count("duplicates")) == (1, 1)


async def _define_products(ground: Settings) -> None:
    await bank.send(ground, bank.PRODUCTS)
    await until_settled(ground)
