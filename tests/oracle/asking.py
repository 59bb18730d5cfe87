"""Asking production one question in one line, for the tests that read as sentences."""

from lifecycle.domain.cards import Card
from lifecycle.domain.operations import Decision
from tests.oracle.adapters import command_from, context_from, decide, served, subject_from
from tests.oracle.fields import Data
from tests.oracle.situations import CARD, PENDING, a_card, a_command, a_context

LOST: Data = {"reasonCode": "CARD_LOST", "reason": "Left in a taxi"}
CREATE: Data = {"consumerId": "consumer-1", "cardProductId": "product-1"}
IN_PLACE: Data = {"newCardId": CARD, "newCardState": "ACTIVE"}


def ask(
    subject: Data | None, name: str, /, there: Data | None = None, **fields: object
) -> Decision:
    command = a_command(name, **fields)
    context = served(subject, command, there or a_context())
    decision = decide(subject_from(subject), command_from(command), context_from(context))
    assert isinstance(decision, Decision)
    return decision


def card_after(decision: Decision) -> Card:
    assert decision.error_code is None
    assert isinstance(decision.subject, Card)
    return decision.subject


def suspended(reason: str, *before: str, **changes: object) -> Data:
    locks = sorted(
        one.removesuffix("_LOCKED") for one in {reason, *before} if one.endswith("_LOCKED")
    )
    there: Data = {"state": "SUSPENDED", "stateReason": reason, "locks": locks, **changes}
    return a_card(suspensions=sorted({reason, *before}), **there)


def pending(**changes: object) -> Data:
    return a_card(ongoingOperation="RENEWAL", pendingExp=PENDING, **changes)
