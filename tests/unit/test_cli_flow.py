"""How the events of a tale are put in order."""

from lifecycle.cli.flow import Event, causes_first


def event(name: str, operation: str, cause: str | None = None) -> Event:
    return {"name": name, "operation": {"operationId": operation}, "causationId": cause}


def order(*events: Event) -> list[str]:
    return [event["name"] for event in causes_first(events)]


def test_what_comes_from_another_lane_before_its_cause_is_told_right_after_it() -> None:
    came_early = event("new card", "2", cause="1")
    others = [event("before", "0"), event("replace", "1"), event("after", "3")]
    assert order(came_early, *others) == ["before", "replace", "new card", "after"]


def test_what_was_pending_is_caused_by_its_end() -> None:
    began, ended = event("began", "1"), event("ended", "1")
    assert order(began, event("new card", "2", cause="1"), ended) == ["began", "ended", "new card"]


def test_all_else_stays_as_it_came() -> None:
    came = [event("a", "1"), event("b", "2", cause="1"), event("c", "3", cause="elsewhere")]
    assert order(*came) == ["a", "b", "c"]
