"""Other lives of a run: replayed against code, forked, compared, exported and imported."""

import json

import pytest


@pytest.fixture
def done(typed):
    """A buyer that got its answer and succeeded; its id."""
    run = typed("run", "shop.py:buyer", '["pen", "ink"]', "--no-wait", "--json").json["id"]
    typed("answer", f"{run}:4", '{"approved": true}')
    typed("work", "shop.py", "--until-idle")
    return run


def changed(folder, old, new):
    """A copy of shop.py with other code; its name."""
    text = (folder / "shop.py").read_text(encoding="utf-8")
    assert old in text
    (folder / "changed.py").write_text(text.replace(old, new), encoding="utf-8")
    return "changed.py"


def test_the_code_that_wrote_a_journal_fits_it(typed, done):
    """Every step is replayed, no tool is called, nothing is written."""
    before = typed("events", done, "--json").out
    told = typed("replay", done, "shop.py", "--json")

    assert told.code == 0
    assert (told.json["matches"], told.json["steps"], told.json["divergence"]) == (True, 7, None)
    assert typed("events", done, "--json").out == before


def test_a_replay_calls_no_tool(typed, folder, done):
    """Tools that would explode are not even touched."""
    file = changed(folder, 'return f"order-{item}-{quantity}"', "raise SystemExit(item)")

    assert typed("replay", done, file).code == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('await ctx.emit("progress"', 'await ctx.emit("artifact"', "step 3 was recorded as emit 'progress'"),
        ("return {i: await order(i, 1) for i in items}", "return {}", "the code no longer asks for it"),
        (
            "return {i: await order(i, 1) for i in items}",
            "[await order(i, 1) for i in items]\n    return {}",
            "ends with: result {'pen'",
        ),
        (
            "return {i: await order(i, 1) for i in items}",
            "r = {i: await order(i, 1) for i in items}\n    await order('more', 1)\n    return r",
            "the code goes on with tool 'order'",
        ),
    ],
    ids=["another step", "a step less", "another result", "a step more"],
)
def test_code_that_does_something_else_is_found_out(typed, folder, done, old, new, said):
    """Exit code 1, and the place where journal and code part."""
    ended = typed("replay", done, changed(folder, old, new))

    assert ended.code == 1
    assert said in ended.out


def test_the_replay_of_a_waiting_run_says_what_it_waits_for(typed):
    """It matches so far; nothing new is asked for."""
    run = typed("run", "shop.py:buyer", '["pen"]', "--no-wait", "--json").json["id"]
    told = typed("replay", run, "shop.py", "--json").json

    assert (told["matches"], told["next"]) == (True, None)


def test_a_failed_and_a_cancelled_run_replay_as_well(typed):
    """Ends with errors are ends: the same code comes to the same one."""
    failed = typed("run", "shop.py:failing", "--json").json["id"]
    cancelled = typed("run", "shop.py:sleeper", "--no-wait", "--json").json["id"]
    typed("cancel", cancelled)
    typed("work", "shop.py", "--until-idle")

    for run in (failed, cancelled):
        ended = typed("replay", run, "shop.py")
        assert ended.code == 0, ended.out


@pytest.mark.parametrize(
    "ending",
    [
        "async with asyncio.timeout(5):\n        await asyncio.sleep(0)",
        "queue.put_nowait(1)\n    await asyncio.wait_for(queue.get(), 5)",
        "task = asyncio.create_task(ctx.receive('word', timeout=5))\n    await asyncio.sleep(0)\n    task.cancel()",
        "task = asyncio.create_task(asyncio.sleep(5))\n    await asyncio.sleep(0)",
        "ctx.state['queue'] = queue\n    await asyncio.sleep(5)",
    ],
    ids=["timeout not needed", "queue was filled", "task given up", "task left behind", "state that is no JSON"],
)
def test_what_came_to_nothing_in_the_last_turn_is_no_divergence(typed, folder, ending):
    """Such as a timer that was withdrawn before it was written."""
    (folder / "hasty.py").write_text(
        "import asyncio\nfrom perdure import Context, agent\n\n@agent\nasync def hasty(ctx: Context) -> None:\n"
        f"    await ctx.step(asyncio.sleep, 0)\n    queue = asyncio.Queue()\n    {ending}\n",
        encoding="utf-8",
    )
    told = typed("run", "hasty.py:hasty", "--json").json
    ended = typed("replay", told["id"], "hasty.py")

    assert told["status"] == "succeeded" or told["error"]["type"] == "NotJsonError"
    assert ended.code == 0, ended.out


