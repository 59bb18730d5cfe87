"""What a batch means for the timers of a card: the difference, and what was ignored too early."""

from dataclasses import replace

from lifecycle.domain.cards import Card, State
from lifecycle.domain.chain import Chain
from lifecycle.domain.timers import due_timers
from lifecycle.postgres.timers import TimerKey
from lifecycle.worker.subjects import Subjects, Tracked
from lifecycle.worker.timers import TimerChanges, timer_changes
from tests.unit.deciding import START_MS, VIRTUAL, a_card

_KEY = ("BANK000001", "card-1")
_RENEWING = replace(VIRTUAL, auto_renew=True)


def _changes(
    before: Card | None,
    after: Card | None,
    *,
    ignored_ms: int | None = None,
    zones: dict[str, str] | None = None,
) -> TimerChanges:
    tracked: Tracked[Card] = Tracked(after, Chain(), Chain(), stored=before)
    ignored = {} if ignored_ms is None else {_KEY: ignored_ms}
    return timer_changes(Subjects(cards={_KEY: tracked}), ignored, zones or {})


def _stored(changes: TimerChanges) -> list[tuple[str, int]]:
    return [(timer.kind, timer.due_ms) for timer in changes.stored]


def test_a_new_card_has_its_timers_stored() -> None:
    card = a_card(terms=_RENEWING, delete_at_ms=START_MS)
    changes = _changes(None, card)
    expected = [(timer.kind.value, timer.due_ms) for timer in due_timers(card, "UTC")]
    assert _stored(changes) == expected
    assert len(expected) == 3
    assert changes.dropped == []


def test_the_months_of_a_card_end_where_its_issuer_is() -> None:
    zone = "America/New_York"
    card = a_card()
    ((_, due_ms),) = _stored(_changes(None, card, zones={"BANK000001": zone}))
    assert due_ms == due_timers(card, zone)[0].due_ms != due_timers(card, "UTC")[0].due_ms


def test_an_operation_that_moves_no_timer_touches_none() -> None:
    card = a_card(delete_at_ms=START_MS)
    assert _changes(card, replace(card, name="B")) == ([], [])
    assert _changes(card, card) == ([], [])
    assert _changes(None, None) == ([], [])


def test_only_what_differs_is_stored_or_dropped() -> None:
    card = a_card(terms=_RENEWING, delete_at_ms=START_MS)
    held = replace(card, state=State.SUSPENDED, state_reason="USER_DECISION")
    assert _changes(card, held) == ([], [TimerKey(*_KEY, "AUTO_RENEW")])
    assert [kind for kind, _ in _stored(_changes(held, card))] == ["AUTO_RENEW"]
    renewed = replace(card, exp="1130")
    assert [kind for kind, _ in _stored(_changes(card, renewed))] == ["AUTO_RENEW", "EXPIRE"]


def test_a_card_that_leaves_takes_its_timers_with_it() -> None:
    card = a_card(terms=_RENEWING, delete_at_ms=START_MS)
    changes = _changes(card, replace(card, state=State.DELETED))
    assert changes.stored == []
    assert {key.kind for key in changes.dropped} == {"EXPIRE", "AUTO_RENEW", "DELETE_DUE"}


def test_a_new_life_of_a_card_id_has_timers_of_its_own() -> None:
    before = a_card(State.DELETED)
    changes = _changes(before, a_card(incarnation=2))
    assert [timer.command_id for timer in changes.stored] == ["EXPIRE:1127:2"]


def test_a_timer_that_was_ignored_too_early_is_stored_again_and_one_that_was_due_is_not() -> None:
    """Stored again, what was ignored for good would be sent for ever."""
    card = a_card()
    (expire,) = due_timers(card, "UTC")
    early = _changes(card, card, ignored_ms=expire.due_ms - 1)
    assert _stored(early) == [("EXPIRE", expire.due_ms)]
    assert _changes(card, card, ignored_ms=expire.due_ms) == ([], [])
