"""LangGraph on SQLite or PostgreSQL, graph API, durability="sync": one looping node is one super-step per step.

The functional API is left out: its @task results are not on disk yet when they are returned. LangGraph has no engine,
so where a peer's own engine wakes or recovers runs, here this script invokes each thread again.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from itertools import count
from typing import Annotated, Any, TypedDict

import psutil
from children import mark
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt
from langgraph_savers import async_saver, fold_log_in, new_store, saver, versions
from measure import cpu_percent, median_seconds, rss_bytes, seconds_of, sequential
from recovery import PAUSE_SECONDS, effect, kill_and_recover
from script import Bench, run_script
from workloads import PAYLOAD, Metrics, latency, percentile

PARK_BATCH = 200
RECURSION_LIMIT = 5_000

threads = count()
woken: list[float] = []


def latest(_: str, new: str) -> str:
    return new


class State(TypedDict, total=False):
    index: int
    steps: int
    result: Annotated[str, latest]


class EffectState(State, total=False):
    path: str
    run: int


def step(state: State) -> State:
    return {"index": state.get("index", 0) + 1, "result": PAYLOAD}


def wait(_: State) -> State:
    interrupt("wait")
    woken.append(time.monotonic())
    return {}


async def effect_step(state: EffectState) -> State:
    number = state.get("index", 0)
    return {"index": number + 1, "result": await effect(state["path"], state["run"], number)}


async def pause(_: State) -> State:
    await asyncio.sleep(PAUSE_SECONDS)
    return {}


def child(_: State) -> State:
    return {"result": PAYLOAD}


def loop(state: State, more: str = "step", after: str = END) -> str:
    return more if state["index"] < state["steps"] else after


def sequence() -> StateGraph[Any]:
    """`steps` super-steps of one node."""
    graph = StateGraph(State)
    return graph.add_node("step", step).add_edge(START, "step").add_conditional_edges("step", loop)


def sequence_then_wait() -> StateGraph[Any]:
    """The same, then an interrupt in a node of its own."""
    graph = StateGraph(State)
    graph.add_node("step", step).add_node("wait", wait).add_edge(START, "step")
    return graph.add_conditional_edges("step", lambda state: loop(state, after="wait"), ["step", "wait"])


def effects() -> StateGraph[Any]:
    """Steps with an effect, each followed by a pause, which is a plain node: there is no durable timer."""
    graph = StateGraph(EffectState)
    graph.add_node("step", effect_step).add_node("pause", pause)
    return graph.add_edge(START, "step").add_edge("step", "pause").add_conditional_edges("pause", loop)


def fan_out(children: int) -> StateGraph[Any]:
    """There are no child runs: as many `Send` tasks in one super-step of one thread."""
    sends = [Send("child", {}) for _ in range(children)]
    graph = StateGraph(State)
    return graph.add_node("child", child).add_conditional_edges(START, lambda _: sends, ["child"])


async def w1(bench: Bench) -> Metrics:
    """The synchronous saver and invoke, as in a script that runs one thread at a time."""
    with new_store(bench) as (store, _), saver(store) as checkpointer:
        graph = sequence().compile(checkpointer)

        async def once() -> None:
            graph.invoke({"steps": bench.sizes.sequential_steps}, config(), durability="sync")

        return await sequential(bench.sizes, once)


async def w2(bench: Bench) -> Metrics:
    runs, steps = bench.sizes.concurrent_runs, bench.sizes.concurrent_steps
    with new_store(bench) as (store, _):
        async with async_saver(store) as checkpointer:
            graph = sequence().compile(checkpointer)
            seconds = await median_seconds(lambda: invoke_all(graph, runs, steps), bench.sizes.concurrent_repeats)
    return {"steps_per_second": runs * steps / seconds}


async def w3(bench: Bench) -> Metrics:
    runs = bench.sizes.short_runs
    with new_store(bench) as (store, _):
        async with async_saver(store) as checkpointer:
            graph = sequence().compile(checkpointer)
            rate = runs / await seconds_of(invoke_all(graph, runs, 1))
            calls = [await seconds_of(invoke_all(graph, 1, 1)) for _ in range(bench.sizes.idle_calls)]
    return {"runs_per_second": rate, **latency("idle_call", calls)}


async def invoke_all(graph: Any, runs: int, steps: int) -> None:
    await asyncio.gather(*[graph.ainvoke({"steps": steps}, config(), durability="sync") for _ in range(runs)])


async def w4(bench: Bench) -> Metrics:
    """Threads stopped at an interrupt: rows in the database, nothing in the process."""
    runs, process = bench.sizes.parked_runs, psutil.Process()
    with new_store(bench) as (store, disk_bytes):
        async with async_saver(store) as checkpointer:
            graph = sequence_then_wait().compile(checkpointer)
            await invoke_all(graph, 1, 1)
            before = await weigh(process, checkpointer, disk_bytes)
            configs = [config() for _ in range(runs)]
            started = time.monotonic()
            for first in range(0, runs, PARK_BATCH):
                batch = configs[first : first + PARK_BATCH]
                await asyncio.gather(*[graph.ainvoke({"steps": 1}, each, durability="sync") for each in batch])
            park_seconds = time.monotonic() - started
            after = await weigh(process, checkpointer, disk_bytes)
            idle_cpu_percent = await cpu_percent([process], bench.sizes.idle_seconds)
            wakes = [await wake_seconds(graph, each) for each in configs[: bench.sizes.wakes]]
    return {
        "rss_bytes_per_parked": (after[0] - before[0]) / runs,
        "disk_bytes_per_parked": (after[1] - before[1]) / runs,
        "idle_cpu_percent": idle_cpu_percent,
        **latency("wake", wakes),
        "detail": {"parked": runs, "park_seconds": park_seconds, "rss_bytes_grown": after[0] - before[0]},
    }


async def weigh(
    process: psutil.Process, checkpointer: BaseCheckpointSaver[str], disk_bytes: Callable[[], int]
) -> tuple[int, int]:
    """Memory of the process after a garbage collection, and disk with the write-ahead log folded in."""
    gc.collect()
    await fold_log_in(checkpointer)
    return rss_bytes([process]), disk_bytes()


async def wake_seconds(graph: Any, thread: Any) -> float:
    sent = time.monotonic()
    await graph.ainvoke(Command(resume=1), thread, durability="sync")
    return woken[-1] - sent


async def w5(bench: Bench) -> Metrics:
    path, sizes = bench.data / "effects", bench.sizes
    with new_store(bench) as (store, _):
        arguments = (store, str(path), sizes.killed_runs, sizes.killed_steps)
        return await kill_and_recover(
            sizes,
            path,
            begin=lambda: bench.spawn_all("drive", *arguments),
            recover=lambda: bench.spawn_all("drive", *arguments),
        )


async def drive(store: str, path: str, runs: int, steps: int) -> None:
    """Bring every thread to its end: start those without a checkpoint, continue the others."""
    async with async_saver(store) as checkpointer:
        graph = effects().compile(checkpointer)

        async def finish(run: int) -> None:
            thread = config(f"run-{run}")
            known = await checkpointer.aget_tuple(thread)
            start = None if known else {"steps": steps, "path": path, "run": run}
            if start or (await graph.aget_state(thread)).next:
                await graph.ainvoke(start, thread, durability="sync")

        await asyncio.gather(*[finish(run) for run in range(runs)])


async def w6(bench: Bench) -> Metrics:
    """From the resume in a new process, imports excluded, until the code after the interrupt: 1,000 steps against 1."""
    seconds = {}
    for steps in (1, bench.sizes.replay_steps):
        taken = [await rehydration_seconds(bench, f"{steps}-{n}", steps) for n in range(bench.sizes.replay_repeats)]
        seconds[steps] = percentile(taken, 0.5)
    long, base = seconds[bench.sizes.replay_steps], seconds[1]
    return {"replay_1000_ms": 1_000 * (long - base), "detail": {"long_seconds": long, "base_seconds": base}}


async def rehydration_seconds(bench: Bench, name: str, steps: int) -> float:
    with new_store(bench, name) as (store, _):
        await (await bench.spawn("fill", store, steps)).end()
        resumed = await bench.spawn("resume", store)
        taken = float((await resumed.next("woken"))["seconds"])
        await resumed.end()
    return taken


async def fill(store: str, steps: int) -> None:
    with saver(store) as checkpointer:
        sequence_then_wait().compile(checkpointer).invoke({"steps": steps}, config("long"), durability="sync")


async def resume(store: str) -> None:
    started = time.monotonic()
    with saver(store) as checkpointer:
        sequence_then_wait().compile(checkpointer).invoke(Command(resume=1), config("long"), durability="sync")
    mark("woken", seconds=woken[-1] - started)


async def w7(bench: Bench) -> Metrics:
    with new_store(bench) as (store, _):
        async with async_saver(store) as checkpointer:
            graph = fan_out(bench.sizes.children).compile(checkpointer)
            seconds = await median_seconds(lambda: invoke_all(graph, 1, 1), bench.sizes.fan_out_repeats)
    return {"join_1000_seconds": seconds, "detail": {"children": "Send tasks of one thread, not runs of their own"}}


def config(thread: str | None = None) -> Any:
    """A new thread, or the one of that name."""
    return {"configurable": {"thread_id": thread or f"thread-{next(threads)}"}, "recursion_limit": RECURSION_LIMIT}


if __name__ == "__main__":
    run_script(
        "langgraph",
        {"W1": w1, "W2": w2, "W3": w3, "W4": w4, "W5": w5, "W6": w6, "W7": w7},
        packages=("langgraph", "langgraph-checkpoint-sqlite", "langgraph-checkpoint-postgres"),
        versions=versions,
        roles={"drive": drive, "fill": fill, "resume": resume},
        backends=("", "postgres"),
    )
