"""The Python service behind the Restate server: the handlers that the workloads call, and the process that serves them.

One process and one event loop, under hypercorn, which the SDK's documentation shows first.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import restate
from children import mark
from hypercorn.asyncio import serve as serve_hypercorn
from hypercorn.config import Config
from recovery import PAUSE_SECONDS, effect
from workloads import PAYLOAD

bench_service = restate.Service("bench")


async def step() -> str:
    return PAYLOAD


@bench_service.handler()
async def sequence(ctx: restate.Context, steps: int) -> list[float]:
    """The time of each step, in seconds."""
    taken = []
    for _ in range(steps):
        started = time.monotonic()
        await ctx.run_typed("step", step)
        taken.append(time.monotonic() - started)
    return taken


@bench_service.handler()
async def effects(ctx: restate.Context, request: dict[str, Any]) -> None:
    for number in range(request["steps"]):
        await ctx.run_typed("effect", effect, path=request["path"], run=request["run"], step=number)
        await ctx.sleep(timedelta(seconds=PAUSE_SECONDS))


@bench_service.handler()
async def fan_out(ctx: restate.Context, children: int) -> None:
    await restate.gather(*[ctx.service_call(sequence, arg=1) for _ in range(children)])


async def steps_then_wait(ctx: restate.Context, steps: int) -> None:
    """Steps, then an awakeable. The marks tell its id and, when it was resolved, the moment."""
    for _ in range(steps):
        await ctx.run_typed("step", step)
    name, resolved = ctx.awakeable(type_hint=int)
    mark("waiting", awakeable=name)
    await resolved
    mark("woken", awakeable=name)


@bench_service.handler()
async def wait(ctx: restate.Context, steps: int) -> None:
    await steps_then_wait(ctx, steps)


@bench_service.handler(inactivity_timeout=timedelta(seconds=5))
async def park(ctx: restate.Context, steps: int) -> None:
    await steps_then_wait(ctx, steps)


@bench_service.handler(inactivity_timeout=timedelta(seconds=1))
async def park_soon(ctx: restate.Context, steps: int) -> None:
    await steps_then_wait(ctx, steps)


async def serve(port: int) -> None:
    """The service process: one event loop, HTTP/2 in clear text."""
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    await serve_hypercorn(restate.app([bench_service]), config)
