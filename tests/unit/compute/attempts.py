"""How the tests of compute run one attempt of a tool, and watch the processes that do."""

from __future__ import annotations

import asyncio
import os
import select
from typing import Any

from perdure.agents.attempt import Attempt
from perdure.agents.tool import Tool
from perdure.hands.tools import ToolHands
from perdure.journal.commands import Call
from perdure.values.json import decode


class Reports:
    """What attempts reported, in order."""

    def __init__(self) -> None:
        self.all: list[tuple[Any, ...]] = []
        self._came = asyncio.Event()

    def take(self, *report: Any) -> None:
        """One more."""
        self.all.append(report)
        self._came.set()

    async def first(self) -> tuple[Any, ...]:
        """The first report, as soon as it is there."""
        await self._came.wait()
        return self.all[0]


async def attempt(
    hands: ToolHands, tool: Tool[..., Any], *args: Any, reports: Reports | None = None, **facts: Any
) -> Any:
    """The result of one attempt of a tool, by way of the hands."""
    facts = {"run": "run_1", "session": None, "step": 1, "attempt": 1, "key": "run_1:1", **facts}
    bound, text = tool.signature.bind(args, {})
    seen = Attempt(**facts, report=reports.take if reports is not None else lambda *_: None)
    return decode(await hands.execute(Call(tool.name, "", tool, bound, text), seen))


async def read_line(fifo: Any) -> list[int]:
    """The numbers that somebody writes into a named pipe."""
    text = await asyncio.to_thread(fifo.read_text)
    return [int(word) for word in text.split()]


async def gone(*pids: int) -> bool:
    """Whether all these processes end, within a few seconds."""
    return all(await asyncio.gather(*(asyncio.to_thread(_ends, pid) for pid in pids)))


def _ends(pid: int) -> bool:
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watched], [], [], 10)[0])
    finally:
        os.close(watched)
