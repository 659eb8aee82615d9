"""The main ways through the command line, with real processes on a real file."""

import asyncio
import signal
import subprocess
import sys

from perdure.errors import StoreBroken
from perdure.kernel.kernel import Kernel
from tests.cli.conftest import read_until


def parked_buyer(shell, *words):
    """A buyer that waits for its answer; its id."""
    ended = shell("run", "shop.py:buyer", '["pen", "ink"]', "--no-wait", "--json", *words)
    assert ended.code == 3, ended.err
    return ended.json["id"]


def test_a_run_goes_through_people_and_workers_to_its_end(shell):
    """The commands run --no-wait, inbox, answer, work --until-idle, runs, show and events tell one story."""
    run = parked_buyer(shell, "--session", "acme")

    [ask] = shell("inbox", "--json").json
    assert (ask["run"], ask["to"], ask["title"], ask["kind"]) == (run, "finance", "Spend it?", "ask")

    answered = shell("answer", ask["id"], '{"approved": true}', "--json")
    assert answered.code == 0
    assert answered.json["carried_out"] is False, "no worker is there to carry it out"

    worked = shell("work", "shop.py", "--until-idle")
    assert worked.code == 0, worked.err
    assert f"{run} succeeded" in worked.err

    [row] = shell("runs", "--json").json
    assert (row["id"], row["status"], row["session"], row["reason"]) == (run, "succeeded", "acme", None)

    shown = shell("show", run, "--json").json
    assert shown["run"]["result"] == {"pen": "order-pen-1", "ink": "order-ink-1"}
    assert [step["name"] for step in shown["steps"]][:2] == ["price", "price"]

    journal = shell("events", run, "--json").lines
    assert [event["seq"] for event in journal] == list(range(1, len(journal) + 1))
    assert journal[-1]["type"] == "run.succeeded"


def test_a_run_that_needs_nobody_prints_its_result_and_nothing_else_on_stdout(shell):
    """Progress goes to stderr."""
    ended = shell("run", "shop.py:adder", '{"a": 1, "b": 4}')

    assert (ended.code, ended.out) == (0, "5\n")
    assert "started" in ended.err


def test_a_failed_run_ends_with_1(shell):
    """With --json the error is told as type and message; nothing is printed as a traceback."""
    plain = shell("run", "shop.py:failing")
    told = shell("run", "shop.py:failing", "--json")

    assert (plain.code, plain.out) == (1, "")
    assert "no good can come of this" in plain.err
    assert "Traceback" not in plain.err
    assert told.code == 1
    assert told.json["status"] == "failed"
    assert told.json["error"]["type"] == "ValueError"


def test_a_waiting_run_says_what_for_and_what_moves_it(shell):
    """--no-wait ends with 3, and stderr holds the commands to type."""
    ended = shell("run", "shop.py:buyer", '["pen"]', "--no-wait")

    assert (ended.code, ended.out) == (3, "")
    assert "waits for finance to answer" in ended.err
    assert "perdure answer run_" in ended.err
    assert "perdure work shop.py" in ended.err


def test_a_long_timer_counts_as_waiting_for_the_outside(shell):
    """A run that sleeps for a day is not waited for."""
    ended = shell("run", "shop.py:sleeper", "--no-wait", "--json")

    assert ended.code == 3
    assert ended.json["wait"]["kind"] == "timer"


def test_a_parent_whose_child_waits_for_a_person_counts_as_waiting(shell):
    """--no-wait looks through to the child that has to be answered."""
    ended = shell("run", "shop.py:parent", "--no-wait", "--json")

    assert ended.code == 3
    assert ended.json["wait"]["kind"] == "ask"


def test_the_same_key_gives_the_same_run(shell):
    """Typing the command twice starts one run; its result comes at once."""
    first = shell("run", "shop.py:adder", '{"a": 1}', "--key", "k1", "--json")
    second = shell("run", "shop.py:adder", '{"a": 1}', "--key", "k1", "--json")
    other = shell("run", "shop.py:adder", '{"a": 2}', "--key", "k1", "--json")

    assert first.json == second.json
    assert other.code == 1
    assert other.json["error"]["type"] == "IdempotencyMismatch"


def test_a_detached_run_waits_for_a_worker_and_says_so(shell):
    """--detach prints the id; `runs` names the command that would move it."""
    run = shell("run", "shop.py:adder", '{"a": 1}', "--detach").out.strip()

    [row] = shell("runs", "--json").json
    assert (row["id"], row["status"]) == (run, "queued")
    assert row["reason"] == "no worker has agent adder; run: perdure work FILE.py"

    shell("work", "shop.py", "--until-idle")
    assert shell("runs", "--json").json[0]["status"] == "succeeded"


