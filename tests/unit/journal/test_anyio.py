"""Libraries built on anyio run inside a run as they do elsewhere.

With one reservation: anyio keeps the cancel scopes of a group's tasks in a set, by address. So it cancels the tasks
of a group in another order in every process, and only one of them may clean up with steps.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from perdure import Context, agent
from perdure.errors import StepError
from tests.unit.journal.driver import Drive, Plan
from tests.unit.journal.replaying import check_every_prefix
from tests.unit.journal.scenarios import broken, undo, work


@agent
async def grouping(ctx: Context) -> list[Any]:
    """Task groups, cancel scopes, shields, deadlines, streams and limits."""
    seen: list[Any] = []
    send, receive = anyio.create_memory_object_stream[Any](1)

    async def produce(items: str, sender: Any) -> None:
        async with sender:
            for item in items:
                await sender.send(await work(item))

    async with anyio.create_task_group() as group:
        group.start_soon(produce, "ab", send.clone())
        group.start_soon(produce, "cd", send.clone())
        async with receive:
            send.close()
            async for item in receive:
                seen.append(item)  # noqa: PERF401 - others append, too

    async def tidy(item: str) -> None:
        try:
            await work(item)
        finally:
            with anyio.CancelScope(shield=True):
                seen.append(await undo(item))

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(tidy, "x")
            group.start_soon(work, "y")
            await broken("no")
    except* StepError as errors:
        seen += [str(error) for error in errors.exceptions]

    with anyio.move_on_after(5) as scope:
        await anyio.sleep(60)
    seen.append(scope.cancelled_caught)
    try:
        with anyio.fail_after(5):
            await anyio.Event().wait()
    except TimeoutError:
        seen.append("late")
    async with anyio.CapacityLimiter(1), anyio.Lock(), anyio.Semaphore(1):
        seen.append(await work("last"))
    return seen


@pytest.mark.parametrize("seed", [None, *range(8)])
def test_anyio_works_and_replays(seed):
    """Values as elsewhere; every prefix of the journal gives the run back."""
    drive = Drive(grouping).start().play(seed)
    assert sorted(map(str, drive.value)) == sorted(["A", "B", "C", "D", "undone x", "no", "True", "late", "LAST"])
    assert drive.value[-3:] == [True, "late", "LAST"]
    check_every_prefix(drive, withdrawals_in_order=False)


def test_a_cancelled_run_unwinds_through_anyio():
    """Shielded clean-up steps run to their end."""
    for moment in range(2, 12):
        drive = Drive(grouping).start().play(moment, Plan(cancel_after=moment))
        assert drive.over
        check_every_prefix(drive, withdrawals_in_order=False)
