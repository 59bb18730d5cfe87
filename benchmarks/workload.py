"""A bank's commands as a seeded backlog: lives of many cards, mixed, some sent twice, some refused.

The same numbers give the same bytes, so that whoever drains them is given the same work.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

import orjson

from lifecycle.domain.commands import CommandName as Do
from lifecycle.kafka.sending import key_of_command

ISSUERS = ("BANK000001", "BANK000002")
PRODUCTS: Mapping[str, str] = {"debit-virtual": "VIRTUAL", "debit-physical": "PHYSICAL"}

_SEED = 20_261_122
_COMMANDS_PER_CONSUMER = 24
_LIVES_AT_ONCE_SHARE = 0.1
_SENT_TWICE_SHARE = 0.02
_REASON = "Asked for by the card holder"

Record = tuple[bytes, bytes]
_Step = tuple[Do, Mapping[str, object]]

_BY_USER = {"requestor": {"type": "USER", "id": ""}}  # the id is the card's consumer
_LOST = {"reasonCode": "CARD_LOST", "reason": _REASON}
_FOUND = {"reasonCode": "CARD_FOUND", "reason": _REASON}
_PAUSED: Mapping[str, object] = {"reasonCode": "USER_DECISION", "reason": _REASON, **_BY_USER}
_CLOSED = {"reasonCode": "CLOSED_CARD", "reason": _REASON}
_ISSUED_VIRTUAL: _Step = (Do.CREATE, {"cardProductId": "debit-virtual"})
_ISSUED_BY_MAIL: _Step = (Do.CREATE, {"cardProductId": "debit-physical", "state": "INACTIVE"})

# What happens to a card, each life as often as the others. About one command in ten is refused.
_LIVES: tuple[tuple[_Step, ...], ...] = (
    (
        _ISSUED_VIRTUAL,
        (Do.SUSPEND, _PAUSED),
        (Do.RESUME, _PAUSED),
        (Do.RENEW, {"reasonCode": "ISSUER_DECISION"}),
        (Do.SUSPEND, _LOST),
        (Do.RESUME, {"reasonCode": "USER_DECISION"}),  # INVALID_REASON
        (Do.RESUME, _FOUND),
        (Do.DELETE, _CLOSED),
    ),
    (
        _ISSUED_BY_MAIL,
        (Do.SUSPEND, _LOST),  # NOT_ACTIVATED
        (Do.ACTIVATE, _BY_USER),
        (Do.RENEW, {}),
        (Do.ACTIVATE, _BY_USER),
        (Do.SUSPEND, _LOST),
        (Do.REPLACE, _LOST),
    ),
    (
        _ISSUED_BY_MAIL,
        (Do.ACTIVATE, _BY_USER),
        (Do.SUSPEND, _PAUSED),
        (Do.SUSPEND, _LOST),
        (Do.RESUME, {"reasonCode": "ISSUER_DECISION", "reason": _REASON}),
        (Do.SUSPEND, _PAUSED),
        (Do.RESUME, _PAUSED),
        (Do.SUSPEND, {"reasonCode": "FRAUD", "reason": _REASON}),
        (Do.DELETE, _CLOSED),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is sent. `opening` must be drained before `commands` are sent (design.md 3)."""

    opening: list[Record]
    commands: list[Record]
    sent_twice: int


def workload(commands: int) -> Workload:
    """So many commands about cards, and the products and consumers that these need."""
    random = Random(_SEED)  # noqa: S311 - a measurement, not a secret
    consumers = max(1, commands // _COMMANDS_PER_CONSUMER)
    mixed = _mixed(random, consumers, max(1, int(commands * _LIVES_AT_ONCE_SHARE)))
    records: list[Record] = []
    sent_twice = 0
    while len(records) < commands:
        record = next(mixed)
        records.append(record)
        if random.random() < _SENT_TWICE_SHARE and len(records) < commands:
            records.append(record)
            sent_twice += 1
    return Workload(opening=_opening(consumers), commands=records, sent_twice=sent_twice)


def _opening(consumers: int) -> list[Record]:
    commands: list[dict[str, object]] = [
        {"command": Do.PRODUCT_DEFINE, "cardProductId": product, "form": form, "scheme": "VISA"}
        for product, form in PRODUCTS.items()
    ]
    commands += [
        {"command": Do.CONSUMER_REGISTER, "consumerId": _consumer(number)}
        for number in range(consumers)
    ]
    return [
        _record({"commandId": f"opening-{number}", "issuerId": issuer, **command})
        for issuer in ISSUERS
        for number, command in enumerate(commands)
    ]


def _mixed(random: Random, consumers: int, lives_at_once: int) -> Iterator[Record]:
    """Commands of many cards, each card's own in their order, without an end."""
    lives = [_life(random, consumers) for _ in range(lives_at_once)]
    while True:
        at = random.randrange(len(lives))
        record = next(lives[at], None)
        if record is None:
            lives[at] = _life(random, consumers)
        else:
            yield record


def _life(random: Random, consumers: int) -> Iterator[Record]:
    subject = {
        "issuerId": random.choice(ISSUERS),
        "cardId": f"card-{random.getrandbits(128):032x}",
    }
    consumer = _consumer(random.randrange(consumers))
    for command, fields in random.choice(_LIVES):
        body: dict[str, object] = {
            "commandId": f"command-{random.getrandbits(96):024x}",
            "command": command,
            **subject,
            **fields,
            "correlationId": f"branch-{random.randrange(100, 1000)}-{random.getrandbits(32):08x}",
        }
        if command is Do.CREATE:
            body |= {"consumerId": consumer, "name": "Adaeze Nowak-Okafor"}
        if "requestor" in fields:
            body["requestor"] = {"type": "USER", "id": consumer}
        yield _record(body)


def _consumer(number: int) -> str:
    return f"consumer-{number:06}"


def _record(command: Mapping[str, object]) -> Record:
    return key_of_command(command), orjson.dumps(command)