def test_a_run_that_was_cancelled_while_parked_replays_as_well(typed, folder):
    """Its code was never asked: what it would have done next is no divergence."""
    run = typed("run", "shop.py:buyer", '["pen"]', "--no-wait", "--json").json["id"]
    typed("answer", f"{run}:3", '{"approved": true}')
    typed("work", changed(folder, 'await ctx.emit("progress"', 'await ctx.emit("artifact"'), "--until-idle")
    assert typed("show", run, "--json").json["run"]["status"] == "quarantined"
    typed("cancel", run)
    typed("work", "shop.py", "--until-idle")

    assert typed("show", run, "--json").json["run"]["status"] == "cancelled"
    ended = typed("replay", run, "shop.py")
    assert ended.code == 0, ended.out


def test_a_run_of_another_agent_cannot_be_replayed(typed, folder, done):
    """NotFound, naming what the file has."""
    (folder / "other.py").write_text(
        "from perdure import agent\n\n@agent\nasync def other(ctx): ...\n", encoding="utf-8"
    )
    ended = typed("replay", done, "other.py")

    assert ended.code == 1
    assert "defines: other" in ended.err


def test_a_fork_shares_the_past_and_differs_from_there(typed, done):
    """The given result stands for the step; `diff` shows that step and what followed from it."""
    forked = typed("fork", done, "--at", "4", "--result", '{"approved": false}', "--json").json
    assert forked["forked_from"] == done
    typed("work", "shop.py", "--until-idle")
    assert typed("show", forked["id"], "--json").json["run"]["result"] == {}

    told = typed("diff", done, forked["id"], "--json").json
    assert (told["left"], told["right"], told["alike"]) == (done, forked["id"], 3)
    first = told["steps"][0]
    assert first["differs"] == ["result"]
    assert (first["left"]["result"], first["right"]["result"]) == ({"approved": True}, {"approved": False})
    assert [step["right"] for step in told["steps"][1:]] == [None, None, None]
    assert "3 steps alike, 4 different" in typed("diff", done, forked["id"]).out


def test_a_fork_takes_another_input_as_people_write_it(typed, done):
    """The bare value for one parameter, without the agent's code at hand."""
    forked = typed("fork", done, "--at", "1", "--input", '["dye"]', "--json").json["id"]

    typed("work", "shop.py", "--until-idle")
    assert typed("show", forked, "--json").json["run"]["input"] == {"items": ["dye"]}


@pytest.mark.parametrize("words", [("--at", "99"), ("--at", "1", "--input", "3")], ids=" ".join)
def test_a_fork_that_makes_no_sense_is_refused(typed, done, words):
    """Steps that are not there; for several parameters an object is needed."""
    run = typed("run", "shop.py:adder", '{"a": 1}', "--json").json["id"] if "--input" in words else done

    assert typed("fork", run, *words).code in (1, 2)


def test_a_run_is_like_itself(typed, done):
    """No step differs."""
    assert typed("diff", done, done, "--json").json["steps"] == []


def test_an_exported_run_comes_back_as_it_was(typed, folder, done):
    """In another store: the same id, journal, status and replay."""
    typed("export", done, "--out", "run.jsonl")
    elsewhere = ("--store", "sqlite:///other.db")
    imported = typed("import", "run.jsonl", *elsewhere, "--json").json

    assert imported == {"id": done, "status": "succeeded", "events": 17, "imported_from": done}
    assert typed("events", done, "--json", *elsewhere).out == typed("events", done, "--json").out
    assert typed("replay", done, "shop.py", *elsewhere).code == 0
    assert typed("db", "check", *elsewhere).code == 0


