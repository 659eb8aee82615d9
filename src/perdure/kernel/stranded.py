"""What becomes of a run that cannot be brought to life here? Its row says why, and a person can still end it."""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from perdure.errors import Fenced, Refused
from perdure.journal.brain import Brain
from perdure.kernel.activation import Activation
from perdure.kernel.ending import finish_run
from perdure.kernel.step import describe
from perdure.kernel.waiting import describe_missing, describe_quarantine
from perdure.store.contract import Fence, RunUpdate, Signal, Transaction
from perdure.values.events import Event
from perdure.values.json import encode
from perdure.values.runs import Run, RunStatus

if TYPE_CHECKING:
    from perdure.kernel.kernel import Kernel


async def leave_without_code(kernel: Kernel, run: Run) -> None:
    """A run of ours has a version that this node does not have: its row says so.

    To be cancelled, one that never began ends. One that has begun waits for its code: without it nothing is undone.
    """
    fence = kernel.fence(run.shard)
    if fence is None:
        return
    kernel.membership.parts.needs.lacks(run.shard, run.version)
    await _explain(kernel, run, fence, cancelling=False)
    # Last, so that it finds what came meanwhile: nobody tells a run that is being loaded.
    with kernel.taken.reading():
        there = kernel.taken.still_there(await kernel.reads.run_signals(run.id))
        mail = [signal for signal in there if signal.run == run.id]
        if any(signal.kind == "cancel" for signal in mail):
            if run.status is RunStatus.QUEUED:
                await _cancel_unbegun(kernel, run, fence, mail)
            else:
                await _explain(kernel, run, fence, cancelling=True)


async def _explain(kernel: Kernel, run: Run, fence: Fence, *, cancelling: bool) -> None:
    told = run.wait or {}
    if told.get("kind") == "worker" and (told.get("cancelling") or not cancelling):
        return
    wait = describe_missing(run, kernel.agents.versions(run.agent), cancelling=cancelling)
    update = RunUpdate(run.status, kernel.clock.now_us(), wait.reason, wait.detail, run.wake_at)
    with contextlib.suppress(Fenced):
        await kernel.commits.commit(Transaction(fence=fence, updates={run.id: update}))


async def park_unloadable(kernel: Kernel, id: str, error: Exception) -> None:
    """A run's journal cannot be brought to life: quarantine it, rather than fail again and again."""
    run = await kernel.reads.run(id)
    fence = kernel.fence(run.shard) if run is not None else None
    if run is None or fence is None or run.status.terminal or run.status is RunStatus.QUARANTINED:
        return
    data = {"reason": type(error).__name__, "error": describe(error)}
    wait = describe_quarantine(id, data)
    event = Event(id, run.seq + 1, "run.quarantined", kernel.clock.now_us(), None, None, encode(data))
    update = RunUpdate(RunStatus.QUARANTINED, event.time_us, wait.reason, wait.detail)
    with contextlib.suppress(Refused, Fenced, ValueError):
        await kernel.commits.commit(Transaction(fence=fence, events=[event], updates={id: update}))
        kernel.followers.published(id, [event])


async def _cancel_unbegun(kernel: Kernel, run: Run, fence: Fence, mail: Sequence[Signal]) -> None:
    activation = Activation(kernel, run, fence, Brain(run.id, _absent))
    activation.load(await kernel.reads.events(run.id), rests=True)
    activation.writer.draft.consume += [signal.id for signal in mail]
    finish_run(activation, "run.cancelled", next(signal.data for signal in mail if signal.kind == "cancel"))
    await kernel.commits.drain()


def _absent(brain: Brain) -> Coroutine[Any, Any, str]:
    raise AssertionError("a run that rests does not run its code")
