"""The pen of one run alone: nothing that was asked to be written stays behind."""

from __future__ import annotations

from typing import Any

from perdure.kernel.draft import Draft, Entry
from perdure.kernel.writer import Writer
from perdure.store.contract import Fence
from perdure.testing.clock import FakeClock
from perdure.values.runs import Run, RunStatus


class Commits:
    """A group commit that writes when the test says so."""

    def __init__(self):
        self.waiting = []

    def submit(self, build, done):
        self.waiting.append((build, done))

    def write_all(self):
        while self.waiting:
            build, done = self.waiting.pop(0)
            build()
            done(None)


class Author:
    """Adds to the journal when its first draft is written."""

    def __init__(self):
        self.types = []
        self.writer: Any = None

    def before_writing(self):
        pass

    def row_update(self, draft, now):
        return None

    def refused(self, draft, refusal):
        raise refusal

    def written_late(self, draft, *, accepted):
        raise AssertionError("nothing is closed here")

    def written(self, draft, events, signal_ids):
        self.types += [event.type for event in events]
        if self.types == ["timer.fired"]:
            self.writer.append("run.succeeded", None, None, "{}")
            self.writer.write_now()


def test_what_is_added_while_a_draft_waits_alone_is_written_after_it():
    """An agent ends at a timer while the expiry of a question is still to be written: its end is not forgotten."""
    commits: Any = Commits()
    author: Any = Author()
    run = Run("run_1", "a", "1", None, "a:0", RunStatus.RUNNING, 0, 0)
    writer = author.writer = Writer(run, Fence("a:0", 1), commits, FakeClock(), author)
    writer.append("timer.fired", 1, None, "{}")
    alone = Draft(refused=lambda _: None)
    alone.entries.append(Entry("ask.expired", 2, None, "{}"))
    writer.write_alone(alone)
    commits.write_all()
    assert author.types == ["timer.fired", "ask.expired", "run.succeeded"]
    assert writer.quiet
