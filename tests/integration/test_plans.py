"""What PostgreSQL looks at for a statement grows with its poll, and not with what there is.

Every statement runs as the service writes it, on a database with many cards and 22 weeks of the
log; `python -m benchmarks.plans` does the same with ten million.
"""

import inspect
from collections.abc import AsyncIterator

import pytest_asyncio

from benchmarks.explaining import Plan
from benchmarks.hot_path import RECORDS, plans_of_hot_path
from benchmarks.large_database import large_database
from benchmarks.plans import MAY_LOOK_ANYWHERE, WEEKS, WEEKS_PROBED_MAX
from lifecycle.local import Servers
from lifecycle.postgres import (
    cascades,
    lanes,
    operations,
    pans,
    past_commands,
    pending,
    subjects,
    timers,
    views,
)

_CARDS = 40_000
_ROOM = (cascades, lanes, operations, pans, past_commands, pending, subjects, timers, views)
_COUNTS = {
    *("timers.count_due", "pending.count_due", "pending.count_open", "pending.count_dispatches"),
    "cascades.count_open",
}
_OF_A_SAMPLE_DAY = {"views.load_totals", "views.load_progress"}
_SMALL_TABLE_ROWS_MAX = 1_000
_STEPS_OF_A_PLAN = 10

Plans = dict[str, list[Plan]]


@pytest_asyncio.fixture(scope="module")
async def plans(servers: Servers) -> AsyncIterator[Plans]:
    async with large_database(servers.database_url, cards=_CARDS, weeks=WEEKS) as connection:
        yield await plans_of_hot_path(connection)


async def test_every_statement_is_looked_at(plans: Plans) -> None:
    """A COPY has no plan."""
    with_statements = {
        f"{module.__name__.rpartition('.')[2]}.{name}"
        for module in _ROOM
        for name, function in inspect.getmembers(module, inspect.iscoroutinefunction)
        if function.__module__ == module.__name__
        and any(call in inspect.getsource(function) for call in (".fetch", ".execute("))
    }
    assert with_statements - _OF_A_SAMPLE_DAY == plans.keys()


async def test_the_log_is_never_read_from_end_to_end(plans: Plans) -> None:
    for name, of_function in plans.items():
        for plan in of_function:
            # A week without a row may be read. One row says whether there are any.
            assert plan.rows_scanned_of_log <= (name == "views.has_operations"), (name, plan)


async def test_no_worker_looks_into_every_week_of_the_log(plans: Plans) -> None:
    for name, of_function in plans.items():
        for plan in of_function:
            if not name.startswith(MAY_LOOK_ANYWHERE):
                assert plan.weeks_probed <= WEEKS_PROBED_MAX, (name, plan)
    for name in ("operations.load_outbox", "lanes.lane_ends"):
        assert any(plan.weeks_probed for plan in plans[name])


async def test_what_a_worker_looks_at_grows_with_its_poll_alone(plans: Plans) -> None:
    """By the plan for any arguments, which a worker keeps. Fewer keys than rows: by their index."""
    assert _CARDS > _STEPS_OF_A_PLAN * RECORDS, "reading a table from end to end shows"
    for name, of_function in plans.items():
        if name.startswith("views.") or name in _COUNTS:
            continue  # these look at what they count, up to a million
        for plan in of_function:
            if plan.is_generic:
                assert all(rows <= _SMALL_TABLE_ROWS_MAX for rows in plan.scanned.values()), plan
                assert plan.rows_looked_at <= _STEPS_OF_A_PLAN * RECORDS, (name, plan)


async def test_cards_that_have_ended_are_not_looked_at(plans: Plans) -> None:
    """One card has thousands of virtual cards, and one consumer cards, that nearly all ended."""
    living = _CARDS // 10 // 1_000
    for name in ("subjects.count_virtual_cards", "cascades.load_pages", "cascades.insert_cascades"):
        assert plans[name]
        for plan in plans[name]:
            assert plan.probed.get("card", 0) <= 2 * living, (name, plan)
