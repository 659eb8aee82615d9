"""Restate: its own server from npm, one Python service behind hypercorn, and HTTP calls from here.

Three processes share the machine: server, service, and this one, which generates the load. A step is `ctx.run_typed`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
from children import Child
from measure import cpu_percent, family, file_bytes, median_seconds, rss_bytes, seconds_of, sequential
from recovery import kill_and_recover
from restate_service import serve
from restate_stack import Stack, running, server_version
from script import Bench, run_script
from workloads import Metrics, best_variant, latency, percentile

KILL_DELAY_SECONDS = 0.3
#: Longer than the 5 s of inactivity after which a parked run of W4 is suspended.
SETTLE_SECONDS = 8.0
#: Longer than the 1 s of W6, and clear of the 5 s after which hypercorn closes an idle connection: a resume that falls
#: into that moment breaks, and waits 500 ms for its retry.
SUSPEND_SECONDS = 4.0


async def w1(bench: Bench) -> Metrics:
    """One call at a time, so a step carries its share of an HTTP request."""
    async with running(bench) as here:
        return await sequential(bench.sizes, lambda: here.call("sequence", bench.sizes.sequential_steps))


async def w2(bench: Bench) -> Metrics:
    runs, steps = bench.sizes.concurrent_runs, bench.sizes.concurrent_steps
    async with running(bench) as here:
        seconds = await median_seconds(lambda: call_all(here, runs, steps), bench.sizes.concurrent_repeats)
    return {"steps_per_second": runs * steps / seconds}


async def w3(bench: Bench) -> Metrics:
    runs = bench.sizes.short_runs
    async with running(bench) as here:
        rate = runs / await seconds_of(call_all(here, runs, 1))
        calls = [await seconds_of(here.call("sequence", 1)) for _ in range(bench.sizes.idle_calls)]
    return {"runs_per_second": rate, **latency("idle_call", calls)}


async def call_all(here: Stack, runs: int, steps: int) -> None:
    await asyncio.gather(*[here.call("sequence", steps) for _ in range(runs)])


async def w4(bench: Bench) -> Metrics:
    """Runs at an awakeable, suspended; server and service are weighed apart and reported together."""
    runs = bench.sizes.parked_runs
    async with running(bench) as here:
        server, service = family(here.server.pid), family(here.service.pid)
        before = weigh(server, service, bench.data)
        started = time.monotonic()
        sending = asyncio.gather(*[here.send("park", 1) for _ in range(runs)])
        awakeables = [(await here.service.next("waiting"))["awakeable"] for _ in range(runs)]
        park_seconds = time.monotonic() - started
        await sending
        await asyncio.sleep(SETTLE_SECONDS)
        after = weigh(server, service, bench.data)
        idle_cpu_percent = await cpu_percent([*server, *service], bench.sizes.idle_seconds)
        wakes = [await here.wake_seconds(awakeable) for awakeable in awakeables[: bench.sizes.wakes]]
    in_server, in_service, disk = [(now - then) / runs for now, then in zip(after, before, strict=True)]
    return {
        "rss_bytes_per_parked": in_server + in_service,
        "disk_bytes_per_parked": disk,
        "idle_cpu_percent": idle_cpu_percent,
        **latency("wake", wakes),
        "detail": {
            "parked": runs,
            "park_seconds": park_seconds,
            "server_rss_bytes_per_parked": in_server,
            "service_rss_bytes_per_parked": in_service,
        },
    }


def weigh(server: list[psutil.Process], service: list[psutil.Process], data: Path) -> tuple[int, int, int]:
    """Memory of the server, memory of the service, disk of the server's data, in bytes."""
    return rss_bytes(server), rss_bytes(service), file_bytes(data)


async def w5(bench: Bench) -> Metrics:
    """Killed once without and once with the server."""
    variants = {}
    for name in ("service killed", "service and server killed"):
        async with running(bench, name) as here:
            variants[name] = await kill_running(bench, here, with_server="server" in name)
    return best_variant("all_resumed_seconds", variants)


async def kill_running(bench: Bench, here: Stack, *, with_server: bool) -> Metrics:
    path, sizes = bench.data / "effects", bench.sizes
    path.unlink(missing_ok=True)

    async def begin() -> list[Child]:
        for run in range(sizes.killed_runs):
            await here.send("effects", {"path": str(path), "run": run, "steps": sizes.killed_steps})
        return [here.service, here.server] if with_server else [here.service]

    async def recover() -> list[Child]:
        await here.start_service()
        if with_server:
            await here.start_server()
        return [here.service]

    return await kill_and_recover(sizes, path, begin, recover)


async def w6(bench: Bench) -> Metrics:
    """Two ways back: a suspended run counts; one that was live waits out a 500 ms retry first, which drowns the rest.

    A stack for each: after a kill, a pooled connection to the dead service may cost another run such a retry.
    """
    suspended = await replay(bench, "suspended", resume_seconds)
    live = await replay(bench, "live", retry_seconds)
    return suspended | {"detail": {"suspended": suspended, "live": live}}


async def replay(bench: Bench, name: str, way: Callable[[Stack, int], Awaitable[float]]) -> Metrics:
    """A run of 1,000 steps against one of none."""
    long, base = [], []
    async with running(bench, name) as here:
        for _ in range(bench.sizes.replay_repeats):
            base.append(await way(here, 0))
            long.append(await way(here, bench.sizes.replay_steps))
    long_seconds, base_seconds = percentile(long, 0.5), percentile(base, 0.5)
    return {
        "replay_1000_ms": 1_000 * (long_seconds - base_seconds),
        "long_seconds": long_seconds,
        "base_seconds": base_seconds,
    }


async def retry_seconds(here: Stack, steps: int) -> float:
    """From exec of a new service until the run waits again; the server's retry back-off is in both terms."""
    await here.send("wait", steps)
    await here.service.next("waiting")
    await asyncio.sleep(KILL_DELAY_SECONDS)
    await here.service.kill()
    await here.start_service()
    waiting = await here.service.next("waiting")
    taken = float(waiting["at"]) - here.service.started
    await here.wake_seconds(waiting["awakeable"])
    return taken


async def resume_seconds(here: Stack, steps: int) -> float:
    """From the resolve request until the code after the wait, once the run has been suspended."""
    await here.send("park_soon", steps)
    awakeable = (await here.service.next("waiting"))["awakeable"]
    await asyncio.sleep(SUSPEND_SECONDS)
    return await here.wake_seconds(awakeable)


async def w7(bench: Bench) -> Metrics:
    async with running(bench) as here:
        seconds = await median_seconds(lambda: here.call("fan_out", bench.sizes.children), bench.sizes.fan_out_repeats)
    return {"join_1000_seconds": seconds}


if __name__ == "__main__":
    run_script(
        "restate",
        {"W1": w1, "W2": w2, "W3": w3, "W4": w4, "W5": w5, "W6": w6, "W7": w7},
        packages=("restate-sdk", "hypercorn"),
        versions=lambda _: {"restate-server": server_version()},
        roles={"serve": serve},
    )
