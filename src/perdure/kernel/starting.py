"""How runs come to be: keys that make starting safe to repeat, and what happens when a session is busy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perdure.agents.agent import AnyAgent
from perdure.errors import AlreadyExists, Fenced, IdempotencyMismatch, InvalidInput, SessionBusy
from perdure.store.contract import Transaction
from perdure.values.effects import Busy
from perdure.values.ids import new_run_id
from perdure.values.json import decode, encode
from perdure.values.runs import Run

if TYPE_CHECKING:
    from perdure.kernel.kernel import Kernel


@dataclass(frozen=True, slots=True)
class StartOptions:
    """How a run is to be started."""

    session: str | None = None
    idempotency_key: str | None = None
    #: None means the agent's own
    priority: int | None = None
    concurrency_key: str | None = None
    #: None means the agent's own policy
    busy: Busy | None = None


async def start_run(kernel: Kernel, agent: AnyAgent, input_json: str, options: StartOptions) -> Run:
    """Record a run of `agent`; it moves as soon as there is room. Durable when this returns.

    A session is busy with the run that has begun in it, or else with the one that goes next.
    Raises SessionBusy (policy reject), IdempotencyMismatch (the key was used with another input) and InvalidInput (a
    key where the input would become a message: nothing could tell that message from its repetition).
    """
    if options.idempotency_key is not None:
        earlier = await kernel.store.run_by_key(agent.name, options.idempotency_key)
        if earlier is not None:
            return await _same_input(kernel, earlier, input_json)
    busy = options.busy or agent.busy
    if options.session is not None and busy in (Busy.STEER, Busy.INTERRUPT):
        active = await _active(kernel, agent.name, options.session)
        key = options.idempotency_key
        if active is not None and key is not None and active.idempotency_key == key:
            return await _same_input(kernel, active, input_json)  # started with this key since the first question
        if active is not None and busy is Busy.STEER:
            if options.idempotency_key is not None:
                raise InvalidInput(
                    f"session {options.session!r} of {agent.name} has an active run, {active.id}, and an idempotency key "
                    f"does not keep a steering message from being sent twice; steer without a key, or start with "
                    f"busy='queue', 'interrupt' or 'reject'"
                )
            await steer(kernel, active, input_json)
            return active
        if active is not None:
            reason = encode({"by": "interrupt", "reason": "a newer run of the session interrupts it"})
            await put_signal(kernel, {"run": active.id}, "cancel", reason)
    return await _create(kernel, agent, input_json, options, must_be_free=busy is Busy.REJECT)


async def _active(kernel: Kernel, agent: str, session: str) -> Run | None:
    active = await kernel.store.session_active(agent, session) or await kernel.store.session_next(agent, session)
    # The one that was to go next may have begun between the two questions, and so be in neither answer.
    return active or await kernel.store.session_active(agent, session)


async def steer(kernel: Kernel, run: Run, input_json: str) -> None:
    """Hand a new input to a session's active run: a message on topic `steer`.

    It is addressed to the session: should the run end at this very moment, the next one has it.
    """
    assert run.session is not None
    target = {"agent": run.agent, "session": run.session}
    await put_signal(kernel, target, "message", f'{{"topic":"steer","value":{input_json}}}')


async def put_signal(kernel: Kernel, target: dict[str, str], kind: str, data: str) -> None:
    """Make a signal durable; whoever owns the run learns of it."""
    signal = kernel.signal_to(target, kind, data)
    await kernel.commits.commit(Transaction(signals=[signal]), then=lambda ids: kernel.mailroom.written([signal], ids))


async def _create(
    kernel: Kernel, agent: AnyAgent, input_json: str, options: StartOptions, *, must_be_free: bool
) -> Run:
    new = kernel.new_run(
        agent, input_json, id=new_run_id(kernel.clock.now_us()), session=options.session, priority=options.priority,
        concurrency_key=options.concurrency_key, key=options.idempotency_key,
        session_must_be_free=must_be_free and options.session is not None,
    )  # fmt: skip
    fence = kernel.fence(new.run.shard)
    try:
        await kernel.commits.commit(
            Transaction(fence=fence, create=[new]),
            then=lambda _: kernel.run_written(new.run, new.events),
            otherwise=lambda: kernel.not_written(new),
        )
    except Fenced:
        # The shard has another owner now: it runs what we only record.
        if fence is not None:
            kernel.ownership.refused(fence)
        return await _create(kernel, agent, input_json, options, must_be_free=must_be_free)
    except AlreadyExists:
        if options.idempotency_key is None:
            raise
        earlier = await kernel.store.run_by_key(agent.name, options.idempotency_key)
        if earlier is None:
            raise
        return await _same_input(kernel, earlier, input_json)
    except SessionBusy:
        raise SessionBusy(
            f"session {options.session!r} of {agent.name} has an active run; wait for it, or start with "
            f"busy='queue', 'interrupt' or 'steer'"
        ) from None
    return new.run


async def _same_input(kernel: Kernel, run: Run, input_json: str) -> Run:
    first = (await kernel.store.events(run.id, 0, 1))[0]
    if first.data["input"] != decode(input_json):
        raise IdempotencyMismatch(
            f"idempotency key {run.idempotency_key!r} was used by {run.id} with another input; "
            f"use a new key, or the same input"
        )
    return run
