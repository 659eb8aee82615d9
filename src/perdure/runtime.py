"""The Runtime: wires store, kernel, hands and governance together, and is what programs hold in their hands.

async with Runtime("sqlite:///shop.db", agents=[buyer]) as rt:
    run = await rt.start(buyer, ["pen"], session="acme")
    print(await run.result())
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, TypeVarTuple

from perdure.agents.agent import PRIORITY_MOST, Agent, AnyAgent
from perdure.errors import (
    AlreadySettled,
    InvalidInput,
    InvalidSetting,
    NotFound,
    PerdureError,
    RunCancelled,
    RunFailed,
)
from perdure.governance.answers import check_answer
from perdure.governance.consent import ConsentGate
from perdure.hands.tools import ToolHands
from perdure.kernel import branches
from perdure.kernel.kernel import Kernel
from perdure.kernel.starting import StartOptions, put_signal, start_run
from perdure.store import store_from_url
from perdure.store.contract import Ask, AskClose, RunFilter, Store, Transaction
from perdure.values.clock import Clock, SystemClock
from perdure.values.effects import Busy
from perdure.values.events import Event
from perdure.values.json import decode, encode, encode_given
from perdure.values.runs import Run, RunStatus
from perdure.values.settings import Settings

Ts = TypeVarTuple("Ts")
R = TypeVar("R")

DEFAULT_STORE = "sqlite:///.perdure/perdure.db"
#: An id may be given by its end, if that is this long; it is looked for among so many that are open.
_ENDING_LEAST = 3
_ASKS_SEARCHED = 100_000


class Runtime:
    """A node in this process. With `agents` it runs them; without, it is a client of whoever does."""

    def __init__(
        self, store: str | Store = DEFAULT_STORE, agents: Iterable[AnyAgent] = (), *, work: bool = True,
        clock: Clock | None = None, settings: Settings | None = None, dice: Callable[[], float] | None = None,
    ) -> None:  # fmt: skip
        self._clock = clock or SystemClock()
        self.settings = settings or Settings()
        self.agents = AgentSet(agents)
        self._work = work and bool(list(self.agents.names()))
        self.store = store_from_url(store, self._clock) if isinstance(store, str) else store
        extra = {"dice": dice} if dice is not None else {}
        hands = ToolHands(self.settings.threads, self.settings.processes, self.settings.ray)
        self.kernel = Kernel(
            self.store, self.agents, hands, ConsentGate(), clock=self._clock, settings=self.settings, **extra,
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        await self.kernel.start(work=self._work)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self, *, finish_seconds: float | None = None) -> None:
        """Let steps finish for `finish_seconds` (default: the setting), then stop. Nothing is lost either way.

        Called again, it may be less patient: `stop(finish_seconds=0)` ends at once what an earlier call waits for.
        """
        await self.kernel.stop(finish_seconds=finish_seconds)

    async def idle(self) -> None:
        """Return when nothing can move without a person, a message or a timer."""
        await self.kernel.idle()

    # Runs.

    async def start(
        self, agent: Agent[*Ts, R], *args: *Ts, session: str | None = None,
        idempotency_key: str | None = None, priority: int | None = None, concurrency_key: str | None = None,
        busy: str | None = None,
    ) -> RunHandle[R]:  # fmt: skip
        """Start a run; it is durable when this returns.

        session: the identity whose state and memory it uses; one run at a time. idempotency_key: starting twice
        with the same key and input gives the same run. priority: higher goes first (default: the agent's). busy: what
        to do when the session is busy (queue | reject | interrupt | steer; default: the agent's policy).

        Raises InvalidInput before anything is recorded (also for an idempotency key where it would steer), SessionBusy,
        IdempotencyMismatch.
        """
        _, text = agent.signature.bind(args, {})
        return await self._start(agent, text, session, idempotency_key, priority, concurrency_key, busy)

    async def start_json(
        self, agent: AnyAgent | str, value: Any, *, session: str | None = None,
        idempotency_key: str | None = None, priority: int | None = None, concurrency_key: str | None = None,
        busy: str | None = None,
    ) -> RunHandle[Any]:  # fmt: skip
        """Like `start`, with the input as a JSON value: the value itself for one parameter, an object for several."""
        found = self._agent(agent) if isinstance(agent, str) else agent
        text = found.signature.from_json(value)
        return await self._start(found, text, session, idempotency_key, priority, concurrency_key, busy)

    async def run(self, id: str) -> RunHandle[Any]:
        """The run with this id (or with an id that ends in it). Raises NotFound."""
        return RunHandle(self, await self.find(id), None)

    async def find(self, id: str) -> Run:
        """The row of the run with this id, or with the only id that ends in it. Raises NotFound."""
        run = await self.store.run(id)
        if run is not None:
            return run
        matching = await self.store.runs(RunFilter(suffix=id, limit=2)) if len(id) >= 4 else []
        if len(matching) == 1:
            return matching[0]
        what = "several runs end" if matching else "no run has this id or ends"
        raise NotFound(f"{what} in {id!r}; list them with: perdure runs")

    async def runs(self, filter: RunFilter | None = None) -> list[Run]:
        """Runs that match, newest first."""
        return await self.store.runs(filter or RunFilter())

    async def send(self, target: str, topic: str, value: Any = None, *, agent: str | None = None) -> None:
        """Send a message to a run, or with `agent` to that agent's session `target`.

        A session without an active run keeps it for the next. Raises NotFound, AlreadySettled.
        """
        data = encode_given({"topic": topic, "value": value})
        if agent is not None:
            await put_signal(self.kernel, {"agent": agent, "session": target}, "message", data)
        else:
            await self._signal(await self._open_run(target), "message", data)

    async def pause(self, id: str, *, by: str | None = None, note: str | None = None) -> None:
        """Stop a run from moving until resumed; what is in flight may end. Raises NotFound, AlreadySettled."""
        await self._signal(await self._open_run(id), "pause", encode(_said(by=by, note=note)))

    async def resume(self, id: str, *, by: str | None = None) -> None:
        """Let a paused run go on. Raises NotFound, AlreadySettled."""
        await self._signal(await self._open_run(id), "resume", encode(_said(by=by)))

    async def cancel(self, id: str, *, by: str | None = None, reason: str | None = None) -> None:
        """Cancel a run and its children; its clean-up code runs. Raises NotFound, AlreadySettled."""
        await self._signal(await self._open_run(id), "cancel", encode(_said(by=by, reason=reason)))

    async def retry(self, id: str, *, from_step: int | None = None) -> RunHandle[Any]:
        """Try again what did not work out.

        A quarantined run is released and goes on itself. A failed or cancelled one has ended, and an end never
        changes: a fork of it goes on from the failed step (or `from_step`). A step of which nobody knows whether it
        happened is settled first, by its probe or with `resolve`; no consent is used twice. Raises NotFound,
        AlreadySettled (it succeeded), InvalidInput (it has not ended, has no such step, or would repeat what others did).
        """
        run = await self.find(id)
        if run.status is RunStatus.QUARANTINED and from_step is None:
            await self._signal(run, "release", "{}")
            return RunHandle(self, run, None)
        if run.status is RunStatus.SUCCEEDED and from_step is None:
            raise AlreadySettled(f"{run.id} succeeded; to repeat a part of it: perdure fork {run.id} --at STEP")
        if not run.status.terminal and from_step is None:
            # A fork of a live run would do again what that one is about to do itself.
            raise InvalidInput(f"{run.id} is {run.status}, not at an end; what it waits for: perdure show {run.id}")
        return RunHandle(self, await branches.fork(self.kernel, run, at=from_step), None)

    async def fork(self, id: str, *, at: int, input: Any = None, result: Any = branches.UNCHANGED) -> RunHandle[Any]:
        """A new run that shares this one's journal before step `at` and goes on live from there.

        input: another input (by parameter name, or the single parameter's value). result: what step `at` is to
        have brought, instead of running it. Raises NotFound, InvalidInput.
        """
        run = await self.find(id)
        text = None
        if input is not None:
            text = self._agent(run.agent).signature.from_json(input) if run.agent in self.agents.names() else None
            text = text if text is not None else encode_given(input)
        if result is not branches.UNCHANGED:
            asked = [event.data for event in await self.store.events(run.id) if event.step == at]
            check_answer(f"{run.id}:{at}", asked[0].get("schema") if asked and "question" in asked[0] else None, result)
        return RunHandle(self, await branches.fork(self.kernel, run, at=at, input_json=text, result=result), None)

    async def resolve(self, id: str, step: int, outcome: str, *, result: Any = None, by: str | None = None) -> None:
        """Settle a step of unknown outcome: `happened` (with its result), `run-again` or `fail`.

        It is said of the attempt that is in the dark now, and of no later one. The same again changes nothing.
        Raises NotFound, InvalidInput (the result does not fit the step's type), AlreadySettled (the run is over, or
        something else was said and is not carried out yet).
        """
        if outcome not in ("happened", "run-again", "fail"):
            raise InvalidSetting(f"outcome must be happened, run-again or fail, not {outcome!r}")
        run = await self.find(id)
        _refuse_ended(run)
        wait = run.wait or {}
        unknown = [event for event in await self.store.events(run.id) if event.step == step]
        if not unknown or unknown[-1].type != "step.unknown":
            raise NotFound(
                f"step {step} of {run.id} is not of unknown outcome (the run waits for: {wait.get('kind', 'nothing')})"
            )
        if outcome == "happened":
            check_answer(f"{run.id}:{step}", unknown[-1].data.get("schema"), result)
        data = {"step": step, "attempt": unknown[-1].attempt, "outcome": outcome, "result": result, "by": by}
        said = await self._said_of(unknown[-1])
        if said is None:
            await self._signal(run, "resolve", encode_given(data))
        elif (said["outcome"], said["result"]) != (outcome, result):
            raise AlreadySettled(
                f"step {step} of {run.id} is settled as {said['outcome']} by {said['by'] or 'somebody'}; "
                f"a worker carries that out: perdure work FILE.py"
            )

    # People.

    async def inbox(self, *, to: str | None = None, run: str | None = None, limit: int = 1000) -> list[Ask]:
        """Open questions and approvals, oldest first, at most `limit`."""
        return await self.store.asks(to=to, run=run, limit=limit)

    async def find_ask(self, id: str) -> Ask:
        """The question or approval with this id, or the only open one whose id ends so (3 characters at least).

        Raises NotFound, InvalidInput (several end so).
        """
        ask = await self.store.ask(id)
        if ask is not None:
            return ask
        open_asks = await self.store.asks(limit=_ASKS_SEARCHED) if len(id) >= _ENDING_LEAST else []
        matching = [ask for ask in open_asks if ask.id.endswith(id)]
        if len(matching) > 1:
            some = ", ".join(ask.id for ask in matching[:3])
            raise InvalidInput(f"{len(matching)} open questions and approvals end in {id!r}, say which: {some}")
        if not matching:
            raise NotFound(f"no question or approval {id!r}; list them with: perdure inbox")
        return matching[0]

    async def answer(self, id: str, value: Any, *, by: str | None = None) -> None:
        """Answer a question. The same answer again changes nothing, so a program that is run again may repeat it.

        Raises NotFound, InvalidInput (it does not fit), AlreadySettled (another answer was given, or it was too late).
        """
        ask = await self._ask(id, "ask")
        check_answer(ask.id, decode(ask.detail).get("schema"), value)
        data = {"id": ask.id, "step": ask.step, "value": value, "by": by}
        await self._settle_ask(ask, "answered", "answer", data, answer=encode_given(value), by=by, note=None)

    async def approve(
        self, id: str, *, edit: dict[str, Any] | None = None, by: str | None = None, note: str | None = None
    ) -> None:
        """Consent to an action, or with `edit` to it with other arguments (by name, those that change).

        Raises NotFound, InvalidInput (an edit of no such argument, or one that does not fit), AlreadySettled.
        """
        ask = await self._ask(id, "approval")
        detail = decode(ask.detail)
        args, hash = detail["args"], detail["hash"]
        if edit:
            _refuse_unknown(ask.id, edit, detail)
            args = {**args, **edit}
            check_answer(ask.id, detail.get("schema"), args)
            hash = branches.hash_of(ask, args)
        data = {
            "id": ask.id, "step": ask.step, "approved": True, "args": args, "hash": hash, "by": by, "note": note,
        }  # fmt: skip
        await self._settle_ask(ask, "approved", "decision", data, answer=encode_given(args), by=by, note=note)

    async def reject(self, id: str, *, by: str | None = None, note: str | None = None) -> None:
        """Refuse an action. Raises NotFound, AlreadySettled."""
        ask = await self._ask(id, "approval")
        data = {"id": ask.id, "step": ask.step, "approved": False, "by": by, "note": note}
        await self._settle_ask(ask, "rejected", "decision", data, answer=None, by=by, note=note)

    # Journals.

    async def events(self, id: str, after: int = 0) -> AsyncIterator[Event]:
        """The journal after `after`, then live, until the run's last event."""
        run = await self.find(id)
        async for event in self.kernel.followers.follow(run.id, after):
            yield event

    async def journal(self, id: str, after: int = 0, limit: int | None = None) -> list[Event]:
        """The journal as it is now."""
        return await self.store.events((await self.find(id)).id, after, limit)

    # Details.

    async def _start(
        self, agent: AnyAgent, text: str, session: str | None, key: str | None, priority: int | None,
        concurrency_key: str | None, busy: str | None,
    ) -> RunHandle[Any]:  # fmt: skip
        self._alive()
        if session is not None and not session:
            raise InvalidInput("a session's key must not be empty")
        if priority is not None and abs(priority) > PRIORITY_MOST:
            raise InvalidInput(f"a priority must be from -{PRIORITY_MOST:,} to {PRIORITY_MOST:,}, not {priority}")
        options = StartOptions(session, key, priority, concurrency_key, _busy(busy))
        run = await start_run(self.kernel, agent, text, options)
        return RunHandle(self, run, agent)

    async def _open_run(self, id: str) -> Run:
        """The run that has not ended: of one that continued, the last of its chain."""
        run = await self.find(id)
        seen: set[str] = set()
        while run.status is RunStatus.SUCCEEDED and run.id not in seen:  # imported journals may go in a circle
            seen.add(run.id)
            [end] = await self.store.events(run.id, run.seq - 1)
            if end.type == "run.continued":
                run = await self.find(end.data["run"])
        _refuse_ended(run)
        return run

    async def _said_of(self, unknown: Event) -> dict[str, Any] | None:
        """What somebody said became of an attempt, while no worker has carried it out."""
        said = [decode(signal.data) for signal in await self.store.run_signals(unknown.run) if signal.kind == "resolve"]
        about = [data for data in said if (data["step"], data["attempt"]) == (unknown.step, unknown.attempt)]
        return about[0] if about else None

    async def _signal(self, run: Run, kind: str, data: str) -> None:
        self._alive()
        await put_signal(self.kernel, {"run": run.id, "agent": run.agent}, kind, data)

    async def _ask(self, id: str, kind: str) -> Ask:
        ask = await self.find_ask(id)
        if ask.kind != kind:
            verb = "approve" if ask.kind == "approval" else "answer"
            raise InvalidInput(f"{ask.id} is an {ask.kind}: {verb} it with: perdure {verb} {ask.id}")
        return ask

    async def _settle_ask(
        self, ask: Ask, status: str, kind: str, data: dict[str, Any], *, answer: str | None, by: str | None,
        note: str | None,
    ) -> None:  # fmt: skip
        self._alive()
        signal = self.kernel.signal_to({"run": ask.run}, kind, encode({k: v for k, v in data.items() if v is not None}))
        close = AskClose(ask.id, status, self._clock.now_us(), answer=answer, by=by, note=note)
        try:
            await self.kernel.commits.commit(
                Transaction(close_asks=[close], signals=[signal]),
                then=lambda ids: self.kernel.mailroom.written([signal], ids),
            )
        except AlreadySettled:
            now = await self.store.ask(ask.id)
            if now is not None and (now.status, now.answer) == (status, answer):
                return
            how = f"{now.status}{f' by {now.by}' if now.by else ''}" if now is not None else "gone"
            raise AlreadySettled(f"{ask.id} is {how} already") from None

    def _agent(self, name: str) -> AnyAgent:
        agent = self.agents.latest(name)
        if agent is None:
            known = ", ".join(sorted(self.agents.names())) or "none"
            raise NotFound(f"this runtime has no agent {name!r} (it has: {known})")
        return agent

    def _alive(self) -> None:
        if self.kernel.failure is not None:
            raise PerdureError(f"this node has stopped: {self.kernel.failure}") from self.kernel.failure


class RunHandle(Generic[R]):
    """One run, from outside."""

    def __init__(self, runtime: Runtime, run: Run, agent: AnyAgent | None) -> None:
        self.id = run.id
        self._runtime = runtime
        self._agent = agent or runtime.agents.get(run.agent, run.version)

    async def result(self, timeout: float | None = None) -> R:
        """The run's result, once it has one; of its continuation, if it continued.

        Raises RunFailed, RunCancelled, and TimeoutError after `timeout` seconds (the run goes on).
        """
        async with asyncio.timeout(timeout):
            return await self._result()

    def events(self, after: int = 0) -> AsyncIterator[Event]:
        """The journal after `after`, then live, until the run's last event."""
        return self._runtime.kernel.followers.follow(self.id, after)

    async def status(self) -> Run:
        """The run's row as it is now."""
        return await self._runtime.find(self.id)

    async def send(self, topic: str, value: Any = None) -> None:
        """Send the run a message."""
        await self._runtime.send(self.id, topic, value)

    async def pause(self) -> None:
        """Stop it from moving."""
        await self._runtime.pause(self.id)

    async def resume(self) -> None:
        """Let it go on."""
        await self._runtime.resume(self.id)

    async def cancel(self, reason: str | None = None) -> None:
        """Cancel it and its children."""
        await self._runtime.cancel(self.id, reason=reason)

    async def _result(self) -> R:
        end = await self._runtime.kernel.followers.end(self.id)
        while end.type == "run.continued":
            end = await self._runtime.kernel.followers.end(end.data["run"])
        data = end.data
        match end.type:
            case "run.failed":
                error = data["error"]
                raise RunFailed(f"{error['type']}: {error['message']}", type=error["type"], run=end.run)
            case "run.cancelled":
                raise RunCancelled(f"{end.run} was cancelled" + (f": {data['reason']}" if data.get("reason") else ""))
        agent = self._agent if end.run == self.id else await self._agent_of(end.run)
        result: R = agent.signature.decode_result(data["result"]) if agent is not None else data["result"]
        return result

    async def _agent_of(self, id: str) -> AnyAgent | None:
        run = await self._runtime.find(id)
        return self._runtime.agents.get(run.agent, run.version)


class AgentSet:
    """The agents of a runtime, by name and version; the last given version of a name is the newest."""

    def __init__(self, agents: Iterable[AnyAgent]) -> None:
        self._versions: dict[str, dict[str, AnyAgent]] = {}
        for agent in agents:
            if not isinstance(agent, Agent):
                raise InvalidSetting(f"{agent!r} is not an agent; decorate it with @agent")
            if agent.version in self._versions.setdefault(agent.name, {}):
                raise InvalidSetting(f"agent {agent.name} is given twice with version {agent.version!r}")
            self._versions[agent.name][agent.version] = agent

    def get(self, name: str, version: str) -> AnyAgent | None:
        """That version of an agent, or None."""
        return self._versions.get(name, {}).get(version)

    def latest(self, name: str) -> AnyAgent | None:
        """The newest version of an agent, or None."""
        versions = self._versions.get(name)
        return next(reversed(versions.values())) if versions else None

    def versions(self, name: str) -> Sequence[str]:
        """The versions of an agent, as given."""
        return list(self._versions.get(name, ()))

    def names(self) -> Sequence[str]:
        """The names of all agents."""
        return list(self._versions)


def _busy(value: str | None) -> Busy | None:
    if value is None:
        return None
    try:
        return Busy(value)
    except ValueError:
        raise InvalidSetting(f"busy must be one of {', '.join(Busy)}, not {value!r}") from None


def _refuse_ended(run: Run) -> None:
    if run.status.terminal:
        again = f"perdure fork {run.id} --at STEP"
        raise AlreadySettled(f"{run.id} has {run.status}; to go on from one of its steps: {again}")


def _refuse_unknown(id: str, edit: dict[str, Any], detail: dict[str, Any]) -> None:
    # A misspelt name would consent to the very arguments that were to be changed.
    known = {*detail["args"], *(detail.get("schema") or {}).get("properties", ())}
    unknown = sorted(set(edit) - known)
    if unknown:
        raise InvalidInput(f"{id} has no argument {', '.join(unknown)}; it has: {', '.join(sorted(known)) or 'none'}")


def _said(**fields: str | None) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value is not None}
