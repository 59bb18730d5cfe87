"""Random histories of one issuer, production and oracle side by side: many cards, one consumer.

What the worker does around a decision is done here in a few lines: a number vault that obeys
`Decision.numbers`, cascades, timers, requests outside and their replies. So the data of a decision
is tested by what it leads to, and not only by how it looks.
"""

from typing import Any
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lifecycle.domain.cards import Card
from lifecycle.domain.decide import decide_reply
from lifecycle.domain.operations import Decision, Ignored, NumberChangeKind, Reply, Status
from lifecycle.domain.timers import cascade_id, cause_of, due_timers
from tests.oracle.adapters import (
    card_from,
    card_to,
    command_from,
    context_from,
    decide,
    disagreements,
    reply_disagreements,
    subject_from,
    subject_to,
)
from tests.oracle.fields import Data
from tests.oracle.registered import JWE
from tests.oracle.situations import NOW_MS, REQUESTORS, a_command, a_context, a_product
from tests.oracle.tables import REPLACE_REASONS, TERMINAL

DAY_MS = 86_400_000
TIME_OUT_MS = 3 * DAY_MS
STEPS_MAX = 30
CARD_IDS = ["card-1", "card-2", "card-3", "card-4"]
# Few, so that they meet again. Whether one is a number is judged before, when it is opened.
PANS = [f"400000123456789{digit}" for digit in range(6)]

NO_AUXILIARY = {"auxiliaryPan": None, "auxiliaryExp": None}

card_ids = st.sampled_from(CARD_IDS)
# The platform counts the cards that it makes here: these exist after a while.
any_card = st.sampled_from([*CARD_IDS, "generated-2", "generated-3"])
# The numbers in `encryptedData`: one of ours, ending in one of these months.
numbers = st.fixed_dictionaries(
    {
        "pan": st.sampled_from(PANS),
        "exp": st.sampled_from(["0626", "0930", "1232"]),
        "psn": st.none(),
        **{name: st.none() for name in NO_AUXILIARY},
    }
)
states = st.sampled_from([None, "ACTIVE", "INACTIVE"])
WORDS: dict[str, list[Data]] = {
    "ACTIVATE": [{}],
    "SUSPEND": [{"reasonCode": code} for code in ("USER_DECISION", "CARD_LOST", "FRAUD")],
    "RESUME": [{}, {"reasonCode": "CARD_FOUND"}],
    "DELETE": [{}],
    "LOCK": [{"lock": "PIN"}, {"lock": "CVV2"}],
    "CARD_PRESENT": [{}],
    "EXPIRE": [{}],
    "AUTO_RENEW": [{}],
    "DELETE_DUE": [{}],
    "UPDATE_LIMITS": [{"limits": {"day": 1}}, {"limits": {}}],
    "PRODUCE": [{"distributionChannel": "BRANCH_7"}],
    "CLICK_TO_PAY_ENROLMENT": [{"name": "Ann"}],
    "CLICK_TO_PAY_OPTOUT": [{}],
}
simple = st.sampled_from([(name, fields) for name, all_ in WORDS.items() for fields in all_])


