"""Card numbers through the whole pipeline: registered, drawn, replaced, renewed, never twice."""

import json
from pathlib import Path

import pytest

from lifecycle.settings import Settings
from lifecycle.vault.keys import load_keys
from lifecycle.vault.sealing import CardLife, Sealed, sealing_with
from tests.support import bank
from tests.support.bank import Message, card, create
from tests.support.dispatching import until_dispatched
from tests.support.evidence import Evidence, Json
from tests.support.fixtures import NewGround
from tests.support.ground import connected
from tests.support.guarantees import verify_all
from tests.support.reading import until_settled
from tests.support.worker import running_worker, worker_process
from tests.unit.vault_keys import encrypted, write_keys

PANS = [
    *("4000000000000002", "4000000000000010", "4000000000000028", "4000000000000036"),
    *("4000000000000044", "4000000000000051", "4000000000000069", "4000000000000077"),
]
EXPIRY = "1229"
TRANSIT = "transit"  # a product that makes no transactions: its card ids may be used again


async def _with_keys(new_ground: NewGround, folder: Path, **overrides: int) -> Settings:
    path = folder / "keys.json"
    write_keys(path)
    ground = await new_ground(**overrides)
    return ground.model_copy(update={"keys_file": path})


@pytest.fixture
async def bank_with_keys(new_ground: NewGround, tmp_path: Path) -> Settings:
    """A ground of its own whose worker has keys."""
    return await _with_keys(new_ground, tmp_path, partitions=4)


@pytest.fixture
async def one_lane(new_ground: NewGround, tmp_path: Path) -> Settings:
    """The same with one partition: commands of several cards are taken as they are sent."""
    return await _with_keys(new_ground, tmp_path, partitions=1)


def transit_product() -> Message:
    message = bank.define(TRANSIT, "VIRTUAL")
    assert message.value is not None
    body = {**json.loads(message.value), "transactions": False}
    return Message(message.key, json.dumps(body).encode())


def register(card_id: str, pan: str, command_id: str = "register", **fields: object) -> Message:
    needed = {"consumerId": "consumer-1", "cardProductId": TRANSIT}
    sealed = encrypted({"pan": pan, "exp": EXPIRY})
    return card(card_id, "REGISTER", command_id, **{**needed, "encryptedData": sealed, **fields})


async def outcome(settings: Settings, *messages: Message) -> tuple[list[str], Evidence]:
    """What became of messages that are sent to a worker of their own."""
    async with running_worker(settings):
        places = await bank.send(settings, messages)
        evidence = await verify_all(settings)
    return evidence.outcomes(places), evidence


def last_event(evidence: Evidence, card_id: str) -> Json:
    return evidence.by_subject[f"{bank.ISSUER}/{card_id}"][-1].event


async def define_products(settings: Settings) -> None:
    await outcome(settings, *bank.PRODUCTS, transit_product())


async def test_a_registered_card_shows_its_last_digits_and_keeps_its_number_sealed(
    bank_with_keys: Settings,
) -> None:
    """domain.md 4; G10: the number is in clear nowhere."""
    await define_products(bank_with_keys)
    outcomes, evidence = await outcome(bank_with_keys, register("reg-1", PANS[0]))
    assert outcomes == ["SUCCESSFUL"]
    shown = last_event(evidence, "reg-1")["card"]
    assert (shown["last4"], shown["exp"], shown["origin"]) == ("0002", EXPIRY, "REGISTERED")
    async with connected(bank_with_keys) as connection:
        row = await connection.fetchrow("SELECT * FROM pan")
        everything = [
            bytes(str(row), "utf8")
            for table in ("card", "operation", "pan", "pan_fingerprint", "dead_letter")
            for row in await connection.fetch(f"SELECT * FROM {table}")  # noqa: S608 - our names
        ]
    assert row is not None
    assert bank_with_keys.keys_file is not None
    sealing = sealing_with(load_keys(bank_with_keys.keys_file))
    opened = sealing.unseal(CardLife(bank.ISSUER, "reg-1", 1), Sealed(row["key_id"], row["sealed"]))
    assert opened.pan == PANS[0]
    assert all(PANS[0].encode() not in text for text in everything)


