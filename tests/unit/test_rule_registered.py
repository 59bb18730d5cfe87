"""Production against the oracle: registered cards, numbers, timers, replies and time-outs.

The products of `tests/oracle/registered.py`; a sentence for each ruling is in the tests of the
decision (`test_decide_registered.py`, `test_decide_timers.py`, `test_decide_pending.py`).
"""

from collections.abc import Callable, Iterator

import pytest

from tests.oracle.adapters import disagreements, reply_disagreements
from tests.oracle.fields import Data
from tests.oracle.registered import (
    ANSWERS,
    FREE,
    HOLDERS,
    OF_ALL,
    OF_REGISTERED,
    OPENED,
    REPLIES,
    WAITING,
    registered_situations,
    timed_situations,
)
from tests.oracle.situations import NOW_MS, Question, a_card, a_command, a_context

SHOWN_MAX = 15
Situation = tuple[str, Data | None, Data | None]


TIMED = ("CARD_PRESENT", "EXPIRE", "AUTO_RENEW", "DELETE_DUE")


def some(situations: Iterator[Situation], *, of: int) -> Iterator[Situation]:
    """One in `of`: no divisor of the number of variants, so that all of them are met."""
    return (one for number, one in enumerate(situations) if number % of == 0)


def compare(
    situations: Iterator[Situation],
    command: str,
    questions: Callable[[], Iterator[Question]],
    *,
    at_least: int,
) -> None:
    asked = list(questions())
    wrong, count = [], 0
    for label, card, predecessor in situations:
        for fields, context in asked:
            count += 1
            there = a_context(predecessor=predecessor, **context)
            sentences = disagreements(card, a_command(command, **fields), there)
            wrong += [f"{label} | {fields} | {context} | {one}" for one in sentences]
    assert not wrong, f"{len(wrong)} in {count} cases:\n" + "\n".join(wrong[:SHOWN_MAX])
    assert count >= at_least


@pytest.mark.parametrize("command", sorted(OF_REGISTERED))
def test_production_says_what_the_rule_book_says_of_registered_cards(command: str) -> None:
    situations = registered_situations()
    if command not in ("REGISTER", "REPLACE", "RENEW"):
        situations = some(situations, of=7)
    compare(situations, command, OF_REGISTERED[command], at_least=400)


@pytest.mark.parametrize("command", sorted(OF_ALL))
def test_production_says_what_the_rule_book_says_with_every_flag(command: str) -> None:
    situations = timed_situations()
    if command not in TIMED:
        situations = some(situations, of=4)
    compare(situations, command, OF_ALL[command], at_least=3_000)


def test_a_cvv_activates_as_the_rule_book_says() -> None:
    def by_cvv() -> Iterator[Situation]:
        for label, card, old in registered_situations():
            if card is not None:
                terms = {**card["terms"], "activationMethod": "CVV"}
                yield label, {**card, "terms": terms}, old

    compare(by_cvv(), "ACTIVATE", ANSWERS, at_least=5_000)


@pytest.mark.parametrize("waiting", WAITING, ids=lambda one: f"{one['command']}-{len(one)}")
def test_a_reply_ends_what_waited_as_the_rule_book_says(waiting: Data) -> None:
    command = a_command(waiting["command"], **{**waiting, "command": waiting["command"]})
    contexts = [
        *OPENED,
        *({**FREE, "newCard": holder} for holder in HOLDERS),
        *({**FREE, "consumerState": state} for state in ("INACTIVE", "DELETED")),
    ]
    wrong, count = [], 0
    for label, card, old in registered_situations():
        assert card is not None
        for incarnation in {1, card["incarnation"]}:
            pending = {
                "command": command,
                "startTimeMs": NOW_MS - 5_000,
                "deadlineMs": NOW_MS + 5_000,
                "incarnation": incarnation,
            }
            for reply, context in [
                *((REPLIES[0], context) for context in contexts),
                *((reply, FREE) for reply in REPLIES[1:]),
            ]:
                count += 1
                there = a_context(predecessor=old, pending=pending, **context)
                wrong += [
                    f"{label} | {reply} | {context} | {one}"
                    for one in reply_disagreements(card, reply, there)
                ]
    assert not wrong, f"{len(wrong)} in {count} cases:\n" + "\n".join(wrong[:SHOWN_MAX])
    assert count >= 5_000


def test_a_time_out_ends_what_waited_from_its_deadline_on() -> None:
    wrong = []
    for waiting in WAITING:
        for deadline in (NOW_MS - 1, NOW_MS, NOW_MS + 1):
            pending = {
                "command": a_command(waiting["command"], **waiting),
                "startTimeMs": NOW_MS - 5_000,
                "deadlineMs": deadline,
                "incarnation": 1,
            }
            for waits in (pending, None):
                there = a_context(pending=waits)
                time_out = a_command("TIME_OUT", operationId="o1", correlationId="a/b")
                for card in (a_card(), a_card(state="DELETED", stateReason="FRAUD")):
                    wrong += disagreements(card, time_out, there)
    assert wrong == []


def test_a_reply_to_what_has_ended_is_ignored() -> None:
    assert reply_disagreements(a_card(), REPLIES[0], a_context(**FREE)) == []
