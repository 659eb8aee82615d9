"""DBOS, on SQLite or PostgreSQL: defaults throughout, but for a fixed executor and application version.

Fixed, because a restarted process recovers only the runs of its own executor and version.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
from children import mark
from dbos import DBOS, DBOSConfig
from measure import cpu_percent, file_bytes, median_seconds, rss_bytes, seconds_of, sequential
from postgres import Postgres, postgres_version, temporary_postgres
from recovery import PAUSE_SECONDS, effect, kill_and_recover
from script import Bench, run_script
from workloads import PAYLOAD, Metrics, best_variant, latency, percentile

WAIT_SECONDS = 36_000
SETTLE_SECONDS = 3.0
KILL_DELAY_SECONDS = 0.5

waiting: asyncio.Queue[None] = asyncio.Queue()
woken: asyncio.Queue[float] = asyncio.Queue()


@DBOS.step()
async def step() -> str:
    return PAYLOAD


@DBOS.step()
def sync_step() -> str:
    return PAYLOAD


@DBOS.step()
async def effect_step(path: str, run: int, number: int) -> str:
    return await effect(path, run, number)


@DBOS.workflow()
async def sequence(steps: int) -> None:
    for _ in range(steps):
        await step()


@DBOS.workflow()
def sync_sequence(steps: int) -> None:
    for _ in range(steps):
        sync_step()


@DBOS.workflow()
async def park() -> None:
    await step()
    waiting.put_nowait(None)
    await DBOS.recv_async(timeout_seconds=WAIT_SECONDS)
    woken.put_nowait(time.monotonic())


@DBOS.workflow()
async def sequence_then_wait(steps: int) -> None:
    for _ in range(steps):
        await step()
    mark("waiting")
    await DBOS.recv_async(timeout_seconds=WAIT_SECONDS)


@DBOS.workflow()
async def effects(path: str, run: int, steps: int) -> None:
    for number in range(steps):
        await effect_step(path, run, number)
        await DBOS.sleep_async(PAUSE_SECONDS)


@DBOS.workflow()
async def fan_out(children: int) -> None:
    handles = [await DBOS.start_workflow_async(sequence, 1) for _ in range(children)]
    for handle in handles:
        await handle.get_result()


async def w1(bench: Bench) -> Metrics:
    """One run at a time: the synchronous form in a thread, and the async form awaited."""
    steps = bench.sizes.sequential_steps
    async with database(bench) as (url, _), launched(url):
        variants = {
            "sync": await sequential(bench.sizes, lambda: asyncio.to_thread(sync_sequence, steps)),
            "async": await sequential(bench.sizes, lambda: sequence(steps)),
        }
    return best_variant("step_ms_p50", variants)


async def w2(bench: Bench) -> Metrics:
    """All runs started at once, then all awaited: as coroutines, and in threads."""
    runs, steps = bench.sizes.concurrent_runs, bench.sizes.concurrent_steps

    async def as_coroutines() -> None:
        handles = await asyncio.gather(*[DBOS.start_workflow_async(sequence, steps) for _ in range(runs)])
        await asyncio.gather(*[handle.get_result() for handle in handles])

    async def in_threads() -> None:
        starts = [asyncio.to_thread(DBOS.start_workflow, sync_sequence, steps) for _ in range(runs)]
        handles = await asyncio.gather(*starts)
        await asyncio.gather(*[asyncio.to_thread(handle.get_result) for handle in handles])

    async with database(bench) as (url, _), launched(url):
        variants = {
            name: {"steps_per_second": runs * steps / await median_seconds(once, bench.sizes.concurrent_repeats)}
            for name, once in {"async": as_coroutines, "threads": in_threads}.items()
        }
    return best_variant("steps_per_second", variants)


async def w3(bench: Bench) -> Metrics:
    """Many one-step runs, all started, then all awaited; then one call at a time, in the two ways there are."""
    runs, calls = bench.sizes.short_runs, bench.sizes.idle_calls // 2
    async with database(bench) as (url, _), launched(url):
        rate = runs / await seconds_of(start_and_get(runs))
        variants = {
            "await": latency("idle_call", [await seconds_of(sequence(1)) for _ in range(calls)]),
            "start and get": latency("idle_call", [await seconds_of(start_and_get(1)) for _ in range(calls)]),
        }
    return {"runs_per_second": rate} | best_variant("idle_call_ms_p50", variants)


async def start_and_get(runs: int) -> None:
    handles = [await DBOS.start_workflow_async(sequence, 1) for _ in range(runs)]
    for handle in handles:
        await handle.get_result()


async def w4(bench: Bench) -> Metrics:
    """Runs that wait for a message: what each weighs, what waiting costs, how fast one wakes."""
    count, process = bench.sizes.parked_runs, psutil.Process()
    async with database(bench) as (url, server), launched(url):
        await sequence(1)
        before = weigh(process, server, bench.data)
        started = time.monotonic()
        handles = [await DBOS.start_workflow_async(park) for _ in range(count)]
        for _ in range(count):
            await waiting.get()
        park_seconds = time.monotonic() - started
        await asyncio.sleep(SETTLE_SECONDS)
        after = weigh(process, server, bench.data)
        idle_cpu_percent = await cpu_percent([process], bench.sizes.idle_seconds)
        wakes = await wake_times(bench, [handle.get_workflow_id() for handle in handles])
    rss, disk, pss = [(now - then) / count for now, then in zip(after, before, strict=True)]
    return {
        "rss_bytes_per_parked": rss,
        "disk_bytes_per_parked": disk,
        "idle_cpu_percent": idle_cpu_percent,
        **latency("wake", wakes),
        "detail": {
            "parked": count,
            "park_seconds": park_seconds,
            "wakes": len(wakes),
            "postgres_pss_bytes_per_parked": pss,
        },
    }


def weigh(process: psutil.Process, server: Postgres | None, data: Path) -> tuple[int, int, int]:
    """Memory of this process, disk of the database, memory of the database server, in bytes."""
    if server is None:
        return rss_bytes([process]), file_bytes(data), 0
    return rss_bytes([process]), server.disk_bytes(), server.pss_bytes()


async def wake_times(bench: Bench, runs: list[str]) -> list[float]:
    """From the send until the first line of the run's code after the wait, one run at a time."""
    taken: list[float] = []
    deadline = time.monotonic() + bench.sizes.wakes_seconds
    for run in runs[: bench.sizes.wakes]:
        if time.monotonic() > deadline:
            break
        sent = time.monotonic()
        await DBOS.send_async(run, "wake")
        taken.append(await woken.get() - sent)
    return taken