class Issuer(RuleBasedStateMachine):
    """One consumer with up to four given card ids, and the cards that the platform makes."""

    @initialize(
        form=st.sampled_from(["VIRTUAL", "PHYSICAL"]),
        transactions=st.booleans(),
        implicit=st.booleans(),
        months=st.integers(1, 24),
    )
    def begin(self, form: str, transactions: bool, implicit: bool, months: int) -> None:  # noqa: FBT001 -- Hypothesis passes them by name
        self.now_ms = NOW_MS
        self.product = a_product(
            form=form,
            transactions=transactions,
            implicitActivation=implicit,
            autoRenew=True,
            validityMonths=months,
        )
        self.consumer: Data | None = None
        self.cards: dict[str, Data] = {}
        self.version_ms: dict[str, int] = {}
        self.vault: dict[str, str] = {}
        self.retired: set[str] = set()
        self.pending: list[tuple[str, Data]] = []
        self.cascades: list[tuple[str, Data]] = []
        self.drawn = 0
        number = {"pan": PANS[0], "exp": "1232", "psn": None}
        self._ask_for_new_card("CREATE", CARD_IDS[0], None, None, None, None)
        self._ask_for_new_card(
            "REGISTER", CARD_IDS[1], None, None, None, {**number, **NO_AUXILIARY}
        )
        self._ask_for_new_card("CREATE", CARD_IDS[2], None, None, CARD_IDS[0], None)
        assert len(self.cards) == 3

    # --- commands

    @rule(card_id=card_ids, state=states, days=st.sampled_from([None, 40]), real=st.booleans())
    def create(self, card_id: str, state: str | None, days: int | None, real: bool) -> None:  # noqa: FBT001 -- as above
        self._ask_for_new_card("CREATE", card_id, state, days, CARD_IDS[0] if real else None, None)

    @rule(card_id=card_ids, state=states, number=numbers)
    def register(self, card_id: str, state: str | None, number: Data) -> None:
        self._ask_for_new_card("REGISTER", card_id, state, None, None, number)

    @rule(card_id=any_card, what=simple, requestor=st.sampled_from(REQUESTORS))
    def ask(self, card_id: str, what: tuple[str, Data], requestor: Data | None) -> None:
        name, fields = what
        self._ask(a_command(name, **{**fields, "cardId": card_id, "requestor": requestor}))

    @rule(card_id=any_card, new=card_ids, number=numbers, why=st.sampled_from(REPLACE_REASONS))
    def replace(self, card_id: str, new: str, number: Data, why: str) -> None:
        fields: Data = {"cardId": card_id, "reasonCode": why, "reason": "Left in a taxi"}
        if self._is_registered(card_id):
            fields |= {"newCardId": new, "encryptedData": JWE}
        self._ask(a_command("REPLACE", **fields), number)

    @rule(card_id=card_ids, exp=st.sampled_from(["0927", "0930", "1233"]))
    def renew(self, card_id: str, exp: str) -> None:
        new_exp = exp if self._is_registered(card_id) else None
        self._ask(a_command("RENEW", cardId=card_id, newExp=new_exp))

    @rule(
        card_id=card_ids,
        new=card_ids,
        state=st.sampled_from(["ACTIVE", "INACTIVE"]),
        number=st.none() | numbers,
        why=st.sampled_from([None, "CARD_LOST"]),
    )
    def renew_v1(
        self, card_id: str, new: str, state: str, number: Data | None, why: str | None
    ) -> None:
        fields: Data = {"newCardId": new, "newCardState": state, "reasonCode": why}
        if number is not None:
            fields |= {"encryptedData": JWE, "newExp": number["exp"]}
        self._ask(a_command("RENEW", cardId=card_id, **fields), number)

    @rule(name=st.sampled_from(["REGISTER", "DEACTIVATE", "REACTIVATE"]))
    def turn_the_consumer(self, name: str) -> None:
        self._ask_consumer(f"CONSUMER_{name}")

    @rule(chance=st.integers(0, 7))
    def delete_the_consumer(self, chance: int) -> None:
        if chance == 0:
            self._ask_consumer("CONSUMER_DELETE")

    # --- what the worker does

    @rule(days=st.integers(1, 60))
    def wait(self, days: int) -> None:
        self.now_ms += days * DAY_MS

    @rule(card_id=any_card)
    def fire_the_next_timer(self, card_id: str) -> None:
        card = self.cards.get(card_id)
        timers = due_timers(card_from(card), "UTC") if card is not None else ()
        if not timers:
            return
        timer = min(timers, key=lambda one: one.due_ms)
        self.now_ms = max(self.now_ms, timer.due_ms)
        command = {**a_command(timer.kind.value, cardId=card_id), "commandId": timer.command_id}
        self._ask(command)
        again = decide(
            subject_from(self.cards[card_id]),
            command_from(command),
            context_from(self._context(card_id, command, None)),
        )
        assert isinstance(again, Ignored), "a timer that fires twice does nothing the second time"

    @precondition(lambda self: self.pending)
    @rule(number=st.none() | numbers, good=st.booleans())
    def answer(self, number: Data | None, good: bool) -> None:  # noqa: FBT001 -- as above
        card_id, pending = self.pending.pop(0)
        card = self.cards[card_id]
        reply = {"result": "SUCCESSFUL"} if good else {"result": "FAILED", "errorCode": "NO_WAY"}
        there = self._context(card_id, pending["command"], number) | {"pending": pending}
        assert reply_disagreements(card, reply, there) == []
        said = Reply(is_successful=good, error_code=reply.get("errorCode"))
        decision = decide_reply(card_from(card), said, context_from(there))
        assert isinstance(decision, Decision)
        assert decision.status is not Status.PENDING
        self._take(card_id, decision, pending["command"], number)

    @precondition(lambda self: self.pending)
    @rule()
    def time_out(self) -> None:
        card_id, pending = self.pending.pop(0)
        self.now_ms = max(self.now_ms, pending["deadlineMs"])
        command = a_command("TIME_OUT", cardId=card_id, operationId="o1")
        there = self._context(card_id, command, None) | {"pending": pending}
        assert disagreements(self.cards[card_id], command, there) == []
        card = subject_from(self.cards[card_id])
        decision = decide(card, command_from(command), context_from(there))
        assert isinstance(decision, Decision)
        assert decision.error_code == "OPERATION_TIMED_OUT"
        assert decision.subject is card

    @precondition(lambda self: self.cascades)
    @rule()
    def send_a_cascade(self) -> None:
        card_id, command = self.cascades.pop(0)
        self._ask({**command, "cardId": card_id})
        assert self.cards[card_id]["state"] in TERMINAL

    # --- what always holds

    @invariant()
    def no_number_is_held_twice_or_comes_back(self) -> None:
        held = list(self.vault.values())
        assert len(held) == len(set(held))
        assert self.retired.isdisjoint(held)

    @invariant()
    def live_cards_and_no_others_have_their_number(self) -> None:
        live = {name for name, card in self.cards.items() if card["state"] not in TERMINAL}
        assert set(self.vault) == live
        for name in live:
            assert self.cards[name]["last4"] == self.vault[name][-4:]

    @invariant()
    def nobody_is_left_behind(self) -> None:
        if self.consumer and self.consumer["state"] == "DELETED" and not self.cascades:
            assert {card["state"] for card in self.cards.values()} <= TERMINAL.keys()

    @invariant()
    def virtual_cards_do_not_outlive_their_real_card(self) -> None:
        for card in self.cards.values():
            real = self.cards.get(card["realCardId"] or "")
            if real is None or self.cascades:
                continue
            if real["state"] in TERMINAL or real["incarnation"] != card["realCardIncarnation"]:
                assert card["state"] in TERMINAL

    @invariant()
    def every_card_holds_together(self) -> None:
        for card in self.cards.values():
            assert (card["state"] != "SUSPENDED") or card["stateReason"]
            assert (card["pendingExp"] is None) == (card["ongoingOperation"] == "NONE")
            assert (card["auxiliaryExp"] is not None) == card["hasAuxiliaryPan"]
            if card["state"] in ("ACTIVE", "INACTIVE"):
                assert card["stateReason"] is None
                assert card["suspensions"] == []
                assert card["locks"] == []

    # --- the worker's part

    def _is_registered(self, card_id: str) -> bool:
        return card_id in self.cards and self.cards[card_id]["origin"] == "REGISTERED"

    def _ask_for_new_card(  # noqa: PLR0913, PLR0917 -- the fields of a CREATE or REGISTER
        self,
        name: str,
        card_id: str,
        state: str | None,
        days: int | None,
        real_card_id: str | None,
        number: Data | None,
    ) -> None:
        fields: Data = {
            "cardId": card_id,
            "consumerId": "consumer-1",
            "cardProductId": "product-1",
            "state": state,
            "realCardId": real_card_id if self.product["form"] == "VIRTUAL" else None,
        }
        if name == "REGISTER":
            fields["encryptedData"] = JWE
        if days is not None:
            year = 1970 + (self.now_ms + days * DAY_MS) // (365.25 * DAY_MS)
            fields["deleteAt"] = f"{int(year) + 1}-01-01T00:00:00Z"
        self._ask(a_command(name, **fields), number)

    def _ask(self, command: Data, number: Data | None = None) -> None:
        card_id = command["cardId"]
        card = self.cards.get(card_id)
        there = self._context(card_id, command, number)
        assert disagreements(card, command, there) == []
        decision = decide(subject_from(card), command_from(command), context_from(there))
        if isinstance(decision, Decision):
            self._take(card_id, decision, command, number)

    def _context(self, card_id: str, command: Data, number: Data | None) -> Data:
        card = self.cards.get(card_id)
        gets_it = command.get("newCardId") or card_id
        of_card = card["realCardId"] if card else None
        real_card = self.cards.get(command.get("realCardId") or of_card or "")
        free = number is not None and number["pan"] not in self.retired
        holders = {name for name, pan in self.vault.items() if number and pan == number["pan"]}
        return a_context(
            startTimeMs=self.now_ms,
            versionTimeMs=self.version_ms.get(card_id),
            consumerState=self.consumer["state"] if self.consumer else None,
            product=self.product,
            generatedCardId=f"generated-{self.drawn}",
            generatedLast4=self._drawn_pan()[-4:],
            predecessor=self.cards.get(card["predecessorCardId"] or "") if card else None,
            opened=number,
            panIsFree=free and holders <= {gets_it},
            newCard=self.cards.get(command.get("newCardId", "")),
            realCard=real_card,
            realCardVirtualCards=sum(
                real_card is not None
                and one["realCardId"] == real_card["cardId"]
                and one["realCardIncarnation"] == real_card["incarnation"]
                and one["state"] not in TERMINAL
                for one in self.cards.values()
            ),
            enrolmentIsPending=any(
                waits["command"]["command"] == "CLICK_TO_PAY_ENROLMENT"
                for name, waits in self.pending
                if name == card_id
            ),
        )

    def _drawn_pan(self) -> str:
        """A number that was never drawn; nobody here looks at its check digit."""
        return f"5{self.drawn:015d}"

    def _take(self, card_id: str, decision: Decision, command: Data, number: Data | None) -> None:
        if decision.registers_consumer:
            self.consumer = _a_consumer("ACTIVE")
        if decision.request is not None:
            pending = {
                "command": command,
                "startTimeMs": self.now_ms,
                "deadlineMs": self.now_ms + TIME_OUT_MS,
                "incarnation": self.cards[card_id]["incarnation"],
            }
            self.pending.append((card_id, pending))
        for change in decision.numbers:
            self._obey(change.kind, change.card_id, number)
        for caused in decision.caused:
            self._store(caused.card.card_id, caused.card)
            self.drawn += caused.kind == "CREATE"
        self.drawn += decision.kind == "CREATE"
        if decision.subject is not None:
            self._store(card_id, decision.subject)
        if decision.cascade_reason is not None:
            assert isinstance(decision.subject, Card)
            life = {"realCardId": card_id, "realCardIncarnation": decision.subject.incarnation}
            self._cascade(decision.cascade_reason, life)

    def _store(self, card_id: str, subject: object) -> None:
        assert isinstance(subject, Card)
        after = card_to(subject)
        if self.cards.get(card_id) != after:
            self.version_ms[card_id] = self.now_ms
        self.cards[card_id] = after

    def _obey(self, kind: NumberChangeKind, card_id: str, number: Data | None) -> None:
        if kind is NumberChangeKind.KEEP_WITH_NEW_EXPIRY:
            assert card_id in self.vault
            return
        if kind is NumberChangeKind.RETIRE:
            self.retired.add(self.vault.pop(card_id))
            return
        new = self._drawn_pan()
        if kind is NumberChangeKind.ASSIGN_GIVEN:
            assert number is not None
            new = number["pan"]
        before = self.vault.get(card_id, new)
        if before != new:
            self.retired.add(before)
        self.vault[card_id] = new

    def _ask_consumer(self, name: str) -> None:
        command = {**a_command(name), "consumerId": "consumer-1"}
        del command["cardId"]
        there = a_context(startTimeMs=self.now_ms, versionTimeMs=None)
        assert disagreements(self.consumer, command, there) == []
        decision = decide(subject_from(self.consumer), command_from(command), context_from(there))
        assert isinstance(decision, Decision)
        self.consumer = subject_to(decision.subject)
        if decision.cascade_reason is not None:
            self._cascade(decision.cascade_reason, {"consumerId": "consumer-1"})

    def _cascade(self, reason: str, whose: Data) -> None:
        """A DELETE for each card that is concerned and not terminal, by now."""
        cause = UUID(int=len(self.version_ms))
        for card_id, card in self.cards.items():
            if whose.items() <= card.items() and card["state"] not in TERMINAL:
                command = a_command(
                    "DELETE",
                    reasonCode=reason,
                    requestor={"type": "SYSTEM", "id": "SYSTEM"},
                    incarnation=card["incarnation"],
                )
                command["commandId"] = cascade_id(cause)
                assert cause_of(command["commandId"]) == cause
                self.cascades.append((card_id, command))


def _a_consumer(state: str) -> Data:
    return {"issuerId": "BANK000001", "consumerId": "consumer-1", "state": state}


TestEveryHistoryOfAnIssuer: Any = Issuer.TestCase
TestEveryHistoryOfAnIssuer.settings = settings(
    max_examples=800, stateful_step_count=STEPS_MAX, deadline=None
)
