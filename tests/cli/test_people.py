"""What people say to runs: consent with other arguments, refusals, messages to runs and to sessions, words to many."""

import pytest


def start(typed, agent, *words):
    """Start a run that will wait; its id."""
    ended = typed("run", f"shop.py:{agent}", *words, "--no-wait", "--json")
    assert ended.code == 3, ended.err
    return ended.json["id"]


def result_of(typed, run):
    """Let a worker do what there is to do; the run as it is then."""
    assert typed("work", "shop.py", "--until-idle").code == 0
    return typed("show", run, "--json").json["run"]


def test_consent_may_change_the_arguments(typed):
    """The approved arguments are what is paid; note and person are kept in the journal."""
    run = start(typed, "payer", '"90.00"')
    assert typed("approve", f"{run}:1", "--edit", '{"amount": "80.00"}', "--note", "less").code == 0

    assert result_of(typed, run)["result"] == "paid 80.00"
    [granted] = typed("events", run, "--type", "approval.granted", "--json").lines
    assert granted["data"]["note"] == "less"
    assert granted["data"]["by"]


def test_consent_to_arguments_that_do_not_fit_is_refused(typed):
    """Exit code 2, and the approval stays open."""
    run = start(typed, "payer", '"90.00"')

    assert typed("approve", f"{run}:1", "--edit", '{"amount": 5}').code == 2
    assert len(typed("inbox", "--json").json) == 1


def test_a_refusal_reaches_the_agent_with_its_reason(typed):
    """The run fails with ApprovalRejected unless the agent catches it."""
    run = start(typed, "payer", '"90.00"')
    settled = typed("reject", f"{run}:1", "--note", "too dear", "--json").json

    assert (settled["settled"], settled["carried_out"]) == ("rejected", False)
    error = result_of(typed, run)["error"]
    assert error["type"] == "ApprovalRejected"
    assert "too dear" in error["message"]


def test_messages_reach_a_run_in_order(typed):
    """By id, and as text from standard input."""
    run = start(typed, "listener")
    assert typed("send", run, "word", '"one"').code == 0
    assert typed("send", run, "word", "-", input='"two"').code == 0

    assert result_of(typed, run)["result"] == ["one", "two"]


def test_messages_to_a_session_wait_for_its_next_run(typed):
    """Addressed by agent and key, whether or not a run is there."""
    assert typed("run", "shop.py:adder", '{"a": 1}').code == 0
    for word in ("one", "two"):
        sent = typed("send", "--agent", "listener", "--session", "s", "word", f'"{word}"', "--json").json
        assert sent == {"topic": "word", "agent": "listener", "session": "s", "carried_out": False}

    ended = typed("run", "shop.py:listener", "--session", "s", "--json")
    assert ended.json["result"] == ["one", "two"]


@pytest.mark.parametrize("word", ["pause", "cancel"])
def test_a_filter_reaches_every_run_that_has_not_ended(typed, word):
    """One JSON object for each; the next worker carries it out."""
    runs = {start(typed, "sleeper"), start(typed, "sleeper")}
    start(typed, "listener")

    told = typed(word, "--agent", "sleeper", "--json").json
    assert {effect["run"] for effect in told} == runs
    typed("work", "shop.py", "--until-idle")

    now = {row["id"]: row["status"] for row in typed("runs", "--agent", "sleeper", "--json").json}
    assert set(now.values()) == {{"pause": "paused", "cancel": "cancelled"}[word]}
    [other] = typed("runs", "--agent", "listener", "--json").json
    assert other["status"] == "waiting"


def test_words_of_control_without_a_worker_are_recorded_and_that_is_said(typed):
    """Exit code 0, nothing on stdout, and stderr names the command that carries them out."""
    run = start(typed, "sleeper")
    ended = typed("pause", run)

    assert (ended.code, ended.out) == (0, "")
    assert "recorded; no worker has agent sleeper: perdure work FILE.py" in ended.err


def test_a_run_paused_while_it_waits_for_its_session_says_so(typed):
    """It still counts as queued; the reason is the pause, and what comes next is `resume`."""
    start(typed, "listener", "--session", "s")
    second = start(typed, "listener", "--session", "s")
    typed("pause", second)
    typed("work", "shop.py", "--until-idle")

    [row] = [row for row in typed("runs", "--json").json if row["id"] == second]
    assert (row["status"], row["wait"]) == ("queued", {"kind": "pause"})
    shown = typed("show", second).out
    assert f"perdure resume {second}" in shown
    assert "perdure work" not in shown


def test_a_filter_that_matches_nothing_is_no_error(typed):
    """An empty list for programs, a remark for people."""
    typed("run", "shop.py:adder", '{"a": 1}')

    assert typed("pause", "--agent", "nobody", "--json").json == []
    assert "no run matches" in typed("cancel", "--all").err


def test_one_ended_run_among_several_does_not_spoil_the_others(typed):
    """The others get their word; the exit code says that one did not."""
    done = typed("run", "shop.py:adder", '{"a": 1}', "--json").json["id"]
    run = start(typed, "sleeper")

    ended = typed("cancel", done, run)
    assert ended.code == 1
    assert f"{done} has succeeded" in ended.err
    assert result_of(typed, run)["status"] == "cancelled"


def test_what_failed_is_tried_again_as_a_fork(typed, folder):
    """`retry` prints the id of the run that goes on; steps before the failed one are not repeated."""
    failed = typed("run", "shop.py:failing", "--json").json["id"]
    mended = (folder / "shop.py").read_text(encoding="utf-8").replace("raise ValueError", "return  # ValueError")
    (folder / "shop.py").write_text(mended, encoding="utf-8")

    again = typed("retry", failed, "--json").json
    assert again["forked_from"] == failed
    assert result_of(typed, again["id"])["status"] == "succeeded"
