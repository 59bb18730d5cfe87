"""Reads, under the lane locks, everything that the decisions of one batch may look at.

Lock first, then read, each in a new statement: a row that was read before the lock was granted may
be older than what the transaction before us wrote, and the decision would be made on it again.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

from lifecycle.domain import patterns
from lifecycle.domain.cards import Card
from lifecycle.domain.chain import Chain, recent_content_hash
from lifecycle.domain.commands import (
    Activate,
    CardCommand,
    ClickToPayOptout,
    Command,
    CommandName,
    ConsumerCommand,
    Create,
    Renew,
    Replace,
    Resume,
    Signal,
    Subject,
    SubjectKind,
)
from lifecycle.domain.operations import OperationKind
from lifecycle.kafka.commands import Parsed
from lifecycle.kafka.partitioner import key_of
from lifecycle.kafka.requests import ParsedReply
from lifecycle.postgres import past_commands, pending, subjects
from lifecycle.postgres.connection import Connection
from lifecycle.postgres.subjects import Key
from lifecycle.worker.pending import command_of, named_operation, waiting_for
from lifecycle.worker.subjects import Subjects, Tracked
from lifecycle.worker.taken import Taken, lane_of_card, named_cards

# What can be no consumer's id is not looked up: a row to lock would be made for it.
_CONSUMER_ID = re.compile(patterns.CONSUMER_ID)


class LanesNeededError(Exception):
    """Cards that the batch is about belong to lanes that are not locked: nothing was decided.

    Which ones only the cards themselves tell, as with the predecessor of a card that is activated.
    """

    def __init__(self, lanes: set[int]) -> None:
        """`lanes`: to be locked as well, from the start, in a new transaction."""
        super().__init__(f"lanes {sorted(lanes)} are needed too")
        self.lanes = lanes


async def read(
    connection: Connection,
    batch: Sequence[Taken],
    locked: Collection[int],
    *,
    partition_count: int,
) -> tuple[Subjects, dict[UUID, bytes]]:
    """The subjects of a batch, and the content of commands that no subject's row remembers.

    The caller has locked the lanes `locked`: those of every card that the commands name.

    Raises:
        LanesNeededError: cards of other lanes are looked at too.
    """
    commands: list[Command] = [
        taken.parsed.command for taken in batch if isinstance(taken.parsed, Parsed)
    ]
    wanted = [taken.parsed.subject for taken in batch if isinstance(taken.parsed, Parsed)]
    answered = [taken.parsed.subject for taken in batch if isinstance(taken.parsed, ParsedReply)]
    found = Subjects()
    await _read_pending(connection, found, batch)
    # What ends an operation is decided with everything that its own command looks at.
    waiting = [command_of(row) for row in found.pending.values()]
    commands += waiting
    keys = {*_card_keys(batch, [*wanted, *answered]), *_cards_of(waiting)}
    await _read_cards(connection, found, sorted(keys))
    related = _related_cards(found, commands)
    looked_at = {*related, *_cards_of(waiting)}
    needed = {lane_of_card(*key, partition_count) for key in looked_at} - set(locked)
    if needed:
        raise LanesNeededError(needed)
    await _read_cards(connection, found, related)
    await _count_enrolments(connection, found, commands)
    await _count_virtual_cards(connection, found, commands)
    await _read_consumers(connection, found, commands)
    await _read_products(connection, found, commands, wanted)
    await _remember_commands_of_unknown(connection, found)
    return found, await _content_hashes(connection, found, batch)


async def _read_pending(connection: Connection, found: Subjects, batch: Sequence[Taken]) -> None:
    """Read the operations that replies and TIME_OUTs are about.

    One that a command of this very batch begins is not among them, and need not be: nobody was
    asked yet, so nobody can have answered.
    """
    keys = {key for taken in batch if (key := named_operation(taken)) is not None}
    if keys:
        stored = await pending.load_pending(connection, sorted(keys))
        rows = (waiting_for(taken, stored) for taken in batch)
        found.pending = {row.key: row for row in rows if row is not None}


def _cards_of(waiting: Sequence[CardCommand]) -> set[Key]:
    return {
        (command.issuer_id, card_id)
        for command in waiting
        for card_id in (command.card_id, *named_cards(command))
    }


async def _count_enrolments(
    connection: Connection, found: Subjects, commands: Iterable[Command]
) -> None:
    """For who opts out: the scheme may know the card before it has said so."""
    keys = {
        (command.issuer_id, command.card_id)
        for command in commands
        if isinstance(command, ClickToPayOptout)
    }
    if keys:
        found.enrolments = dict.fromkeys(keys, 0)
        found.enrolments |= await pending.count_pending(
            connection, sorted(keys), OperationKind.CLICK_TO_PAY_ENROLMENT
        )


def _card_keys(batch: Sequence[Taken], wanted: Sequence[Subject]) -> list[Key]:
    keys = {
        (subject.issuer_id, subject.id) for subject in wanted if subject.kind is SubjectKind.CARD
    }
    for taken in batch:
        if isinstance(taken.parsed, Parsed):
            issuer_id = taken.parsed.subject.issuer_id
            keys.update((issuer_id, card_id) for card_id in named_cards(taken.parsed.command))
            if taken.generated_card_id is not None:
                keys.add((issuer_id, taken.generated_card_id))
    return sorted(keys)


def _related_cards(found: Subjects, commands: Iterable[Command]) -> list[Key]:
    """The cards that a card names: one that it re-links (domain.md 3), one that it stands for."""
    keys = set()
    for command in commands:
        if isinstance(command, Activate | Renew | Replace | Signal):
            card = found.cards[command.issuer_id, command.card_id].entity
            if card is None:
                continue
            if card.predecessor_card_id is not None:
                keys.add((command.issuer_id, card.predecessor_card_id))
            if card.real_card_id is not None:
                keys.add((command.issuer_id, card.real_card_id))
    return sorted(keys - found.cards.keys())


async def _count_virtual_cards(
    connection: Connection, found: Subjects, commands: Iterable[Command]
) -> None:
    """Count them under the lock of the real card's lane: another one can't come in meanwhile."""
    keys = {
        (command.issuer_id, command.real_card_id)
        for command in commands
        if isinstance(command, Create) and command.real_card_id is not None
    }
    if keys:
        found.virtual_cards.update(await subjects.count_virtual_cards(connection, sorted(keys)))


async def _read_cards(connection: Connection, found: Subjects, keys: Sequence[Key]) -> None:
    if not keys:
        return
    stored = await subjects.load_cards(connection, keys)
    for key in keys:
        card, chain = stored.get(key, (None, Chain()))
        found.cards[key] = Tracked(card, chain, chain, stored=card)


async def _read_consumers(
    connection: Connection, found: Subjects, commands: Iterable[Command]
) -> None:
    keys: set[Key] = set()
    perhaps_unknown: set[Key] = set()
    exclusive = False
    for command in commands:
        match command:
            case ConsumerCommand():
                perhaps_unknown.add((command.issuer_id, command.consumer_id))
                exclusive = True
            case Create():
                perhaps_unknown.add((command.issuer_id, command.consumer_id))
            case (
                Activate()
                | Resume()
                | Replace()
                | Renew()
                | Signal(command=CommandName.CARD_PRESENT)
            ):
                card: Card | None = found.cards[command.issuer_id, command.card_id].entity
                if card is not None:
                    keys.add((command.issuer_id, card.consumer_id))
            case _:
                continue
    possible = {key for key in perhaps_unknown if _CONSUMER_ID.fullmatch(key[1])}
    stored = {}
    if keys or possible:
        stored = await subjects.lock_consumers(
            connection, sorted(keys | possible), sorted(possible), exclusive=exclusive
        )
    for key in keys | perhaps_unknown:
        consumer, chain = stored.get(key, (None, Chain()))
        found.consumers[key] = Tracked(consumer, chain, chain, stored=consumer)


async def _read_products(
    connection: Connection,
    found: Subjects,
    commands: Iterable[Command],
    wanted: Sequence[Subject],
) -> None:
    keys = {
        (subject.issuer_id, subject.id) for subject in wanted if subject.kind is SubjectKind.PRODUCT
    }
    keys |= {
        (command.issuer_id, command.card_product_id)
        for command in commands
        if isinstance(command, Create)
    }
    # A successor has the terms that its product has now.
    keys |= {
        (command.issuer_id, card.card_product_id)
        for command in commands
        if isinstance(command, Replace | Renew)
        and (card := found.cards[command.issuer_id, command.card_id].entity) is not None
    }
    if not keys:
        return
    stored = await subjects.load_products(connection, sorted(keys))
    for key in keys:
        product, chain = stored.get(key, (None, Chain()))
        found.products[key] = Tracked(product, chain, chain, stored=product)


async def _remember_commands_of_unknown(connection: Connection, found: Subjects) -> None:
    """Note of the subjects without a row whether commands were refused for them before, and when.

    Without this a command that came too early, such as a SUSPEND before its CREATE, would take
    effect when it is delivered a second time. Some come into being through a command about another
    subject: the new card of a REPLACE or RENEW, the consumer that a CREATE names.
    """
    unknown = {
        key_of(subject).decode(): (subject.issuer_id, tracked)
        for subject, tracked in found.all()
        if tracked.entity is None
    }
    if not unknown:
        return
    last_times = await past_commands.load_last_times(
        connection, [(issuer_id, key) for key, (issuer_id, _) in unknown.items()]
    )
    for key, last_time_ms in last_times.items():
        _, tracked = unknown[key]
        # However many there were: they count as one, so that their ids are looked up.
        tracked.chain = tracked.read = Chain(last_time_ms=last_time_ms, command_count=1)


async def _content_hashes(
    connection: Connection, found: Subjects, batch: Sequence[Taken]
) -> dict[UUID, bytes]:
    """Look up the ids that a subject may have taken before its recent commands."""
    wanted = []
    for taken in batch:
        if not isinstance(taken.parsed, Parsed):
            continue
        assert taken.operation_id is not None
        chain = found.of(taken.parsed.subject).read
        if chain.remembers_all():
            continue
        if recent_content_hash(chain.recent_commands, taken.operation_id.bytes) is None:
            wanted.append((taken.parsed.subject.issuer_id, taken.operation_id))
    return await past_commands.load_content_hashes(connection, wanted) if wanted else {}
