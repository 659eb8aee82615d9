"""Bodies in processes of this machine: what they see, how they end, and that none is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perdure import Compute, NoRetry, tool
from perdure.agents.attempt import NotBegun
from perdure.errors import ComputeRefused, CutOff, InvalidSetting, OutOfMemory, WorkerLost
from perdure.hands.compute import local, process
from perdure.hands.compute.ending import Raised
from perdure.hands.compute.local import Places
from perdure.hands.tools import ToolHands
from tests.unit.compute import bodies
from tests.unit.compute.attempts import Reports, attempt, gone, read_line

PROJECT = Path(__file__).parent.parent.parent.parent


def play(scenario, processes=2):
    """Run a scenario with hands that have so many processes."""

    async def main():
        hands = ToolHands(2, processes)
        try:
            async with asyncio.timeout(40):
                return await scenario(hands)
        finally:
            hands.close()

    return asyncio.run(main())


def test_a_body_runs_in_another_process_which_is_kept():
    """Sync or async; the second body finds the process of the first."""

    async def scenario(hands):
        pids = [await attempt(hands, bodies.process_id) for _ in range(2)]
        assert pids[0] == pids[1] != os.getpid()
        assert await attempt(hands, bodies.double, 21) == await attempt(hands, bodies.double_slowly, 21) == 42

    play(scenario)


def test_a_body_sees_its_attempt_and_the_environment(monkeypatch):
    """As it would here: facts of the attempt, the node's variables; its input is empty."""
    monkeypatch.setenv("SEEN", "yes")
    facts: dict[str, Any] = {
        "run": "run_9",
        "session": "s",
        "step": 3,
        "attempt": 2,
        "key": "run_9:3",
        "last_heartbeat": {"page": 7},
    }

    seen = play(lambda hands: attempt(hands, bodies.what_it_sees, **facts))

    assert seen == {**facts, "variable": "yes", "input": "", "main": True}


def test_reports_arrive_while_the_body_runs(tmp_path):
    """A body that never ends is heard of."""

    async def scenario(hands):
        reports = Reports()
        running = asyncio.create_task(attempt(hands, bodies.report_and_wait, reports=reports))
        assert await reports.first() == ("heartbeat", "", {"at": 1})
        running.cancel()

    play(scenario)


def test_reports_arrive_in_order_and_before_the_result():
    """None is lost, whatever the pace."""
    reports = Reports()

    assert play(lambda hands: attempt(hands, bodies.report, 5000, reports=reports)) == "reported"

    assert reports.all[:2] == [("heartbeat", "", {"at": 0}), ("emit", "progress", {"half": True})]
    assert reports.all[2:] == [("stream", "text", f"{n} ") for n in range(5000)]


def test_what_a_body_raises_arrives_as_itself():
    """With its type's name, message, notes and place; the process lives on."""

    async def scenario(hands):
        before = await attempt(hands, bodies.process_id)
        with pytest.raises(Raised, match="no such shoe") as caught:
            await attempt(hands, bodies.refuse, "value")
        assert type(caught.value).__name__ == "ValueError"
        assert str(caught.value) == "no such shoe"
        assert caught.value.__notes__ == ["left foot"]
        assert caught.value.described["at"].startswith("bodies.py:")
        assert await attempt(hands, bodies.process_id) == before

    play(scenario)


def test_no_retry_is_no_retry_elsewhere():
    """The kernel knows it by its class, which survives the way."""

    async def scenario(hands):
        with pytest.raises(NoRetry, match="no such shoe"):
            await attempt(hands, bodies.refuse, "never")

    play(scenario)


def test_leaving_the_interpreter_is_a_failure_like_any_other():
    """`sys.exit` in a body does not end the process, nor the node."""

    async def scenario(hands):
        with pytest.raises(Raised, match="no such shoe") as caught:
            await attempt(hands, bodies.refuse, "exit")
        assert type(caught.value).__name__ == "SystemExit"
        assert isinstance(caught.value, Exception)

    play(scenario)


def test_sql_cannot_be_queued_from_another_process():
    """It would be lost without a word."""

    async def scenario(hands):
        with pytest.raises(Raised, match="`transaction` tool"):
            await attempt(hands, bodies.queue_sql)

    play(scenario)


@pytest.mark.parametrize(
    ("how", "named"), [("exit", "exit code 3"), ("segfault", "SIGSEGV"), ("kill", "SIGKILL"), ("forked", "exit code 4")]
)
def test_a_process_that_dies_is_a_failure_that_says_how(how, named):
    """And the next body has another process, also where the dead one left a child behind with its pipes open."""

    async def scenario(hands):
        with pytest.raises(WorkerLost, match=rf"bodies\.die .*{named}") as caught:
            await attempt(hands, bodies.die, how)
        assert caught.value.in_doubt
        assert await attempt(hands, bodies.double, 1) == 2

    play(scenario)


