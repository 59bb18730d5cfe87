"""What holds for every history of a card: properties, and the oracle on random walks.

A history starts with CREATE and lives on what `decide` gave back, as the worker does; time moves
on between commands, so that cards expire on the way.
"""

import re
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lifecycle.domain.cards import TERMINAL, Card, State
from lifecycle.domain.operations import Decision, Ignored, Status
from tests.oracle import tables
from tests.oracle.adapters import (
    card_from,
    card_to,
    command_from,
    context_from,
    decide,
    disagreements,
    served,
)
from tests.oracle.fields import Data
from tests.oracle.situations import (
    NOW_MS,
    REASON_CODES,
    REQUESTORS,
    SUSPENSIONS,
    a_card,
    a_command,
    a_context,
    a_product,
    situations,
)

DAY_MS = 86_400_000
STEPS_MAX = 14
CARD_COMMANDS = ["ACTIVATE", "SUSPEND", "RESUME", "REPLACE", "RENEW", "DELETE", "LOCK"]
ALL_SITUATIONS = list(situations())

reason_codes = st.sampled_from(REASON_CODES)
requestors = st.sampled_from(REQUESTORS)
locks = st.sampled_from(tables.WORDS["lock"])
consumer_states = st.sampled_from(["ACTIVE", "ACTIVE", "ACTIVE", "INACTIVE", "DELETED"])


@st.composite
def card_commands(draw: st.DrawFn, card_id: str = "card-1") -> Data:
    """Mostly well-formed commands about one card, so that histories get somewhere."""
    name = draw(st.sampled_from(CARD_COMMANDS))
    accepted = tables.REASONS.get({"RENEW": "RENEW v1"}.get(name, name))
    codes = st.none() | st.sampled_from(accepted) if accepted else st.none()
    fields: Data = {
        "reasonCode": draw(codes | reason_codes if draw(st.integers(0, 4)) == 0 else codes),
        "requestor": draw(requestors),
        "reason": draw(st.sampled_from([None, "Left in a taxi"])),
    }
    if name == "LOCK":
        fields["lock"] = draw(locks)
    if name == "REPLACE":
        fields["reason"] = draw(st.sampled_from(["Left in a taxi", "Left in a taxi", None]))
    if name == "RENEW" and draw(st.booleans()):
        fields["newCardId"] = card_id
        fields["newCardState"] = draw(st.sampled_from(["ACTIVE", "INACTIVE"]))
    return a_command(name, **fields)


def decided(card: Data | None, command: Data, context: Data) -> Decision | Ignored:
    subject = None if card is None else card_from(card)
    return decide(subject, command_from(command), context_from(served(card, command, context)))


class Histories(RuleBasedStateMachine):
    """One card and its successors from CREATE on, production and oracle side by side."""

    @initialize(
        form=st.sampled_from(["VIRTUAL", "PHYSICAL"]),
        method=st.sampled_from(["NOTHING", "NOTHING", "LAST4"]),
        months=st.integers(1, 36),
        state=st.sampled_from([None, "ACTIVE", "INACTIVE"]),
    )
    def create(self, form: str, method: str, months: int, state: str | None) -> None:
        self.now_ms = NOW_MS
        self.version_ms: dict[str, int] = {}
        self.cards: dict[str, Data] = {}
        self.current = "card-1"
        self.generated = 0
        product = a_product(form=form, activationMethod=method, validityMonths=months)
        create = a_command("CREATE", consumerId="consumer-1", cardProductId="product-1")
        self._ask({**create, **({"state": state} if state else {})}, product=product)
        assert self.current in self.cards

    @rule(command=card_commands(), consumer_state=consumer_states)
    def ask(self, command: Data, consumer_state: str) -> None:
        command = {**command, "cardId": self.current}
        if "newCardId" in command:
            command["newCardId"] = self.current
        self._ask(command, consumerState=consumer_state)

    @rule(days=st.integers(1, 400))
    def wait(self, days: int) -> None:
        self.now_ms += days * DAY_MS

    @rule(which=st.integers(0, 9))
    def turn_to_another_card(self, which: int) -> None:
        self.current = sorted(self.cards)[which % len(self.cards)]

    @invariant()
    def every_card_holds_together(self) -> None:
        for card in self.cards.values():
            suspended = card["state"] in ("SUSPENDED", "EXPIRED") and card["stateReason"]
            assert (card["state"] != "SUSPENDED") or card["stateReason"]
            assert not card["locks"] or suspended
            assert (card["pendingExp"] is None) == (card["ongoingOperation"] == "NONE")
            if card["state"] in ("ACTIVE", "INACTIVE"):
                assert card["stateReason"] is None
                assert card["suspensions"] == []
            if card["state"] in tables.TERMINAL:
                assert card["stateReason"] is not None

    def _ask(self, command: Data, **context: object) -> None:
        card = self.cards.get(self.current)
        predecessor = self.cards.get(card["predecessorCardId"] or "") if card else None
        there = a_context(
            startTimeMs=self.now_ms,
            versionTimeMs=self.version_ms.get(self.current),
            generatedCardId=f"generated-{self.generated}",
            predecessor=predecessor,
            **context,
        )
        assert disagreements(card, command, there) == []
        decision = decided(card, command, there)
        if isinstance(decision, Ignored):
            return
        assert decision.subject is not None
        after = card_to(_a(decision.subject))
        for caused in decision.caused:
            self.cards[caused.card.card_id] = card_to(caused.card)
            self.version_ms[caused.card.card_id] = self.now_ms
            self.generated += 1
        if after != card:
            self.cards[self.current] = after
            self.version_ms[self.current] = self.now_ms