def test_an_export_begins_with_the_run_and_goes_on_with_its_events(typed, done):
    """On stdout, one JSON object a line."""
    head, *events = typed("export", done).lines

    assert head["perdure"] == 1
    assert head["run"]["id"] == done
    assert events == typed("events", done, "--json").lines


def test_a_run_that_is_here_already_is_imported_as_a_copy(typed, folder, done):
    """Under a new id; it replays like the original, dice included."""
    typed("export", done, "--out", "run.jsonl")
    imported = typed("import", "run.jsonl")

    copy = imported.out.strip()
    assert copy != done
    assert "here already" in imported.err
    assert typed("replay", copy, "shop.py").code == 0


def test_an_unfinished_run_comes_in_paused_and_does_not_act(typed, folder):
    """A worker leaves it alone until somebody resumes it."""
    run = typed("run", "shop.py:buyer", '["pen"]', "--no-wait", "--json").json["id"]
    typed("export", run, "--out", "run.jsonl")
    elsewhere = ("--store", "sqlite:///other.db")

    assert typed("import", "run.jsonl", *elsewhere, "--json").json["status"] == "paused"
    typed("work", "shop.py", "--until-idle", *elsewhere)
    [row] = typed("runs", "--json", *elsewhere).json
    assert (row["status"], row["wait"]) == ("paused", {"kind": "pause"})
    typed("resume", run, *elsewhere)
    typed("work", "shop.py", "--until-idle", *elsewhere)
    assert typed("runs", "--json", *elsewhere).json[0]["status"] == "waiting"


def _drop_line(lines):
    return [lines[0], lines[1], *lines[3:]]


def _swap(lines):
    return [lines[0], lines[2], lines[1], *lines[3:]]


def _edit(number, **fields):
    def edit(lines):
        record = json.loads(lines[number])
        record.update(fields)
        return [*lines[:number], json.dumps(record), *lines[number + 1 :]]

    return edit


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda _: [], "holds no run"),
        (lambda lines: lines[:1], "holds no run"),
        (lambda lines: lines[1:], "line 1"),
        (_drop_line, "events are missing"),
        (_swap, "line 2"),
        (_edit(0, perdure=2), "upgrade"),
        (_edit(2, type="run.exploded"), "no event type"),
        (_edit(2, run="run_other"), "in the journal of"),
        (_edit(2, time="noon"), "not a time"),
        (_edit(2, step=-1), "line 3: step"),
        (_edit(2, more=1), "line 3: more"),
        (_edit(3, data={"step": 1}), "not what its type promises"),
        (_edit(1, data={"agent": "other", "input": {}}), "run.queued must name agent"),
        (lambda lines: [*lines, lines[-1].replace('"seq":17', '"seq":18')], "after the run's end"),
        (lambda lines: ["not json", *lines], "line 1"),
        (lambda lines: [*lines[:3], "[]", *lines[3:]], "line 4"),
    ],
    ids=[
        "empty", "no events", "no head", "a gap", "swapped", "newer", "unknown type", "foreign event", "bad time",
        "bad step", "unknown field", "bad data", "another agent", "after the end", "text", "a list",
    ],
)  # fmt: skip
def test_an_export_that_is_not_sound_is_refused_whole(typed, folder, done, spoil, said):
    """Exit code 2 with the line; nothing of it is in the store."""
    lines = typed("export", done).out.splitlines()
    (folder / "run.jsonl").write_text("".join(f"{line}\n" for line in spoil(lines)), encoding="utf-8")
    elsewhere = ("--store", "sqlite:///other.db")

    ended = typed("import", "run.jsonl", *elsewhere)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert not (folder / "other.db").exists()


def test_bytes_that_are_no_text_are_refused(typed, folder):
    """Exit code 2, no traceback."""
    (folder / "run.jsonl").write_bytes(b"\xff\xfe\x00")

    assert typed("import", "run.jsonl").code == 2