def test_nobody_knows_what_a_lost_once_body_did():
    """So it is never tried again, however many retries it has."""

    async def scenario(hands):
        with pytest.raises(CutOff, match="SIGKILL") as caught:
            await attempt(hands, bodies.die.with_options(effect="once", retries=3), "kill")
        assert isinstance(caught.value, NoRetry)

    play(scenario)


def test_a_process_that_died_while_idle_is_replaced():
    """No body had begun in it, so no step has to fail for it, not even a `once` one."""

    async def scenario(hands):
        pid = await attempt(hands, bodies.process_id)
        os.kill(pid, signal.SIGKILL)
        assert await gone(pid)
        assert await attempt(hands, bodies.process_id.with_options(effect="once")) != pid

    play(scenario)


def test_a_process_without_work_is_not_kept_for_ever(monkeypatch):
    """After a while it ends, and the next body has a new one."""
    monkeypatch.setattr(local, "_IDLE_SECONDS", 0.0)

    async def scenario(hands):
        pid = await attempt(hands, bodies.process_id)
        assert await gone(pid)
        assert await attempt(hands, bodies.process_id) != pid

    play(scenario)


def test_more_memory_than_allowed_is_out_of_memory():
    """The limit is named; within it all is well, and the next body has its own limit again."""

    async def scenario(hands):
        assert await attempt(hands, bodies.take_memory, 32) == 32
        with pytest.raises(OutOfMemory, match="64 MiB") as caught:
            await attempt(hands, bodies.take_memory, 128)
        assert not caught.value.in_doubt
        unlimited = bodies.take_memory.with_options(compute=Compute())
        assert await attempt(hands, unlimited, 128) == 128

    play(scenario)


def test_the_next_attempt_grows_and_says_so():
    """Of that step only, and until it has its result."""
    growing = bodies.take_memory.with_options(compute=Compute(memory="64MiB", grow=4, max_memory="1GiB"))

    async def scenario(hands):
        reports = Reports()
        with pytest.raises(OutOfMemory):
            await attempt(hands, growing, 128, reports=reports)
        with pytest.raises(OutOfMemory):
            await attempt(hands, growing, 128, key="run_2:1")
        assert reports.all == []
        assert await attempt(hands, growing, 128, attempt=2, reports=reports) == 128
        size = {"memory_bytes": 256 * bodies.MIB, "memory": "256 MiB", "ooms": 1}
        assert reports.all == [("emit", "progress", {"compute": size})]
        with pytest.raises(OutOfMemory, match="64 MiB"):
            await attempt(hands, growing, 128)

    play(scenario)


def test_a_kill_while_the_machine_is_out_of_memory_is_out_of_memory(monkeypatch):
    """The system's count of such kills tells it from any other; the body was cut off, so it is in doubt."""
    counts = iter([0, 1])
    monkeypatch.setattr(process, "_system_ooms", lambda: next(counts))

    async def scenario(hands):
        with pytest.raises(OutOfMemory, match="out of memory") as caught:
            await attempt(hands, bodies.die, "kill")
        assert caught.value.in_doubt

    play(scenario)


@pytest.mark.parametrize("holding", [False, True], ids=["waiting", "holding the interpreter's lock"])
def test_cancellation_ends_the_process_and_what_it_started(tmp_path, holding):
    """At once, also where the body would never have listened."""
    os.mkfifo(tmp_path / "began")

    async def scenario(hands):
        running = asyncio.create_task(attempt(hands, bodies.hang, str(tmp_path / "began"), holding))
        pids = await read_line(tmp_path / "began")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await gone(*pids)
        assert await attempt(hands, bodies.double, 1) == 2

    play(scenario, processes=1)


def test_closing_ends_what_still_runs(tmp_path):
    """And nothing begins afterwards."""
    os.mkfifo(tmp_path / "began")

    async def scenario(hands):
        running = asyncio.create_task(attempt(hands, bodies.hang, str(tmp_path / "began")))
        pids = await read_line(tmp_path / "began")
        hands.close()
        assert await gone(*pids)
        with pytest.raises(RuntimeError, match="stopped"):
            await attempt(hands, bodies.double, 1)
        await asyncio.wait([running])
        assert isinstance(running.exception(), WorkerLost)

    play(scenario)


NODE = """
import asyncio, sys
from perdure.hands.tools import ToolHands
from tests.unit.compute import bodies
from tests.unit.compute.attempts import attempt

asyncio.run(attempt(ToolHands(1, 1), bodies.hang, sys.argv[1], True))
"""


