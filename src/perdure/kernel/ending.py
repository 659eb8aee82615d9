"""How does a run end? With one last event, and in the same commit all that must not outlive it.

Open questions are withdrawn, attached children cancelled, the parent is told, and mail that nobody read goes to
whoever follows: the continuation, or the session's next run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from perdure.journal.commands import OpenAsk, Spawn
from perdure.journal.ending import Outcome
from perdure.kernel.requests import withdraw_ask
from perdure.kernel.step import describe
from perdure.values.events import event_data
from perdure.values.ids import ask_id, continued_run_id
from perdure.values.json import decode, encode
from perdure.values.runs import RunStatus

if TYPE_CHECKING:
    from perdure.kernel.activation import Activation

END_STATUS = {
    "run.succeeded": RunStatus.SUCCEEDED,
    "run.failed": RunStatus.FAILED,
    "run.cancelled": RunStatus.CANCELLED,
    "run.continued": RunStatus.SUCCEEDED,
}


def end_run(activation: Activation, outcome: Outcome) -> None:
    """The agent's function has ended."""
    if outcome.value is not None:
        finish_run(activation, "run.succeeded", f'{{"result":{outcome.value}}}')
    elif outcome.continue_as is not None:
        _continue_as(activation, outcome.continue_as)
    elif outcome.cancelled:
        finish_run(activation, "run.cancelled", activation.cancelling or "{}")
    else:
        error = outcome.error or RuntimeError("the agent ended without a result")
        finish_run(activation, "run.failed", event_data(error=describe(error)))


def finish_run(activation: Activation, type: str, raw: str) -> None:
    """Write the last event, and everything that goes with it."""
    activation.over = True
    activation.steps.end_all()
    _withdraw_asks(activation)
    for child in _attached_children(activation):
        reason = encode({"by": activation.run.id, "reason": "its parent ended"})
        _signal(activation, {"run": child}, "cancel", reason)
    run = activation.run
    if type != "run.continued":
        if run.session is not None:
            _forward_mail(activation, {"agent": run.agent, "session": run.session})
        if run.parent is not None and run.parent_step is not None:
            _tell_parent(activation, run.parent, END_STATUS[type], raw)
    activation.writer.append(type, None, None, raw)
    activation.writer.write_now()


def _continue_as(activation: Activation, input_json: str) -> None:
    run, kernel = activation.run, activation.kernel
    agent = kernel.agents.get(run.agent, run.version)
    assert agent is not None
    new = kernel.new_run(
        agent, input_json, id=continued_run_id(run.id), session=run.session, parent=run.parent,
        parent_step=run.parent_step, priority=run.priority, concurrency_key=run.concurrency_key, near=run.shard,
    )  # fmt: skip
    activation.writer.draft.create.append(new)
    _forward_mail(activation, {"run": new.run.id})
    finish_run(activation, "run.continued", event_data(run=new.run.id))


def _withdraw_asks(activation: Activation) -> None:
    for step, (id, type) in activation.history.asks.items():
        withdraw_ask(activation, id, step, approval=type == "approval.requested")
    for command in list(activation.brain.pending.values()):
        if isinstance(command, OpenAsk):
            id = ask_id(activation.run.id, command.step)
            withdraw_ask(activation, id, command.step, approval=command.kind == "approval")


def _attached_children(activation: Activation) -> Iterator[str]:
    for run, detach in activation.history.children.values():
        if not detach:
            yield run
    for command in activation.brain.pending.values():
        if isinstance(command, Spawn) and not command.detach:
            yield command.run


def _forward_mail(activation: Activation, target: dict[str, str]) -> None:
    for message in _unread(activation):
        _signal(activation, target, "message", encode(message))


def _unread(activation: Activation) -> Iterator[dict[str, Any]]:
    for topic, value in activation.brain.unread_messages():
        yield {"topic": topic, "value": value, "sender": activation.run.id}
    for event in activation.withheld:
        if event.type == "message.received":
            yield event.data
    for entry in activation.writer.unwritten():
        if entry.type == "message.received":
            yield decode(entry.raw)


def _tell_parent(activation: Activation, parent: str, status: RunStatus, raw: str) -> None:
    said = f",{raw[1:]}" if raw != "{}" else "}"
    step = activation.run.parent_step
    data = f'{{"run":{encode(activation.run.id)},"step":{step},"status":"{status.value}"{said}'
    _signal(activation, {"run": parent}, "child", data)


def _signal(activation: Activation, target: dict[str, str], kind: str, data: str) -> None:
    activation.writer.draft.signals.append(activation.kernel.signal_to(target, kind, data))
