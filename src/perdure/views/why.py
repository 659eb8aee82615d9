"""Why is a run not moving, and which commands move it on? The journal knows most; who is alive, only the store does."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from perdure.store.contract import Ask, Node, RunFilter, Shard
from perdure.values.clock import iso
from perdure.values.json import decode
from perdure.values.runs import Run, RunStatus

if TYPE_CHECKING:
    from perdure.client.service import Service
    from perdure.runtime import Runtime

#: A run that is due for longer than this without moving has nobody who would move it (microseconds).
_OVERDUE_US = 2_000_000
#: Statuses in which a run needs a worker to go on.
_NEEDS_WORKER = frozenset({RunStatus.QUEUED, RunStatus.RUNNING})


class Why(NamedTuple):
    """Why a run is not moving: one line for people, one object for programs. Both None while it moves."""

    reason: str | None
    wait: dict[str, Any] | None


class Explainer:
    """Reasons of runs, as of one look at who is alive."""

    def __init__(self, runtime: Runtime, shards: Iterable[Shard], nodes: Iterable[Node]) -> None:
        self._runtime = runtime
        self._alive = {shard.name: shard.owner for shard in shards if shard.alive}
        #: which limits runs wait for, as nodes said not long ago, by their names
        self._used_up = {node.id: _used_up(node) for node in nodes if node.alive}
        self._busy: dict[tuple[str, str], Run | None] = {}

    @classmethod
    async def look(cls, runtime: Runtime) -> Explainer:
        """Look at the store's shards and nodes now."""
        return cls(runtime, await runtime.store.shards(), await runtime.store.nodes())

    def has_worker(self, run: Run) -> bool:
        """True when a live worker owns the run's shard."""
        return run.shard in self._alive

    def has_worker_of(self, agent: str) -> bool:
        """True when some live worker has that agent."""
        return any(name.rpartition(":")[0] == agent for name in self._alive)

    async def why(self, run: Run, now_us: int) -> Why:
        """Why `run` is not moving."""
        if run.status.terminal:
            return Why(None, None)
        if is_paused(run) or run.status is RunStatus.QUARANTINED:
            return Why(run.reason, _readable(run.wait))
        if not self.has_worker(run) and await self._could_move(run, now_us):
            return Why(
                f"no worker has agent {run.agent}; run: perdure work FILE.py", {"kind": "worker", "agent": run.agent}
            )
        if run.status is RunStatus.QUEUED and run.session is not None:
            active = await self._active(run.agent, run.session)
            if active is not None and active.id != run.id:
                return Why(f"session {run.session} is busy with {active.id}", {"kind": "session", "run": active.id})
        if run.status is RunStatus.QUEUED:
            return self._no_place(run)
        return Why(run.reason, _readable(run.wait))

    async def _could_move(self, run: Run, now_us: int) -> bool:
        if run.status in _NEEDS_WORKER or (run.wake_at is not None and run.wake_at + _OVERDUE_US < now_us):
            return True
        # An answer, a message or a word of control that nobody has taken yet.
        return bool(await self._runtime.store.run_signals(run.id))

    def _no_place(self, run: Run) -> Why:
        used_up = self._used_up.get(self._alive.get(run.shard) or "", {})
        for name in (f"{run.agent}/{run.concurrency_key}", run.agent):
            if name in used_up:
                return Why(str(used_up[name]), {"kind": "limit", "name": name})
        return Why("waits for a free place", {"kind": "place"})

    async def _active(self, agent: str, session: str) -> Run | None:
        if (agent, session) not in self._busy:
            self._busy[agent, session] = await self._runtime.store.session_active(agent, session)
        return self._busy[agent, session]


def is_paused(run: Run) -> bool:
    """True also for a run that was paused before its turn in its session came: that one still counts as queued."""
    return (run.wait or {}).get("kind") == "pause"


async def open_asks(service: Service, run: Run) -> list[Ask]:
    """Questions and approvals that `run`, or a child it waits for, has open."""
    asks = await service.inbox(run=run.id)
    if run.wait is not None and run.wait.get("kind") == "child":
        waiting = RunFilter(parent=run.id, statuses=(RunStatus.WAITING,))
        for child in await service.runs(waiting):
            asks += await open_asks(service, child)
    return asks


def commands_for(run: Run, asks: Iterable[Ask], *, alive: bool) -> list[str]:
    """The commands that make sense next, the most telling first."""
    kind = (run.wait or {}).get("kind")
    commands = [command for ask in asks for command in ask_commands(ask)]
    if kind == "unknown":
        step = (run.wait or {})["step"]
        commands += [f"perdure resolve {run.id} {step} {way}" for way in ("--happened JSON", "--run-again", "--fail")]
    if kind == "message":
        commands.append(f"perdure send {run.id} {shlex.quote((run.wait or {})['topic'])} JSON")
    if not alive and run.status in (*_NEEDS_WORKER, RunStatus.WAITING) and not is_paused(run):
        commands.append("perdure work FILE.py")
    match run.status:
        case RunStatus.QUARANTINED:
            commands += [f"perdure retry {run.id}", f"perdure replay {run.id} FILE.py", f"perdure cancel {run.id}"]
        case _ if is_paused(run):
            commands += [f"perdure resume {run.id}", f"perdure cancel {run.id}"]
        case RunStatus.FAILED | RunStatus.CANCELLED:
            commands += [f"perdure retry {run.id}"]
        case RunStatus.SUCCEEDED:
            pass
        case _:
            commands += [f"perdure events {run.id} --follow"]
    if run.status.terminal:
        commands += [f"perdure fork {run.id} --at STEP", f"perdure export {run.id}"]
    return commands


def ask_commands(ask: Ask) -> list[str]:
    """How an ask is settled."""
    if ask.kind == "ask":
        return [f"perdure answer {ask.id} {example(decode(ask.detail).get('schema'))}"]
    return [f"perdure approve {ask.id}", f"perdure reject {ask.id}"]


def example(schema: dict[str, Any] | None) -> str:
    """The shape of an answer, to be filled in."""
    properties = (schema or {}).get("properties")
    if not properties:
        return "JSON"
    required = (schema or {}).get("required", list(properties))
    fields = ", ".join(f'"{name}": {_placeholder(properties[name])}' for name in required)
    return shlex.quote(f"{{{fields}}}")


def _placeholder(part: dict[str, Any]) -> str:
    samples = {"boolean": "true", "integer": "1", "number": "1.0", "string": '"text"', "array": "[]", "object": "{}"}
    if part.get("enum"):
        return f'"{part["enum"][0]}"'
    return samples.get(part.get("type", ""), "null")


def _used_up(node: Node) -> dict[str, Any]:
    said = decode(node.figures)
    used_up = said.get("used_up") if isinstance(said, dict) else None
    return used_up if isinstance(used_up, dict) else {}


def _readable(wait: dict[str, Any] | None) -> dict[str, Any] | None:
    if wait is not None and isinstance(wait.get("due"), int):
        return {**wait, "due": iso(wait["due"])}
    return wait