def test_no_process_outlives_a_killed_node(tmp_path):
    """A kill -9 ends them with it, also where the interpreter's lock is held for ever."""
    os.mkfifo(tmp_path / "began")
    path = os.pathsep.join([str(PROJECT / "src"), str(PROJECT)])
    node = subprocess.Popen(
        [sys.executable, "-c", NODE, str(tmp_path / "began")], env={**os.environ, "PYTHONPATH": path}
    )

    async def scenario():
        worker, started_by_it = await read_line(tmp_path / "began")
        node.kill()
        node.wait()
        try:
            assert await gone(worker)
        finally:
            os.kill(started_by_it, signal.SIGKILL)

    asyncio.run(scenario())


def test_gpus_need_ray():
    """The refusal says what to do."""
    wants = bodies.double.with_options(compute=Compute(gpus=0.5))

    async def scenario(hands):
        with pytest.raises(ComputeRefused, match=r"0\.5 GPUs.*perdure\[ray\]") as caught:
            await attempt(hands, wants, 1)
        assert isinstance(caught.value, NoRetry)

    play(scenario)


def test_a_body_that_wants_more_cpus_than_there_are_gets_all():
    """The same tool runs on a small machine."""
    wants = bodies.double.with_options(compute=Compute(cpus=64))

    assert play(lambda hands: attempt(hands, wants, 1)) == 2


def test_as_many_bodies_run_at_once_as_there_are_places(tmp_path):
    """Three that only end together need three processes."""
    (tmp_path / "here").mkdir()

    async def scenario(hands):
        meeting = [attempt(hands, bodies.meet, str(tmp_path / "here"), 3) for _ in range(3)]
        assert await asyncio.gather(*meeting) == [3, 3, 3]

    play(scenario, processes=3)


def test_a_body_that_may_not_begin_any_more_does_not():
    """It had to wait for a place, and the node was paused meanwhile."""

    async def scenario(hands):
        with pytest.raises(NotBegun):
            await attempt(hands, bodies.process_id, may_begin=lambda: False)

    play(scenario)


def test_places_are_given_in_order():
    """A large body is not passed by for ever by small ones, and one that gives up leaves its turn to the next."""

    async def scenario():
        places, order = Places(2), []
        leave = asyncio.Event()

        async def stay(name, count):
            async with places.taken(count):
                order.append(name)
                await leave.wait()

        tasks = [asyncio.create_task(stay(name, count)) for name, count in [("a", 1), ("big", 2), ("b", 1), ("c", 1)]]
        await asyncio.sleep(0)
        assert order == ["a"]
        tasks[1].cancel()
        await asyncio.wait(tasks[1:2])
        await asyncio.sleep(0)
        assert order == ["a", "b"]
        leave.set()
        await asyncio.gather(tasks[0], *tasks[2:])
        assert order == ["a", "b", "c"]

    asyncio.run(scenario())


def test_a_pool_has_a_process_at_least():
    """None at all would hang."""
    with pytest.raises(InvalidSetting, match="processes"):
        ToolHands(1, 0)


@tool(effect="read", compute=Compute())
def hidden() -> None: ...


def test_a_tool_that_is_not_where_it_says_is_refused(monkeypatch):
    """Without a retry, and with the name that was looked for."""
    monkeypatch.setattr(hidden.function, "__qualname__", "moved")

    async def scenario(hands):
        with pytest.raises(ComputeRefused, match=r"test_local\.moved is not there"):
            await attempt(hands, hidden)

    play(scenario)


SCRIPT = """
import asyncio
from perdure import Compute, Context, Runtime, agent, tool

@tool(effect="read", compute=Compute())
def double(n: int) -> int:
    return 2 * n

@agent
async def doubling(ctx: Context) -> int:
    return await double(21)

async def main() -> None:
    async with Runtime("memory://", agents=[doubling]) as rt:
        print(await (await rt.start(doubling)).result())

"""


@pytest.mark.parametrize(
    ("start", "printed"),
    [
        ('if __name__ == "__main__":\n    asyncio.run(main())\n', "42"),
        ("asyncio.run(main())\n", 'put what starts it behind: if __name__ == "__main__":'),
    ],
    ids=["guarded", "unguarded"],
)
def test_a_script_keeps_its_start_to_itself(tmp_path, start, printed):
    """Its tools are found in the script's file; without a guard it would start itself again, and is told so."""
    (tmp_path / "script.py").write_text(SCRIPT + start)

    ended = subprocess.run(
        [sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=False, timeout=40,
        env={**os.environ, "PYTHONPATH": str(PROJECT / "src")},
    )  # fmt: skip

    assert printed in ended.stdout + ended.stderr
