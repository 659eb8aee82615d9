"""Runs tools: async ones on the host's loop, sync ones in a thread of a bounded pool."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from perdure.agents.attempt import Attempt, current_attempt
from perdure.agents.tool import STILL_UNKNOWN
from perdure.journal.commands import Call


class ToolHands:
    """The kernel's Hands for functions in this process."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None

    async def execute(self, call: Call, attempt: Attempt) -> str:
        """Run the call's tool; its result as JSON text. Raises what the tool raises."""
        tool = call.target
        # This coroutine has a task, and so a context, of its own: nothing to reset.
        current_attempt.set(attempt)
        if tool.is_async:
            result = await tool.signature.call(call.arguments)
        else:
            result = await self._in_thread(tool.signature.call, call.arguments)
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
        return await self._in_thread(lambda: probe(**arguments))

    def close(self) -> None:
        """Take no more work; threads that still run are left to end by themselves."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, function: Any, *args: Any) -> Any:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="perdure-tool")
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._pool, context.run, function, *args)
