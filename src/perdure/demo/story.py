"""One run, from where it stands to its end: workers come and go, two are killed, a person decides.

Everything that is told comes from the journal in the store, read by this process, which never runs the agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import time
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

from pydantic import TypeAdapter

from perdure.demo.evidence import Kill
from perdure.demo.payments import Payment
from perdure.demo.process import Fate, WorkerProcess
from perdure.demo.screen import Screen, counted
from perdure.demo.stage import Cue, pause
from perdure.demo.worker import LEASE_SECONDS
from perdure.errors import AlreadySettled, PerdureError
from perdure.runtime import Runtime
from perdure.store.contract import Ask
from perdure.store.urls import is_postgres, without_passwords
from perdure.values.events import Event
from perdure.values.json import decode, encode
from perdure.values.runs import RunStatus

#: the kills come at half of the batches, and at this payment
PAYMENT_OF_KILL = 20
#: batches of a run that has not come so far that the journal could tell
BATCHES_USUAL = 32

_SETTLED = frozenset({"step.completed", "step.failed", "step.cancelled"})
_DECIDED = frozenset({"approval.granted", "approval.rejected", "approval.expired", "approval.withdrawn"})
_payment = TypeAdapter(Payment)


class Left(Exception):  # noqa: N818 - named for what happened
    """The person closed the terminal's input instead of deciding."""


