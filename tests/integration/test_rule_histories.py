"""Random histories on the real servers: every event is the one that the rule book gives.

Each history is an issuer of its own, with its own ids and numbers; many run side by side. All
commands of an issuer are put on one partition, so that they are taken in the order in which they
were sent, whatever lanes their cards lie in. What the service sends itself (cascades, timers,
time-outs) and what outside parties answer comes between, when all is quiet.

They are the same in every run, but for a night's (`--hypothesis-profile=thorough`): the message of
a failure names the seed, and `HISTORIES_SEED=... pytest` draws its histories again.
"""

import asyncio
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from lifecycle.settings import Settings
from tests.oracle.fields import Data
from tests.oracle.issuer import Issuer, Subject, cascaded, is_left_behind, subject_of
from tests.oracle.views import shown_by, time_ms, told, told_of_caused
from tests.property.histories import REAL_CARD_ID, Draws, Step, command_of, fitted
from tests.support.bank import Message, send
from tests.support.dispatching import at, now_ms, until_dispatched
from tests.support.fixtures import NewGround
from tests.support.ground import connected
from tests.support.guarantees import verify_all
from tests.support.outside import answer
from tests.support.reading import until_settled
from tests.support.worker import running_worker
from tests.unit.vault_keys import encrypted, write_keys

HISTORIES = 40
STEPS = 24
ROUNDS = 2  # of commands in each era; between the eras a year and a half passes
STEPS_OF_A_ROUND_MAX = 8
_ERA_MS = 550 * 86_400_000


@dataclass(frozen=True, slots=True)
class Drawn:
    """What is to happen to one issuer."""

    begin: list[Step]
    steps: list[Step]
    answers: list[tuple[bool, Data | None]]


