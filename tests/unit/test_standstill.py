"""A lane stands still when it has work and does not move; nothing else counts."""

from lifecycle.worker.standstill import LaneWork, Progress, Standstill

LANE = LaneWork(3, "commands")


def test_a_lane_with_work_that_does_not_move_stands_still() -> None:
    standstill = Standstill()
    assert standstill.seconds({LANE: Progress(7, waits=True)}, 10.0) == {LANE: 0.0}
    assert standstill.seconds({LANE: Progress(7, waits=True)}, 15.0) == {LANE: 5.0}


def test_a_lane_that_moves_does_not() -> None:
    standstill = Standstill()
    standstill.seconds({LANE: Progress(7, waits=True)}, 10.0)
    assert standstill.seconds({LANE: Progress(8, waits=True)}, 15.0) == {LANE: 0.0}


def test_a_lane_without_work_does_not() -> None:
    standstill = Standstill()
    standstill.seconds({LANE: Progress(7, waits=False)}, 10.0)
    assert standstill.seconds({LANE: Progress(7, waits=False)}, 900.0) == {LANE: 0.0}
    assert standstill.seconds({LANE: Progress(7, waits=True)}, 901.0) == {LANE: 1.0}


def test_a_lane_that_is_read_again_and_again_after_failures_stands_still() -> None:
    standstill = Standstill()
    standstill.seconds({LANE: Progress(7, waits=True)}, 10.0)
    assert standstill.seconds({LANE: Progress(None, waits=True)}, 15.0) == {LANE: 5.0}
    assert standstill.seconds({LANE: Progress(7, waits=True)}, 20.0) == {LANE: 10.0}


def test_a_lane_that_others_have_is_forgotten() -> None:
    standstill = Standstill()
    standstill.seconds({LANE: Progress(7, waits=True)}, 10.0)
    assert standstill.seconds({}, 15.0) == {}
    assert standstill.seconds({LANE: Progress(7, waits=True)}, 20.0) == {LANE: 0.0}
