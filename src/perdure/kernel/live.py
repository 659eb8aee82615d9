"""Which runs are in memory, and what brings the others back?

A run comes to life when it is started, when a signal or a due timer concerns it, or when its last owner died. It
leaves memory when it is over, or when it waits and room or time runs out; then it costs nothing but its rows.

Bringing a run back reads the store, which takes a moment; `_loading` makes sure that it happens once, and what
arrives meanwhile is found by the fresh activation in `signals`.
"""

from __future__ import annotations

import heapq
import logging
from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING

from perdure.journal.brain import Brain
from perdure.kernel.activation import Activation
from perdure.kernel.signals import CONTROL
from perdure.store.contract import Signal
from perdure.values.events import Event
from perdure.values.runs import Run, RunStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perdure.kernel.kernel import Kernel

log = logging.getLogger("perdure.kernel")

#: The row's reason when a worker shut down in an orderly way with the run still moving: not a crash.
HANDED_OVER = "left by a worker that shut down"


class LiveRuns:
    """The runs of this node that are in memory, and the way in and out."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._live: dict[str, Activation] = {}
        self._idle: OrderedDict[str, float] = OrderedDict()
        self._loading: set[str] = set()
        #: signals that no activation has taken yet: by run id, or by (agent, session) for whoever comes next
        self._signals: defaultdict[str | tuple[str, str], list[Signal]] = defaultdict(list)
        #: sessions of which a run is being begun or is live here
        self._sessions: dict[tuple[str, str], str] = {}
        self._dues: list[tuple[int, str]] = []

    def __iter__(self) -> list[Activation]:
        return list(self._live.values())

    def all(self) -> list[Activation]:
        """Every live run."""
        return list(self._live.values())

    @property
    def busy(self) -> bool:
        """True while something is being brought to life."""
        return bool(self._loading)

    # Coming to life.

    def start_written(self, run: Run, events: Sequence[Event]) -> None:
        """A run that was created as running, with its first events at hand."""
        self._activate(run, events)

    def offer(self, run: Run) -> None:
        """`run` (queued, due or left behind) wants to move."""
        if run.id not in self._live:
            self._kernel.dispatcher.offer(
                run.id, run.agent, run.concurrency_key, run.priority, run.created, lambda: self._load_soon(run.id)
            )

    def take(self, signal: Signal) -> None:
        """A signal for a run of ours is durable: see that the run learns of it."""
        if signal.run is None:
            assert signal.session is not None
            session = (signal.agent, signal.session)
            active = self._sessions.get(session)
            if active is not None and active in self._live:
                self._give(self._live[active], signal)
            else:
                self._signals[session].append(signal)
                self._kernel.spawn_task(self._find_session(session))
            return
        activation = self._live.get(signal.run)
        if activation is not None:
            self._give(activation, signal)
        else:
            self._signals[signal.run].append(signal)
            self._kernel.spawn_task(self._wake_for_signal(signal.run, control=signal.kind in CONTROL))

    def is_live(self, run: str) -> bool:
        """True when `run` is in memory or on its way."""
        return run in self._live or run in self._loading

    def _give(self, activation: Activation, signal: Signal) -> None:
        run = activation.run
        if signal.kind in CONTROL or self._kernel.dispatcher.is_moving(run.id):
            self._busy_again(run.id)
            activation.take_signal(signal)
            return
        self._signals[run.id].append(signal)
        self._kernel.dispatcher.offer(
            run.id, run.agent, run.concurrency_key, run.priority, run.created, lambda: self._move(activation)
        )

    def _move(self, activation: Activation) -> None:
        run = activation.run
        if self._live.get(run.id) is not activation:
            self._load_soon(run.id)
            return
        self._busy_again(run.id)
        for signal in self._signals.pop(run.id, ()):
            activation.take_signal(signal)
        activation.fire_due(self._kernel.clock.now_us())
        self.settled(activation)

    async def _wake_for_signal(self, id: str, *, control: bool) -> None:
        if self.is_live(id):
            self._hand_over(id)
            return
        run = await self._kernel.store.run(id)
        if run is None or run.status.terminal:
            for signal in self._signals.pop(id, ()):
                self._kernel.consume(run, signal)
        elif control:
            await self._load(id)
        elif run.status is not RunStatus.QUEUED:  # a queued run finds its messages when it begins
            self.offer(run)

    async def _find_session(self, session: tuple[str, str]) -> None:
        active = await self._kernel.store.session_active(*session)
        if active is not None and session in self._signals:
            if active.id in self._live:
                self._hand_over(active.id)
            else:
                self.offer(active)

    def _hand_over(self, id: str) -> None:
        activation = self._live.get(id)
        if activation is None:
            return  # it is loading and will look for itself
        for signal in self._take_signals(activation.run):
            self._give(activation, signal)

    def _load_soon(self, id: str) -> None:
        self._kernel.spawn_task(self._load(id))

    async def _load(self, id: str) -> None:
        if self.is_live(id):
            return
        self._loading.add(id)
        try:
            run = await self._kernel.store.run(id)
            if run is None or run.status.terminal or self._kernel.fence(run.shard) is None:
                self._kernel.dispatcher.release(id)
                return
            events = await self._kernel.store.events(id)
            if run.status is RunStatus.QUEUED and not any(event.type == "run.started" for event in events):
                await self._begin(run, events)
            else:
                self._activate(run, events)
        except Exception as error:  # noqa: BLE001 - a run that cannot be loaded must not take the node with it
            self._kernel.dispatcher.release(id)
            self._kernel.load_failed(id, error)
        finally:
            self._loading.discard(id)
        self._hand_over(id)

    async def _begin(self, run: Run, events: list[Event]) -> None:
        state = {}
        if run.session is not None:
            session = (run.agent, run.session)
            if self._sessions.get(session, run.id) != run.id:
                self._kernel.dispatcher.release(run.id)
                return
            self._sessions[session] = run.id
            active = await self._kernel.store.session_active(*session)
            if active is not None and active.id != run.id:
                # Its session is busy: it is offered again when that run ends.
                del self._sessions[session]
                self._kernel.dispatcher.release(run.id)
                return
            state = await self._kernel.session_state(*session)
        activation = self._make(run, events)
        if activation is None:
            return
        moving = self._kernel.dispatcher.is_moving(run.id)
        for event in events:
            activation.brain.deliver(event)
        activation.writer.seq, activation.writer.time_us = events[-1].seq, events[-1].time_us
        if moving:
            activation.begin(state)

    def _activate(self, run: Run, events: Sequence[Event]) -> None:
        activation = self._make(run, events)
        if activation is None:
            return
        crashed = run.status is RunStatus.RUNNING and run.reason != HANDED_OVER and not self._kernel.created_here(run)
        activation.load(events, crashed=crashed)
        activation.fire_due(self._kernel.clock.now_us())
        self.settled(activation)

    def _make(self, run: Run, events: Sequence[Event]) -> Activation | None:
        fence = self._kernel.fence(run.shard)
        program = self._kernel.program(run, events)
        if fence is None or program is None:
            self._kernel.dispatcher.release(run.id)
            return None
        activation = self._live[run.id] = Activation(self._kernel, run, fence, Brain(run.id, program))
        if run.session is not None:
            self._sessions[run.agent, run.session] = run.id
        return activation

    def _take_signals(self, run: Run) -> list[Signal]:
        signals = self._signals.pop(run.id, [])
        if run.session is not None:
            signals += self._signals.pop((run.agent, run.session), [])
        return signals

    # Leaving memory.

    def settled(self, activation: Activation) -> None:
        """The run did what there was to do for now: give its place back if it waits."""
        if activation.evictable:
            id = activation.run.id
            self._kernel.dispatcher.release(id)
            if id in self._live and not self._kernel.dispatcher.is_moving(id):
                self._idle[id] = self._kernel.clock.monotonic()
                self._idle.move_to_end(id)
                while len(self._idle) > self._kernel.settings.idle_most:
                    self._evict(next(iter(self._idle)))

    def sweep(self) -> None:
        """Evict what has waited for long."""
        oldest = self._kernel.clock.monotonic() - self._kernel.settings.idle_seconds
        while self._idle:
            id, since = next(iter(self._idle.items()))
            if since > oldest:
                return
            self._evict(id)

    def forget(self, activation: Activation) -> None:
        """The run is over, lost or to be loaded afresh."""
        run = activation.run
        activation.close()
        if self._live.get(run.id) is activation:
            del self._live[run.id]
        self._idle.pop(run.id, None)
        if run.session is not None and self._sessions.get((run.agent, run.session)) == run.id:
            del self._sessions[run.agent, run.session]
        self._kernel.dispatcher.release(run.id)

    def _busy_again(self, id: str) -> None:
        self._idle.pop(id, None)

    def _evict(self, id: str) -> None:
        del self._idle[id]
        activation = self._live.get(id)
        if activation is not None and activation.evictable:
            self.forget(activation)

    # Time.

    def due_for(self, activation: Activation, due: int) -> None:
        """A live run has something due."""
        heapq.heappush(self._dues, (due, activation.run.id))
        if len(self._dues) > 1_000 + 4 * len(self._live):  # mostly of runs that left: let them go
            self._dues = [entry for entry in self._dues if entry[1] in self._live]
            heapq.heapify(self._dues)

    def next_due(self) -> int | None:
        """When the next live run has something due."""
        return self._dues[0][0] if self._dues else None

    def fire_due(self, now: int) -> None:
        """Wake every live run that has something due."""
        due: dict[str, None] = {}
        while self._dues and self._dues[0][0] <= now:
            due[heapq.heappop(self._dues)[1]] = None
        for id in due:
            activation = self._live.get(id)
            if activation is None:
                continue
            if self._kernel.dispatcher.is_moving(id):
                self._busy_again(id)
                activation.fire_due(now)
            else:
                run = activation.run
                self._kernel.dispatcher.offer(
                    id, run.agent, run.concurrency_key, run.priority, run.created,
                    lambda activation=activation: self._move(activation),  # type: ignore[misc]
                )  # fmt: skip
