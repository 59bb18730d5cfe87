"""G3: the rules, run again over the operations of every subject in their recorded order.

Only what the log tells is used: the commands may be gone by the time someone asks. What an event
leaves out is found by `tests.oracle.witnesses`, so a subject may for a while be in one of several
states that look alike. What other lanes knew at the moment of a decision has no recorded order:
an operation waits until the walk has come far enough in them for the rules to allow it. When none
can go on, the first that waits was illegal.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

import asyncpg

from tests.oracle.fields import Data
from tests.oracle.tables import TERMINAL
from tests.oracle.views import card_view, shown_by, subject_view, told, told_of_caused
from tests.oracle.witnesses import Around, may_fail, outcomes, outcomes_of_end
from tests.support.evidence import Evidence, Logged

_SUBJECTS_NAMED_MAX = 3
_RELINKING = frozenset({"ACTIVATE", "RENEW"})
_MAKING_CARDS = frozenset({"CREATE", "REGISTER", "REPLACE", "RENEW"})
# What is personal, and no event shows.
_UNTOLD = frozenset({"name", "secondName"})

States = list[Data | None]


def verify_every_path_is_legal(evidence: Evidence) -> None:
    """G3: and where the paths end is what is stored, and what the state topic tells last."""
    walk = _Walk(evidence)
    walk.go()
    for row in evidence.cards:
        _verify_stored(row, walk.states[f"{row['issuer_id']}/{row['card_id']}"])
    newest = {
        record.key: json.loads(record.value or b"")
        for records in evidence.state.values()
        for record in records
    }
    for key, last in newest.items():
        assert key is not None, "compaction goes by the key"
        possible = [card_view(card) for card in walk.states[key.decode()] if card is not None]
        assert last["card"] in possible, f"{key!r}: the state topic tells {last}"


class _Walk:
    """How far each subject has come, and what it may be there: None when there is none yet."""

    def __init__(self, evidence: Evidence) -> None:
        self._rows = evidence.by_subject
        self._time_zones = evidence.issuer_time_zones
        self._at: dict[str, int] = defaultdict(int)
        self._version: dict[str, int] = defaultdict(int)
        self.states: dict[str, States] = defaultdict(lambda: [None])
        self._history: dict[str, States] = defaultdict(lambda: [None])
        # By the operation that is the cause, and what the rules let it make of another card.
        self._caused: dict[str, Logged] = {}
        for row in evidence.log:
            if row.caused:
                cause = row.event["causationId"]
                assert cause not in self._caused, "a command causes one operation at most"
                self._caused[cause] = row
        self._made: dict[str, States] = {}
        self._begun: dict[str, list[Data]] = {}
        self._enrolments: dict[str, set[str]] = defaultdict(set)

    def go(self) -> None:
        """Go over the log until its end."""
        # Most cards need to know their product and their consumer.
        waiting = sorted(self._rows, key=lambda key: (key.count("/") == 1, key))
        while waiting:
            moved = [key for key in waiting if self._advance(key)]
            if not moved:
                raise AssertionError(self._complaint(waiting))
            waiting = [key for key in waiting if self._at[key] < len(self._rows[key])]

    def _advance(self, key: str) -> bool:
        start, rows = self._at[key], self._rows[key]
        while self._at[key] < len(rows) and self._step(rows[self._at[key]]):
            self._at[key] += 1
        return self._at[key] > start

    def _complaint(self, waiting: Sequence[str]) -> str:
        lines = ["the rules do not allow, or what they need for it is missing:"]
        for key in waiting[:_SUBJECTS_NAMED_MAX]:
            lines += [str(self._rows[key][self._at[key]].event), f"after {self.states[key]}"]
        return "\n".join(lines)

    def _step(self, row: Logged) -> bool:
        """Whether the operation is legal by what is known so far; if so, go behind it."""
        caused = self._caused_by(row)
        if row.caused:
            after = self._made.get(row.event["causationId"], [])
        elif caused is not None and not self._is_next(caused):
            return False
        elif row.event["operation"]["status"] == "FAILED" and not row.is_end:
            after = self._unless_it_may_not_fail(row)
        else:
            after = self._after(row, caused)
        if not after:
            return False
        self.states[row.key] = after
        self._history[row.key] += after
        self._version[row.key] = row.event["version"]
        return True

    def _caused_by(self, row: Logged) -> Logged | None:
        """What the operation caused: one that was PENDING, when it ended."""
        operation = row.event["operation"]
        is_done = operation["status"] == "SUCCESSFUL" and not row.caused
        return self._caused.get(operation["operationId"]) if is_done else None

    def _is_next(self, row: Logged) -> bool:
        rows, at = self._rows[row.key], self._at[row.key]
        return at < len(rows) and rows[at] is row

    def _unless_it_may_not_fail(self, row: Logged) -> States:
        """The states as they were: those in which the rules may refuse it with its code."""
        shown = shown_by(row.event, self._version[row.key])
        return [
            state
            for state in self._before(row)
            if shown["subject"] == subject_view(state)
            and shown["previousState"] == (state and state.get("state"))
            and not shown["moves version"]
            and shown["details"] == {}
            and may_fail(
                row.event,
                [found for _, found in outcomes(row.event, state, self._around(row, state))],
            )
        ]

    def _after(self, row: Logged, caused: Logged | None) -> States:
        shown = shown_by(row.event, self._version[row.key])
        operation_id = row.event["operation"]["operationId"]
        after, made, begun = [], [], []
        for state in self._before(row):
            for command, outcome in self._outcomes(row, state):
                if outcome["ignored"] or told(state, command, outcome) != shown:
                    continue
                if not self._is_recorded(outcome, caused):
                    continue
                after.append(outcome["subject"])
                made += [one["card"] for one in outcome["caused"]]
                begun.append({"command": command, "incarnation": (state or {}).get("incarnation")})
        if after:
            self._made[operation_id] = _distinct(made)
            self._note_pending(row, begun)
        return _distinct(after)

    def _outcomes(self, row: Logged, state: Data | None) -> Iterable[tuple[Data, Data]]:
        around = self._around(row, state)
        if not row.is_end:
            return outcomes(row.event, state, around)
        assert state is not None, "what waits is about a card"
        begun = self._begun.get(row.event["operation"]["operationId"], [])
        return outcomes_of_end(row.event, state, begun, around)

    def _is_recorded(self, outcome: Data, caused: Logged | None) -> bool:
        if caused is None or not outcome["caused"]:
            return caused is None and not outcome["caused"]
        (one,) = outcome["caused"]
        shown = shown_by(caused.event, self._version[caused.key])
        return caused.key == f"{one['card']['issuerId']}/{one['card']['cardId']}" and any(
            told_of_caused(state, outcome, one) == shown for state in self.states[caused.key]
        )

    def _note_pending(self, row: Logged, begun: list[Data]) -> None:
        operation = row.event["operation"]
        if operation["status"] == "PENDING":
            self._begun[operation["operationId"]] = begun
        if operation["operation"] == "CLICK_TO_PAY_ENROLMENT":
            waiting = self._enrolments[row.key]
            (waiting.discard if row.is_end else waiting.add)(operation["operationId"])

    def _before(self, row: Logged) -> States:
        """What the subject may be; no event tells that a CREATE registered a consumer."""
        states = self.states[row.key]
        if "/consumer/" not in row.key or None not in states:
            return states
        named = {name: row.event[name] for name in ("issuerId", "consumerId")}
        return [*states, {**named, "state": "ACTIVE"}]

    # --- what the log knows of others

    def _around(self, row: Logged, state: Data | None) -> Around:
        issuer_id, kind = row.event["issuerId"], row.event["operation"]["operation"]
        if row.key.count("/") > 1:
            return Around()  # what is said of a consumer or product looks at nothing else
        caused = self._caused_by(row)
        is_moved = caused is not None and kind in ("REPLACE", "RENEW") and not _is_relink(caused)
        return Around(
            time_zone=self._time_zones.get(issuer_id, "UTC"),
            consumer_states=self._consumer_states(row, state),
            products=self._products(row, kind) if kind in _MAKING_CARDS else [None],
            predecessors=self._predecessors(state, caused) if kind in _RELINKING else [None],
            holders=self.states[caused.key] if caused is not None and is_moved else [None],
            real_cards=self._real_cards(row, state) if kind in _MAKING_CARDS else [None],
            caused=[caused.event["card"]] if caused is not None and is_moved else (),
            enrolment_is_pending=bool(self._enrolments[row.key]),
        )

    def _consumer_states(self, row: Logged, state: Data | None) -> list[str | None]:
        """Those that the card's consumer ever had; whoever has a card was ACTIVE first."""
        card = row.event["card"] or state
        prefix = f"{row.event['issuerId']}/consumer/"
        keys = [prefix + card["consumerId"]] if card else self._with(prefix)
        found = [one["state"] for key in keys for one in self._history[key] if one is not None]
        return list(dict.fromkeys(["ACTIVE", *found]))

    def _products(self, row: Logged, kind: str) -> States:
        """The terms that the card's product ever had; of a card that never was, of any product."""
        prefix = f"{row.event['issuerId']}/product/"
        card = row.event["card"]
        keys = [prefix + card["cardProductId"]] if card else self._with(prefix)
        found = [one["terms"] for key in keys for one in self._history[key] if one is not None]
        # Whoever has a successor has a product.
        return _distinct(found if card and kind in ("REPLACE", "RENEW") else [None, *found])

    def _real_cards(self, row: Logged, state: Data | None) -> States:
        """The card that a virtual card stands for, as it ever was."""
        card = state or row.event["card"]
        if row.event["operation"]["operation"] in ("CREATE", "REGISTER"):
            card = row.event["card"]
        if card is None or card["realCardId"] is None:
            return [None]
        return _distinct(self._history[f"{row.event['issuerId']}/{card['realCardId']}"])

    def _with(self, prefix: str) -> list[str]:
        return [key for key in self._rows if key.startswith(prefix)]

    def _predecessors(self, state: Data | None, caused: Logged | None) -> States:
        """The card before this one: now, or as it was some time since this one came after it."""
        if state is None or state["predecessorCardId"] is None:
            return [None]
        if caused is not None and _is_relink(caused):
            return self.states[caused.key]
        history = self._history[f"{state['issuerId']}/{state['predecessorCardId']}"]
        since = next(
            at
            for at, one in enumerate(history)
            if one is not None and one["successorCardId"] == state["cardId"]
        )
        return _distinct(history[since:])


def _is_relink(row: Logged) -> bool:
    return bool(row.event["operation"]["operation"] == "RELINK")


def _distinct(states: Iterable[Data | None]) -> States:
    found: States = []
    for state in states:
        if state not in found:
            found.append(state)
    return found


# --- what is stored


def _verify_stored(row: asyncpg.Record, possible: States) -> None:
    stored = {**dict(row), "terms": json.loads(row["terms"])}
    wanted = [_columns(card) for card in possible if card is not None]
    assert any(
        all(stored[name] == value for name, value in columns.items()) for columns in wanted
    ), f"stored is {stored}, the rules give {wanted}"


def _columns(card: Data) -> Data:
    """The card as a row, but for what no operation tells."""
    row = {_snake(name): value for name, value in card.items() if name not in _UNTOLD}
    row |= {name: ",".join(sorted(card[name])) for name in ("locks", "suspensions")}
    row["terms"] = {_snake(name): value for name, value in card["terms"].items()}
    if card["state"] in TERMINAL:
        row["suspensions"] = ""
    return row


def _snake(name: str) -> str:
    return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)
