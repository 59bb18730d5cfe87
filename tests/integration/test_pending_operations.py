"""PENDING operations on the real servers: asked, answered, timed out, each ended once."""

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from lifecycle.kafka.topics import topics_of
from lifecycle.postgres import views
from lifecycle.postgres.connection import open_pool
from lifecycle.samples.outside_parties import answer_requests
from lifecycle.settings import Settings
from tests.integration.test_card_numbers import (
    EXPIRY,
    PANS,
    last_event,
    register,
    transit_product,
)
from tests.support import bank
from tests.support.bank import Message, card, create
from tests.support.dispatching import sent_ids
from tests.support.evidence import Evidence
from tests.support.fixtures import NewGround
from tests.support.ground import connected
from tests.support.guarantees import verify_all
from tests.support.outside import Asked, answer, reply, requests
from tests.support.reading import Record, read_topic, until_settled
from tests.support.waiting import until
from tests.support.worker import Moment, running_worker, worker_process
from tests.unit.vault_keys import encrypted, write_keys

LATER = "1231"


@pytest.fixture
async def ground(new_ground: NewGround, tmp_path: Path) -> Settings:
    """A ground whose worker has keys and whose products are defined."""
    path = tmp_path / "keys.json"
    write_keys(path)
    settings = (await new_ground()).model_copy(update={"keys_file": path})
    async with running_worker(settings):
        await bank.send(settings, [*bank.PRODUCTS, transit_product()])
        await until_settled(settings)
    return settings


def renew(number: int, **fields: object) -> Message:
    """A RENEW under another id, most often in another lane, without a number."""
    return card(
        f"old-{number}",
        "RENEW",
        "renew",
        newCardId=f"new-{number}",
        newCardState="ACTIVE",
        correlationId=f"trip-{number}",
        **fields,
    )


def credentials(asked: Asked, pan: str) -> tuple[bytes, bytes]:
    return reply(asked, data={"encryptedData": encrypted({"pan": pan, "exp": LATER})})


async def send_and_settle(settings: Settings, *messages: Message) -> None:
    await bank.send(settings, messages)
    await until_settled(settings)


def operations(evidence: Evidence, card_id: str) -> list[tuple[str, str]]:
    rows = evidence.by_subject.get(f"{bank.ISSUER}/{card_id}", [])
    return [(row.event["operation"]["operation"], row.event["operation"]["status"]) for row in rows]


async def test_a_renewal_waits_for_its_number_and_the_reply_ends_it_on_both_cards(
    ground: Settings,
) -> None:
    """domain.md 3.3, 8: PENDING, both cards unchanged; then one step, SUCCESSFUL."""
    async with running_worker(ground):
        await send_and_settle(ground, register("old-0", PANS[0]), renew(0))
        (asked,) = await requests(ground, 1)
        before = await verify_all(ground)
        assert asked.body["kind"] == "RENEW"
        assert asked.body["data"] == {"newCardId": "new-0", "newCardState": "ACTIVE"}
        assert operations(before, "old-0") == [("REGISTER", "SUCCESSFUL"), ("RENEW", "PENDING")]
        pending = last_event(before, "old-0")
        assert (pending["card"]["state"], pending["version"]) == ("ACTIVE", 1)
        assert pending["operation"]["endTime"] is None
        assert operations(before, "new-0") == []

        await answer(ground, credentials(asked, PANS[1]))
        evidence = await verify_all(ground)
    old, new = last_event(evidence, "old-0"), last_event(evidence, "new-0")
    assert operations(evidence, "old-0")[2:] == [("RENEW", "SUCCESSFUL")]
    assert (old["card"]["state"], old["card"]["successorCardId"]) == ("RENEWED", "new-0")
    assert old["correlationId"] == "trip-0"
    assert old["operation"]["details"] == {"newCardId": "new-0", "newExp": LATER}
    assert operations(evidence, "new-0") == [("REGISTER", "SUCCESSFUL")]
    assert (new["card"]["state"], new["card"]["exp"]) == ("ACTIVE", LATER)
    assert new["card"]["last4"] == PANS[1][-4:]
    assert new["causationId"] == old["operation"]["operationId"]
    await _is_listed_once(ground, old)
    await _no_number_is_in_clear(ground)