async def w5(bench: Bench) -> Metrics:
    path = bench.data / "effects"
    async with database(bench) as (url, _):
        return await kill_and_recover(
            bench.sizes,
            path,
            begin=lambda: bench.spawn_all("begin", url, str(path), bench.sizes.killed_runs, bench.sizes.killed_steps),
            recover=lambda: bench.spawn_all("recover", url, bench.sizes.killed_runs),
        )


async def begin(url: str, path: str, runs: int, steps: int) -> None:
    async with launched(url):
        handles = [await DBOS.start_workflow_async(effects, path, run, steps) for run in range(runs)]
        for handle in handles:
            await handle.get_result()


async def recover(url: str, runs: int) -> None:
    """Launching is what recovers; all that is left to do is to wait."""
    async with launched(url):
        for status in await DBOS.list_workflows_async(name=effects.__qualname__, limit=runs):
            await (await DBOS.retrieve_workflow_async(status.workflow_id)).get_result()


async def w6(bench: Bench) -> Metrics:
    """From exec until the run waits again, with 1,000 steps behind it and with none: the difference is the replay."""
    seconds = {}
    for steps in (0, bench.sizes.replay_steps):
        taken = [await rehydration_seconds(bench, steps, repeat) for repeat in range(bench.sizes.replay_repeats)]
        seconds[steps] = percentile(taken, 0.5)
    long, base = seconds[bench.sizes.replay_steps], seconds[0]
    return {"replay_1000_ms": 1_000 * (long - base), "detail": {"long_seconds": long, "base_seconds": base}}


async def rehydration_seconds(bench: Bench, steps: int, repeat: int) -> float:
    here = Bench(bench.script, bench.sizes, bench.data / f"{steps}-{repeat}", bench.backend, bench.quick)
    here.data.mkdir()
    async with database(here) as (url, _):
        first = await here.spawn("wait", url, steps)
        try:
            await first.next("waiting")
            await asyncio.sleep(KILL_DELAY_SECONDS)
        finally:
            await first.kill()
        second = await here.spawn("wait", url, None)
        try:
            return float((await second.next("waiting"))["at"]) - second.started
        finally:
            await second.kill()


async def wait(url: str, steps: int | None) -> None:
    """Start a run of that many steps, or (None) only recover the one there is; either way, stay."""
    async with launched(url):
        if steps is not None:
            await DBOS.start_workflow_async(sequence_then_wait, steps)
        await asyncio.Event().wait()


async def w7(bench: Bench) -> Metrics:
    async with database(bench) as (url, _), launched(url):
        seconds = await median_seconds(lambda: fan_out(bench.sizes.children), bench.sizes.fan_out_repeats)
    return {"join_1000_seconds": seconds}


@asynccontextmanager
async def database(bench: Bench) -> AsyncIterator[tuple[str, Postgres | None]]:
    """A new system database on the back end asked for."""
    if bench.backend == "sqlite":
        yield f"sqlite:///{bench.data / 'dbos.sqlite'}", None
        return
    with temporary_postgres(bench.data / "postgres") as server:
        yield server.url, server


@asynccontextmanager
async def launched(url: str) -> AsyncIterator[None]:
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": url,
        "executor_id": "bench",
        "application_version": "1",
        "log_level": "ERROR",
    }
    DBOS(config=config)
    DBOS.launch()
    try:
        yield
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    run_script(
        "dbos",
        {"W1": w1, "W2": w2, "W3": w3, "W4": w4, "W5": w5, "W6": w6, "W7": w7},
        packages=("dbos", "sqlalchemy", "psycopg"),
        versions=lambda backend: {backend: sqlite3.sqlite_version if backend == "sqlite" else postgres_version()},
        roles={"begin": begin, "recover": recover, "wait": wait},
        backends=("sqlite", "postgres"),
    )
