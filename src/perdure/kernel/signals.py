"""What does each kind of signal do to a live run, and which did this node take? Functions here journal; none waits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from perdure.store.contract import Signal
from perdure.values.events import event_data
from perdure.values.json import decode

if TYPE_CHECKING:
    from perdure.kernel.activation import Activation

#: Kinds that are recorded at once, however full the node is and whatever the run waits for.
CONTROL = frozenset({"pause", "resume", "cancel", "release"})

#: Kinds that are for whoever continues a run; the others name a step of the run itself.
ONWARD = frozenset({"message", "pause", "resume", "cancel"})


class TakenSignals:
    """The signals that were consumed while somebody reads signals: the reader may hold some that are gone."""

    def __init__(self) -> None:
        self._last = 0
        #: numbers of those who read, oldest first
        self._readers: dict[int, None] = {}
        #: what was consumed -> who had begun to read last; in that order
        self._ids: dict[int, int] = {}

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Around a read and the routing of what it brings."""
        self._last += 1
        reader = self._last
        self._readers[reader] = None
        try:
            yield
        finally:
            del self._readers[reader]
            # On a busy node somebody reads at any moment: what was consumed before they all began is forgotten now.
            oldest = next(iter(self._readers), self._last + 1)
            while self._ids and (first := next(iter(self._ids.items())))[1] < oldest:
                del self._ids[first[0]]

    def add(self, ids: Iterable[int]) -> None:
        """These are consumed."""
        if self._readers:
            self._ids.update(dict.fromkeys(ids, self._last))

    def still_there(self, signals: Iterable[Signal]) -> list[Signal]:
        """What a reader brought, without what was consumed since it began to read."""
        return [signal for signal in signals if signal.id not in self._ids]


def apply_signal(activation: Activation, signal: Signal) -> None:
    """Turn a signal into events of the run it reached."""
    _KINDS[signal.kind](activation, decode(signal.data), signal.data)


def _message(activation: Activation, _: dict[str, Any], raw: str) -> None:
    activation.writer.append("message.received", None, None, raw)


def _answer(activation: Activation, data: dict[str, Any], raw: str) -> None:
    activation.writer.append("ask.answered", data["step"], None, raw)


def _decision(activation: Activation, data: dict[str, Any], raw: str) -> None:
    if data["approved"]:
        activation.steps.grants[data["id"]] = data["hash"]
    type = "approval.granted" if data["approved"] else "approval.rejected"
    activation.writer.append(type, data["step"], None, raw)


def _child(activation: Activation, data: dict[str, Any], raw: str) -> None:
    activation.writer.append("child.ended", data["step"], None, raw)


def _resolve(activation: Activation, data: dict[str, Any], _: str) -> None:
    refusal = activation.steps.resolve(data["step"], data["attempt"], data["outcome"], data["result"], data["by"])
    if refusal is not None:
        activation.writer.append("run.warning", None, None, event_data(message=refusal))


def _control(name: str) -> Callable[[Activation, dict[str, Any], str], None]:
    def control(activation: Activation, _: dict[str, Any], raw: str) -> None:
        getattr(activation, name)(raw)

    return control


_KINDS: dict[str, Callable[[Activation, dict[str, Any], str], None]] = {
    "message": _message,
    "answer": _answer,
    "decision": _decision,
    "child": _child,
    "resolve": _resolve,
    "pause": _control("pause"),
    "resume": _control("resume"),
    "cancel": _control("cancel"),
    "release": _control("release"),
}
