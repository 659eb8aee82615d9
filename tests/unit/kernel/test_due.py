"""When live runs are due next."""

from __future__ import annotations

from perdure.kernel.due import DueRuns


def test_each_run_is_taken_once_at_its_earliest_moment():
    """Later moments of the same run are told again after it was taken."""
    due = DueRuns()
    for run, moment in (("a", 30), ("b", 20), ("a", 10), ("a", 40)):
        due.note(run, moment)
    assert due.first() == 10
    assert due.take(9) == []
    assert due.take(25) == ["a", "b"]
    assert due.first() is None
    due.note("a", 40)
    assert due.take(40) == ["a"]


def test_runs_that_left_are_forgotten_and_take_no_room():
    """However many came and went."""
    due = DueRuns()
    for n in range(10_000):
        due.note(f"run{n}", n)
        if n >= 5:
            due.forget(f"run{n}")
    assert len(due._heap) <= 1_100
    assert due.take(10_000) == [f"run{n}" for n in range(5)]