async def _is_listed_once(settings: Settings, event: dict[str, Any]) -> None:
    """domain.md 5: an operation is listed once, as it is now."""
    pool = await open_pool(settings)
    try:
        page = await views.list_operations(
            pool,
            *(bank.ISSUER, f"{bank.ISSUER}/{event['cardId']}"),
            offset=0,
            limit=10,
            clock_offset_seconds=0,
        )
    finally:
        await pool.close()
    assert [json.loads(found)["operation"]["operation"] for found in page.events] == [
        "RENEW",
        "REGISTER",
    ]
    assert json.loads(page.events[0]) == event
    assert page.remaining == 0


async def _no_number_is_in_clear(settings: Settings) -> None:
    """G10: neither in a table nor on a topic."""
    everything = []
    async with connected(settings) as connection:
        for table in ("card", "operation", "pan", "pending_operation", "dispatch", "dead_letter"):
            rows = await connection.fetch(f"SELECT * FROM {table}")  # noqa: S608 - our names
            everything += [str(tuple(row.values())).encode() for row in rows]
    topics = topics_of(settings)
    for topic in (topics.events, topics.requests, topics.state, topics.dead_letters):
        for records in (await read_topic(settings, topic)).values():
            everything += [record.value or b"" for record in records]
    assert all(pan.encode() not in text for pan in PANS for text in everything)


async def test_a_refusal_from_outside_fails_the_operation_and_changes_nothing(
    ground: Settings,
) -> None:
    """domain.md 8: FAILED with the outside party's code, or with what is wrong with the number."""
    async with running_worker(ground):
        await send_and_settle(
            ground,
            *(register(f"old-{number}", PANS[number]) for number in range(3)),
            *(renew(number) for number in range(3)),
        )
        asked = {one.body["cardId"]: one for one in await requests(ground, 3)}
        await answer(
            ground,
            reply(asked["old-0"], "FAILED", errorCode="CMS_DOWN"),
            reply(asked["old-1"]),
            credentials(asked["old-2"], PANS[0]),
        )
        evidence = await verify_all(ground)
    codes = {
        card_id: last_event(evidence, card_id)["operation"].get("errorCode") for card_id in asked
    }
    assert codes == {
        "old-0": "CMS_DOWN",
        "old-1": "FIELD_MISSING",
        "old-2": "PAN_NOT_REUSABLE",
    }
    for number in range(3):
        event = last_event(evidence, f"old-{number}")
        assert (event["card"]["state"], event["version"]) == ("ACTIVE", 1)
        assert operations(evidence, f"new-{number}") == []


async def test_late_repeated_and_unknown_replies_are_ignored_and_counted(
    ground: Settings,
) -> None:
    """domain.md 8: one end, whatever comes after it; a reply for another card ends nothing."""
    async with running_worker(ground):
        await send_and_settle(
            ground, register("old-0", PANS[0]), renew(0), renew(0), renew(0, reason="other")
        )
        (asked,) = await requests(ground, 1)
        unknown = Asked(asked.key, {**asked.body, "operationId": str(uuid4())})
        no_id = Asked(asked.key, {**asked.body, "operationId": "not-one-of-ours"})
        elsewhere = Asked(f"{bank.ISSUER}/old-7".encode(), {**asked.body, "cardId": "old-7"})
        await answer(
            ground,
            *(reply(one) for one in (unknown, no_id, elsewhere)),
            *[credentials(asked, PANS[1])] * 3,
            reply(asked, "FAILED", errorCode="TOO_LATE"),
        )
        await until_settled(ground)
        time_out = card("old-0", "TIME_OUT", "TIME_OUT:late", operationId=asked.body["operationId"])
        await bank.send(ground, [time_out])
        evidence = await verify_all(ground)
    assert operations(evidence, "old-0")[1:] == [("RENEW", "PENDING"), ("RENEW", "SUCCESSFUL")]
    replies = [batch for batch in evidence.batches if batch["source"] == "replies"]
    assert sum(batch["ignored"] for batch in replies) == 6
    assert sum(batch["operations"] for batch in replies) == 1
    # The command sent again is a duplicate, with other content a conflict, then as before.
    assert evidence.count("duplicates") == 1
    assert list(evidence.dead_letter_rows.values()) == ["IDEMPOTENCY_CONFLICT"]


