"""Decides a batch in memory, record by record, and says what is to be stored and published.

Runs between the reads and the writes of one transaction. It does no I/O, so a batch that is decided
again after a rollback, by this worker or another, gives the same rows byte for byte.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from lifecycle.domain.chain import recent_content_hash
from lifecycle.domain.commands import (
    CardCommand,
    ConsumerCommand,
    DefineProduct,
)
from lifecycle.domain.decide import (
    decide_card,
    decide_consumer,
    decide_product,
    decide_reply,
)
from lifecycle.domain.operations import Context, Decision, Ignored
from lifecycle.kafka.commands import Broken, Parsed, is_reserved_id, is_same_content
from lifecycle.kafka.dead_letters import DeadLetterCode
from lifecycle.kafka.requests import ParsedReply
from lifecycle.kafka.sensitive import Suspect
from lifecycle.postgres.subjects import Key
from lifecycle.settings import Settings
from lifecycle.worker.contexts import card_context
from lifecycle.worker.letters import CONFLICT
from lifecycle.worker.numbers import Numbers
from lifecycle.worker.pending import (
    pending_of,
    waiting_for,
)
from lifecycle.worker.recording import Decided, Outcome, Recording
from lifecycle.worker.subjects import Subjects, Tracked
from lifecycle.worker.taken import Taken
from lifecycle.worker.timers import TIMER_COMMANDS, timer_changes

_SUBJECT_PLACE = "field cardId"


class Deciding:
    """Decides the records of one batch in their order.

    `content_hashes` holds what is known of commands beyond their subject's recent ones.
    """

    def __init__(
        self,
        settings: Settings,
        subjects: Subjects,
        content_hashes: Mapping[UUID, bytes],
        last_seq: Mapping[int, int],
        numbers: Numbers,
    ) -> None:
        """Start from what was read under the locks; `last_seq` has every lane that is locked."""
        self._settings = settings
        self._subjects = subjects
        self._content_hashes = dict(content_hashes)
        self._recording = Recording(settings, subjects, last_seq, numbers)
        self._outcomes = self._recording.decided.outcomes
        self._numbers = numbers
        self._timer_ignored_at_ms: dict[Key, int] = {}

    def decide(self, batch: Sequence[Taken]) -> Decided:
        """Decide every record; exactly one outcome is counted for each (G1)."""
        for taken in batch:
            self._decide_one(taken)
        self._recording.keep_commands_of_unknown()
        decided = self._recording.decided
        decided.timers = timer_changes(
            self._subjects, self._timer_ignored_at_ms, self._settings.issuer_time_zones
        )
        return decided

    def _decide_one(self, taken: Taken) -> None:
        record, parsed = taken.record, taken.parsed
        outcome = self._outcomes.setdefault(taken.partition, Outcome())
        outcome.records += 1
        if isinstance(parsed, Broken):
            outcome.dead_letters += 1
            self._recording.bury(taken, parsed)
            return
        outcome.foreign_partition += taken.home_lane != record.partition
        tracked = self._subjects.of(parsed.subject)
        found = self._numbers_told(parsed, tracked)
        if found:
            outcome.dead_letters += 1
            broken = Broken(
                DeadLetterCode.SENSITIVE_DATA,
                f"The number of a card of this issuer stands in {found[0].place}; send another"
                " identifier. What holds it is left out of this dead letter.",
            )
            self._recording.bury(taken, broken, [suspect.digits for suspect in found])
            return
        # Never before the subject's last operation: a broker's clock may step back.
        start_time_ms = max(
            record.timestamp + self._settings.clock_offset_seconds * 1000,
            tracked.chain.last_time_ms or 0,
        )
        if isinstance(parsed, ParsedReply):
            self._decide_reply(taken, parsed, tracked, start_time_ms)
            return
        assert taken.operation_id is not None
        known = self._content_hash_of(tracked, taken.operation_id)
        if known is not None:
            if _is_same_content(taken, parsed, known):
                outcome.duplicates += 1
                return
            outcome.dead_letters += 1
            self._recording.bury(taken, CONFLICT)
            return
        decision = self._decision(taken, parsed, tracked, start_time_ms)
        if isinstance(decision, Ignored):
            outcome.ignored += 1
            if parsed.command.command in TIMER_COMMANDS:
                key = (parsed.subject.issuer_id, parsed.subject.id)
                self._timer_ignored_at_ms[key] = start_time_ms
            return
        outcome.operations += 1
        if decision.ends_pending:
            self._recording.end(taken, tracked, decision, start_time_ms)
        else:
            self._content_hashes[taken.operation_id] = parsed.content_hash
            self._recording.begin(taken, parsed, tracked, decision, start_time_ms)

    def _decide_reply(
        self, taken: Taken, parsed: ParsedReply, tracked: Tracked[Any], end_time_ms: int
    ) -> None:
        outcome = self._outcomes[taken.partition]
        row = waiting_for(taken, self._subjects.pending)
        decision: Decision | Ignored = Ignored.IGNORED
        if row is not None:
            when = self._when(parsed.subject.issuer_id, tracked, end_time_ms)
            waiting = pending_of(row)
            context = card_context(
                self._subjects,
                self._numbers,
                taken,
                waiting.command,
                tracked.entity,
                row.operation_id,
                when,
            )
            decision = decide_reply(tracked.entity, parsed.reply, context._replace(pending=waiting))
        if isinstance(decision, Ignored):
            outcome.ignored += 1
            return
        outcome.operations += 1
        self._recording.end(taken, tracked, decision, end_time_ms)

    def _numbers_told(self, parsed: Parsed | ParsedReply, tracked: Tracked[Any]) -> list[Suspect]:
        """What stands in an identifier and is the number of a card (design.md 5)."""
        suspects = parsed.suspects
        if suspects and tracked.entity is not None and _is_asked_for(parsed):
            # The card was taken before its id was a number. It still expires, and is answered.
            suspects = tuple(one for one in suspects if one.place != _SUBJECT_PLACE)
        return self._numbers.on_cards(parsed.subject.issuer_id, suspects)

    def _content_hash_of(self, tracked: Tracked[Any], identity: UUID) -> bytes | None:
        """What the command with this id held, when it was taken in this batch or ever before."""
        known = self._content_hashes.get(identity)
        if known is not None:
            return known
        return recent_content_hash(tracked.read.recent_commands, identity.bytes)

    def _decision(
        self, taken: Taken, parsed: Parsed, tracked: Tracked[Any], start_time_ms: int
    ) -> Decision | Ignored:
        command = parsed.command
        when = self._when(command.issuer_id, tracked, start_time_ms)
        if isinstance(command, CardCommand):
            assert taken.operation_id is not None
            context = card_context(
                self._subjects,
                self._numbers,
                taken,
                command,
                tracked.entity,
                taken.operation_id,
                when,
            )
            return decide_card(tracked.entity, command, context)
        if isinstance(command, ConsumerCommand):
            return decide_consumer(tracked.entity, command, Context(*when))
        assert isinstance(command, DefineProduct), f"{type(command).__name__} has no rules"
        return decide_product(tracked.entity, command, Context(*when))

    def _when(
        self, issuer_id: str, tracked: Tracked[Any], time_ms: int
    ) -> tuple[int, int | None, str]:
        """The first fields of a `Context`."""
        zone = self._settings.issuer_time_zones.get(issuer_id, "UTC")
        return time_ms, tracked.chain.version_time_ms, zone


def _is_same_content(taken: Taken, parsed: Parsed, known: bytes) -> bool:
    """Whether `known` is the hash of the command's content (design.md 5, "Same content")."""
    if is_same_content(parsed, known):
        return True
    return taken.opening is not None and known in taken.opening.other_hashes


def _is_asked_for(parsed: Parsed | ParsedReply) -> bool:
    """Whether the service itself sent the command, or asked for the reply."""
    return isinstance(parsed, ParsedReply) or is_reserved_id(parsed.command.command_id)
