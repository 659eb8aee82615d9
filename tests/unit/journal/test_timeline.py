"""A journal folded into steps, and two of them compared."""

import asyncio

import pytest

from perdure import Context, Runtime, agent
from perdure.errors import ReceiveTimeout
from perdure.journal.diff import diff_timelines
from perdure.journal.timeline import read_timeline
from perdure.testing.clock import FakeClock
from perdure.values.events import Event, event_data


def journal(*entries):
    """Events of one run from (type, step, attempt, data), a second apart; a list of them is one commit."""
    commits = [entry if isinstance(entry, list) else [entry] for entry in entries]
    timed = [(second, *entry) for second, commit in enumerate(commits, 1) for entry in commit]
    return [
        Event("run_a", seq, kind, second * 1_000_000, step, attempt, event_data(**data))
        for seq, (second, kind, step, attempt, data) in enumerate(timed, 1)
    ]


def called(step, name="price", attempt=1, **data):
    """A tool step that begins."""
    return ("step.started", step, attempt, {"step": step, "kind": "tool", "name": name, "args": {"n": step}, **data})


def returned(step, result, name="price", attempt=1):
    """A tool step that ends well."""
    return ("step.completed", step, attempt, {"step": step, "kind": "tool", "name": name, "result": result})


def awaited(step, at="shop.py:7"):
    """A receive that begins."""
    return ("message.awaited", step, None, {"step": step, "kind": "receive", "name": "word", "at": at})


def slept(step, at="shop.py:7"):
    """A timer that begins."""
    due = "2026-01-01T00:00:00Z"
    return ("timer.started", step, None, {"step": step, "kind": "sleep", "name": "sleep", "due": due, "at": at})


def fired(step):
    """A timer that is due."""
    return ("timer.fired", step, None, {"step": step})


def received(value):
    """A message."""
    return ("message.received", None, None, {"topic": "word", "value": value})


def test_a_step_lasts_from_its_first_start_to_its_end():
    """Attempts are counted; a retry in between does not end it."""
    failure = {"step": 1, "error": {"type": "OSError", "message": "no"}, "retry_at": "2026-01-01T00:00:00Z"}
    [step] = read_timeline(
        journal(called(1, at="shop.py:3"), ("step.failed", 1, 1, failure), called(1, attempt=2), returned(1, 7))
    )

    assert (step.kind, step.name, step.at, step.args) == ("tool", "price", "shop.py:3", {"n": 1})
    assert (step.status, step.attempts, step.result, step.due) == ("done", 2, 7, None)
    assert step.seconds == 3.0


@pytest.mark.parametrize(
    ("last", "status"),
    [
        (None, "open"),
        (("step.failed", 1, 1, {"step": 1, "error": {"type": "E", "message": "m"}}), "failed"),
        (("step.failed", 1, 1, {"step": 1, "error": {}, "retry_at": "2026-01-01T00:00:00Z"}), "retrying"),
        (("step.unknown", 1, 1, {"step": 1}), "unknown"),
        (("step.resolved", 1, 1, {"step": 1, "outcome": "happened", "result": 1}), "done"),
        (("step.resolved", 1, 1, {"step": 1, "outcome": "fail"}), "failed"),
        (("step.resolved", 1, 1, {"step": 1, "outcome": "run-again"}), "open"),
        (("step.cancelled", 1, 1, {"step": 1, "outcome": "not run"}), "withdrawn"),
    ],
)
def test_the_last_event_of_a_step_says_how_it_stands(last, status):
    """Only ended steps have a duration."""
    [step] = read_timeline(journal(called(1), *([last] if last else [])))

    assert step.status == status
    assert (step.seconds is None) == (status in ("open", "retrying", "unknown"))


def test_people_children_timers_and_messages_are_steps_as_well():
    """Each with what it asked for and what it brought."""
    asked = {"id": "run_a:1", "step": 1, "kind": "ask", "name": "Go?", "question": "Go?", "to": "boss"}
    steps = read_timeline(
        journal(
            ("ask.opened", 1, None, asked),
            ("ask.answered", 1, None, {"id": "run_a:1", "step": 1, "value": True}),
            (
                "child.spawned",
                2,
                None,
                {"step": 2, "kind": "child", "name": "buyer", "run": "run_a.2", "detach": False},
            ),
            ("child.ended", 2, None, {"step": 2, "run": "run_a.2", "status": "failed", "error": {"type": "E"}}),
            ("timer.started", 3, None, {"step": 3, "kind": "sleep", "name": "sleep", "due": "2026-01-01T00:00:00Z"}),
            ("timer.fired", 3, None, {"step": 3}),
            ("message.awaited", 4, None, {"step": 4, "kind": "receive", "name": "word"}),
            ("message.received", None, None, {"topic": "word", "value": "hello"}),
            ("message.sent", 5, None, {"step": 5, "kind": "send", "name": "word", "to": {"run": "x"}, "value": 1}),
            ("progress", 6, None, {"done": 1}),
            ("progress", 4, 1, {"done": 2}),
        )
    )

    told = [(step.kind, step.status, step.result) for step in steps]
    assert told == [
        ("ask", "done", True), ("child", "failed", None), ("sleep", "done", None), ("receive", "done", "hello"),
        ("send", "done", None), ("emit", "done", None),
    ]  # fmt: skip
    assert steps[0].args == {"question": "Go?", "to": "boss"}
    assert (steps[1].refers, steps[1].error) == ("run_a.2", {"type": "E"})