async def test_a_card_is_activated_by_the_cvv_it_came_with_whether_in_one_batch_or_later(
    one_lane: Settings,
) -> None:
    """domain.md 8: sent before there is a worker, REGISTER and ACTIVATE are taken together."""
    product = bank.define("with-cvv", "PHYSICAL")
    assert product.value is not None
    terms = {**json.loads(product.value), "activationMethod": "CVV"}
    await outcome(one_lane, Message(product.key, json.dumps(terms).encode()))

    def activate(command_id: str, cvv: str) -> Message:
        return card("card", "ACTIVATE", command_id, encryptedData=encrypted({"cvv": cvv}))

    sealed = encrypted({"pan": PANS[0], "exp": EXPIRY, "cvv": "123"})
    fields = {"cardProductId": "with-cvv", "state": "INACTIVE", "encryptedData": sealed}
    taken_together = [
        register("card", PANS[0], **fields),
        activate("wrong", "321"),
        activate("right", "123"),
        card("card", "RENEW", "renew", newExp="1231"),
    ]
    places = await bank.send(one_lane, taken_together)
    async with running_worker(one_lane):
        await until_settled(one_lane)
        places += await bank.send(
            one_lane, [activate("wrong-again", "321"), activate("again", "123")]
        )
        evidence = await verify_all(one_lane)
    assert evidence.outcomes(places) == [
        *("SUCCESSFUL", "ACTIVATION_FAILED", "SUCCESSFUL"),
        *("SUCCESSFUL", "ACTIVATION_FAILED", "SUCCESSFUL"),
    ]
    assert last_event(evidence, "card")["card"]["exp"] == "1231"


async def test_no_two_cards_hold_one_number_and_a_number_that_left_never_returns(
    one_lane: Settings,
) -> None:
    """domain.md 4: PAN_NOT_REUSABLE, under any card id, in one batch and later."""
    await define_products(one_lane)
    outcomes, _ = await outcome(
        one_lane,
        register("one", PANS[0]),
        register("two", PANS[0]),
        register("three", PANS[1]),
        card("three", "DELETE", "delete"),
        register("four", PANS[1]),
        register("three", PANS[1], "again"),
        register("three", PANS[2], "another-number"),
    )
    assert outcomes == [
        *("SUCCESSFUL", "PAN_NOT_REUSABLE", "SUCCESSFUL", "SUCCESSFUL", "PAN_NOT_REUSABLE"),
        *("PAN_NOT_REUSABLE", "SUCCESSFUL"),
    ]
    outcomes, evidence = await outcome(
        one_lane, register("five", PANS[1]), register("six", PANS[2])
    )
    assert outcomes == ["PAN_NOT_REUSABLE", "PAN_NOT_REUSABLE"]
    reborn = evidence.by_subject[f"{bank.ISSUER}/three"]
    assert [row.event["card"]["incarnation"] for row in reborn] == [1, 1, 1, 2]
    assert [row.event["version"] for row in reborn] == [1, 2, 2, 3]


async def test_lanes_that_register_one_number_at_once_give_it_to_one_card(
    bank_with_keys: Settings,
) -> None:
    """Two workers, four lanes, every number asked for by several cards at the same moment."""
    await define_products(bank_with_keys)
    messages = [
        register(f"card-{pan}-{number}", PANS[pan]) for number in range(6) for pan in range(8)
    ]
    async with worker_process(bank_with_keys), worker_process(bank_with_keys):
        places = await bank.send(bank_with_keys, messages)
        evidence = await verify_all(bank_with_keys)
    outcomes = evidence.outcomes(places)
    assert outcomes.count("SUCCESSFUL") == len(PANS)
    assert outcomes.count("PAN_NOT_REUSABLE") == len(messages) - len(PANS)


async def test_the_same_registration_encrypted_again_is_a_duplicate(
    bank_with_keys: Settings,
) -> None:
    """design.md 5, "Same content": encrypting again gives other bytes."""
    await define_products(bank_with_keys)
    outcomes, evidence = await outcome(
        bank_with_keys,
        register("reg-1", PANS[0]),
        register("reg-1", PANS[0]),
        register("reg-1", PANS[1]),
    )
    assert outcomes == ["SUCCESSFUL", "NOTHING", "IDEMPOTENCY_CONFLICT"]
    assert evidence.count("duplicates") == 1