def _a(subject: Any) -> Card:  # noqa: ANN401 -- it is the assertion that narrows the type
    assert isinstance(subject, Card)
    return subject


TestEveryHistoryAgreesWithTheRuleBook = pytest.mark.filterwarnings("error")(Histories.TestCase)
TestEveryHistoryAgreesWithTheRuleBook.settings = settings(
    max_examples=300, stateful_step_count=STEPS_MAX
)

any_text = st.text(max_size=70) | st.sampled_from(["", "\n", "A\n", "٣", "A" * 65, "\u0000"])
FREE_FIELDS: dict[str, list[str]] = {
    "CREATE": [
        "consumerId",
        "cardProductId",
        "state",
        "name",
        "secondName",
        "statusReason",
        "deleteAt",
    ],
    "ACTIVATE": ["last4", "encryptedData"],
    "SUSPEND": [],
    "RESUME": [],
    "REPLACE": ["newCardId", "encryptedData"],
    "RENEW": [
        "newCardId",
        "newCardState",
        "newCardProductId",
        "newExp",
        "newAuxiliaryExp",
        "encryptedData",
    ],
    "DELETE": [],
    "LOCK": ["lock"],
}


@st.composite
def hostile_commands(draw: st.DrawFn) -> Data:
    """The right JSON types and nothing else right."""
    name = draw(st.sampled_from(sorted(FREE_FIELDS)))
    free = ["reasonCode", "reason", "effectiveDate", "correlationId", *FREE_FIELDS[name]]
    fields: Data = {field: draw(any_text) for field in free if draw(st.booleans())}
    for needed in {"CREATE": ["consumerId", "cardProductId"], "LOCK": ["lock"]}.get(name, []):
        fields.setdefault(needed, draw(any_text))
    if draw(st.booleans()):
        fields["requestor"] = {"type": draw(any_text), "id": draw(any_text)}
    return a_command(name, **fields)


@given(command=hostile_commands(), situation=st.sampled_from(ALL_SITUATIONS))
@example(
    command=a_command("SUSPEND", effectiveDate="9999-12-31T23:59:59.999Z"),
    situation=ALL_SITUATIONS[-1],
)
@example(
    command=a_command("SUSPEND", effectiveDate="0001-01-01T00:00:00Z"), situation=ALL_SITUATIONS[-1]
)
@settings(max_examples=1500)
def test_any_strings_lead_to_a_decision_and_nothing_broken_is_shown(
    command: Data, situation: tuple[str, Data | None, Data | None]
) -> None:
    _, card, predecessor = situation
    context = a_context(predecessor=predecessor, product=a_product())
    decision = decided(card, command, context)
    if isinstance(decision, Ignored):
        assert command["command"] == "LOCK"
        return
    if decision.status is Status.FAILED:
        assert decision.subject is None if card is None else card_to(_a(decision.subject)) == card
    for shown, pattern in [
        (decision.reason_code, tables.FORMATS["reasonCode"]),
        (decision.reason, tables.FORMATS["reason"]),
        (decision.correlation_id, tables.FORMATS["correlationId"]),
        (decision.requestor.id, tables.REQUESTOR_ID_FORMAT),
        (decision.requestor.type, "|".join(tables.REQUESTOR_TYPES)),
    ]:
        assert shown is None or re.fullmatch(pattern, shown)
    for text in [decision.error, *decision.details.values()]:
        assert text is None or len(text) <= 256


