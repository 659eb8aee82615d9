"""Bodies as Ray tasks, on a Ray of this machine: the same as in its own processes, and many at once."""

from __future__ import annotations

import asyncio
import importlib.util
import os

import pytest

from perdure import Compute
from perdure.errors import ComputeRefused, CutOff, InvalidSetting, NoRetry, OutOfMemory, WorkerLost
from perdure.hands.compute.cluster import Cluster
from perdure.hands.tools import ToolHands
from tests.unit.compute import bodies
from tests.unit.compute.attempts import Reports, attempt, gone, read_line

installed = importlib.util.find_spec("ray") is not None
with_ray = [
    pytest.mark.skipif(not installed, reason="Ray is not installed: pip install 'perdure[ray]'"),
    pytest.mark.slow,
    # Ray keeps sockets of its own open until the process ends, and warns of things to come in Python.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]


def marked(test):
    """Only where Ray is, and only in the whole gate."""
    for mark in with_ray:
        test = mark(test)
    return test


@pytest.fixture(scope="module")
def cluster():
    """A Ray of this process with two cpus; engines find it connected, and leave it so."""
    cluster = Cluster("local", 2)
    cluster.connect()
    yield cluster
    cluster.disconnect()


def play(scenario):
    """Run a scenario with hands that use that Ray."""

    async def main():
        hands = ToolHands(2, ray="local")
        try:
            async with asyncio.timeout(50):
                return await scenario(hands)
        finally:
            hands.close()

    return asyncio.run(main())


@pytest.mark.parametrize("address", ["", "auto", "ray://head:10001", "head", "http://head:6379", "head:port"])
def test_ray_is_found_by_an_explicit_address_only(address):
    """Nothing is looked for, and no client of another kind is taken."""
    with pytest.raises(InvalidSetting, match="HOST:PORT"):
        ToolHands(1, ray=address)


def test_without_ray_the_setting_is_refused(monkeypatch):
    """When the runtime is made, with what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InvalidSetting, match=r"pip install 'perdure\[ray\]'"):
        ToolHands(1, ray="local")


@marked
def test_a_body_runs_in_a_ray_worker(cluster):
    """Sync or async, and it sees its attempt."""

    async def scenario(hands):
        assert await attempt(hands, bodies.process_id) != os.getpid()
        assert await attempt(hands, bodies.double, 21) == await attempt(hands, bodies.double_slowly, 21) == 42
        seen = await attempt(hands, bodies.what_it_sees, key="run_9:3", last_heartbeat={"page": 7})
        assert (seen["key"], seen["last_heartbeat"]) == ("run_9:3", {"page": 7})

    play(scenario)


@marked
def test_reports_come_live_and_in_order(cluster):
    """While the body runs, and all before its result."""

    async def scenario(hands):
        live, reports = Reports(), Reports()
        waiting = asyncio.create_task(attempt(hands, bodies.report_and_wait, reports=live))
        assert await live.first() == ("heartbeat", "", {"at": 1})
        assert await attempt(hands, bodies.report, 2000, reports=reports) == "reported"
        assert reports.all[2:] == [("stream", "text", f"{n} ") for n in range(2000)]
        waiting.cancel()
        await asyncio.wait([waiting])

    play(scenario)


@marked
def test_what_a_body_raises_is_what_it_raises_anywhere(cluster):
    """Type, message, and whether it deserves a retry."""

    async def scenario(hands):
        with pytest.raises(Exception, match="no such shoe") as caught:
            await attempt(hands, bodies.refuse, "value")
        assert type(caught.value).__name__ == "ValueError"
        assert str(caught.value) == "no such shoe"
        with pytest.raises(NoRetry):
            await attempt(hands, bodies.refuse, "never")
        with pytest.raises(OutOfMemory, match="64 MiB"):
            await attempt(hands, bodies.take_memory, 128)

    play(scenario)


@marked
@pytest.mark.parametrize("how", ["exit", "segfault", "kill"])
def test_a_lost_ray_worker_is_a_failure_in_doubt(cluster, how):
    """Of which nobody knows what it did, so that a `once` step is cut off; Ray itself tries nothing again."""

    async def scenario(hands):
        with pytest.raises(WorkerLost, match=r"bodies\.die.*died") as caught:
            await attempt(hands, bodies.die, how)
        assert caught.value.in_doubt
        with pytest.raises(CutOff):
            await attempt(hands, bodies.die.with_options(effect="once"), how)

    play(scenario)


@marked
@pytest.mark.parametrize("holding", [False, True], ids=["waiting", "holding the interpreter's lock"])
def test_cancellation_reaches_the_task(cluster, tmp_path, holding):
    """Its process ends, and what that had started."""
    os.mkfifo(tmp_path / "began")

    async def scenario(hands):
        running = asyncio.create_task(attempt(hands, bodies.hang, str(tmp_path / "began"), holding))
        pids = await read_line(tmp_path / "began")
        running.cancel()
        await asyncio.wait([running])
        assert await gone(*pids)

    play(scenario)


@marked
def test_a_swarm_goes_out_in_few_tasks(cluster, monkeypatch):
    """Five hundred micro-steps that come up together, each with its own result; another size goes by itself."""
    sizes = []
    submit = Cluster.submit

    def counted(self, works):
        sizes.append(len(works))
        return submit(self, works)

    monkeypatch.setattr(Cluster, "submit", counted)
    together = bodies.double.with_options(compute=Compute(batch=100))
    shared = bodies.double.with_options(compute=Compute(cpus=0.5, batch=100))

    async def scenario(hands):
        swarm = [attempt(hands, together, n) for n in range(500)]
        *results, other = await asyncio.gather(*swarm, attempt(hands, shared, 1000))
        assert results == [2 * n for n in range(500)]
        assert other == 2000
        assert sorted(sizes) == [1, 100, 100, 100, 100, 100]

    play(scenario)


@marked
def test_one_that_dies_takes_only_itself_down(cluster):
    """Those in its batch that had not begun go again; the failure is its own."""
    options = {"compute": Compute(batch=10)}
    double, die = bodies.double.with_options(**options), bodies.die.with_options(**options)

    async def scenario(hands):
        dying = asyncio.create_task(attempt(hands, die, "kill"))
        behind = [attempt(hands, double, n) for n in range(3)]
        assert await asyncio.gather(*behind) == [0, 2, 4]
        with pytest.raises(WorkerLost):
            await dying

    play(scenario)


@marked
def test_cancelling_one_of_a_batch_leaves_the_others(cluster, tmp_path):
    """The one that runs is killed; those behind it get their results all the same."""
    os.mkfifo(tmp_path / "began")
    options = {"compute": Compute(batch=10)}
    double, hang = bodies.double.with_options(**options), bodies.hang.with_options(**options)

    async def scenario(hands):
        hanging = asyncio.create_task(attempt(hands, hang, str(tmp_path / "began")))
        behind = [asyncio.create_task(attempt(hands, double, n)) for n in range(3)]
        pids = await read_line(tmp_path / "began")
        hanging.cancel()
        assert await asyncio.gather(*behind) == [0, 2, 4]
        assert await gone(*pids)

    play(scenario)


@marked
@pytest.mark.parametrize(
    "compute", [Compute(cpus=64), Compute(gpus=1), Compute(memory="900TiB")], ids=["cpus", "gpus", "memory"]
)
def test_what_this_machine_never_has_is_refused(cluster, compute):
    """It would wait for ever."""

    async def scenario(hands):
        with pytest.raises(ComputeRefused, match=r"more .* than there is"):
            await attempt(hands, bodies.double.with_options(compute=compute), 1)

    play(scenario)


@marked
def test_a_cluster_that_does_not_answer_is_a_failure_not_in_doubt(monkeypatch):
    """Nothing has begun, so it may be tried again."""
    ray = importlib.import_module("ray")

    def unreachable(**options):
        assert options["address"] == "head:6379"
        raise ConnectionError("could not connect")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", unreachable)

    async def scenario():
        hands = ToolHands(1, ray="head:6379")
        try:
            with pytest.raises(WorkerLost, match="head:6379 cannot be reached: could not connect") as caught:
                await attempt(hands, bodies.double.with_options(effect="once"), 1)
            assert not caught.value.in_doubt
        finally:
            hands.close()

    asyncio.run(scenario())