async def test_what_does_not_open_is_a_failed_operation_and_its_neighbours_go_on(
    bank_with_keys: Settings,
) -> None:
    """design.md 5 (8): DECRYPTION_FAILED, FIELD_INVALID_FORMAT, PAN_LUHN_INVALID."""
    await define_products(bank_with_keys)
    outcomes, _ = await outcome(
        bank_with_keys,
        register("a", PANS[0], encryptedData="rubbish"),
        register("b", PANS[0], encryptedData=encrypted(b"no json")),
        register("c", "4000000000000003"),
        register("d", PANS[0], encryptedData="x" * 8193),
        register("e", PANS[0]),
    )
    assert outcomes == [
        *("DECRYPTION_FAILED", "FIELD_INVALID_FORMAT", "PAN_LUHN_INVALID"),
        *("FIELD_INVALID_FORMAT", "SUCCESSFUL"),
    ]


async def test_a_registered_card_is_replaced_by_one_in_a_foreign_lane(
    bank_with_keys: Settings,
) -> None:
    """domain.md 3: both cards in one transaction; activating the new one re-links the old one."""
    await define_products(bank_with_keys)
    in_lanes: dict[int, str] = {}
    for number in range(100):
        lane = bank.home(f"{bank.ISSUER}/new-{number}".encode(), bank_with_keys.partitions)
        in_lanes.setdefault(lane, f"new-{number}")
    commands = []
    for lane, new_card_id in sorted(in_lanes.items()):
        old, product = f"old-{lane}", {"cardProductId": bank.PHYSICAL}
        commands += [
            register(old, PANS[2 * lane], **product),
            card(
                old,
                "REPLACE",
                "replace",
                reasonCode="CARD_LOST",
                reason="lost",
                newCardId=new_card_id,
                encryptedData=encrypted({"pan": PANS[2 * lane + 1], "exp": EXPIRY}),
            ),
        ]
    async with worker_process(bank_with_keys), worker_process(bank_with_keys):
        places = await bank.send(bank_with_keys, commands)
        evidence = await verify_all(bank_with_keys)
        assert evidence.outcomes(places) == ["SUCCESSFUL"] * len(commands)
        activations = [card(new, "ACTIVATE", "activate") for new in in_lanes.values()]
        places = await bank.send(bank_with_keys, activations)
        evidence = await verify_all(bank_with_keys)
        assert evidence.outcomes(places) == ["SUCCESSFUL"] * len(activations)
    for lane, new_card_id in in_lanes.items():
        left, came = last_event(evidence, f"old-{lane}"), last_event(evidence, new_card_id)
        assert came["card"]["state"] == "ACTIVE"
        assert came["card"]["predecessorCardId"] == f"old-{lane}"
        assert left["operation"]["operation"] == "RELINK"
        assert left["card"]["usage"]["digitalCards"] == "RELINKED"
        assert left["card"]["successorCardId"] == new_card_id


async def test_issued_cards_get_numbers_of_their_own(bank_with_keys: Settings) -> None:
    """Drawn at random from the product's range, Luhn-valid; a REPLACE draws a new one."""
    await define_products(bank_with_keys)
    creates = [create(f"card-{number}") for number in range(200)]
    replaced = card("card-0", "REPLACE", "r", reasonCode="CARD_LOST", reason="lost")
    outcomes, evidence = await outcome(bank_with_keys, *creates, replaced)
    assert outcomes == ["SUCCESSFUL"] * 201
    assert all(len(last_event(evidence, f"card-{n}")["card"]["last4"]) == 4 for n in range(200))
    async with connected(bank_with_keys) as connection:
        assert await connection.fetchval("SELECT count(*) FROM pan") == 200
        assert await connection.fetchval("SELECT count(*) FROM retired_pan") == 1


async def test_a_card_id_that_is_the_number_of_the_card_is_a_dead_letter(
    bank_with_keys: Settings,
) -> None:
    """domain.md 1: never derived from the PAN; also where no search would find it."""
    await define_products(bank_with_keys)
    number = "1000000008"  # ten digits, Luhn-valid: too short to look like a card number
    outcomes, evidence = await outcome(bank_with_keys, register(f"card-{number}", number))
    assert outcomes == ["SENSITIVE_DATA"]
    letters = [letter for letters in evidence.dead_letters.values() for letter in letters]
    assert [letter.value for letter in letters] == [b""]
    assert number not in str(letters)


