"""Random histories of an issuer, production and oracle side by side after every step.

Several cards, consumers and products; timers, replies, time-outs and cascades come whenever they
like. `pytest --hypothesis-profile=thorough` takes many more examples (`conftest.py`).
"""

from typing import Any
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lifecycle.domain.operations import Ignored
from lifecycle.domain.timers import cascade_id, cause_of, due_timers
from tests.oracle.adapters import (
    card_from,
    command_from,
    context_from,
    decide,
    disagreements,
    reply_disagreements,
    subject_from,
)
from tests.oracle.fields import Data
from tests.oracle.issuer import Issuer, is_left_behind
from tests.oracle.situations import ISSUER, NOW_MS
from tests.oracle.tables import TERMINAL
from tests.property.histories import CARD_IDS, Draws, Step, command_of, fitted

DAY_MS = 86_400_000
TIMEOUTS_MS = {
    "RENEW": DAY_MS,
    "PRODUCE": 30 * DAY_MS,
    "CLICK_TO_PAY_ENROLMENT": DAY_MS // 24,
    "CLICK_TO_PAY_UPDATE": DAY_MS // 24,
    "CLICK_TO_PAY_OPTOUT": DAY_MS // 24,
}
EXAMPLES_MIN, STEPS_MAX = 2_000, 30
DRAWS = Draws((2026, 3))


class Histories(RuleBasedStateMachine):
    """Every step is decided by both; what the oracle says comes true."""

    @initialize(steps=DRAWS.begin())
    def begin(self, steps: list[Step]) -> None:
        self.issuer = Issuer(NOW_MS, TIMEOUTS_MS)
        self.commands = 0
        for step in steps:
            self.send(step)

    # --- commands

    @rule(step=DRAWS.steps())
    def send(self, step: Step) -> None:
        step = fitted(step, self.issuer)
        self.commands += 1
        self._ask(command_of(step, ISSUER, f"c{self.commands}"), step.number, step.code)

    def _ask(self, command: Data, number: Data | None = None, code: str | None = None) -> Data:
        self.issuer.next_card_id = f"generated-{self.issuer.drawn}"
        self.issuer.next_last4 = f"{self.issuer.drawn:04d}"
        context = self.issuer.context(command, number, code)
        assert disagreements(self.issuer.of(command), command, context) == []
        outcome = self.issuer.outcome(command, context)
        self.issuer.take(command, outcome, number)
        return outcome

    # --- what the worker does

    @rule(days=st.integers(1, 60))
    def wait(self, days: int) -> None:
        self.issuer.now_ms += days * DAY_MS

    @rule(card_id=st.sampled_from([*CARD_IDS, "generated-0", "generated-1"]))
    def fire_the_next_timer(self, card_id: str) -> None:
        card = self.issuer.card(card_id)
        timers = due_timers(card_from(card), "UTC") if card is not None else ()
        if not timers:
            return
        timer = min(timers, key=lambda one: one.due_ms)
        self.issuer.now_ms = max(self.issuer.now_ms, timer.due_ms)
        command = command_of(Step(timer.kind.value, {"cardId": card_id}), ISSUER, timer.command_id)
        self._ask(command)
        after = self.issuer.card(card_id)
        assert after is not None
        next_ones = [one for one in due_timers(card_from(after), "UTC") if one.kind is timer.kind]
        if any(one.due_ms <= self.issuer.now_ms for one in next_ones):
            return  # a window longer than the validity: the worker tells the two by their ids
        again = decide(
            subject_from(after),
            command_from(command),
            context_from(self.issuer.context(command)),
        )
        assert isinstance(again, Ignored), "a timer that fires twice does nothing the second time"

    @precondition(lambda self: self.issuer.pending)
    @rule(answer=DRAWS.answers)
    def answer(self, answer: tuple[bool, Data | None]) -> None:
        is_good, number = answer
        operation_id, (card_id, pending) = next(iter(self.issuer.pending.items()))
        reply = {"result": "SUCCESSFUL"} if is_good else {"result": "FAILED", "errorCode": "NO"}
        context = self.issuer.context(pending["command"], number)
        card = self.issuer.subjects["card", card_id]
        assert reply_disagreements(card, reply, {**context, "pending": pending}) == []
        outcome = self.issuer.reply_outcome(operation_id, reply, context)
        assert outcome["status"] != "PENDING"
        self.issuer.take(pending["command"], outcome, number, operation_id)

    @precondition(lambda self: self.issuer.pending)
    @rule()
    def time_out(self) -> None:
        operation_id, (card_id, pending) = next(iter(self.issuer.pending.items()))
        self.issuer.now_ms = max(self.issuer.now_ms, pending["deadlineMs"])
        fields = {"cardId": card_id, "operationId": "o1"}
        command = command_of(Step("TIME_OUT", fields), ISSUER, "TIME_OUT:o1")
        card = self.issuer.subjects["card", card_id]
        context = {**self.issuer.context(pending["command"]), "pending": pending}
        assert disagreements(card, command, context) == []
        outcome = self.issuer.time_out_outcome(operation_id)
        assert outcome["errorCode"] == "OPERATION_TIMED_OUT"
        assert outcome["subject"] == card
        self.issuer.take(pending["command"], outcome, None, operation_id)

    @precondition(lambda self: self.issuer.cascades)
    @rule()
    def send_a_cascade(self) -> None:
        card_id, command = self.issuer.cascades.pop(0)
        cause = UUID(int=self.commands)
        command = {**command, "commandId": cascade_id(cause)}
        assert cause_of(command["commandId"]) == cause
        self._ask(command)
        assert self.issuer.subjects["card", card_id]["state"] in TERMINAL

    # --- what always holds

    @invariant()
    def no_number_is_held_twice_or_comes_back(self) -> None:
        held = list(self.issuer.vault.values())
        assert len(held) == len(set(held))
        assert self.issuer.retired.isdisjoint(held)

    @invariant()
    def live_cards_and_no_others_have_their_number(self) -> None:
        cards = self.issuer.cards()
        live = {name for name, card in cards.items() if card["state"] not in TERMINAL}
        assert set(self.issuer.vault) == live
        for name in live:
            assert cards[name]["last4"] == self.issuer.vault[name][-4:]

    @invariant()
    def nobody_is_left_behind(self) -> None:
        if self.issuer.cascades:
            return
        for card in self.issuer.cards().values():
            assert not is_left_behind(card, self.issuer)

    @invariant()
    def every_card_holds_together(self) -> None:
        for card in self.issuer.cards().values():
            assert (card["state"] != "SUSPENDED") or card["stateReason"]
            assert (card["pendingExp"] is None) == (card["ongoingOperation"] == "NONE")
            assert (card["auxiliaryExp"] is not None) == card["hasAuxiliaryPan"]
            if card["state"] in ("ACTIVE", "INACTIVE"):
                assert card["stateReason"] is None
                assert card["suspensions"] == []
                assert card["locks"] == []


TestEveryHistoryOfAnIssuer: Any = Histories.TestCase
TestEveryHistoryOfAnIssuer.settings = settings(
    max_examples=max(EXAMPLES_MIN, settings().max_examples),
    stateful_step_count=STEPS_MAX,
)
