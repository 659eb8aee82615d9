"""What does a run's code ask of the world? Turns each new command into entries of the journal, and begins effects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from perdure.journal.commands import Call, Command, Emit, Fail, OpenAsk, Patch, Receive, Send, Spawn, Timer, Withdraw
from perdure.kernel.step import describe
from perdure.store.contract import Ask, AskClose
from perdure.values.clock import iso
from perdure.values.events import event_data
from perdure.values.ids import ask_id
from perdure.values.json import encode

if TYPE_CHECKING:
    from perdure.kernel.activation import Activation


def carry_out(activation: Activation, command: Command) -> None:
    """Do what a command asks for that the journal does not hold yet."""
    _COMMANDS[type(command)](activation, command)


def withdraw_ask(activation: Activation, id: str, step: int, *, approval: bool) -> None:
    """Nobody needs to answer any more."""
    draft, now = activation.writer.draft, activation.kernel.clock.now_us()
    if any(ask.id == id for ask in draft.open_asks):
        # A store closes before it opens: what opens and closes in one commit is written as closed at once.
        draft.open_asks = [
            replace(ask, status="withdrawn", closed=now) if ask.id == id else ask for ask in draft.open_asks
        ]
    else:
        draft.close_asks.append(AskClose(id, "withdrawn", now, lenient=True))
    type = "approval.withdrawn" if approval else "ask.withdrawn"
    activation.writer.append(type, step, None, event_data(id=id, step=step))
    activation.writer.write_now()


def _call(activation: Activation, call: Call) -> None:
    activation.steps.begin(call)


def _timer(activation: Activation, timer: Timer) -> None:
    raw = event_data(step=timer.step, kind="sleep", name="sleep", due=iso(timer.due), at=timer.at or None)
    activation.writer.append("timer.started", timer.step, None, raw)
    activation.expect_due(timer.due, timer.step)
    activation.write_soon()


def _ask(activation: Activation, command: OpenAsk) -> None:
    run, detail = activation.run, command.detail
    id = ask_id(run.id, command.step)
    shown = {"question": command.title, "schema": detail["schema"]} if command.kind == "ask" else detail
    raw = event_data(
        step=command.step, kind=command.kind, name=command.name, id=id, to=command.to,
        deadline=None if command.deadline is None else iso(command.deadline), at=command.at or None, **shown,
    )  # fmt: skip
    activation.writer.draft.open_asks.append(
        Ask(
            id=id, run=run.id, agent=run.agent, session=run.session, shard=run.shard, step=command.step,
            kind=command.kind, title=command.title, detail=encode(detail), to=command.to,
            created=activation.kernel.clock.now_us(), deadline=command.deadline,
        )
    )  # fmt: skip
    type = "ask.opened" if command.kind == "ask" else "approval.requested"
    activation.writer.append(type, command.step, None, raw)
    if command.deadline is not None:
        activation.expect_due(command.deadline, command.step)
    activation.writer.write_now()


def _receive(activation: Activation, command: Receive) -> None:
    raw = event_data(step=command.step, kind="receive", name=command.name, at=command.at or None)
    activation.writer.append("message.awaited", command.step, None, raw)
    activation.write_soon()


def _send(activation: Activation, command: Send) -> None:
    name, sender = encode(command.name), encode(activation.run.id)
    raw = (
        f'{{"step":{command.step},"kind":"send","name":{name},"to":{encode(command.to)},'
        f'"at":{encode(command.at)},"value":{command.value_json}}}'
    )
    activation.writer.append("message.sent", command.step, None, raw)
    data = f'{{"topic":{name},"value":{command.value_json},"sender":{sender}}}'
    activation.writer.draft.signals.append(activation.kernel.signal_to(command.to, "message", data))
    activation.writer.write_now()


def _emit(activation: Activation, command: Emit) -> None:
    activation.writer.append(command.name, command.step, None, command.data_json)
    activation.write_soon()


def _spawn(activation: Activation, command: Spawn) -> None:
    run = activation.run
    new = activation.kernel.new_run(
        command.agent, command.input_json, id=command.run, session=command.session, parent=run.id,
        parent_step=command.step, priority=run.priority, near=run.shard,
    )  # fmt: skip
    activation.writer.draft.create.append(new)
    raw = (
        f'{{"step":{command.step},"kind":"child","name":{encode(command.name)},"run":{encode(command.run)},'
        f'"detach":{encode(command.detach)},"at":{encode(command.at)}}}'
    )
    activation.writer.append("child.spawned", command.step, None, raw)
    activation.writer.write_now()


def _patch(activation: Activation, command: Patch) -> None:
    activation.writer.append("run.patched", None, None, event_data(name=command.name))
    activation.write_soon()


def _fail(activation: Activation, command: Fail) -> None:
    activation.writer.append("run.failing", None, None, event_data(error=describe(command.error)))
    activation.writer.write_now()


def _withdraw(activation: Activation, withdrawal: Withdraw) -> None:
    match withdrawal.command:
        case Call() as call:
            activation.steps.withdraw(call)
        case Timer() as timer:
            activation.writer.withdraw("timer.started", timer.step)
        case OpenAsk() as ask:
            withdraw_ask(activation, ask_id(activation.run.id, ask.step), ask.step, approval=ask.kind == "approval")


_COMMANDS: dict[type[Command], Callable[[Activation, Any], None]] = {
    Call: _call,
    Timer: _timer,
    OpenAsk: _ask,
    Receive: _receive,
    Send: _send,
    Emit: _emit,
    Spawn: _spawn,
    Patch: _patch,
    Fail: _fail,
    Withdraw: _withdraw,
}
