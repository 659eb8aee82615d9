"""Which runs are in memory, and what brings the others back?

A run comes to life when it is started, when a signal or a due timer concerns it, or when its last owner died. It
leaves memory when it is over, or when it waits and room or time runs out; then it costs nothing but its rows.

The store is the mailbox: a signal for a run that is not in memory only wakes it, and the run reads its mail once it is
there. What arrives between that reading and now is held here, so that nothing is missed and the order is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from perdure.errors import JournalDamaged
from perdure.journal.brain import Brain
from perdure.kernel.activation import Activation
from perdure.kernel.due import DueRuns
from perdure.kernel.signals import CONTROL
from perdure.kernel.stranded import leave_without_code
from perdure.store.contract import Fence, Signal
from perdure.values.events import Event
from perdure.values.runs import Run, RunStatus

if TYPE_CHECKING:
    from perdure.kernel.kernel import Kernel

log = logging.getLogger("perdure.kernel")


#: How often a run is read whose journal and row do not agree.
_LOOKS_MAX = 3


class _Found(NamedTuple):
    """A run as the store has it, under the fence that was ours all the while it was read."""

    run: Run
    fence: Fence
    events: Sequence[Event]
    mail: Sequence[Signal]


class LiveRuns:
    """The runs of this node that are in memory, and the way in and out."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._live: dict[str, Activation] = {}
        #: those that wait, by how long: id -> since when (monotonic seconds)
        self._idle: OrderedDict[str, float] = OrderedDict()
        self._loading: set[str] = set()
        #: signals for runs that are being brought to life or wait for a place, by run id
        self._held: defaultdict[str, list[Signal]] = defaultdict(list)
        #: sessions of which a run is being begun or is live here
        self._sessions: dict[tuple[str, str], str] = {}
        #: runs that this node itself set to running and that are not live yet, with their shards: nobody left them behind
        self._ours: dict[str, str] = {}
        self._due = DueRuns()

    def all(self) -> list[Activation]:
        """Every live run."""
        return list(self._live.values())

    @property
    def busy(self) -> bool:
        """True while a live run moves, or one is being brought to life."""
        return bool(self._loading) or len(self._idle) < len(self._live)

    def is_live(self, run: str) -> bool:
        """True when `run` is in memory or on its way."""
        return run in self._live or self._coming(run)

    def is_in_memory(self, run: str) -> bool:
        """True while `run` is in memory: whatever happens to it happens here."""
        return run in self._live

    def _coming(self, run: str) -> bool:
        return run in self._loading or (run in self._ours and self._kernel.dispatcher.is_moving(run))

    # Coming to life.

    def expect(self, run: str, shard: str) -> None:
        """The kernel is about to set `run` to running itself."""
        self._ours[run] = shard

    def expect_no_more(self, run: str) -> None:
        """It did not happen."""
        self._ours.pop(run, None)
        self._held.pop(run, None)

    def start_written(self, run: Run, events: Sequence[Event]) -> None:
        """A run that was created as running, with its first events at hand."""
        fence = self._kernel.fence(run.shard)
        if run.id not in self._ours:
            return  # its shard was lost meanwhile, and whoever has it now has recovered it
        activation = self._make(run, fence) if fence is not None else None
        if activation is None:
            self._give_up(run.id)
            return
        self._kernel.runs_begun += 1
        try:
            self._bring_up(activation, events)
        except Exception as error:  # noqa: BLE001 - as in `_load`
            self._kernel.load_failed(run.id, error)
        else:
            self._came_to_life(activation, ())

    def offer(self, run: Run) -> None:
        """`run` (queued, due or left behind) wants to move."""
        if run.id not in self._live:
            self._offer(run, begins=run.status is RunStatus.QUEUED)

    def take(self, signal: Signal) -> None:
        """A signal for a run of ours is durable: see that the run learns of it."""
        id = signal.run
        if id is None:
            assert signal.session is not None
            id = self._sessions.get((signal.agent, signal.session))
            if id is None:
                self._kernel.spawn_task(self._wake_session(signal.agent, signal.session))
                return
        self._take_for(id, signal)

    def _take_for(self, id: str, signal: Signal) -> None:
        if self._coming(id):
            self._held[id].append(signal)
        elif id in self._live:
            if self._live[id].may_move:  # else it is for the next owner
                self._give(self._live[id], signal)
        else:
            self._kernel.spawn_task(self._wake(id, signal))

    def _offer(self, run: Run, *, begins: bool = False) -> None:
        id = run.id
        self._kernel.dispatcher.offer(
            id, run.agent, run.concurrency_key, run.priority, run.created, lambda: self._move(id), begins=begins
        )

    def _move(self, id: str) -> None:
        """The run has a place."""
        activation = self._live.get(id)
        if self._kernel.halted or (activation is not None and not activation.may_move):
            self._kernel.dispatcher.release(id)
        elif id in self._loading:
            pass  # it sees that it has a place once it is there
        elif activation is None:
            self._kernel.spawn_task(self._load(id))
        else:
            self._came_to_life(activation, self._held.pop(id, ()))

    def _give(self, activation: Activation, signal: Signal) -> None:
        id = activation.run.id
        moving, control = self._kernel.dispatcher.is_moving(id), signal.kind in CONTROL
        if control and not moving and activation.evictable and not activation.dormant:
            # Words of control are recorded at once, however full the node is; but no code runs without a place.
            self.forget(activation)
            self._kernel.spawn_task(self._load(id))
        elif (control or moving) and activation.take_signal(signal):
            self._idle.pop(id, None)
        else:
            self._held[id].append(signal)
            if not moving:
                self._offer(activation.run)

    async def _wake(self, id: str, signal: Signal) -> None:
        run = await self._kernel.reads.run(id)
        if run is not None:
            await self.wake(run, signal)

    async def wake(self, run: Run, signal: Signal) -> None:
        """`signal` is for `run`, which was read just now and may be anywhere but in memory."""
        if self.is_live(run.id):
            pass  # what came to life meanwhile reads its mail itself; giving it this copy could do it twice
        elif run.status.terminal and signal.run is None:
            await self._wake_session(signal.agent, signal.session or "")  # mail of the session: its next run reads it
        elif run.status.terminal:
            await self._kernel.mailroom.redirect(run, signal)
        elif signal.kind in CONTROL:
            await self._load(run.id)
        elif run.status is not RunStatus.QUEUED:  # a queued run reads its mail when it begins
            self.offer(run)

    async def _wake_session(self, agent: str, session: str) -> None:
        active = await self._kernel.reads.session_active(agent, session)
        if active is None:
            return  # its next run reads the mail
        if self.is_live(active.id):
            with self._kernel.taken.reading():
                signals = await self._kernel.reads.run_signals(active.id)
                for signal in self._kernel.taken.still_there(signals):
                    # Not `take`: it would look the session up again, and for ever where the run is only passing through.
                    self._take_for(active.id, signal)
        else:
            self.offer(active)

    async def _load(self, id: str) -> None:
        if id in self._live or id in self._loading:
            return
        self._loading.add(id)
        activation, mail = None, []
        try:
            with self._kernel.taken.reading():
                activation, found = await self._revive(id)
                if activation is not None and found is not None:
                    mail = await self._mail_of(activation, found)
        except Exception as error:  # noqa: BLE001 - a run that cannot be loaded must not take the node with it
            self._kernel.load_failed(id, error)
        finally:
            self._loading.discard(id)
            self._ours.pop(id, None)
        if activation is None or self._live.get(id) is not activation:
            held = self._held.pop(id, ())
            self._give_up(id)
            for signal in held:  # came while it was on its way: what is for a queued run too must not wait for its turn
                self._take_for(id, signal)
            fence = self._kernel.fence(activation.run.shard) if activation is not None else None
            if activation is not None and fence not in {None, activation.writer.fence}:
                # Its shard was lost and won back: whoever offered it since found it on its way.
                self._kernel.spawn_task(self._kernel.ownership.offer_again(id))
        else:
            self._came_to_life(activation, [*mail, *self._held.pop(id, ())])

    async def _mail_of(self, activation: Activation, found: _Found) -> list[Signal]:
        run, mail = found.run, found.mail
        if run.session is not None and run.status is RunStatus.QUEUED:
            # While it was looked up, mail of the session was for nobody: look again, now that it is for this run.
            mail = await self._kernel.reads.run_signals(run.id)
        mail = self._kernel.taken.still_there(mail)
        if activation.dormant and activation.run.status is RunStatus.QUEUED:
            # Mail of the session at large is for the run whose turn it is.
            return [signal for signal in mail if signal.run == run.id]
        return mail

    async def _revive(self, id: str) -> tuple[Activation | None, _Found | None]:
        while (found := await self._look_up(id)) is not None:
            activation = await self._bring_back(found)
            if activation is not None or self._kernel.fence(found.run.shard) in (found.fence, None):
                return activation, found
        return None, None

    async def _look_up(self, id: str) -> _Found | None:
        """A run of ours that has not ended, as it is since we own it. Raises JournalDamaged."""
        leases, reads = self._kernel.leases, self._kernel.reads
        looks = 0
        while True:
            claims = leases.claims
            # Beside each other: over a network one of them takes as long as all of them.
            run, events, mail = await asyncio.gather(reads.run(id), reads.events(id), reads.run_signals(id))
            if run is None or run.status.terminal or (fence := leases.fence(run.shard)) is None:
                return None
            if claims != leases.claims:
                continue
            last = events[-1].seq if events else 0
            if last == run.seq:
                return _Found(run, fence, events, mail)
            looks += 1
            if looks == _LOOKS_MAX:  # else a commit came between the two
                raise JournalDamaged(f"run {id}: its journal ends with event {last}, and its row says {run.seq}")

    async def _bring_back(self, found: _Found) -> Activation | None:
        kernel, run = self._kernel, found.run
        if kernel.program(run) is None:
            await leave_without_code(kernel, run)
            return None
        moving = kernel.dispatcher.is_moving(run.id)
        if moving and run.status is RunStatus.QUEUED and not await self._may_begin(run):
            return None
        try:
            return await self._load_journal(found, moving=moving)
        finally:
            if run.id not in self._live:
                self._leave_session(run)

    async def _load_journal(self, found: _Found, *, moving: bool) -> Activation | None:
        run = found.run
        # A run that moves has no reason in its row: only then did a worker die with it in hand.
        crashed = run.status is RunStatus.RUNNING and run.reason is None and run.id not in self._ours
        if crashed:
            run = replace(run, attempt=run.attempt + 1, strikes=run.strikes + 1)
        state = {}
        if run.session is not None and run.status is RunStatus.QUEUED:
            state = await self._kernel.session_state(run.agent, run.session)
        activation = self._make(run, found.fence)
        if activation is not None:
            self._bring_up(activation, found.events, state=state, crashed=crashed, rests=not moving)
        return activation

    def _bring_up(self, activation: Activation, events: Sequence[Event], **how: Any) -> None:
        try:
            activation.load(events, **how)
        except Exception:
            self.forget(activation)
            raise

    async def _may_begin(self, run: Run) -> bool:
        """True when it is this run's turn in its session."""
        if run.session is None:
            return True
        session = (run.agent, run.session)
        if self._sessions.get(session, run.id) != run.id:
            return False  # offered again when that run ends
        self._sessions[session] = run.id
        active = await self._kernel.reads.session_active(*session)
        following = await self._kernel.reads.session_next(*session)
        if active is None and following is not None and following.id == run.id:
            return True
        self._leave_session(run)
        if active is None and following is not None:
            self.offer(following)
        return False

    def _make(self, run: Run, fence: Fence) -> Activation | None:
        program = self._kernel.program(run)
        if self._kernel.fence(run.shard) != fence or program is None or self._kernel.halted:
            return None
        activation = self._live[run.id] = Activation(self._kernel, run, fence, Brain(run.id, program))
        if run.session is not None and run.status is not RunStatus.QUEUED:
            self._sessions[run.agent, run.session] = run.id
        return activation

    def _came_to_life(self, activation: Activation, mail: Iterable[Signal]) -> None:
        id = activation.run.id
        self._ours.pop(id, None)
        self._idle.pop(id, None)
        signals = {signal.id: signal for signal in [*mail, *self._held.pop(id, ())]}
        # Giving one may bring a place, and with it this very function: it must not leave before it has all its mail.
        self._loading.add(id)
        for _, signal in sorted(signals.items()):
            self._give(activation, signal)
            if self._live.get(id) is not activation:
                break  # to be loaded in another way, with the rest of its mail
        self._loading.discard(id)
        if self._kernel.dispatcher.is_moving(id):
            self.take_held(activation)
        if not activation.dormant:
            activation.fire_due(self._kernel.clock.now_us())
        self.settled(activation)

    def take_held(self, activation: Activation) -> None:
        """The run goes on: what could not be taken until now can be."""
        if self._live.get(activation.run.id) is activation:
            for signal in self._held.pop(activation.run.id, ()):
                self._give(activation, signal)

    def _give_up(self, id: str) -> None:
        self._ours.pop(id, None)
        self._held.pop(id, None)
        self._kernel.dispatcher.release(id)

    # Leaving memory.

    def settled(self, activation: Activation) -> None:
        """The run did what there was to do for now: give its place back if it waits."""
        id = activation.run.id
        if not activation.evictable or id in self._loading or self._live.get(id) is not activation:
            return
        if activation.dormant:
            self._put_down(activation)
            return
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

    def ended(self, activation: Activation) -> None:
        """The run is over. What reached it too late is for whoever follows, or for nobody."""
        held = self._held.pop(activation.run.id, ())
        self.forget(activation)
        self._kernel.dispatcher.withdraw(activation.run.id)
        for signal in held:
            self.take(signal)

    def forget(self, activation: Activation) -> None:
        """The run leaves memory: evicted, lost or to be loaded afresh."""
        run = activation.run
        activation.close()
        if self._live.get(run.id) is activation:
            del self._live[run.id]
        self._idle.pop(run.id, None)
        self._held.pop(run.id, None)
        self._due.forget(run.id)
        self._leave_session(run)
        self._kernel.dispatcher.release(run.id)

    def forget_shards(self, shards: AbstractSet[str]) -> None:
        """These shards were lost, and all that is known of their runs with them."""
        for activation in self.all():
            if activation.run.shard in shards:
                self.forget(activation)
        for run in [run for run, shard in self._ours.items() if shard in shards]:
            self.expect_no_more(run)
            self._kernel.dispatcher.release(run)

    def _put_down(self, activation: Activation) -> None:
        """Its journal has what was to be added; whether it moves now is decided with its code loaded."""
        if activation.parked:
            self.forget(activation)
        else:
            self._kernel.reload(activation)

    def _leave_session(self, run: Run) -> None:
        if run.session is not None and self._sessions.get((run.agent, run.session)) == run.id:
            del self._sessions[run.agent, run.session]

    def _evict(self, id: str) -> None:
        del self._idle[id]
        activation = self._live.get(id)
        if activation is not None and activation.evictable:
            self.forget(activation)

    # Time.

    def due_for(self, activation: Activation, due: int) -> None:
        """A live run has something due."""
        self._due.note(activation.run.id, due)

    def next_due(self) -> int | None:
        """When the next live run has something due."""
        return self._due.first()

    def fire_due(self, now: int) -> None:
        """Wake every live run that has something due."""
        for id in self._due.take(now):
            activation = self._live.get(id)
            if activation is None:
                continue
            if self._kernel.dispatcher.is_moving(id):
                activation.fire_due(now)
            else:
                self._offer(activation.run)