async def test_a_pending_command_beyond_the_recent_ones_is_still_a_duplicate(
    ground: Settings,
) -> None:
    """domain.md 5: also when the newest row of its operation is the end."""
    settings = ground.model_copy(update={"recent_commands_max": 1})
    async with running_worker(settings):
        await send_and_settle(settings, register("old-0", PANS[0]), renew(0))
        (asked,) = await requests(settings, 1)
        await answer(settings, reply(asked, "FAILED"))
        await until_settled(settings)
        await bank.send(
            settings, [card("old-0", "SUSPEND", "s"), card("old-0", "RESUME", "r"), renew(0)]
        )
        evidence = await verify_all(settings)
    assert evidence.count("duplicates") == 1


async def test_who_is_not_answered_in_time_fails(ground: Settings) -> None:
    """domain.md 5, 8: OPERATION_TIMED_OUT by TIME_OUT; one that comes too early is ignored."""
    settings = ground.model_copy(
        update={"pending_timeout_seconds": ground.pending_timeout_seconds | {"RENEW": 3}}
    )
    async with running_worker(settings):
        await send_and_settle(settings, register("old-0", PANS[0]), renew(0))
        (asked,) = await requests(settings, 1)
        operation_id = asked.body["operationId"]
        early = card("old-0", "TIME_OUT", f"TIME_OUT:{operation_id}", operationId=operation_id)
        await bank.send(settings, [early])

        async def has_ended() -> bool:
            async with connected(settings) as connection:
                waiting = await connection.fetchval("SELECT count(*) FROM pending_operation")
            return bool(waiting == 0)

        await until(has_ended, "the time-out")
        await answer(settings, credentials(asked, PANS[1]))
        evidence = await verify_all(settings)
    assert operations(evidence, "old-0")[1:] == [("RENEW", "PENDING"), ("RENEW", "FAILED")]
    event = last_event(evidence, "old-0")
    assert event["operation"]["errorCode"] == "OPERATION_TIMED_OUT"
    assert event["card"]["state"] == "ACTIVE"
    assert evidence.count("ignored") == 1


@pytest.mark.parametrize("moment", ["before-commit", "before-hand-over", "before-published-note"])
async def test_a_worker_killed_over_a_reply_ends_the_operation_once(
    ground: Settings, moment: Moment
) -> None:
    """G1, G2, G5, G6: the reply is taken exactly once, whatever crashes."""
    async with running_worker(ground):
        await send_and_settle(ground, register("old-0", PANS[0]), renew(0))
        (asked,) = await requests(ground, 1)
    await answer(ground, credentials(asked, PANS[1]))
    async with worker_process(_in_group(ground, 1), stop_at=moment) as worker:
        assert await worker.ended() == -9, worker.log.read_text()
    async with running_worker(_in_group(ground, 2)):
        evidence = await verify_all(ground)
    assert operations(evidence, "old-0")[1:] == [("RENEW", "PENDING"), ("RENEW", "SUCCESSFUL")]


async def test_a_worker_killed_before_it_notes_a_request_asks_again_and_nothing_differs(
    ground: Settings,
) -> None:
    """design.md 7.8: the same request twice; answered twice, the operation ends once."""
    async with running_worker(ground):
        await send_and_settle(ground, register("old-0", PANS[0]))
    await bank.send(ground, [renew(0)])
    async with worker_process(_in_group(ground, 1), stop_at="before-request-note") as worker:
        assert await worker.ended() == -9, worker.log.read_text()
    async with running_worker(_in_group(ground, 2)):
        await until_settled(ground)
        first, second = await _all_requests(ground)
        assert (first.key, first.value) == (second.key, second.value)
        (asked,) = await requests(ground, 1)
        await answer(ground, *[credentials(asked, PANS[1])] * 2)
        evidence = await verify_all(ground)
    assert operations(evidence, "old-0")[1:] == [("RENEW", "PENDING"), ("RENEW", "SUCCESSFUL")]