class Story:
    """Drives one run of `reconcile` and tells what happens. `yes` answers in the person's place."""

    def __init__(self, runtime: Runtime, screen: Screen, store: str, run: str, *, yes: bool) -> None:
        self.kills: list[Kill] = []
        self._runtime = runtime
        self._screen = screen
        self._store = store
        self._shown = without_passwords(store)
        self._run = run
        self._yes = yes
        self._batches: int | None = None
        self._past = 0
        self._completed = 0
        self._approvals = 0
        self._asked: set[str] = set()
        self._working = asyncio.Event()
        self._worker: WorkerProcess | None = None
        self._worker_since = 0.0

    async def play(self, batches: int | None = None) -> None:
        """Until the run ends. Raises Left, and PerdureError when nobody can go on."""
        self._batches = batches
        self._past = (await self._runtime.journal(self._run))[-1].seq
        await _together(self._follow(), self._work())

    # Workers.

    async def _work(self) -> None:
        fate = None
        while fate is not Fate.ENDED:
            cue = await self._next_cue()
            async with WorkerProcess(self._store, self._run, cue) as worker:
                self._worker, self._worker_since = worker, time.monotonic()
                self._screen.stall(stalled=False)
                if fate is not Fate.AT_CUE:
                    self._screen.say(f"[green]worker {worker.pid}[/] runs the agent")
                self._working.set()
                fate = await worker.fate()
                if fate is Fate.KILLED:
                    self._screen.stall(stalled=True)
                    self._screen.say(f"[bold red]worker {worker.pid} was killed[/], and not by this show")
                elif cue is not None and fate is Fate.AT_CUE:
                    await self._kill(worker, cue)

    async def _next_cue(self) -> Cue | None:
        """Where the next worker is to be killed: each scene has one kill."""
        killed = {kill.scene for kill in self.kills}
        journal = await self._runtime.journal(self._run)
        return next((cue for cue in _cues(journal, self._batches) if cue.scene not in killed), None)

    async def _kill(self, worker: WorkerProcess, cue: Cue) -> None:
        signal = await worker.kill()
        self._screen.stall(stalled=True)
        self._screen.say(f"[bold red]kill -9 {worker.pid}[/]  {_MOMENTS[cue.scene]}")
        if is_postgres(self._store):
            lease = f"{LEASE_SECONDS:g} s"
            self._screen.say(f"[dim]its lease still holds: the next worker waits until it has run out ({lease})[/]")
        await pause(1.2)
        journal = await self._runtime.journal(self._run)
        completed = sum(event.type == "step.completed" for event in journal)
        self._screen.say(
            f"[dim]on disk:[/] {len(journal):,} events, {completed:,} steps completed, "
            f"{_in_flight(journal)} in flight [dim]· the process is gone[/]"
        )
        self.kills.append(Kill(worker.pid, signal, cue.scene, len(journal), completed))
        await pause(1.2)

    # The journal.

    async def _follow(self) -> None:
        async for event in self._runtime.events(self._run):
            match event.type:
                case "step.completed":
                    self._completed += 1
                case "progress":
                    self._progress(event.data)
                case "run.recovered" if event.seq > self._past:
                    self._recovered()
                case "run.quarantined":
                    await self._check_quarantine(event)
                case "approval.requested":
                    self._asked.add(event.data["id"])
                    if len(self._asked) == self._approvals:
                        await self._settle_approvals(event.seq)

    async def _check_quarantine(self, event: Event) -> None:
        run = await self._runtime.find(self._run)
        if run.status is RunStatus.QUARANTINED:  # and was not released since
            raise PerdureError(
                f"{run.id} was parked: {event.data['error']['message']}. Look at it with: "
                f"perdure show {run.id} --store {self._shown}; to begin anew, first: "
                f"perdure cancel {run.id} --store {self._shown}"
            )

    def _progress(self, data: dict[str, Any]) -> None:
        if data["stage"] == "consent":
            self._approvals = data["of"]
        else:
            self._screen.progress(data["stage"], data["done"], data["of"])

    def _recovered(self) -> None:
        assert self._worker is not None
        seconds = time.monotonic() - self._worker_since
        self._screen.say(
            f"[green]worker {self._worker.pid}[/] took over after {seconds:.1f} s: "
            f"{self._completed:,} steps replayed, none run again"
        )

    # The person.

    async def _settle_approvals(self, seq: int) -> None:
        asks = await self._runtime.inbox(run=self._run)
        if not asks:
            return
        await self._working.wait()  # of a run that was left while it asked, the journal is read before that
        payments = [_payment.validate_json(encode(decode(ask.detail)["args"]["payment"])) for ask in asks]
        self._screen.title(f"A person's consent is needed for {counted(len(asks), 'payment')}")
        self._screen.payments(payments)
        if self._yes or not self._screen.interactive:
            who = "perdure demo --yes" if self._yes else "perdure demo, without a terminal"
            self._screen.say(f"[yellow]{who}[/]: nobody is asked, all are approved")
            await pause(1.5)
            await self._decide(asks, set(range(1, len(asks) + 1)), who)
            return
        self._screen.say("[dim]The agent waits. It would wait for days, through restarts, at no cost.[/]")
        chosen = await self._ask_person(asks, seq)
        if chosen is not None:
            await self._decide(asks, chosen, _user())

    async def _ask_person(self, asks: Sequence[Ask], seq: int) -> set[int] | None:
        """What the person at the terminal chose; None when others decided everything meanwhile. Raises Left."""
        choosing = asyncio.create_task(self._screen.choose(len(asks)))
        elsewhere = asyncio.create_task(self._decided_elsewhere({ask.id for ask in asks}, seq))
        try:
            await asyncio.wait({choosing, elsewhere}, return_when=asyncio.FIRST_COMPLETED)
            if not choosing.done():
                self._screen.say("decided from elsewhere")
                return None
            chosen = choosing.result()
            if chosen is None:
                raise Left
            return chosen
        finally:
            await _cancel(choosing, elsewhere)

    async def _decided_elsewhere(self, open: set[str], seq: int) -> None:
        async for event in self._runtime.events(self._run, after=seq):
            if event.type in _DECIDED:
                open.discard(event.data["id"])
            if not open:
                return

    async def _decide(self, asks: Sequence[Ask], chosen: set[int], who: str) -> None:
        for number, ask in enumerate(asks, start=1):
            with contextlib.suppress(AlreadySettled):  # somebody was faster, through `perdure approve`
                if number in chosen:
                    await self._runtime.approve(ask.id, by=who)
                else:
                    await self._runtime.reject(ask.id, by=who)
        if len(chosen) < len(asks):
            self._screen.say(f"approved {len(chosen)}, rejected {len(asks) - len(chosen)}")


_MOMENTS = {
    "matching": "while it matches batches",
    "paying": "after a transfer was sent, before the journal knows of it",
}


def _cues(journal: Sequence[Event], batches: int | None) -> Iterator[Cue]:
    """Where there is still a middle to be killed in, counted from what is done already."""
    progress = {event.data["stage"]: event.data for event in journal if event.type == "progress"}
    matched = progress.get("matching", {"done": 0, "of": batches or BATCHES_USUAL})
    half = matched["of"] // 2 - matched["done"]
    if half > 0:
        yield Cue("matching", half)
    to_pay = PAYMENT_OF_KILL - progress.get("paying", {"done": 0})["done"]
    if to_pay > 0:
        yield Cue("paying", to_pay)


def _in_flight(journal: Sequence[Event]) -> int:
    started = {event.step for event in journal if event.type == "step.started"}
    return len(started - {event.step for event in journal if event.type in _SETTLED})


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account without a name
        return "the person at the terminal"


async def _together(*parts: Coroutine[Any, Any, None]) -> None:
    """Both to their end; when one fails the other is cancelled, cleans up, and the failure goes on."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        await asyncio.gather(*tasks)
    finally:
        await _cancel(*tasks)


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        if not task.cancelling():  # a second time would break off its clean-up
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