def test_a_message_goes_to_the_receive_that_is_still_waited_for():
    """One that ran into its timeout was given up; a timeout that was not needed is withdrawn."""
    steps = read_timeline(journal([awaited(1), slept(2)], fired(2), [awaited(3), slept(4)], received("hello")))

    assert [(step.kind, step.status, step.result, step.seconds) for step in steps] == [
        ("receive", "expired", None, 1.0), ("sleep", "done", None, 1.0),
        ("receive", "done", "hello", 1.0), ("sleep", "withdrawn", None, 1.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "entries",
    [
        [[awaited(1), slept(2, at="shop.py:8")]],
        [awaited(1), slept(2)],
        [[awaited(1, at=None), slept(2, at=None)]],
        [[awaited(1), called(2), slept(3)]],
    ],
    ids=["another line", "another commit", "nobody knows where", "not the next step"],
)
def test_a_timer_of_something_else_gives_no_receive_up(entries):
    """Where the journal does not prove it, the oldest receive of the topic gets the message."""
    timer = max(step for entry in entries for _, step, *_ in (entry if isinstance(entry, list) else [entry]))
    receive, *_ = read_timeline(journal(*entries, fired(timer), received("hello")))

    assert (receive.status, receive.result) == ("done", "hello")


def test_what_a_receive_with_a_timeout_journals_is_known_as_such():
    """Same line, same commit, next step: this is what the timeline goes by."""

    @agent
    async def listening(ctx: Context) -> str:
        """Lose patience once, and wait again."""
        try:
            return await ctx.receive("word", str, timeout=5)
        except ReceiveTimeout:
            return await ctx.receive("word", str, timeout=5)

    async def run():
        clock = FakeClock()
        async with Runtime("memory://", agents=[listening], clock=clock) as runtime:
            handle = await runtime.start(listening)
            await clock.advance(6)
            await handle.send("word", "hello")
            await clock.advance(1)
            return await runtime.journal(handle.id)

    steps = read_timeline(asyncio.run(run()))
    assert [(step.kind, step.status) for step in steps] == [
        ("receive", "expired"), ("sleep", "done"), ("receive", "done"), ("sleep", "withdrawn"),
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["run.succeeded", "run.failed", "run.cancelled", "run.continued"])
def test_nothing_is_waited_for_after_the_end(end):
    """Whatever was open is withdrawn, but for what goes on or remains unknown without the run."""
    child = {"kind": "child", "name": "buyer", "run": "run_b"}
    failure = {"step": 3, "error": {}, "retry_at": "2026-01-01T00:00:00Z"}
    steps = read_timeline(
        journal(
            slept(1), awaited(2), called(3), ("step.failed", 3, 1, failure), called(4), ("step.unknown", 4, 1, {}),
            ("child.spawned", 5, None, {**child, "step": 5, "detach": False}),
            ("child.spawned", 6, None, {**child, "step": 6, "detach": True}), called(7), returned(7, 1),
            (end, None, None, {}),
        )
    )  # fmt: skip

    assert [step.status for step in steps] == [
        "withdrawn", "withdrawn", "withdrawn", "unknown", "withdrawn", "open", "done",
    ]  # fmt: skip
    assert (steps[0].seconds, steps[0].due, steps[2].due) == (10.0, None, None)


def test_alike_timelines_have_no_differences():
    """Times and durations are not compared."""
    ours = read_timeline(journal(called(1), returned(1, 7)))
    theirs = read_timeline(journal(called(1), called(2), returned(1, 7)))[:1]

    assert [pair.fields for pair in diff_timelines(ours, theirs)] == [()]


def test_a_step_that_only_one_has_stands_alone_and_the_rest_stays_aligned():
    """What comes after an inserted step is paired with its like."""
    ours = read_timeline(journal(called(1), returned(1, 1), called(2, "order"), returned(2, 2, "order")))
    theirs = read_timeline(
        journal(called(1), returned(1, 1), called(2, "check"), returned(2, 0, "check"), called(3, "order"))
    )
    pairs = diff_timelines(ours, theirs)

    assert [(pair.left and pair.left.name, pair.right and pair.right.name, pair.fields) for pair in pairs] == [
        ("price", "price", ()),
        (None, "check", ("step",)),
        ("order", "order", ("args", "result", "status")),
    ]


@pytest.mark.parametrize("lengths", [(0, 0), (0, 3), (3, 0), (1, 4), (2500, 2600)], ids=str)
def test_every_step_is_shown_exactly_once(lengths):
    """However long the timelines are, and however little they have in common."""
    left, right = (
        read_timeline(journal(*(called(step, f"{side}{step % 7}") for step in range(1, length + 1))))
        for side, length in zip("ab", lengths, strict=True)
    )
    pairs = diff_timelines(left, right)

    assert [pair.left for pair in pairs if pair.left is not None] == left
    assert [pair.right for pair in pairs if pair.right is not None] == right
