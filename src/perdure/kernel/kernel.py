"""The kernel of one node: owns shards, brings runs to life, commits what they do, wakes them when due.

It knows no store by name, no tool and no protocol. What is in which file:

    membership      who is there; may we still act (term)
    parts, balance  which shards are our part
    leases          which shards are ours
    needs           who can run what lies in them, while versions change
    handover        giving shards up
    ownership       which of their runs must move; queues says which of those that are queued
    mailroom        what comes from the store, and to whom it goes
    alarms, due     when to look up, and for which run
    dispatch        who may move next
    limits          what agents are limited to; quotas and rates are this node's part of it
    doors, turns    who waits for what, and in which order
    live            which runs are in memory
    stranded        what cannot be brought there
    activation      one live run
    requests        what its code asks for
    steps, step     its effects and attempts
    signals         what reaches it from outside
    waiting         why it does not move
    ending          how it ends
    writer, draft   how its journal grows
    history         what its journal says
    group_commit    many runs, one fsync
    outbox          who is told of what is written
    patience        reading while the store cannot be reached
    follow          who is watching
    starting        how runs come to be
    branches, cuts  fork and retry, and where
    portable        export and import
    shutdown        how the node ends
    contract        what the layers above give
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from perdure.agents.agent import AnyAgent
from perdure.agents.context import RunInfo, run_agent
from perdure.errors import PerdureError, StoreError
from perdure.journal import isolation
from perdure.journal.brain import Brain
from perdure.kernel import stranded
from perdure.kernel.activation import Activation
from perdure.kernel.alarms import Alarms
from perdure.kernel.contract import Admission, Agents, Decision, Gate, Hands, Subscriptions
from perdure.kernel.dispatch import Dispatcher
from perdure.kernel.follow import Followers
from perdure.kernel.group_commit import GroupCommit
from perdure.kernel.leases import Leases
from perdure.kernel.limits import AgentLimits
from perdure.kernel.live import LiveRuns
from perdure.kernel.mailroom import Mailroom
from perdure.kernel.membership import Membership
from perdure.kernel.outbox import Outbox
from perdure.kernel.ownership import Ownership
from perdure.kernel.patience import PatientReads
from perdure.kernel.shutdown import Shutdown
from perdure.kernel.signals import TakenSignals
from perdure.store.contract import Fence, NewRun, Signal, Store
from perdure.values.clock import Clock
from perdure.values.events import Event
from perdure.values.ids import new_node_id, shard_of, slot_of
from perdure.values.json import decode, encode
from perdure.values.runs import Run, RunStatus
from perdure.values.settings import Settings

log = logging.getLogger("perdure.kernel")


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
        #: the store, as the kernel's own tasks read it
        self.reads = PatientReads(store, clock)
        self.leases = Leases(store, self.node, settings.lease_seconds)
        self.live = LiveRuns(self)
        self.followers = Followers(store, self.live.is_in_memory)
        self.taken = TakenSignals()
        self.alarms = Alarms(self)
        self.mailroom = Mailroom(self)
        self.ownership = Ownership(self)
        self.membership = Membership(self)
        self.limits = AgentLimits(self)
        self.dispatcher = Dispatcher(
            settings.moving_most, self.limits, weights=settings.weights, shorter=self.ownership.queues.shorter,
            vacant=self.ownership.queues.go_on,
        )  # fmt: skip
        #: what this node did since it started
        self.steps_done = 0
        self.runs_begun = 0
        #: why this node is dead, or None
        self.failure: Exception | None = None
        #: an orderly end was asked for
        self.stopping = False
        #: awaited once the store is open, before this node does any work
        self.before_work: list[Callable[[], Awaitable[object]]] = []
        self._shutdown: Shutdown | None = None
        self._gate = gate
        self._tasks: set[asyncio.Task[Any]] = set()
        self._idle: set[asyncio.Future[None]] = set()

    # Life of the node.

    async def start(self, *, work: bool = True) -> None:
        """Open the store and, with `work`, own the shards of our agents and recover their runs."""
        isolation.install()
        await self.store.open()
        self.slots = await self.store.slots()
        self.commits.start()
        for prepare in self.before_work:
            await prepare()
        if work:
            await self.membership.join()
        self._watch = self.spawn_task(self.mailroom.watch())

    async def stop(self, *, finish_seconds: float | None = None) -> None:
        """Let steps finish for `finish_seconds` (default: the setting), write everything, give the shards up.

        Nothing is lost either way. Called again, it may be less patient; it returns when the node has ended. A store
        that cannot be written by then fails the node: `failure` says so.
        """
        if self._shutdown is None:
            # From here on no code moves and no step begins; what is under way may end, and is written.
            self.stopping = True
            self._shutdown = Shutdown(self)
        self._shutdown.finish_within(self.settings.finish_seconds if finish_seconds is None else finish_seconds)
        await self._shutdown.over()

    async def rest(self) -> None:
        """Nothing rings, nothing moves, nothing of ours runs beside. For the end."""
        self._rest()
        await asyncio.gather(*self._tasks, return_exceptions=True)

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

    def figures(self) -> dict[str, Any]:
        """How this node is doing, for others to see."""
        queued, moving, used_up = self.dispatcher.queued, self.dispatcher.moving, self.limits.used_up()
        said = {"moving": moving, "queued": queued, "steps": self.steps_done, "runs": self.runs_begun}
        return said | ({"used_up": used_up} if used_up else {})

    def spawn_task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something of the kernel's own beside everything else."""
        task = asyncio.get_running_loop().create_task(work)
        if self.failure is not None:
            task.cancel()
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def tell(self, subscriptions: Subscriptions | None) -> None:
        """From the next commit on, tell those of what happens; None: nobody."""
        self.commits.outbox = None if subscriptions is None else Outbox(self, subscriptions)

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

    def shard_of(self, agent: str, session: str | None, run: str, *, near: str | None = None) -> str:
        """The shard that a session belongs to, or a run of its own: that one in a database with shard `near`, if it can."""
        shard = shard_of(agent, session if session is not None else run, self.slots)
        if near is None or session is not None or self.store.together(shard, near):
            return shard
        first = slot_of(run, self.slots)
        others = (f"{agent}:{(first + turn) % self.slots}" for turn in range(1, self.slots))
        return next((other for other in others if self.store.together(other, near)), shard)

    def signal_to(self, target: dict[str, str], kind: str, data: str) -> Signal:
        """A signal to a run (`run`) or a session (`agent`, `session`)."""
        run, session, agent = target.get("run"), target.get("session"), target.get("agent", "")
        shard = "" if run is not None else self.shard_of(agent, session, "")
        return Signal(agent, session, run, kind, data, shard, self.clock.now_us())

    def new_run(
        self, agent: AnyAgent, input_json: str, *, id: str, session: str | None, parent: str | None = None,
        parent_step: int | None = None, priority: int | None = None, concurrency_key: str | None = None,
        key: str | None = None, session_must_be_free: bool = False, near: str | None = None, begin: bool = True,
    ) -> NewRun:  # fmt: skip
        """A run to be created. It is born running when this node can move it at once, else queued.

        Without a `priority` it has its agent's; so has a child whose parent has none. `near`: the shard of whoever
        creates it, with a commit of its own. `begin`: it may be born running.
        """
        now = self.clock.now_us()
        if priority is None or (parent is not None and not priority):
            priority = agent.priority
        # Without a session it lives where its idempotency key is looked for.
        shard = self.shard_of(agent.name, session, id if key is None else key, near=near)
        fields = {"agent": agent.name, "version": agent.version, "session": session, "parent": parent, "key": key}
        named = "".join(f"{encode(name)}:{encode(value)}," for name, value in fields.items() if value is not None)
        events = [Event(id, 1, "run.queued", now, None, None, f'{{{named}"input":{input_json}}}')]
        status = RunStatus.QUEUED
        at_once = begin and session is None and not self.stopping and self.fence(shard) is not None
        at_once = at_once and (near is None or self.store.together(shard, near))
        if at_once and self.dispatcher.take(id, agent.name, concurrency_key):
            status = RunStatus.RUNNING
            events.append(Event(id, 2, "run.started", now, None, None, "{}"))
            self.live.expect(id, shard)
        run = Run(
            id=id, agent=agent.name, version=agent.version, session=session, shard=shard, status=status, created=now,
            updated=now, parent=parent, parent_step=parent_step, priority=priority,
            concurrency_key=concurrency_key, idempotency_key=key,
        )  # fmt: skip
        return NewRun(run, events, session_must_be_free)

    def run_written(self, run: Run, events: Sequence[Event]) -> None:
        """A run that we created is durable."""
        if run.status is RunStatus.RUNNING:
            self.followers.published(run.id, list(events))
            self.live.start_written(run, events)
        elif self.fence(run.shard) is not None and not self.halted:
            self.live.offer(run)

    def not_written(self, new: NewRun) -> None:
        """A run that we wanted to create was refused."""
        self.live.expect_no_more(new.run.id)
        self.dispatcher.release(new.run.id)

    def settled(self, activation: Activation) -> None:
        """A live run did what there was to do for now."""
        self.live.settled(activation)
        self.check_idle()

    def ended(self, activation: Activation) -> None:
        """A live run is over."""
        run = activation.run
        self.live.ended(activation)
        if run.session is not None:
            self.spawn_task(self.ownership.offer_next(run.agent, run.session))
        self.check_idle()

    def reload(self, activation: Activation) -> None:
        """Load a run afresh, as soon as it has a place."""
        id = activation.run.id
        self.live.forget(activation)
        self.live.expect(id, activation.run.shard)
        self.spawn_task(self.ownership.offer_again(id))

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
            self.spawn_task(stranded.park_unloadable(self, run, error))

    async def session_state(self, agent: str, session: str) -> dict[str, Any]:
        """A session's state as values."""
        return {key: decode(text) for key, text in (await self.reads.state(agent, session)).items()}

    def check_idle(self) -> None:
        """Something may have come to rest: tell those who wait for that."""
        if self._idle and self._is_idle():
            for waiter in self._idle:
                if not waiter.done():
                    waiter.set_result(None)

    # Details.

    def _rest(self) -> None:
        self.alarms.cancel()
        self.membership.rest()
        self.limits.rest()
        for activation in self.live.all():
            activation.close()
        self.hands.close()
        for task in list(self._tasks):
            task.cancel()

    def _is_idle(self) -> bool:
        # Who waits for a place while nobody moves waits for other nodes or for time: a limit is used up.
        moves = self.dispatcher.moving or self.live.busy or len(self._tasks) > 1
        return not moves and not self.alarms.overdue(self.clock.now_us()) and self.failure is None

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error if isinstance(error, Exception) else RuntimeError(repr(error)))
        self.check_idle()


def _info(run: Run) -> RunInfo:
    return RunInfo(run.id, run.agent, run.version, run.session, run.parent, run.attempt)