async def test_a_card_present_transaction_activates_a_card_of_such_a_product(
    bank_with_keys: Settings,
) -> None:
    """domain.md 2.1: shown as ACTIVATE; ignored where it does not apply."""
    message = bank.define("implicit", "PHYSICAL")
    assert message.value is not None
    body = {**json.loads(message.value), "implicitActivation": True}
    await outcome(bank_with_keys, Message(message.key, json.dumps(body).encode()))
    outcomes, evidence = await outcome(
        bank_with_keys,
        create("card-1", cardProductId="implicit", state="INACTIVE"),
        card("card-1", "CARD_PRESENT", "seen-1"),
        card("card-1", "CARD_PRESENT", "seen-2"),
    )
    assert outcomes == ["SUCCESSFUL", "SUCCESSFUL", "NOTHING"]
    event = last_event(evidence, "card-1")
    assert event["operation"]["operation"] == "ACTIVATE"
    assert event["operation"]["requestorType"] == "SYSTEM"
    assert event["card"]["state"] == "ACTIVE"


async def test_the_virtual_cards_of_an_earlier_life_leave_and_those_of_the_next_stay(
    one_lane: Settings,
) -> None:
    """domain.md 4, 8: the cascade of a life is paged when the id has begun the next one."""
    await define_products(one_lane)
    commands = [
        register("real", PANS[0]),
        create("of-the-first", realCardId="real"),
        card("real", "DELETE", "delete"),
        register("real", PANS[1], "register-again"),
        create("of-the-second", realCardId="real"),
    ]
    async with running_worker(one_lane):
        await bank.send(one_lane, commands)
        await until_settled(one_lane)
        await until_dispatched(one_lane)
        evidence = await verify_all(one_lane)
    assert last_event(evidence, "real")["card"]["incarnation"] == 2
    assert last_event(evidence, "of-the-first")["card"]["stateReason"] == "CLOSED_CARD"
    assert last_event(evidence, "of-the-second")["card"]["state"] == "ACTIVE"


async def test_a_burst_of_numbers_is_taken_in_portions_and_none_is_lost(
    new_ground: NewGround, tmp_path: Path
) -> None:
    ground = await _with_keys(new_ground, tmp_path, partitions=2, opened_per_transaction_max=3)
    await define_products(ground)
    commands = []
    for number, pan in enumerate(PANS):
        commands += [register(f"given-{number}", pan), create(f"drawn-{number}")]
    outcomes, evidence = await outcome(ground, *commands)
    assert set(outcomes) == {"SUCCESSFUL"}
    registered = [
        row.event["command"]
        for row in evidence.log
        if row.event["operation"]["operation"] == "REGISTER"
    ]
    for batch in evidence.batches:
        offsets = range(batch["from_offset"], batch["to_offset"])
        at_once = [
            place
            for place in registered
            if place["partition"] == batch["partition"] and place["offset"] in offsets
        ]
        assert len(at_once) <= 3


async def test_a_card_gets_its_number_whatever_else_was_taken_with_its_command(
    one_lane: Settings,
) -> None:
    """Design.md 4: deciding a batch gives what deciding its commands one by one gives."""
    product = bank.define("other-bin", "VIRTUAL")
    assert product.value is not None
    terms = {**json.loads(product.value), "bin": "520000"}
    changed = {**terms, "bin": "530000", "commandId": "define-again"}
    places = await bank.send(
        one_lane,
        [
            Message(product.key, json.dumps(terms).encode()),
            create("first", cardProductId="other-bin"),
            Message(product.key, json.dumps(changed).encode()),
            create("second", cardProductId="other-bin"),
            card("first", "REPLACE", "replace", reasonCode="CARD_LOST", reason="lost"),
        ],
    )
    async with running_worker(one_lane):
        evidence = await verify_all(one_lane)
    assert set(evidence.outcomes(places)) == {"SUCCESSFUL"}
    replaced = last_event(evidence, "first")["card"]
    bins = {}
    async with connected(one_lane) as connection:
        assert one_lane.keys_file is not None
        sealing = sealing_with(load_keys(one_lane.keys_file))
        for row in await connection.fetch("SELECT * FROM pan"):
            life = CardLife(row["issuer_id"], row["card_id"], row["incarnation"])
            opened = sealing.unseal(life, Sealed(row["key_id"], row["sealed"]))
            bins[row["card_id"]] = opened.pan[:6]
    # The number of the card that was replaced is retired, and not kept.
    assert bins == {"second": "530000", replaced["successorCardId"]: "530000"}
