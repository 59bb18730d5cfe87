"""G3: every path is legal. And the judge of paths judged: no forged one gets past it.

One day of every kind of path is recorded on the real servers; each forgery changes what was
recorded of it, as a fault of the service would have.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lifecycle.local import Servers
from tests.integration.test_card_numbers import EXPIRY, PANS, register, transit_product
from tests.support import bank
from tests.support.bank import ISSUER, PHYSICAL, card, consumer, create
from tests.support.dispatching import until_dispatched
from tests.support.evidence import Evidence, Json, Logged, gather_evidence
from tests.support.ground import open_ground
from tests.support.guarantees import verify_all
from tests.support.legal_paths import verify_every_path_is_legal
from tests.support.outside import answer, reply, requests
from tests.support.reading import until_settled
from tests.support.worker import running_worker
from tests.unit.vault_keys import encrypted, write_keys

_ACTIVATED = {"cardProductId": PHYSICAL, "state": "INACTIVE"}
_DAY = [
    *(create("held"), card("held", "SUSPEND", "1", reasonCode="CARD_LOST")),
    *(card("held", "SUSPEND", "2"), card("held", "RESUME", "3", reasonCode="CARD_FOUND")),
    *(card("held", "LOCK", "4", lock="PIN"), card("held", "LOCK", "5", lock="CVV2")),
    *(card("held", "RESUME", "6"), card("held", "RESUME", "7")),
    *(create("plastic", **_ACTIVATED), card("plastic", "ACTIVATE", "1")),
    *(card("plastic", "RENEW", "2"), card("plastic", "RENEW", "3")),
    *(card("plastic", "ACTIVATE", "4"), card("plastic", "PRODUCE", "5", distributionChannel="X")),
    card("plastic", "REPLACE", "6", reasonCode="FRAUD", reason="seen"),
    *(create("gone"), card("gone", "DELETE", "1"), card("gone", "ACTIVATE", "2")),
    *(register("again", PANS[0]), card("again", "DELETE", "1"), register("again", PANS[1], "2")),
    *(register("moving", PANS[2]), card("moving", "UPDATE_LIMITS", "1", limits={"day": 1})),
    card("moving", "RENEW", "2", newCardId="moved", newCardState="ACTIVE"),
    *(create("enrolled"), card("enrolled", "CLICK_TO_PAY_ENROLMENT", "1", name="Ann")),
]
_EVENING = [
    *(card("enrolled", "CLICK_TO_PAY_OPTOUT", "2"), consumer("consumer-1", "CONSUMER_DELETE", "1")),
    *(card("unknown", "SUSPEND", "1"), create("gone", "3")),
]


@pytest_asyncio.fixture(scope="module")
async def evidence(
    servers: Servers, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Evidence:
    keys = Path(tmp_path_factory.mktemp("keys")) / "keys.json"
    write_keys(keys)
    async with open_ground(servers, template) as empty:
        ground = empty.model_copy(update={"keys_file": keys})
        async with running_worker(ground):
            await bank.send(ground, [*bank.PRODUCTS, transit_product()])
            await until_settled(ground)
            await bank.send(ground, _DAY)
            asked = {one.body["kind"]: one for one in await requests(ground, 3)}
            number = encrypted({"pan": PANS[3], "exp": EXPIRY.replace("29", "31")})
            await answer(
                ground,
                reply(asked["RENEW"], data={"encryptedData": number}),
                reply(asked["CLICK_TO_PAY_ENROLMENT"]),
                reply(asked["PRODUCE"], "FAILED", errorCode="NO_PLASTIC"),
            )
            (successor,) = (
                row.event["operation"]["details"]["newCardId"]
                for row in (await gather_evidence(ground)).log
                if row.event["operation"]["operation"] == "REPLACE"
            )
            await bank.send(ground, [card(successor, "ACTIVATE", "1")])
            await until_settled(ground)
            await bank.send(ground, _EVENING)
            await until_settled(ground)
            await until_dispatched(ground)
            return await verify_all(ground)


def test_g3_every_path_is_legal(evidence: Evidence) -> None:
    """And the day has every way in which a path can go."""
    kinds = {row.event["operation"]["operation"] for row in evidence.log}
    assert {"RELINK", "REGISTER", "RENEW", "REPLACE", "LOCK", "PRODUCE"} <= kinds
    assert {row["state"] for row in evidence.cards} >= {"RENEWED", "REPLACED", "DELETED"}
    verify_every_path_is_legal(evidence)


def _forged(true: Evidence, row: Logged, change: Callable[[Json], None]) -> Evidence:
    """The same with the event of one operation changed."""
    event = copy.deepcopy(row.event)
    change(event)
    log = [replace(one, event=event) if one is row else one for one in true.log]
    return replace(true, log=log)


def _refused(forged: Evidence) -> bool:
    try:
        verify_every_path_is_legal(forged)
    except AssertionError:
        return True
    return False


def _row(true: Evidence, card_id: str, command_id: str, status: str = "SUCCESSFUL") -> Logged:
    (found,) = [
        row
        for row in true.by_subject[f"{ISSUER}/{card_id}"]
        if (row.event["commandId"], row.event["operation"]["status"]) == (command_id, status)
        and not row.caused
    ]
    return found


def _set(*path: str, to: object) -> Callable[[Json], None]:
    def change(event: Json) -> None:
        for name in path[:-1]:
            event = event[name]
        assert event.get(path[-1]) != to, "a forgery changes something"
        event[path[-1]] = to

    return change


def _of(card_id: str, command_id: str, *path: str, to: object) -> Callable[[Evidence], Evidence]:
    return lambda true: _forged(true, _row(true, card_id, command_id), _set(*path, to=to))


def _failed(card_id: str, command_id: str, code: str) -> Callable[[Evidence], Evidence]:
    change = _set("operation", "errorCode", to=code)
    return lambda true: _forged(true, _row(true, card_id, command_id, "FAILED"), change)


def _without(kind: str) -> Callable[[Evidence], Evidence]:
    return lambda true: replace(
        true, log=[row for row in true.log if row.event["operation"]["operation"] != kind]
    )


def _stored(card_id: str, **columns: object) -> Callable[[Evidence], Evidence]:
    def change(true: Evidence) -> Evidence:
        rows: list[Any] = [
            {**dict(row), **columns} if row["card_id"] == card_id else row for row in true.cards
        ]
        return replace(true, cards=rows)

    return change


def _with_transactions(true: Evidence) -> Evidence:
    (row,) = true.by_subject[f"{ISSUER}/product/transit"]
    return _forged(true, row, _set("product", "transactions", to=True))


_ILLEGAL: dict[str, Callable[[Evidence], Evidence]] = {
    "a suspended card is activated": _of("held", "3", "operation", "operation", to="ACTIVATE"),
    "a lost card is found by its user's decision": _of(
        "held", "3", "operation", "reasonCode", to="USER_DECISION"
    ),
    "a user lifts a lock": _of("held", "6", "operation", "requestorType", to="USER"),
    "another lock was set": _of("held", "5", "operation", "details", to={"lock": "EXPIRY_DATE"}),
    "a second suspension is weaker, and refused for another reason": _failed(
        "held", "2", "NOT_SUSPENDED"
    ),
    "a suspended card is refused as an active one": _failed("held", "7", "ALREADY_SUSPENDED"),
    "a card is activated after its last month": _of(
        "plastic", "1", "operation", "startTime", to="2050-01-01T00:00:00.000Z"
    ),
    "a renewal is given one month more": _of("plastic", "2", "card", "pendingExp", to="1299"),
    "a second renewal is accepted": lambda true: _forged(
        true,
        _row(true, "plastic", "3", "FAILED"),
        lambda event: event["operation"].update(status="SUCCESSFUL", details={"newExp": "1299"}),
    ),
    "an activation without re-linking": _without("RELINK"),
    "a replacement without a new card": lambda true: replace(
        true, log=[row for row in true.log if not (row.caused and row.event["commandId"] == "6")]
    ),
    "a card comes back from deletion": lambda true: _forged(
        true,
        _row(true, "gone", "2", "FAILED"),
        lambda event: event["operation"].update(status="SUCCESSFUL"),
    ),
    "the id of a card that makes transactions is used again": _with_transactions,
    "a new life counts as the old one": _of("again", "2", "card", "incarnation", to=1),
    "an answer that nobody waited for": lambda true: replace(
        true,
        log=[row for row in true.log if row.event["operation"]["status"] != "PENDING"],
    ),
    "an enrolled card leaves without asking the scheme": lambda true: _forged(
        true,
        _row(true, "enrolled", "2", "PENDING"),
        lambda event: event["operation"].update(status="SUCCESSFUL"),
    ),
    "a consumer that is deleted is so by another operation": lambda true: _forged(
        true,
        true.by_subject[f"{ISSUER}/consumer/consumer-1"][-1],
        _set("operation", "operation", to="CONSUMER_DEACTIVATE"),
    ),
    "the table has another state": _stored("held", state="SUSPENDED"),
    "the table forgot a suspension": _stored("enrolled", suspensions="CARD_LOST"),
    "the table has an enrolment": _stored("held", click_to_pay=True),
    "the table has other terms": lambda true: _stored(
        "held", terms=true.cards[0]["terms"].replace("36", "35")
    )(true),
    "the state topic tells another card": lambda true: replace(
        true,
        state={
            partition: [
                replace(record, value=(record.value or b"").replace(b'"DELETED"', b'"ACTIVE"'))
                for record in records
            ]
            for partition, records in true.state.items()
        },
    ),
}


@pytest.mark.parametrize("illegal", _ILLEGAL)
def test_g3_an_illegal_path_is_noticed(evidence: Evidence, illegal: str) -> None:
    assert _refused(_ILLEGAL[illegal](evidence))


_OTHERWISE: dict[str, object] = {
    "stateReason": "CARD_BROKEN",
    "locks": ["EXPIRY_DATE"],
    "exp": "0199",
    "pendingExp": "0199",
    "last4": "none",
    "consumerId": "consumer-2",
    "cardProductId": "another",
    "incarnation": 7,
    "predecessorCardId": "other",
    "successorCardId": "other",
    "deleteAt": "2090-01-01T00:00:00.000Z",
    "realCardId": "other",
    "controls": {"other": 1},
    "limits": {"other": 1},
    "realCardIncarnation": 7,
    "suspensions": ["FRAUD", "USER_DECISION"],
    "auxiliaryExp": "0199",
    "pendingAuxiliaryExp": "0199",
    "hasAuxiliaryPan": True,
}


def _changes(event: Json) -> Iterator[Callable[[Json], None]]:
    """One for each member of the card, for the state before it, and for the status."""
    for state in ("INACTIVE", "ACTIVE", "SUSPENDED", "EXPIRED", "RENEWED", "REPLACED", "DELETED"):
        if state != event["card"]["state"]:
            yield _set("card", "state", to=state)
        if state != event["previousState"]:
            yield _set("previousState", to=state)
    for name, otherwise in _OTHERWISE.items():
        yield _set("card", name, to=otherwise)
    for name, term in event["card"]["terms"].items():
        yield _set("card", "terms", name, to=not term if isinstance(term, bool) else "OTHER")
    for name in event["card"]["usage"]:
        yield _set("card", "usage", name, to="MAYBE")
    for name, one, other in (
        ("ongoingOperation", "NONE", "RENEWAL"),
        ("origin", "ISSUED", "REGISTERED"),
        ("form", "VIRTUAL", "PHYSICAL"),
        ("clickToPay", True, False),
    ):
        yield _set("card", name, to=other if event["card"][name] == one else one)


def _family(true: Evidence, card_id: str) -> Evidence:
    """What was recorded of a card, of those before and after it, and of no others."""
    ids = {card_id}
    for row in [*true.log, *reversed(true.log)]:
        shown = row.event["card"] or {}
        related = {shown.get("predecessorCardId") or "", shown.get("successorCardId") or ""} - {""}
        if row.event["cardId"] in ids or ids & related:
            ids |= related | {row.event["cardId"]}
    keys = {f"{ISSUER}/{one}".encode() for one in ids}
    return replace(
        true,
        log=[row for row in true.log if row.key.count("/") == 2 or row.event["cardId"] in ids],
        cards=[row for row in true.cards if row["card_id"] in ids],
        state={
            partition: [record for record in records if record.key in keys]
            for partition, records in true.state.items()
        },
    )


def test_g3_no_member_of_any_card_may_be_otherwise(evidence: Evidence) -> None:
    """Every member of every event, one at a time: nothing of what events show goes unjudged."""
    unnoticed = []
    for card_id in {row.event["cardId"] for row in evidence.log if row.event["card"]}:
        family = _family(evidence, card_id)
        verify_every_path_is_legal(family)
        unnoticed += [
            row.event
            for row in family.log
            if row.event["cardId"] == card_id and row.event["card"] is not None
            for change in _changes(row.event)
            if not _refused(_forged(family, row, change))
        ]
    assert unnoticed == []
