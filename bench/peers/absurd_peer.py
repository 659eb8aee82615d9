"""Absurd on PostgreSQL: one async worker, 16 tasks at a time, default poll interval and lease.

Latency is the poll interval, so what depends on it is also measured with a poll of 10 ms, and the better one counts.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from absurd_sdk import AsyncAbsurd, AsyncTaskContext
from children import mark
from measure import cpu_percent, rss_bytes
from postgres import Postgres, postgres_version, temporary_postgres
from recovery import PAUSE_SECONDS, effect, kill_and_recover
from script import Bench, run_script
from workloads import PAYLOAD, Metrics, best_variant, latency, percentile

CONCURRENCY = 16
CONCURRENCY_WIDE = 100
POLL_SECONDS = 0.25
POLL_SECONDS_SHORT = 0.01
POLL_SECONDS_REPLAY = 0.001
LEASE_SECONDS = 120
#: With the default lease a task that crashed in mid-step would wait two minutes, longer than the time cap.
LEASE_SECONDS_KILLED = 5
SETTLE_SECONDS = 1.0
KILL_DELAY_SECONDS = 0.5
SPACING_SECONDS_MAX = 0.1

RUNS, CHILDREN = "runs", "children"

finished: asyncio.Queue[float] = asyncio.Queue()
waiting: asyncio.Queue[None] = asyncio.Queue()
woken: asyncio.Queue[float] = asyncio.Queue()
joined: asyncio.Queue[float] = asyncio.Queue()
step_seconds: list[float] = []


async def step() -> str:
    return PAYLOAD


async def sequence(params: Any, ctx: AsyncTaskContext) -> None:
    """`steps` steps, timed inside the task, so that polling before the first one is not counted."""
    started = time.monotonic()
    for _ in range(params["steps"]):
        await ctx.step("step", step)
    ended = time.monotonic()
    step_seconds.append((ended - started) / params["steps"])
    finished.put_nowait(ended)


async def park(params: Any, ctx: AsyncTaskContext) -> None:
    """Steps, then a wait. Everything before the wait runs again when it ends, the steps from their checkpoints."""
    for _ in range(params["steps"]):
        await ctx.step("step", step)
    waiting.put_nowait(None)
    await ctx.await_event(params["event"])
    woken.put_nowait(time.monotonic())


async def effects(params: Any, ctx: AsyncTaskContext) -> None:
    for number in range(params["steps"]):
        await ctx.step("effect", partial(effect, params["path"], params["run"], number))
        await ctx.sleep_for("pause", PAUSE_SECONDS)


async def fan_out(params: Any, ctx: AsyncTaskContext) -> None:
    """Children live in a queue of their own: Absurd refuses to wait for a task of the same queue."""
    started = time.monotonic()
    async with client(params["url"], CHILDREN) as app:
        spawned = [
            await app.spawn("sequence", {"steps": 1}, idempotency_key=f"{ctx.task_id}:{number}")
            for number in range(params["children"])
        ]
    for each in spawned:
        await ctx.await_task_result(str(each["task_id"]), queue_name=CHILDREN)
    joined.put_nowait(time.monotonic() - started)


TASKS = {
    RUNS: {"sequence": sequence, "park": park, "effects": effects, "fan_out": fan_out},
    CHILDREN: {"sequence": sequence},
}


async def w1(bench: Bench) -> Metrics:
    """One task at a time, each spawned and awaited before the next."""
    sizes, deadline = bench.sizes, time.monotonic() + bench.sizes.sequential_seconds
    async with database(bench) as server, client(server.url, RUNS) as app, working(server.url):
        while len(step_seconds) < 2 or (len(step_seconds) < sizes.sequential_runs and time.monotonic() < deadline):
            await app.spawn("sequence", {"steps": sizes.sequential_steps})
            await finished.get()
    return {"step_ms_p50": 1_000 * percentile(step_seconds, 0.5), "runs": len(step_seconds)}


async def w2(bench: Bench) -> Metrics:
    """All tasks spawned first; the clock starts with the worker."""
    runs, steps = bench.sizes.concurrent_runs, bench.sizes.concurrent_steps

    async def rate(url: str, app: AsyncAbsurd, concurrency: int) -> Metrics:
        for _ in range(runs):
            await app.spawn("sequence", {"steps": steps})
        started = time.monotonic()
        async with working(url, concurrency=concurrency):
            ended = [await finished.get() for _ in range(runs)][-1]
        return {"steps_per_second": runs * steps / (ended - started)}

    async with database(bench) as server, client(server.url, RUNS) as app:
        variants = {
            f"concurrency {number}": await rate(server.url, app, number) for number in (CONCURRENCY, CONCURRENCY_WIDE)
        }
    return best_variant("steps_per_second", variants)


async def w3(bench: Bench) -> Metrics:
    """Many one-step tasks with the worker running, spawning included; then one at a time, at two poll intervals."""
    runs = bench.sizes.short_runs
    async with database(bench) as server, client(server.url, RUNS) as app:

        async def spawn_all() -> None:
            for _ in range(runs):
                await app.spawn("sequence", {"steps": 1})

        async with working(server.url):
            started = time.monotonic()
            spawning = asyncio.create_task(spawn_all())
            ended = [await finished.get() for _ in range(runs)][-1]
            await spawning
        variants = {}
        for poll_seconds in (POLL_SECONDS, POLL_SECONDS_SHORT):
            async with working(server.url, poll_seconds=poll_seconds):
                calls = [await idle_call_seconds(app) for _ in range(bench.sizes.polled_calls)]
            variants[f"poll {poll_seconds} s"] = latency("idle_call", calls)
    return {"runs_per_second": runs / (ended - started)} | best_variant("idle_call_ms_p50", variants)


async def idle_call_seconds(app: AsyncAbsurd) -> float:
    """Spaced at random, so that calls do not fall into step with the polling."""
    await asyncio.sleep(random.uniform(0, SPACING_SECONDS_MAX))
    started = time.monotonic()
    await app.spawn("sequence", {"steps": 1})
    return await finished.get() - started


async def w4(bench: Bench) -> Metrics:
    """Tasks that wait for an event of their own."""
    runs, process = bench.sizes.parked_runs, psutil.Process()
    async with database(bench) as server, client(server.url, RUNS) as app:
        async with working(server.url):
            before = weigh(process, server)
            started = time.monotonic()
            for run in range(runs):
                await app.spawn("park", {"steps": 1, "event": f"wake-{run}"})
            for _ in range(runs):
                await waiting.get()
            park_seconds = time.monotonic() - started
            await asyncio.sleep(SETTLE_SECONDS)
            after = weigh(process, server)
            idle_cpu_percent = await cpu_percent([process], bench.sizes.idle_seconds)
        variants, untouched = {}, iter(range(runs))
        for poll_seconds in (POLL_SECONDS, POLL_SECONDS_SHORT):
            async with working(server.url, poll_seconds=poll_seconds):
                chosen = [next(untouched) for _ in range(bench.sizes.polled_calls)]
                variants[f"poll {poll_seconds} s"] = latency("wake", [await wake_seconds(app, run) for run in chosen])
    rss, disk, pss = [(now - then) / runs for now, then in zip(after, before, strict=True)]
    wake = best_variant("wake_ms_p50", variants)
    wake["detail"] |= {"parked": runs, "park_seconds": park_seconds, "postgres_pss_bytes_per_parked": pss}
    figures = {"rss_bytes_per_parked": rss, "disk_bytes_per_parked": disk, "idle_cpu_percent": idle_cpu_percent}
    return figures | wake


def weigh(process: psutil.Process, server: Postgres) -> tuple[int, int, int]:
    """Memory of this process, disk of the database, memory of the database server, in bytes."""
    return rss_bytes([process]), server.disk_bytes(), server.pss_bytes()


async def wake_seconds(app: AsyncAbsurd, run: int) -> float:
    await asyncio.sleep(random.uniform(0, SPACING_SECONDS_MAX))
    sent = time.monotonic()
    await app.emit_event(f"wake-{run}")
    return await woken.get() - sent


async def w5(bench: Bench) -> Metrics:
    path, sizes = bench.data / "effects", bench.sizes
    async with database(bench) as server:
        async with client(server.url, RUNS) as app:
            for run in range(sizes.killed_runs):
                await app.spawn("effects", {"path": str(path), "run": run, "steps": sizes.killed_steps})
        figures = await kill_and_recover(
            sizes,
            path,
            begin=lambda: bench.spawn_all("work", server.url, LEASE_SECONDS_KILLED),
            recover=lambda: bench.spawn_all("work", server.url, LEASE_SECONDS_KILLED),
        )
    return figures | {"detail": {"lease_seconds": LEASE_SECONDS_KILLED, "lease_seconds_default": LEASE_SECONDS}}


async def work(url: str, lease_seconds: int) -> None:
    """A worker and nothing else, until it is killed."""
    async with working(url, lease_seconds=lease_seconds):
        await asyncio.Event().wait()


async def w6(bench: Bench) -> Metrics:
    """From the event until the code after the wait, in a new worker: 1,000 steps against 1.

    Only with a poll of 1 ms: the default one adds up to 250 ms of chance to a difference of a few.
    """
    long, base = [], []
    async with database(bench) as server:
        for repeat in range(bench.sizes.replay_repeats):
            base.append(await rehydration_seconds(bench, server.url, f"base-{repeat}", 1))
            long.append(await rehydration_seconds(bench, server.url, f"long-{repeat}", bench.sizes.replay_steps))
    long_seconds, base_seconds = percentile(long, 0.5), percentile(base, 0.5)
    detail = {"long_seconds": long_seconds, "base_seconds": base_seconds, "poll_seconds": POLL_SECONDS_REPLAY}
    return {"replay_1000_ms": 1_000 * (long_seconds - base_seconds), "detail": detail}


async def rehydration_seconds(bench: Bench, url: str, event: str, steps: int) -> float:
    async with client(url, RUNS) as app:
        await app.spawn("park", {"steps": steps, "event": event})
    first = await bench.spawn("work_until_parked", url)
    try:
        await first.next("waiting")
        await asyncio.sleep(KILL_DELAY_SECONDS)
    finally:
        await first.kill()
    second = await bench.spawn("wake", url, event)
    try:
        return float((await second.next("woken"))["seconds"])
    finally:
        await second.kill()


async def work_until_parked(url: str) -> None:
    async with working(url):
        await waiting.get()
        mark("waiting")
        await asyncio.Event().wait()


async def wake(url: str, event: str) -> None:
    async with client(url, RUNS) as app, working(url, poll_seconds=POLL_SECONDS_REPLAY):
        sent = time.monotonic()
        await app.emit_event(event)
        mark("woken", seconds=await woken.get() - sent)


async def w7(bench: Bench) -> Metrics:
    """A parent task, and its children in a queue with a worker of its own; timed inside the parent."""
    taken = []
    async with (
        database(bench) as server,
        client(server.url, RUNS) as app,
        working(server.url),
        working(server.url, queue=CHILDREN),
    ):
        for _ in range(bench.sizes.fan_out_repeats):
            await app.spawn("fan_out", {"url": server.url, "children": bench.sizes.children})
            taken.append(await joined.get())
    return {"join_1000_seconds": percentile(taken, 0.5)}


@asynccontextmanager
async def database(bench: Bench, name: str = "postgres") -> AsyncIterator[Postgres]:
    """A new server with Absurd's schema and both queues."""
    with temporary_postgres(bench.data / name) as server:
        create_schema(server.url)
        async with client(server.url, RUNS) as app:
            for queue in TASKS:
                await app.create_queue(queue)
        yield server


