"""The kernel of one node: owns shards, brings runs to life, commits what they do, wakes them when due.

It knows no store by name, no tool and no protocol. What is in which file:

    group_commit  many runs, one fsync           dispatch  who may move next
    leases        which shards are ours          live      which runs are in memory
    activation    one live run                   writer    how its journal grows
    steps, step   its effects and attempts       signals   what reaches it from outside
    waiting       why it does not move           follow    who is watching
    starting      how runs come to be            branches  fork, retry, export
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from perdure.agents.agent import Agent
from perdure.agents.context import RunInfo, run_agent
from perdure.errors import PerdureError, StoreError
from perdure.journal import isolation
from perdure.journal.brain import Brain
from perdure.kernel.activation import Activation
from perdure.kernel.contract import Admission, Agents, Decision, Gate, Hands
from perdure.kernel.dispatch import Dispatcher, Limits
from perdure.kernel.follow import Followers
from perdure.kernel.group_commit import GroupCommit
from perdure.kernel.leases import Leases
from perdure.kernel.live import HANDED_OVER, LiveRuns
from perdure.kernel.signals import apply_signal
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
        #: why this node is dead, or None
        self.failure: Exception | None = None
        self.stopping = False
        self._gate = gate
        self._tasks: set[asyncio.Task[Any]] = set()
        self._created: set[str] = set()
        self._lazy: set[Activation] = set()
        self._lazy_alarm: Alarm | None = None
        self._alarm: Alarm | None = None
        self._alarm_at: int | None = None
        self._store_due: int | None = None
        self._keeper: Alarm | None = None
        self._signal_cursor = 0
        self._signals_seen: set[int] = set()
        self._idle: set[asyncio.Future[None]] = set()

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
        self.stopping = True
        seconds = self.settings.finish_seconds if finish_seconds is None else finish_seconds
        if self.failure is None:
            await self._finish_steps(seconds)
        for alarm in (self._alarm, self._keeper, self._lazy_alarm):
            if alarm is not None:
                alarm.cancel()
        for activation in self.live.all():
            activation.close()
        self.hands.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.failure is None:
            await self._hand_over()
            await self.commits.close()
            await self.leases.release()
        else:
            self.commits.abort()
        await self.store.close()

    def kill(self) -> None:
        """Stop like a crash: nothing more is written, no lease is released. For tests."""
        self.fail(StoreError("the node was killed"))

    def fail(self, error: Exception) -> None:
        """The node cannot go on. Everything stops; what was acknowledged is safe."""
        if self.failure is not None:
            return
        self.failure = error
        log.error("this node stops: %s", error)
        self.commits.abort()
        for activation in self.live.all():
            activation.close()
        self.followers.fail(error)
        for waiter in self._idle:
            if not waiter.done():
                waiter.set_exception(error)

    async def idle(self) -> None:
        """Return when no run can move without something from outside or a timer."""
        while not self._is_idle():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.add(waiter)
            try:
                await waiter
            finally:
                self._idle.discard(waiter)

    def spawn_task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something of the kernel's own beside everything else."""
        task = asyncio.get_running_loop().create_task(work)
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

    def program(self, run: Run, events: Sequence[Event]) -> Callable[[Brain], Coroutine[Any, Any, str]] | None:
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
        self, agent: Agent[Any, Any], input_json: str, *, id: str, session: str | None, parent: str | None = None,
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
            self._created.add(id)
        run = Run(
            id=id, agent=agent.name, version=agent.version, session=session, shard=shard, status=status, created=now,
            updated=now, parent=parent, parent_step=parent_step, priority=priority or agent.priority,
            concurrency_key=concurrency_key, idempotency_key=key,
        )  # fmt: skip
        return NewRun(run, events, session_must_be_free)

    def created_here(self, run: Run) -> bool:
        """True for a run that this node itself just created as running: not one that somebody left behind."""
        return run.id in self._created

    def run_written(self, run: Run, events: Sequence[Event]) -> None:
        """A run that we created is durable."""
        if run.status is RunStatus.RUNNING:
            self.published(run.id, list(events))
            self.live.start_written(run, events)
            self._created.discard(run.id)
        elif self.fence(run.shard) is not None and not self.stopping:
            self.live.offer(run)

    def not_written(self, new: NewRun) -> None:
        """A run that we wanted to create was refused."""
        self._created.discard(new.run.id)
        self.dispatcher.release(new.run.id)

    def published(self, run: str, events: list[Event]) -> None:
        """Events of a run are durable."""
        self.followers.published(run, events)

    def signals_written(self, signals: Sequence[Signal], ids: Sequence[int]) -> None:
        """Signals that we put are durable: deliver those that are ours without waiting for the store to say so."""
        for signal, id in zip(signals, ids, strict=True):
            if id:
                self._signals_seen.add(id)
                self._route(_with_id(signal, id))

    def apply_signal(self, activation: Activation, signal: Signal) -> None:
        """Turn a signal into events."""
        apply_signal(activation, signal)

    def consume(self, run: Run | None, signal: Signal) -> None:
        """A signal that reaches nobody any more: take it away."""
        fence = self.fence(run.shard if run is not None else signal.shard)
        if fence is not None:
            transaction = Transaction(fence=fence, consume=[signal.id])
            self.commits.submit(lambda: transaction, lambda _: None)

    def settled(self, activation: Activation) -> None:
        """A live run did what there was to do for now."""
        self.live.settled(activation)
        self._check_idle()

    def ended(self, activation: Activation, last: Event) -> None:
        """A live run is over."""
        run = activation.run
        self.live.forget(activation)
        if run.session is not None:
            self.spawn_task(self._next_of_session(run.agent, run.session))
        self._check_idle()

    def lost(self, activation: Activation) -> None:
        """A write of a live run was refused: its shard has another owner."""
        self.leases.drop(activation.run.shard)
        for other in self.live.all():
            if other.run.shard == activation.run.shard:
                self.live.forget(other)

    def reload(self, activation: Activation) -> None:
        """Load a run afresh."""
        self.live.forget(activation)
        self.spawn_task(self._offer_again(activation.run.id))

    def load_failed(self, run: str, error: Exception) -> None:
        """A run could not be brought to life."""
        if isinstance(error, StoreError):
            self.fail(error)
        else:
            log.error("run %s cannot be loaded: %s", run, error, exc_info=error)

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
        if self.stopping or self.failure is not None:
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
        for run in await self.store.due(shards, now, _PAGE):
            self.live.offer(run)
        due = await self.store.next_due(shards)
        if due is not None:
            # What was just woken is due in the store until its next commit: do not spin on it.
            self.due_at(max(due, self.clock.now_us() + _DUE_AGAIN_US))

    # Details: ownership and recovery.

    async def _claim(self) -> None:
        shards = await self.leases.claim()
        if shards:
            await self._recover(shards)

    async def _recover(self, shards: list[str]) -> None:
        for run in await self.store.active(shards):
            self.live.offer(run)
        after = 0
        while signals := await self.store.signals(shards, after, _PAGE):
            for signal in signals:
                if signal.id > self._signal_cursor:
                    self._signals_seen.add(signal.id)
                self._route(signal)
            after = signals[-1].id
        await self._offer_ready(shards)
        await self._wake_due(self.clock.now_us())

    async def _offer_ready(self, shards: Sequence[str]) -> None:
        for run in await self.store.ready(shards, self.settings.moving_most):
            if self.agents.get(run.agent, run.version) is not None:
                self.live.offer(run)

    def _keep_soon(self) -> None:
        seconds = self.settings.lease_seconds / 3 if self.leases.complete else 0.25
        self._keeper = self.clock.call_later(seconds, lambda: self.spawn_task(self._keep()), upkeep=True)

    async def _keep(self) -> None:
        for shard in await self.leases.renew():
            for activation in self.live.all():
                if activation.run.shard == shard:
                    self.live.forget(activation)
        await self._claim()
        self.live.sweep()
        if not self.stopping:
            self._keep_soon()

    async def _watch_store(self) -> None:
        while True:
            await self.store.wait_change()
            shards = self.leases.shards
            if shards:
                await self._read_signals(shards)
                await self._offer_ready(shards)
            await self.followers.changed_elsewhere()

    async def _read_signals(self, shards: list[str]) -> None:
        while signals := await self.store.signals(shards, self._signal_cursor, _PAGE):
            for signal in signals:
                if signal.id not in self._signals_seen:
                    self._route(signal)
            self._signal_cursor = signals[-1].id
            self._signals_seen = {id for id in self._signals_seen if id > self._signal_cursor}

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
        if run is not None and self.fence(run.shard) is not None:
            self.live.take(signal)

    async def _next_of_session(self, agent: str, session: str) -> None:
        run = await self.store.session_next(agent, session)
        if run is not None and self.fence(run.shard) is not None:
            self.live.offer(run)

    async def _offer_again(self, id: str) -> None:
        run = await self.store.run(id)
        if run is not None:
            self.live.offer(run)

    # Details: the end.

    async def _finish_steps(self, seconds: float) -> None:
        tasks = [attempt.task for live in self.live.all() for attempt in live.steps.attempts.values() if attempt.task]
        if tasks and seconds > 0:
            await asyncio.wait(tasks, timeout=seconds)
            await asyncio.sleep(0)  # let their results reach the group commit

    async def _hand_over(self) -> None:
        moving = [live for live in self.live.all() if live.status is RunStatus.RUNNING]
        now = self.clock.now_us()
        for live in moving:
            update = RunUpdate(RunStatus.RUNNING, now, reason=HANDED_OVER, attempt=live.attempt, strikes=live.strikes)
            transaction = Transaction(fence=live.writer.fence, updates={live.run.id: update})
            self.commits.submit(lambda transaction=transaction: transaction, lambda _: None)  # type: ignore[misc]

    def _is_idle(self) -> bool:
        now = self.clock.now_us()
        due = [due for due in (self.live.next_due(), self._store_due) if due is not None and due <= now]
        if self.dispatcher.moving or self.dispatcher.queued or self.live.busy or due or len(self._tasks) > 1:
            return False
        # Words of control move a run that holds no place.
        return all(live.writer.quiet and live.status is not RunStatus.RUNNING for live in self.live.all())

    def _check_idle(self) -> None:
        if self._idle and self._is_idle():
            for waiter in self._idle:
                if not waiter.done():
                    waiter.set_result(None)

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if isinstance(error, PerdureError) or not isinstance(error, Exception):
                self.fail(error if isinstance(error, Exception) else RuntimeError(str(error)))
            else:
                log.error("a task of the kernel failed", exc_info=error)
                self.fail(error)
        self._check_idle()

    def _limits(self, name: str) -> Limits:
        agent = self.agents.latest(name)
        return Limits(agent.concurrency, agent.concurrency_per_key) if agent is not None else Limits()


def _info(run: Run) -> RunInfo:
    return RunInfo(run.id, run.agent, run.version, run.session, run.parent, run.attempt)


def _with_id(signal: Signal, id: int) -> Signal:
    return Signal(
        signal.agent, signal.session, signal.run, signal.kind, signal.data, signal.shard, signal.created, id
    )