def test_a_live_worker_carries_out_what_another_terminal_says(shell):
    """pause, resume, answer and approve take effect at once; SIGTERM ends the worker with 0."""
    run = parked_buyer(shell)
    worker = shell.begin("work", "shop.py")
    try:
        read_until(worker.stderr, "working on")

        assert shell("pause", run, "--json").json == [{"run": run, "status": "paused", "carried_out": True}]
        assert shell("pause", run).err.strip() == f"{run} is paused already"
        [resumed] = shell("resume", run, "--json").json
        assert (resumed["status"], resumed["carried_out"]) == ("waiting", True)
        assert shell("answer", f"{run}:4", '{"approved": true}', "--json").json["carried_out"] is True
        read_until(worker.stderr, f"{run} succeeded")

        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
    finally:
        worker.kill()
        worker.communicate()


def test_a_run_cancelled_from_another_terminal_ends_with_4(shell):
    """`run` waits for its end, whoever brings it about."""
    running = shell.begin("run", "shop.py:sleeper", "--json")
    try:
        read_until(running.stderr, "started")
        [row] = shell("runs", "--json").json
        cancelled = shell("cancel", row["id"], "--reason", "enough", "--json").json

        assert cancelled == [{"run": row["id"], "status": "cancelled", "carried_out": True}]
        assert running.wait(20) == 4
    finally:
        running.kill()
        running.communicate()


def test_ctrl_c_stops_in_good_order_and_says_how_to_go_on(shell):
    """The run is not lost: 3, and the command that continues it."""
    running = shell.begin("run", "shop.py:sleeper")
    try:
        read_until(running.stderr, "started")
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=20)
    finally:
        running.kill()

    assert running.returncode == 3
    assert "perdure work shop.py" in said


def test_an_effect_that_a_crash_left_in_the_dark_is_settled_by_a_person(shell):
    """The step of unknown outcome is named by `show`; `resolve --happened` gives its result."""
    assert shell("run", "shop.py:cashier", '"mark"').code == 9
    shell("work", "shop.py", "--until-idle")
    [row] = shell("runs", "--json").json
    assert (row["status"], row["wait"]["kind"]) == ("waiting", "unknown")
    assert f"perdure resolve {row['id']} 1 --run-again" in shell("show", row["id"]).out

    settled = shell("resolve", row["id"], "1", "--happened", '"charged once"', "--json")
    assert settled.code == 0, settled.err
    shell("work", "shop.py", "--until-idle")

    assert shell("show", row["id"], "--json").json["run"]["result"] == "charged once"


def test_following_a_journal_ends_with_the_run(shell):
    """`events --follow` prints what comes until the last event, from another process."""
    run = parked_buyer(shell)
    follower = shell.begin("events", run, "--follow", "--json")
    try:
        read_until(follower.stdout, "ask.opened")
        shell("answer", f"{run}:4", '{"approved": false}')
        shell("work", "shop.py", "--until-idle")
        rest, _ = follower.communicate(timeout=20)
    finally:
        follower.kill()

    assert follower.returncode == 0
    assert '"run.succeeded"' in rest.splitlines()[-1]


def test_ctrl_c_ends_what_only_watches(shell):
    """130, as shells have it; the run does not care."""
    run = parked_buyer(shell)
    follower = shell.begin("events", run, "--follow")
    try:
        read_until(follower.stdout, "ask.opened")
        follower.send_signal(signal.SIGINT)
        _, said = follower.communicate(timeout=20)
    finally:
        follower.kill()

    assert (follower.returncode, said.strip()) == (130, "")
    assert shell("runs", "--json").json[0]["status"] == "waiting"


def test_a_worker_whose_node_dies_says_why(typed, monkeypatch):
    """Exit code 1 at once, not a worker that does nothing for ever."""
    start = Kernel.start

    async def start_and_fail(kernel, **options):
        await start(kernel, **options)
        asyncio.get_running_loop().call_soon(kernel.fail, StoreBroken("the disk failed"))

    monkeypatch.setattr(Kernel, "start", start_and_fail)
    ended = typed("work", "shop.py")

    assert ended.code == 1
    assert "the disk failed" in ended.err


def test_a_reader_that_goes_away_is_no_error(shell):
    """`perdure events RUN | head -1` ends quietly."""
    run = parked_buyer(shell)
    events = shell.begin("events", run, "--json")
    events.stdout.readline()
    events.stdout.close()

    assert "Traceback" not in events.stderr.read()
    events.stderr.close()
    assert events.wait(20) in (0, 1)


def test_a_new_project_runs_and_its_tests_pass(shell):
    """What `perdure new` writes works as it stands; a directory that is not empty is refused."""
    assert shell("new", "mine").code == 0
    project = type(shell)(shell.directory / "mine")

    assert project("run", "shop.py:buyer", '["pen"]', "--no-wait").code == 3
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=project.directory,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert tests.returncode == 0, tests.stdout + tests.stderr

    again = shell("new", "mine")
    assert again.code == 2
    assert "not empty" in again.err