@given(command=card_commands(), situation=st.sampled_from(ALL_SITUATIONS), state=consumer_states)
@settings(max_examples=1000)
def test_a_failed_decision_never_changes_the_card(
    command: Data, situation: tuple[str, Data | None, Data | None], state: str
) -> None:
    _, card, predecessor = situation
    before = None if card is None else card_from(card)
    context = context_from(
        a_context(predecessor=predecessor, consumerState=state, product=a_product())
    )
    decision = decide(before, command_from(command), context)
    if isinstance(decision, Decision) and decision.status is Status.FAILED:
        assert decision.subject is before
        assert decision.caused == ()
        assert not decision.registers_consumer
        assert decision.error_code is not None


@given(command=card_commands(), state=st.sampled_from(sorted(TERMINAL)))
@settings(max_examples=300)
def test_terminal_states_stay_terminal(command: Data, state: State) -> None:
    card = card_from(a_card(state=str(state), stateReason="CARD_LOST"))
    decision = decide(card, command_from(command), context_from(a_context(product=a_product())))
    if isinstance(decision, Decision):
        assert decision.status is Status.FAILED
        assert decision.subject is card


@given(
    suspensions=st.lists(
        st.one_of(
            st.sampled_from(tables.REASONS["SUSPEND"]),
            st.sampled_from(sorted(tables.LOCK_REASON)),
        ),
        min_size=1,
        max_size=5,
    ),
    resume_with=st.sampled_from(tables.REASONS["RESUME"]),
)
@settings(max_examples=600)
def test_nobody_lifts_by_suspending_again_what_they_could_not_lift_before(
    suspensions: list[str], resume_with: str
) -> None:
    context = context_from(a_context(versionTimeMs=None))
    resume = command_from(a_command("RESUME", reasonCode=resume_with))
    card = card_from(a_card())
    liftable = True
    for step in suspensions:
        lock = step in tables.LOCK_REASON
        command = a_command(
            "LOCK" if lock else "SUSPEND", **({"lock": step} if lock else {"reasonCode": step})
        )
        decision = decide(card, command_from(command), context)
        assert isinstance(decision, Decision)
        card = _a(decision.subject)
        lifted = decide(card, resume, context)
        assert isinstance(lifted, Decision)
        succeeded = lifted.status is Status.SUCCESSFUL
        assert liftable or not succeeded, f"{resume_with} lifts {suspensions} only after {step}"
        liftable = succeeded
        if card.locks:
            assert not succeeded or resume_with == "ISSUER_DECISION"


@given(
    history=st.sampled_from(sorted(SUSPENSIONS)),
    commands=st.lists(card_commands(), min_size=1, max_size=6),
    state=st.sampled_from(["SUSPENDED", "EXPIRED"]),
    form=st.sampled_from(["VIRTUAL", "PHYSICAL"]),
)
@settings(max_examples=600)
def test_a_lock_is_lifted_by_the_issuers_decision_only(
    history: str, commands: list[Data], state: str, form: str
) -> None:
    reason, needed, locks = SUSPENSIONS[history]
    card = card_from(
        a_card(state=state, stateReason=reason, suspensions=needed, locks=locks, form=form)
    )
    for command in commands:
        decision = decide(card, command_from(command), context_from(a_context(product=a_product())))
        if isinstance(decision, Ignored):
            continue
        after = _a(decision.subject)
        if not after.locks >= card.locks and after.state not in TERMINAL:
            assert command["command"] == "RESUME"
            assert decision.reason_code == "ISSUER_DECISION"
        if card.state is State.EXPIRED and card.state_reason is not None:
            assert after.state is not State.ACTIVE
        card = after


@given(zone=st.sampled_from(["UTC", "Pacific/Kiritimati", "America/New_York"]), data=st.data())
@settings(max_examples=200)
def test_a_card_works_through_the_last_moment_of_its_month(zone: str, data: st.DataObject) -> None:
    year, month = data.draw(st.integers(2026, 2060)), data.draw(st.integers(1, 12))
    after = (year, month + 1) if month < 12 else (year + 1, 1)
    ends_ms = int(datetime(*after, 1, tzinfo=ZoneInfo(zone)).timestamp() * 1000)
    card = card_from(a_card(exp=f"{month:02d}{year % 100:02d}"))
    suspend = command_from(a_command("SUSPEND"))
    context = context_from(a_context(issuerTimeZone=zone, versionTimeMs=None))
    before = decide(card, suspend, context._replace(start_time_ms=ends_ms - 1))
    later = decide(card, suspend, context._replace(start_time_ms=ends_ms))
    assert isinstance(before, Decision)
    assert isinstance(later, Decision)
    assert before.status is Status.SUCCESSFUL
    assert later.error_code == "CARD_EXPIRED"
