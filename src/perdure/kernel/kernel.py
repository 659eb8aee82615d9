"""The kernel of one node: owns shards, brings runs to life, commits what they do, wakes them when due.

It knows no store by name, no tool and no protocol. What is in which file:

    group_commit  many runs, one fsync           dispatch  who may move next
    leases        which shards are ours          live      which runs are in memory
    activation    one live run                   writer    how its journal grows
    steps, step   its effects and attempts       signals   what reaches it from outside
    requests      what its code asks for         ending    how it ends
    waiting       why it does not move           follow    who is watching
    starting      how runs come to be            branches  fork, retry; portable: export, import
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from perdure.agents.agent import AnyAgent
from perdure.agents.context import RunInfo, run_agent
from perdure.errors import AlreadySettled, Fenced, PerdureError, Refused, StoreBusy, StoreError, StoreFull
from perdure.journal import isolation
from perdure.journal.brain import Brain
from perdure.kernel.activation import Activation
from perdure.kernel.contract import Admission, Agents, Decision, Gate, Hands
from perdure.kernel.dispatch import Dispatcher, Limits
from perdure.kernel.follow import Followers
from perdure.kernel.group_commit import GroupCommit
from perdure.kernel.leases import Leases
from perdure.kernel.live import LiveRuns
from perdure.kernel.signals import ONWARD, TakenSignals, apply_signal
from perdure.kernel.step import Stop, describe
from perdure.kernel.waiting import describe_missing, describe_quarantine
from perdure.store.contract import Fence, NewRun, RunUpdate, Signal, Store, Transaction
from perdure.values.clock import Alarm, Clock
from perdure.values.events import Event
from perdure.values.ids import new_node_id, slot_of
from perdure.values.json import decode, encode
from perdure.values.runs import Run, RunStatus
from perdure.values.settings import Settings

log = logging.getLogger("perdure.kernel")

_LAZY_SECONDS = 0.05
_PAGE = 500
_DUE_AGAIN_US = 20_000
_DUE_BLOCKED_US = 250_000
#: how long a step that a shutdown cuts off may clean up
_LAST_WORDS_SECONDS = 0.5
#: The row's reason when a worker shut down in an orderly way with the run still moving: not a crash.
_HANDED_OVER = "left by a worker that shut down"


class Kernel:
    """One node. `start`, then it runs what is due until `stop`."""

    def __init__(
        self, store: Store, agents: Agents, hands: Hands, gate: Gate, *, clock: Clock, settings: Settings,
        dice: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        self.store = store
        self.agents = agents
        self.hands = hands
        self.clock = clock
        self.settings = settings
        self.dice = dice
        self.node = new_node_id()
        self.slots = 1
        self.commits = GroupCommit(store, clock, self.fail)
        self.dispatcher = Dispatcher(settings.moving_most, self._limits)
        self.followers = Followers(store)
        self.leases = Leases(store, self.node, settings.lease_seconds)
        self.live = LiveRuns(self)
        self.taken = TakenSignals()
        #: why this node is dead, or None
        self.failure: Exception | None = None
        self.stopping = False
        self._gate = gate
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lazy: set[Activation] = set()
        self._lazy_alarm: Alarm | None = None
        self._alarm: Alarm | None = None
        self._alarm_at: int | None = None
        self._store_due: int | None = None
        self._keeper: Alarm | None = None
        self._signal_cursor = 0
        self._idle: set[asyncio.Future[None]] = set()
        #: agents of which more runs are queued in the store than were asked for
        self._hungry: set[str] = set()

    # Life of the node.

    async def start(self, *, work: bool = True) -> None:
        """Open the store and, with `work`, own the shards of our agents and recover their runs."""
        isolation.install()
        await self.store.open()
        self.slots = await self.store.slots()
        self.commits.start()
        if work:
            self.leases.want(f"{name}:{slot}" for name in self.agents.names() for slot in range(self.slots))
            await self._claim()
            self._keep_soon()
        self._watch = self.spawn_task(self._watch_store())

    async def stop(self, *, finish_seconds: float | None = None) -> None:
        """Let steps finish for a while, write everything, give the shards up. Nothing is lost either way."""
        if self.stopping:
            return
        # From here on no code moves and no step begins; what is under way may end, and is written.
        self.stopping = True
        with contextlib.suppress(PerdureError):  # a store that fails now has failed the node: `failure` says so
            await self._finish_steps(self.settings.finish_seconds if finish_seconds is None else finish_seconds)
            await self._write_all()
        self._rest()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.failure is None:
            self._hand_over()
            await self.commits.close()
        if self.failure is None:
            await self.leases.release()
            self.followers.fail(PerdureError("this node has stopped; its runs go on when a worker runs again"))
        await self.store.close()

    def kill(self) -> None:
        """Stop like a crash: nothing more is written, no lease is released. For tests."""
        self.fail(StoreError("the node was killed"))

    def fail(self, error: Exception) -> None:
        """The node cannot go on. Everything stops; what was acknowledged is safe."""
        if self.failure is not None:
            return
        if not isinstance(error, PerdureError):
            log.error("a fault of the kernel", exc_info=error)
            error = PerdureError(f"{type(error).__name__}: {error}")
        self.failure = error
        log.error("this node stops: %s", error)
        self._rest()
        self.commits.abort(error)
        self.followers.fail(error)
        for waiter in self._idle:
            if not waiter.done():
                waiter.set_exception(error)

    @property
    def halted(self) -> bool:
        """True when nothing may begin any more."""
        return self.stopping or self.failure is not None

    async def idle(self) -> None:
        """Return when no run can move without something from outside or a timer."""
        while not self._is_idle():
            if self.failure is not None:
                raise self.failure
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.add(waiter)
            try:
                await waiter
            finally:
                self._idle.discard(waiter)

    def spawn_task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something of the kernel's own beside everything else."""
        task = asyncio.get_running_loop().create_task(work)
        if self.failure is not None:
            task.cancel()
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    # What live runs ask of the kernel.

    def decide(self, admission: Admission) -> Decision:
        """The gate's answer; a gate that breaks denies."""
        try:
            return self._gate.decide(admission)
        except Exception as error:  # noqa: BLE001 - fails closed, whatever a policy engine raises
            return Decision(allowed=False, reason=f"the gate failed: {error}")

    def fence(self, shard: str) -> Fence | None:
        """The right to write runs of `shard`, or None."""
        return self.leases.fence(shard)

    def program(self, run: Run) -> Callable[[Brain], Coroutine[Any, Any, str]] | None:
        """What makes the run's code, or None when this node does not have that version of the agent."""
        agent = self.agents.get(run.agent, run.version)
        if agent is None:
            return None
        return lambda brain: run_agent(agent, brain, _info(run))

    def shard_of(self, agent: str, session: str | None, run: str) -> str:
        """The shard that a session (or a run of its own) belongs to."""
        return f"{agent}:{slot_of(session if session is not None else run, self.slots)}"

    def signal_to(self, target: dict[str, str], kind: str, data: str) -> Signal:
        """A signal to a run (`run`) or a session (`agent`, `session`)."""
        run, session, agent = target.get("run"), target.get("session"), target.get("agent", "")
        shard = "" if run is not None else self.shard_of(agent, session, "")
        return Signal(agent, session, run, kind, data, shard, self.clock.now_us())

    def new_run(
        self, agent: AnyAgent, input_json: str, *, id: str, session: str | None, parent: str | None = None,
        parent_step: int | None = None, priority: int = 0, concurrency_key: str | None = None, key: str | None = None,
        session_must_be_free: bool = False,
    ) -> NewRun:  # fmt: skip
        """A run to be created. It is born running when this node can move it at once, else queued."""
        now = self.clock.now_us()
        shard = self.shard_of(agent.name, session, id)
        fields = {"agent": agent.name, "version": agent.version, "session": session, "parent": parent, "key": key}
        named = "".join(f"{encode(name)}:{encode(value)}," for name, value in fields.items() if value is not None)
        events = [Event(id, 1, "run.queued", now, None, None, f'{{{named}"input":{input_json}}}')]
        status = RunStatus.QUEUED
        at_once = session is None and not self.stopping and self.fence(shard) is not None
        if at_once and self.dispatcher.take(id, agent.name, concurrency_key):
            status = RunStatus.RUNNING
            events.append(Event(id, 2, "run.started", now, None, None, "{}"))
            self.live.expect(id)
        run = Run(
            id=id, agent=agent.name, version=agent.version, session=session, shard=shard, status=status, created=now,
            updated=now, parent=parent, parent_step=parent_step, priority=priority or agent.priority,
            concurrency_key=concurrency_key, idempotency_key=key,
        )  # fmt: skip
        return NewRun(run, events, session_must_be_free)

    def run_written(self, run: Run, events: Sequence[Event]) -> None:
        """A run that we created is durable."""
        if run.status is RunStatus.RUNNING:
            self.published(run.id, list(events))
            self.live.start_written(run, events)
        elif self.fence(run.shard) is not None and not self.halted:
            self.live.offer(run)

    def not_written(self, new: NewRun) -> None:
        """A run that we wanted to create was refused."""
        self.live.expect_no_more(new.run.id)
        self.dispatcher.release(new.run.id)

    def published(self, run: str, events: list[Event]) -> None:
        """Events of a run are durable."""
        self.followers.published(run, events)

    def signals_written(self, signals: Sequence[Signal], ids: Sequence[int]) -> None:
        """Signals that we put are durable: deliver those that are ours without waiting for the store to say so."""
        for signal, id in zip(signals, ids, strict=True):
            if id:
                self._route(replace(signal, id=id))

    def apply_signal(self, activation: Activation, signal: Signal) -> None:
        """Turn a signal into events."""
        apply_signal(activation, signal)

    def take_held(self, activation: Activation) -> None:
        """A run goes on: give it what had to wait for that."""
        self.live.take_held(activation)

    async def redirect(self, run: Run, signal: Signal) -> None:
        """A signal came after the end of `run`: hand it to the run that continues it, or take it away."""
        fence = self.fence(run.shard)
        end = (await self.store.events(run.id, run.seq - 1))[-1]
        onward: list[Signal] = []
        if end.type == "run.continued" and signal.kind in ONWARD:
            onward = [replace(signal, run=end.data["run"], id=0)]
        transaction = Transaction(fence=fence, consume=[signal.id], signals=onward)
        with contextlib.suppress(AlreadySettled, Fenced):  # somebody else did
            if fence is not None:
                await self.commits.commit(transaction, then=lambda ids: self.signals_written(onward, ids))

    def settled(self, activation: Activation) -> None:
        """A live run did what there was to do for now."""
        self.live.settled(activation)
        self._check_idle()

    def ended(self, activation: Activation) -> None:
        """A live run is over."""
        run = activation.run
        self.live.ended(activation)
        if run.session is not None:
            self.spawn_task(self._next_of_session(run.agent, run.session))
        self._want_more(run.agent)
        self._check_idle()

    def lost(self, shard: str) -> None:
        """A write was refused: the shard has another owner."""
        self.leases.drop(shard)
        self._forget_shard(shard)

    def reload(self, activation: Activation) -> None:
        """Load a run afresh, as soon as it has a place."""
        id = activation.run.id
        self.live.forget(activation)
        self.live.expect(id)
        self.spawn_task(self._offer_again(id))

    def cannot_go_on(self, activation: Activation, error: Exception) -> None:
        """The store refused what a run wrote, which must not happen: park it, rather than take the node with it."""
        self.live.forget(activation)
        self.load_failed(activation.run.id, error)

    def load_failed(self, run: str, error: Exception) -> None:
        """A run could not be brought to life."""
        if isinstance(error, StoreError):
            self.fail(error)
        else:
            log.error("run %s cannot be loaded: %s", run, error, exc_info=error)
            self.spawn_task(self._park(run, error))

    async def explain_missing(self, run: Run) -> None:
        """A run of ours has a version that this node does not have: let its row say so."""
        fence = self.fence(run.shard)
        wait = describe_missing(run, self.agents.versions(run.agent))
        if fence is None or (run.wait or {}).get("kind") == "worker":
            return
        update = RunUpdate(run.status, self.clock.now_us(), wait.reason, wait.detail, run.wake_at)
        with contextlib.suppress(Fenced):
            await self.commits.commit(Transaction(fence=fence, updates={run.id: update}))

    def write_soon(self, activation: Activation) -> None:
        """Write the run's draft within 50 ms."""
        self._lazy.add(activation)
        if self._lazy_alarm is None:
            self._lazy_alarm = self.clock.call_later(_LAZY_SECONDS, self._write_lazy)

    def due_for(self, activation: Activation, due: int) -> None:
        """A live run has something due."""
        self.live.due_for(activation, due)
        self._ring_at(due)

    def due_at(self, due: int) -> None:
        """Some run's row will say that it wakes at `due`."""
        if self._store_due is None or due < self._store_due:
            self._store_due = due
            self._ring_at(due)

    async def session_state(self, agent: str, session: str) -> dict[str, Any]:
        """A session's state as values."""
        return {key: decode(text) for key, text in (await self.store.state(agent, session)).items()}

    # Details: time.

    def _write_lazy(self) -> None:
        self._lazy_alarm = None
        lazy, self._lazy = self._lazy, set()
        for activation in lazy:
            if not activation.writer.draft.empty or activation.steps.streams_wait:
                activation.writer.write_now()

    def _ring_at(self, due: int) -> None:
        if self.halted:
            return
        if self._alarm is not None:
            if self._alarm_at is not None and self._alarm_at <= due:
                return
            self._alarm.cancel()
        self._alarm_at = due
        self._alarm = self.clock.call_later(max(0.0, (due - self.clock.now_us()) / 1e6), self._ring)

    def _ring(self) -> None:
        self._alarm = self._alarm_at = None
        now = self.clock.now_us()
        self.live.fire_due(now)
        if self._store_due is not None and self._store_due <= now:
            self._store_due = None
            self.spawn_task(self._wake_due(now))
        for due in (self.live.next_due(), self._store_due):
            if due is not None:
                self._ring_at(due)
        self._check_idle()

    async def _wake_due(self, now: int) -> None:
        shards = self.leases.shards
        # Runs that are due and wait for a place stay due in the store: look past them.
        blocked = self.dispatcher.queued
        for run in await self.store.due(shards, now, _PAGE + blocked):
            if self.program(run) is not None:
                self.live.offer(run)
            else:
                blocked += 1
        due = await self.store.next_due(shards)
        if due is not None:
            # What was just woken is due in the store until its next commit: do not spin on it.
            again = _DUE_BLOCKED_US if blocked or self.dispatcher.queued else _DUE_AGAIN_US
            self.due_at(due if due > now else self.clock.now_us() + again)

    # Details: ownership and recovery.

    async def _claim(self) -> None:
        shards = await self.leases.claim()
        if shards:
            await self._recover(shards)

    async def _recover(self, shards: list[str]) -> None:
        for run in await self.store.active(shards):
            self.live.offer(run)
        await self._read_signals(shards, after=0)
        await self._offer_ready(shards)
        await self._wake_due(self.clock.now_us())

    async def _offer_ready(self, shards: Sequence[str]) -> None:
        # Agent by agent, so that the queue of one does not hide that of another.
        by_agent = defaultdict(list)
        for shard in shards:
            by_agent[shard.rpartition(":")[0]].append(shard)
        for agent, owned in by_agent.items():
            most = _PAGE + self.dispatcher.queued_of(agent)
            ready = await self.store.ready(owned, most)
            for run in ready:
                self.live.offer(run)
            # More is asked for when these have moved: a long queue stays in the store.
            (self._hungry.add if len(ready) == most else self._hungry.discard)(agent)

    def _want_more(self, agent: str) -> None:
        if agent in self._hungry and self.dispatcher.queued_of(agent) < _PAGE // 2 and not self.halted:
            self._hungry.discard(agent)
            self.spawn_task(self._offer_ready([f"{agent}:{slot}" for slot in range(self.slots)]))

    def _keep_soon(self) -> None:
        if not self.halted:
            seconds = self.settings.lease_seconds / 3 if self.leases.complete else 0.25
            self._keeper = self.clock.call_later(seconds, lambda: self.spawn_task(self._keep()), upkeep=True)

    async def _keep(self) -> None:
        try:
            for shard in await self.leases.renew():
                self._forget_shard(shard)
            await self._claim()
        except (StoreFull, StoreBusy) as error:
            log.warning("leases are not renewed: %s", error)
        self.live.sweep()
        self._keep_soon()

    def _forget_shard(self, shard: str) -> None:
        for activation in self.live.all():
            if activation.run.shard == shard:
                self.live.forget(activation)

    async def _watch_store(self) -> None:
        while True:
            await self.store.wait_change()
            shards = self.leases.shards
            if shards:
                self._signal_cursor = await self._read_signals(shards, after=self._signal_cursor)
                await self._offer_ready(shards)
            await self.followers.changed_elsewhere()

    async def _read_signals(self, shards: list[str], *, after: int) -> int:
        """Route what came after signal `after`; gives the last one's id."""
        # Some were routed when we put them ourselves; giving a run the same one twice changes nothing.
        while True:
            with self.taken.reading():
                signals = await self.store.signals(shards, after, _PAGE)
                for signal in self.taken.still_there(signals):
                    self._route(signal)
            if not signals:
                return after
            after = signals[-1].id

    def _route(self, signal: Signal) -> None:
        if signal.run is not None and self.live.is_live(signal.run):
            self.live.take(signal)
        elif signal.shard:
            if self.fence(signal.shard) is not None:
                self.live.take(signal)
        else:
            self.spawn_task(self._route_to_run(signal))

    async def _route_to_run(self, signal: Signal) -> None:
        run = await self.store.run(signal.run or "")
        if run is not None and self.fence(run.shard) is not None and not self.live.is_live(run.id):
            self.live.take(signal)

    async def _next_of_session(self, agent: str, session: str) -> None:
        run = await self.store.session_next(agent, session)
        if run is not None and self.fence(run.shard) is not None:
            self.live.offer(run)

    async def _offer_again(self, id: str) -> None:
        run = await self.store.run(id)
        if run is not None:
            self.live.offer(run)

    async def _park(self, id: str, error: Exception) -> None:
        run = await self.store.run(id)
        fence = self.fence(run.shard) if run is not None else None
        if run is None or fence is None or run.status.terminal or run.status is RunStatus.QUARANTINED:
            return
        data = {"reason": type(error).__name__, "error": describe(error)}
        wait = describe_quarantine(id, data)
        event = Event(id, run.seq + 1, "run.quarantined", self.clock.now_us(), None, None, encode(data))
        update = RunUpdate(RunStatus.QUARANTINED, event.time_us, wait.reason, wait.detail)
        with contextlib.suppress(Refused, Fenced, ValueError):
            await self.commits.commit(Transaction(fence=fence, events=[event], updates={id: update}))
            self.published(id, [event])

    # Details: the end.

    async def _finish_steps(self, seconds: float) -> None:
        over = asyncio.get_running_loop().create_future()
        alarm = self.clock.call_later(seconds, lambda: None if over.done() else over.set_result(None))
        await self.commits.drain()  # what is admitted is launched
        while seconds > 0 and not over.done() and (tasks := self._step_tasks()):
            await asyncio.wait([over, *tasks], return_when=asyncio.FIRST_COMPLETED)
            await self.commits.drain()
        alarm.cancel()
        over.cancel()
        for live in self.live.all():
            live.steps.stop_all(Stop.SHUTDOWN)
        if tasks := self._step_tasks():
            await asyncio.wait(tasks, timeout=_LAST_WORDS_SECONDS)

    def _step_tasks(self) -> list[asyncio.Task[None]]:
        attempts = [attempt for live in self.live.all() for attempt in live.steps.attempts.values()]
        return [attempt.task for attempt in attempts if attempt.task is not None and not attempt.task.done()]

    async def _write_all(self) -> None:
        for live in self.live.all():
            if not live.writer.quiet:
                live.writer.write_now()
        await self.commits.drain()

    def _rest(self) -> None:
        """Nothing rings, nothing moves."""
        for alarm in (self._alarm, self._keeper, self._lazy_alarm):
            if alarm is not None:
                alarm.cancel()
        for activation in self.live.all():
            activation.close()
        self.hands.close()
        for task in list(self._tasks):
            task.cancel()

    def _hand_over(self) -> None:
        now = self.clock.now_us()
        for live in self.live.all():
            if live.status is RunStatus.RUNNING:
                update = RunUpdate(RunStatus.RUNNING, now, reason=_HANDED_OVER, strikes=live.strikes)
                transaction = Transaction(fence=live.writer.fence, updates={live.run.id: update})
                self.commits.submit(lambda transaction=transaction: transaction, lambda _: None)  # type: ignore[misc]

    def _is_idle(self) -> bool:
        now = self.clock.now_us()
        due = [due for due in (self.live.next_due(), self._store_due) if due is not None and due <= now]
        busy = self.dispatcher.moving or self.dispatcher.queued or self.live.busy or due or len(self._tasks) > 1
        return not busy and self.failure is None

    def _check_idle(self) -> None:
        if self._idle and self._is_idle():
            for waiter in self._idle:
                if not waiter.done():
                    waiter.set_result(None)

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error if isinstance(error, Exception) else RuntimeError(repr(error)))
        self._check_idle()

    def _limits(self, name: str) -> Limits:
        agent = self.agents.latest(name)
        return Limits(agent.concurrency, agent.concurrency_per_key) if agent is not None else Limits()


def _info(run: Run) -> RunInfo:
    return RunInfo(run.id, run.agent, run.version, run.session, run.parent, run.attempt)
