"""Runs tools: async ones on the host's loop, sync ones in a thread, those with `compute=` in other processes."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from perdure.agents.attempt import Attempt, ReportKind, current_attempt
from perdure.agents.tool import STILL_UNKNOWN, Tool
from perdure.errors import ComputeLost, CutOff, OutOfMemory
from perdure.hands.compute.contract import Engine, Work
from perdure.hands.compute.growth import Growth
from perdure.hands.compute.place import place_of, refuse_while_loading
from perdure.hands.threads import ThreadPool
from perdure.journal.commands import Call


class ToolHands:
    """The kernel's Hands for functions.

    threads: for sync tools. processes: cpus for tools with `compute=` (default: the machine's). ray: the cluster that
    runs those instead. Raises InvalidSetting for a cluster that cannot be used from here.
    """

    def __init__(self, threads: int, processes: int | None = None, ray: str | None = None) -> None:
        refuse_while_loading()
        self._threads = ThreadPool(threads)
        self._engine = _new_engine(processes, ray)
        self._growth = Growth()

    async def execute(self, call: Call, attempt: Attempt) -> str:
        """Run the call's tool; its result as JSON text. Raises what the tool raises."""
        tool = call.target
        if tool.compute is not None:
            return await self._elsewhere(tool, call, attempt)
        # This coroutine has a task, and so a context, of its own: nothing to reset.
        current_attempt.set(attempt)
        if tool.is_async:
            attempt.begin()
            result = await tool.signature.call(call.arguments)
        else:
            result = await self._threads.run(_begin, attempt, tool, call.arguments)
            if inspect.isawaitable(result):  # a lambda around an async function, a partial
                result = await result
        return str(tool.signature.encode_result(result))

    async def probe(self, call: Call) -> Any:
        """What the tool's reconcile probe says; without one nobody can tell."""
        probe = call.target.probe
        if probe is None:
            return STILL_UNKNOWN
        arguments = call.target.signature.validate_json(call.arguments_json)
        if asyncio.iscoroutinefunction(probe):
            return await probe(**arguments)
        return await self._threads.run(lambda: probe(**arguments))

    def close(self) -> None:
        """Take no more work. Threads that still run are left to end by themselves; other processes are stopped."""
        self._threads.close()
        self._engine.close()

    async def _elsewhere(self, tool: Tool[..., Any], call: Call, attempt: Attempt) -> str:
        """Run the body where its compute is."""
        assert tool.compute is not None
        work = Work(
            place_of(tool), call.arguments_json, self._growth.size(tool.compute, attempt), attempt.run, attempt.session,
            attempt.step, attempt.attempt, attempt.key, attempt.last_heartbeat,
        )  # fmt: skip

        def take_report(kind: ReportKind, name: str, data: Any) -> None:
            _pass_on(attempt, kind, name, data)

        try:
            result = await self._engine.run(work, take_report, attempt.begin)
        except ComputeLost as error:
            if isinstance(error, OutOfMemory):
                self._growth.ran_out(attempt.key)
            if error.in_doubt and not tool.options.effect.repeatable:
                raise CutOff(str(error)) from error
            raise
        self._growth.forget(attempt.key)
        return result


def _begin(attempt: Attempt, tool: Tool[..., Any], arguments: Any) -> Any:
    """In a thread, for which it may have waited while this process was paused."""
    attempt.begin()
    return tool.signature.call(arguments)


def _new_engine(processes: int | None, ray: str | None) -> Engine:
    if ray is None:
        from perdure.hands.compute.local import LocalEngine  # noqa: PLC0415 - a Runtime is imported by every command

        return LocalEngine(processes)
    from perdure.hands.compute.ray import RayEngine  # noqa: PLC0415 - the same

    return RayEngine(ray, processes)


def _pass_on(attempt: Attempt, kind: ReportKind, name: str, data: Any) -> None:
    match kind:
        case "heartbeat":
            attempt.heartbeat(data)
        case "stream":
            attempt.stream(data, name)
        case "emit":
            attempt.emit(name, data)