def create_schema(url: str) -> None:
    absurdctl = Path(sys.executable).with_name("absurdctl")
    subprocess.run([absurdctl, "init", "-d", url], check=True, stdout=subprocess.DEVNULL)


@asynccontextmanager
async def client(url: str, queue: str) -> AsyncIterator[AsyncAbsurd]:
    """A connection that knows the tasks of one queue."""
    app = AsyncAbsurd(url, queue_name=queue)
    for name, handler in TASKS[queue].items():
        app.register_task(name)(handler)
    try:
        yield app
    finally:
        await app.close()


@asynccontextmanager
async def working(
    url: str,
    *,
    queue: str = RUNS,
    concurrency: int = CONCURRENCY,
    poll_seconds: float = POLL_SECONDS,
    lease_seconds: int = LEASE_SECONDS,
) -> AsyncIterator[None]:
    """A worker in this process, with a connection of its own; when the block ends it finishes what it holds."""
    async with client(url, queue) as app:
        worker = asyncio.create_task(
            app.start_worker(concurrency=concurrency, poll_interval=poll_seconds, claim_timeout=lease_seconds)
        )
        try:
            yield
        finally:
            app.stop_worker()
            await worker


if __name__ == "__main__":
    run_script(
        "absurd",
        {"W1": w1, "W2": w2, "W3": w3, "W4": w4, "W5": w5, "W6": w6, "W7": w7},
        packages=("absurd-sdk", "psycopg"),
        versions=lambda _: {"postgres": postgres_version()},
        roles={"work": work, "work_until_parked": work_until_parked, "wake": wake},
    )