async def _all_requests(settings: Settings) -> list[Record]:
    topic = topics_of(settings).requests
    return [
        record for records in (await read_topic(settings, topic)).values() for record in records
    ]


async def test_a_worker_killed_before_it_notes_a_time_out_sends_it_again_in_vain(
    ground: Settings,
) -> None:
    """domain.md 5: the operation fails once."""
    async with running_worker(ground):
        await send_and_settle(ground, register("old-0", PANS[0]), renew(0))
        (asked,) = await requests(ground, 1)
        async with connected(ground) as connection:
            await connection.execute("UPDATE pending_operation SET deadline_ms = start_time_ms")
    async with worker_process(_in_group(ground, 1), stop_at="before-time-out-note") as worker:
        assert await worker.ended() == -9, worker.log.read_text()
    async with running_worker(_in_group(ground, 2)):
        await until_settled(ground)
        evidence = await verify_all(ground)
    assert operations(evidence, "old-0")[1:] == [("RENEW", "PENDING"), ("RENEW", "FAILED")]
    time_outs = await sent_ids(ground, "TIME_OUT:")
    assert set(time_outs) == {f"TIME_OUT:{asked.body['operationId']}"}
    assert evidence.count("ignored") == len(time_outs) - 1


def _in_group(ground: Settings, number: int) -> Settings:
    """The next worker, which need not wait until the group gives up the dead one."""
    return ground.model_copy(update={"consumer_group": f"{ground.consumer_group}-{number}"})