def drawn_histories(number: int, draws: Draws) -> list[Drawn]:
    """Histories that Hypothesis draws from a seed; the simplest one is always among them."""
    found: list[Drawn] = []
    histories = st.builds(
        Drawn,
        draws.begin(),
        st.lists(draws.steps(), min_size=STEPS, max_size=STEPS),
        st.lists(draws.answers, min_size=2 * ROUNDS, max_size=2 * ROUNDS),
    )

    @seed(number)
    @settings(
        max_examples=HISTORIES,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(histories)
    def draw(history: Drawn) -> None:
        found.append(history)

    draw()
    return found


@dataclass(slots=True)
class History:
    """One issuer: what it will be asked, what it should be by now, and what was recorded."""

    issuer_id: str
    drawn: Drawn
    issuer: Issuer
    left: list[Step]
    versions: dict[Subject, int] = field(default_factory=dict)
    sent: list[tuple[Data, Data | None, str | None]] = field(default_factory=list)
    commands: int = 0

    # --- what is sent

    def round(self, steps_max: int) -> Iterator[Message]:
        """The next commands, up to one after which the service has something to send itself."""
        self.sent = []
        for _ in range(min(steps_max, len(self.left))):
            step = self.left.pop(0)
            yield self._message(step)
            if _may_cascade(step):
                return

    def _message(self, step: Step) -> Message:
        step = fitted(step, self.issuer)
        self.commands += 1
        command = command_of(step, self.issuer_id, f"c{self.commands}")
        self.sent.append((command, step.number, step.code))
        wire = dict(command)
        if step.number is not None:
            wire["encryptedData"] = sealed(step.number)
        elif step.code is not None:
            wire["encryptedData"] = encrypted({"cvv": step.code})
        return Message(_key(self.issuer_id, subject_of(command)).encode(), orjson.dumps(wire))

    # --- what was recorded

    def judge_commands(self, rows: list[Data]) -> None:
        """Each command of the round led to what the rule book gives, in the order of sending."""
        by_command = {
            (_subject_of(row), row["commandId"]): row for row in rows if not _is_caused(row)
        }
        causes = {row["causationId"]: row for row in rows if _is_caused(row)}
        for command, number, code in self.sent:
            row = by_command.get((subject_of(command), command["commandId"]))
            caused = causes.get(row["operation"]["operationId"]) if row else None
            self._be_at(row, caused)
            context = self.issuer.context(command, number, code)
            outcome = self.issuer.outcome(command, context)
            self._judge(command, outcome, row, caused, number)

    def judge_end(self, row: Data, rows: list[Data], reply: Data, number: Data | None) -> None:
        """A PENDING operation ended as the reply to it says."""
        operation_id = row["operation"]["operationId"]
        caused = next((one for one in rows if one["causationId"] == operation_id), None)
        self.issuer.now_ms = time_ms(row["operation"]["endTime"])
        command = self.issuer.pending[operation_id][1]["command"]
        context = self.issuer.context(command, number)
        outcome = self.issuer.reply_outcome(operation_id, reply, context)
        self._judge(command, outcome, row, caused, number)

    def judge_own(self, rows: list[Data]) -> None:
        """What the service sent itself: cascades, timers and time-outs."""
        for row in rows:
            operation = row["operation"]
            prefix = row["commandId"].partition(":")[0]
            if operation["operationId"] in self.issuer.pending:
                self.issuer.now_ms = time_ms(operation["endTime"])
                command = self.issuer.pending[operation["operationId"]][1]["command"]
                outcome = self.issuer.time_out_outcome(operation["operationId"])
            else:
                self._be_at(row, None)
                card_id = row["cardId"]
                command = command_of(Step(prefix, {"cardId": card_id}), self.issuer_id, "own")
                if prefix == "CASCADE":
                    card = self.issuer.subjects["card", card_id]
                    command = cascaded(card, operation["reasonCode"], row["commandId"])
                outcome = self.issuer.outcome(command, self.issuer.context(command))
            self._judge(command, outcome, row, None, None)

    def judge_what_is_over(self, at_ms: int) -> None:
        """Nothing is left that should have been sent: no timer, no cascade."""
        self.issuer.now_ms = max(self.issuer.now_ms, at_ms)
        for card_id, card in self.issuer.cards().items():
            for timer in ("EXPIRE", "AUTO_RENEW", "DELETE_DUE"):
                command = command_of(Step(timer, {"cardId": card_id}), self.issuer_id, "due")
                outcome = self.issuer.outcome(command, self.issuer.context(command))
                assert outcome["ignored"], f"{timer} of {card} was not sent"
            assert not is_left_behind(card, self.issuer), card

    def _be_at(self, row: Data | None, caused: Data | None) -> None:
        """Time, and what is drawn at random, are what the event says."""
        if row is None:
            return
        self.issuer.now_ms = time_ms(row["operation"]["startTime"])
        self.issuer.next_card_id = row["operation"]["details"].get("newCardId", "no-card")
        new_card = (caused or row)["card"] or {}
        self.issuer.next_last4 = new_card.get("last4") or "0000"

    def _judge(
        self,
        command: Data,
        outcome: Data,
        row: Data | None,
        caused: Data | None,
        number: Data | None,
    ) -> None:
        where = f"{self.issuer_id}: {command}"
        assert (row is None) == outcome["ignored"], f"{where} led to {row}, not to {outcome}"
        if row is None:
            return
        subject = subject_of(command)
        before = self.issuer.subjects.get(subject)
        self._compare(where, subject, row, told(before, command, outcome))
        assert (caused is None) == (not outcome["caused"]), f"{where} caused {caused}"
        for one in outcome["caused"]:
            assert caused is not None
            other = "card", one["card"]["cardId"]
            there = self.issuer.card(other[1])
            self._compare(where, other, caused, told_of_caused(there, outcome, one))
        self.issuer.take(command, outcome, number, row["operation"]["operationId"])

    def _compare(self, where: str, subject: Subject, row: Data, wanted: Data) -> None:
        assert _subject_of(row) == subject, where
        found = shown_by(row, self.versions.get(subject, 0))
        self.versions[subject] = row["version"]
        assert _differences(found, wanted) == [], where


def _differences(found: Data, wanted: Data) -> list[str]:
    """What an event shows otherwise, member by member."""
    flat_found, flat_wanted = ({**one, **(one["subject"] or {})} for one in (found, wanted))
    return [
        f"{name}: {flat_found.get(name)!r}, and not {flat_wanted.get(name)!r}"
        for name in {**flat_found, **flat_wanted}
        if name != "subject" and flat_found.get(name) != flat_wanted.get(name)
    ]


def sealed(number: Data) -> str:
    """`encryptedData` around the members that are there."""
    return encrypted({name: value for name, value in number.items() if value is not None})


def _may_cascade(step: Step) -> bool:
    """Whether other cards may have to leave after it: then the issuer waits for them."""
    if step.name == "CONSUMER_DELETE":
        return True
    leaves = step.name in ("DELETE", "DELETE_DUE", "REPLACE") or "newCardState" in step.fields
    return leaves and step.fields["cardId"] == REAL_CARD_ID


def _key(issuer_id: str, subject: Subject) -> str:
    kind, name = subject
    return f"{issuer_id}/{name}" if kind == "card" else f"{issuer_id}/{kind}/{name}"


def _subject_of(row: Data) -> Subject:
    if "consumer" in row:
        return "consumer", row["consumerId"]
    if "product" in row:
        return "product", row["cardProductId"]
    return "card", row["cardId"]


def _is_caused(row: Data) -> bool:
    return row["causationId"] is not None and not row["commandId"].startswith("CASCADE:")


def _draws_of(time_ms: int) -> Draws:
    month = datetime.fromtimestamp(time_ms / 1000, UTC)
    return Draws((month.year, month.month))


class Recorded:
    """Reads the log on from where it was read before, by issuer."""

    def __init__(self, ground: Settings) -> None:
        self._ground = ground
        self._seen: dict[int, int] = {}

    async def news(self) -> dict[str, list[Data]]:
        """Of each issuer what was recorded since, in the order of the lanes."""
        found: dict[str, list[Data]] = {}
        async with connected(self._ground) as connection:
            rows = await connection.fetch(
                "SELECT lane, seq, payload FROM operation ORDER BY lane, seq"
            )
        for lane, seq, payload in rows:
            if seq > self._seen.get(lane, 0):
                self._seen[lane] = seq
                event: dict[str, Any] = orjson.loads(payload)
                found.setdefault(event["issuerId"], []).append(event)
        return found


async def _settle(ground: Settings, *, timers: bool = False) -> None:
    await until_settled(ground)
    await until_dispatched(ground, timers=timers)


async def _era(ground: Settings, recorded: Recorded, histories: list[History], first: int) -> None:
    """Some rounds of commands, and after each the answers of outside parties."""
    for number in range(first, first + ROUNDS):
        messages = []
        for place, history in enumerate(histories):
            steps = STEPS_OF_A_ROUND_MAX if number else len(history.drawn.begin)
            messages += [message.on(place % ground.partitions) for message in history.round(steps)]
        await send(ground, messages)
        await _settle(ground)
        news = await recorded.news()
        for history in histories:
            rows = news.get(history.issuer_id, [])
            history.judge_commands([row for row in rows if not _is_own(row)])
            history.judge_own([row for row in rows if _is_own(row)])
        await _answer_one_each(ground, recorded, histories, number)


def _is_own(row: Data) -> bool:
    return row["commandId"].partition(":")[0] in (
        *("CASCADE", "EXPIRE", "AUTO_RENEW", "DELETE_DUE"),
    )


async def _answer_one_each(
    ground: Settings, recorded: Recorded, histories: list[History], number: int
) -> None:
    replies, said = [], {}
    for history in histories:
        if not history.issuer.pending:
            continue
        is_good, credentials = history.drawn.answers[number]
        operation_id, (card_id, _) = next(iter(history.issuer.pending.items()))
        named = {"operationId": operation_id, "issuerId": history.issuer_id, "cardId": card_id}
        reply: Data = (
            {"result": "SUCCESSFUL"} if is_good else {"result": "FAILED", "errorCode": "NO"}
        )
        data = {} if credentials is None else {"encryptedData": sealed(credentials)}
        key = f"{history.issuer_id}/{card_id}".encode()
        replies.append((key, orjson.dumps({**named, **reply, "data": data})))
        said[history.issuer_id] = operation_id, reply, credentials
    await answer(ground, *replies)
    await _settle(ground)
    news = await recorded.news()
    for history in histories:
        rows = news.get(history.issuer_id, [])
        if history.issuer_id in said:
            operation_id, reply, credentials = said[history.issuer_id]
            (end,) = [row for row in rows if row["operation"]["operationId"] == operation_id]
            history.judge_end(end, rows, reply, credentials)
        history.judge_own([row for row in rows if _is_own(row)])


def _seed_of_profile() -> int:
    return 0 if settings().derandomize else random.randrange(2**32)  # noqa: S311 - no secret


async def test_every_event_of_a_random_history_is_the_one_that_the_rule_book_gives(
    new_ground: NewGround, tmp_path: Path
) -> None:
    """G1 to G6 as well, when all is over."""
    number = int(os.environ.get("HISTORIES_SEED") or _seed_of_profile())
    write_keys(tmp_path / "keys.json")
    empty = await new_ground(environment="development")
    ground = empty.model_copy(update={"keys_file": tmp_path / "keys.json"})
    began_ms = now_ms(ground)
    timeouts_ms = {kind: 1000 * s for kind, s in ground.pending_timeout_seconds.items()}
    histories = [
        History(
            f"HIST{place:06d}", drawn, Issuer(began_ms, timeouts_ms), [*drawn.begin, *drawn.steps]
        )
        for place, drawn in enumerate(
            await asyncio.to_thread(drawn_histories, number, _draws_of(began_ms))
        )
    ]
    recorded = Recorded(ground)
    try:
        async with running_worker(ground):
            await _era(ground, recorded, histories, 0)
        later = at(ground, began_ms + _ERA_MS)
        async with running_worker(later):
            await _settle(later, timers=True)
            news = await recorded.news()
            for history in histories:
                history.judge_own(news.get(history.issuer_id, []))
                history.judge_what_is_over(began_ms + _ERA_MS)
            await _era(later, recorded, histories, ROUNDS)
            evidence = await verify_all(later)
    except AssertionError as error:
        error.add_note(f"Draw these histories again with HISTORIES_SEED={number}")
        raise
    assert evidence.count("operations") > HISTORIES * STEPS_OF_A_ROUND_MAX
