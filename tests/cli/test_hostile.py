"""What must not get through: hostile files, words that steer terminals or shells, slips that would act for real."""

import json
import stat

import pytest

ID = "run_0123456789abcdefgh"
MOMENT = "2026-01-01T00:00:00.000000Z"


def exported(*events, **about):
    """An export file with these (type, data) events after run.queued."""
    run = {"id": ID, "agent": "adder", "version": "1", "status": "paused", "attempt": 1, **about}
    queued = ("run.queued", {"agent": "adder", "version": "1", "input": {"a": 1, "b": 2}})
    lines = [{"perdure": 1, "run": run}]
    for seq, (type, data, *rest) in enumerate([queued, *events], 1):
        step, time = (*rest, None, MOMENT)[:2] if len(rest) < 2 else rest
        time = MOMENT if time is None else time
        lines.append({"run": ID, "seq": seq, "type": type, "time": time, "step": step, "attempt": None, "data": data})
    return "".join(f"{json.dumps(line)}\n" for line in lines)


@pytest.mark.parametrize(
    "event",
    [
        ("run.warning", {}),
        ("run.failed", {"error": "text"}),
        ("run.failed", {"error": {}}),
        ("run.continued", {}),
        ("run.started", {"state": []}),
        ("step.started", {"step": 1, "kind": 7, "name": 7}, 1),
        ("step.started", {"step": 1, "kind": "tool", "name": "x"}, 10**30),
        ("run.patched", {"name": "x"}, None, "0001-01-01T00:00:00+05:00"),
        ("run.patched", {"name": "x"}, None, "9999-12-31T23:59:59-05:00"),
    ],
)
def test_an_import_that_would_break_readers_is_refused(typed, event):
    """Exit code 2 and the line; the store's other runs stay readable, for people and programs."""
    typed("run", "shop.py:adder", '{"a": 1}')
    ended = typed("import", "-", input=exported(event))

    assert ended.code == 2, ended
    assert "line 3" in ended.err
    assert len(typed("runs", "--json").json) == 1


def test_a_schema_from_a_file_fetches_nothing(typed):
    """A schema that refers to a URL cannot check an answer: refused, and nobody is asked for that URL."""
    schema = {"$ref": "http://127.0.0.1:9/schema.json"}
    started = {"step": 1, "kind": "tool", "name": "x", "args": {}, "effect": "once"}
    unknown = {"step": 1, "kind": "tool", "name": "x", "why": "crash", "args": {}, "schema": schema}
    assert typed("import", "-", input=exported(("step.started", started, 1), ("step.unknown", unknown, 1))).code == 0
    ended = typed("resolve", ID, "1", "--happened", "1")

    assert ended.code == 2, ended
    assert "Unresolvable" in ended.err or "Referencing" in ended.err


def test_words_of_a_file_do_not_steer_the_terminal(typed):
    """A version with an escape sequence is shown without it."""
    assert typed("import", "-", input=exported(version="\x1b[2J")).code == 0
    assert "\x1b" not in typed("show", ID).out


def test_consent_to_a_misspelt_argument_is_refused(typed):
    """Otherwise a slip would approve the very amount that was to be changed."""
    run = typed("run", "shop.py:payer", '"90.00"', "--no-wait", "--json").json["id"]
    ended = typed("approve", f"{run}:1", "--edit", '{"amuont": "1.00"}')

    assert ended.code == 2
    assert "amuont" in ended.err
    assert "amount" in ended.err
    assert len(typed("inbox", "--json").json) == 1


@pytest.mark.parametrize("end", ["", "1"])
def test_an_answer_needs_more_than_the_end_of_an_id(typed, end):
    """An empty word, or one digit, settles nothing, even if just one approval is open."""
    typed("run", "shop.py:payer", '"90.00"', "--no-wait")

    assert typed("approve", end).code == 1
    assert len(typed("inbox", "--json").json) == 1


def test_a_run_that_has_not_ended_is_not_tried_again(typed):
    """A fork of it would do a second time what it is about to do itself."""
    run = typed("run", "shop.py:buyer", '["pen"]', "--no-wait", "--json").json["id"]
    ended = typed("retry", run)

    assert ended.code == 2
    assert f"perdure show {run}" in ended.err
    assert len(typed("runs", "--json").json) == 1


def test_a_forced_answer_must_fit_its_question(typed):
    """As every other answer: the fork is refused before it exists."""
    run = typed("run", "shop.py:buyer", '["pen"]', "--no-wait", "--json").json
    step = typed("show", run["id"], "--json").json["run"]["wait"]["step"]

    assert typed("fork", run["id"], "--at", str(step), "--result", '"yes"').code == 2
    assert typed("fork", run["id"], "--at", str(step), "--result", '{"approved": true}').code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("run", "shop.py:adder", "[" * 100_000),
        ("runs", "--limit", "9" * 30),
        ("run", "shop.py:adder", '{"a": 1}', "--priority", "9" * 30),
    ],
)
def test_what_is_too_large_is_a_mistake_of_whoever_typed_it(typed, words):
    """Exit code 2, not an unexpected error."""
    ended = typed(*words)

    assert ended.code == 2
    assert "unexpected" not in ended.err


def test_an_exported_file_is_private(typed, tmp_path):
    """It holds what the store holds, which nobody else may read either."""
    run = typed("run", "shop.py:adder", '{"a": 1}', "--json").json["id"]
    assert typed("export", run, "--out", str(tmp_path / "run.jsonl")).code == 0

    assert stat.S_IMODE((tmp_path / "run.jsonl").stat().st_mode) == 0o600