async def test_two_workers_ask_and_end_every_operation_once(ground: Settings) -> None:
    """G1, G2, G4: replies are taken by one worker, their cards published by another."""
    numbers = range(len(PANS) // 2)
    async with worker_process(ground), worker_process(ground):
        await bank.send(ground, [register(f"old-{n}", PANS[n]) for n in numbers])
        await bank.send(ground, [create(f"c-{n}") for n in range(60)])
        await bank.send(ground, [renew(n) for n in numbers])
        asked = {one.body["cardId"]: one for one in await requests(ground, len(numbers))}
        answers = [
            credentials(asked[f"old-{n}"], PANS[n + len(numbers)]) for n in [*numbers, *numbers]
        ]
        suspensions = [card(f"c-{n}", "SUSPEND", "s") for n in range(60)]
        await asyncio.gather(answer(ground, *answers), bank.send(ground, suspensions))
        evidence = await verify_all(ground)
    for number in numbers:
        assert last_event(evidence, f"old-{number}")["card"]["state"] == "RENEWED"
        assert last_event(evidence, f"new-{number}")["card"]["state"] == "ACTIVE"


async def test_broken_replies_become_dead_letters_beside_broken_commands(
    ground: Settings,
) -> None:
    """design.md 5: the codes of commands as far as they apply; each published once, in order."""
    async with running_worker(ground):
        await send_and_settle(ground, register("old-0", PANS[0]), renew(0))
        (asked,) = await requests(ground, 1)
        key, good = reply(asked, "FAILED", errorCode="E")
        body = json.loads(good)
        broken: list[tuple[bytes | None, bytes | None, str]] = [
            (key, None, "NULL_VALUE"),
            (key, b"{", "NOT_JSON"),
            (key, b"[]", "NOT_AN_OBJECT"),
            (key, json.dumps({"result": "FAILED"}).encode(), "FIELD_MISSING"),
            (key, json.dumps({**body, "more": 1}).encode(), "FIELD_UNKNOWN"),
            (key, json.dumps({**body, "data": []}).encode(), "FIELD_TYPE"),
            (key, json.dumps({**body, "result": "MAYBE"}).encode(), "FIELD_INVALID_FORMAT"),
            (key, json.dumps({**body, "cardId": "other"}).encode(), "KEY_MISMATCH"),
            (None, good, "KEY_MISMATCH"),
            (key, json.dumps({**body, "data": {"pan": PANS[1]}}).encode(), "SENSITIVE_DATA"),
        ]
        poison = Message(f"{bank.ISSUER}/old-0".encode(), b"{")
        await bank.send(ground, [poison])
        await answer(ground, *((key, value) for key, value, _ in broken), (key, good))
        await bank.send(ground, [poison])
        evidence = await verify_all(ground)
    assert sorted(evidence.reply_dead_letter_rows.values()) == sorted(code for *_, code in broken)
    assert operations(evidence, "old-0")[1:] == [("RENEW", "PENDING"), ("RENEW", "FAILED")]
    # A new owner finds both at the topic's end and publishes none again.
    async with running_worker(_in_group(ground, 2)):
        await bank.send(ground, [poison])
        await answer(ground, (key, b"{"))
        await verify_all(ground)


async def test_controls_limits_plastic_and_click_to_pay_go_the_same_way(ground: Settings) -> None:
    """domain.md 2.1, 7: stored with the card; an opt-out asks when an enrolment is on its way."""
    async with running_worker(ground):
        await send_and_settle(
            ground,
            create("c-0", cardProductId=bank.PHYSICAL, name="ANN"),
            card("c-0", "UPDATE_CONTROLS", "u1", controls={"abroad": False}),
            card("c-0", "UPDATE_LIMITS", "u2", limits={"day": 500.5}),
            card("c-0", "UPDATE_LIMITS", "u3", limits={"day": 500.5}),
            card("c-0", "PRODUCE", "p", distributionChannel="BRANCH_7"),
            card("c-0", "CLICK_TO_PAY_OPTOUT", "o1"),
            card("c-0", "CLICK_TO_PAY_ENROLMENT", "e", name="ANN"),
            card("c-0", "CLICK_TO_PAY_OPTOUT", "o2"),
        )
        asked = {one.body["kind"]: one for one in await requests(ground, 3)}
        assert asked["PRODUCE"].body["data"]["distributionChannel"] == "BRANCH_7"
        await answer(ground, reply(asked["CLICK_TO_PAY_ENROLMENT"]))
        await until_settled(ground)
        await _stored(ground, click_to_pay=True)
        await answer(ground, reply(asked["CLICK_TO_PAY_OPTOUT"]), reply(asked["PRODUCE"]))
        evidence = await verify_all(ground)
        await _stored(ground, click_to_pay=False)
    statuses = {
        row.event["commandId"]: evidence.operation(row.place)["status"]
        for row in evidence.by_subject[f"{bank.ISSUER}/c-0"]
    }
    assert set(statuses.values()) == {"SUCCESSFUL"}
    assert last_event(evidence, "c-0")["version"] == 5


async def test_the_simulated_outside_parties_end_what_waits(ground: Settings) -> None:
    """What `lifecycle dev` runs; started again, its repeated answers change nothing."""
    for _ in range(2):
        answering = asyncio.create_task(answer_requests(ground))
        try:
            async with running_worker(ground):
                await bank.send(ground, [register("old-0", PANS[0]), renew(0)])

                async def has_ended() -> bool:
                    async with connected(ground) as connection:
                        statuses = await connection.fetch("SELECT status FROM operation")
                        waiting = await connection.fetchval(
                            "SELECT count(*) FROM pending_operation"
                        )
                    return ("PENDING",) in map(tuple, statuses) and waiting == 0

                await until(has_ended, "the simulated answer")
                evidence = await verify_all(ground)
        finally:
            answering.cancel()
            await asyncio.wait({answering})
    assert operations(evidence, "old-0")[1:] == [("RENEW", "PENDING"), ("RENEW", "SUCCESSFUL")]


async def _stored(settings: Settings, *, click_to_pay: bool) -> None:
    async with connected(settings) as connection:
        row = await connection.fetchrow("SELECT controls, limits, click_to_pay FROM card")
    assert tuple(row.values()) == ('{"abroad":false}', '{"day":500.5}', click_to_pay)


def test_the_time_out_of_a_kind_is_bounded_and_the_others_keep_theirs() -> None:
    """design.md 8: every time-out under 60 days."""
    assert Settings(pending_timeout_seconds={"RENEW": 5}).pending_timeout_seconds["PRODUCE"] > 5
    for wrong in ({"RENEW": 0}, {"RENEW": 60 * 86_400}, {"SUSPEND": 5}):
        with pytest.raises(ValueError, match="pending_timeout_seconds"):
            Settings(pending_timeout_seconds=wrong)


assert LATER[2:] > EXPIRY[2:], "a renewal lasts longer"
