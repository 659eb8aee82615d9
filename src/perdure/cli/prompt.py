"""Asks the person at this terminal what a run wants to know. The form is made from the answer's JSON Schema.

An empty line leaves the question open: it can be answered later, or from anywhere else. When somebody else
answers first, the prompt goes away.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from perdure.cli.options import person
from perdure.cli.output import note, paint, shorten
from perdure.errors import AlreadySettled, InvalidInput
from perdure.store.contract import Ask
from perdure.values.json import decode
from perdure.views.why import open_asks

if TYPE_CHECKING:
    from perdure.cli.reach import Reach


#: How often new questions, and answers from elsewhere, are looked for.
_LOOK_SECONDS = 0.2


class Later(Exception):  # noqa: N818 - not an error: the person chose not to answer now
    """The person left the question open."""


async def settle_as_they_come(reach: Reach, run: Callable[[], str], hide: Callable[[], None]) -> None:
    """Put every question of `run()` and its children before the person, one at a time; for ever."""
    seen: set[str] = set()
    while True:
        row = await reach.find(run())
        for ask in await open_asks(reach, row):
            if ask.id not in seen:
                seen.add(ask.id)
                hide()
                await _unless_settled_elsewhere(reach, ask)
        await asyncio.sleep(_LOOK_SECONDS)


async def _unless_settled_elsewhere(reach: Reach, ask: Ask) -> None:
    prompt = asyncio.ensure_future(settle_here(reach, ask))
    try:
        while not prompt.done():
            await asyncio.wait([prompt], timeout=_LOOK_SECONDS)
            now = await reach.find_ask(ask.id)
            if not prompt.done() and now.status != "open":
                note(f"\n  {ask.id} is settled: {now.status}")
                return
        prompt.result()
    finally:
        prompt.cancel()


async def settle_here(reach: Reach, ask: Ask) -> None:
    """Put `ask` before the person at the terminal and record what they say."""
    try:
        await (_answer(reach, ask) if ask.kind == "ask" else _decide(reach, ask))
    except Later:
        note(f"  left open: {ask.id}")
    except AlreadySettled as error:
        note(f"  {error}")


async def _answer(reach: Reach, ask: Ask) -> None:
    schema = decode(ask.detail).get("schema") or {}
    while True:
        try:
            await reach.answer(ask.id, await _value(schema, "answer"), by=person())
            return
        except InvalidInput as error:
            note(paint(f"  {error}", "red", err=True))


async def _decide(reach: Reach, ask: Ask) -> None:
    detail = decode(ask.detail)
    note(paint(f"  {detail['action']} {shorten(detail['args'], 400)}", bold=True, err=True))
    if await _yes_or_no("approve"):
        await reach.approve(ask.id, by=person())
    else:
        await reach.reject(ask.id, by=person(), note=await _line("why not (may be empty)") or None)


async def _value(schema: dict[str, Any], label: str) -> Any:
    properties = schema.get("properties")
    if not properties:
        return await _scalar(schema, label)
    required = schema.get("required", [])
    value = {}
    for name, part in properties.items():
        try:
            value[name] = await _scalar(part, name if name in required else f"{name} (may be empty)")
        except Later:
            if name in required:
                raise
    return value


async def _scalar(schema: dict[str, Any], label: str) -> Any:
    if schema.get("type") == "boolean":
        return await _yes_or_no(label)
    shown = f"{label} ({' | '.join(map(str, schema['enum']))})" if schema.get("enum") else label
    while True:
        text = await _line(shown)
        if not text:
            raise Later
        if schema.get("type") == "string":
            return text
        try:
            return json.loads(text)
        except ValueError:
            if not schema.get("type"):
                return text
            note(f"  {schema.get('type')} wanted")


async def _yes_or_no(label: str) -> bool:
    while True:
        text = (await _line(f"{label}? y/n")).lower()
        if not text:
            raise Later
        if text in ("y", "yes", "true", "j", "ja"):
            return True
        if text in ("n", "no", "false", "nein"):
            return False


async def _line(label: str) -> str:
    # The loop watches the terminal: a thread in input() could be neither interrupted nor sent away.
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    sys.stderr.write(paint(f"  {label}: ", "yellow", err=True))
    sys.stderr.flush()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(sys.stdin.fileno(), wake)
    try:
        await ready
    finally:
        loop.remove_reader(sys.stdin.fileno())
    text = sys.stdin.readline()
    if not text:  # end of input: nobody is there
        raise Later
    return text.strip()
