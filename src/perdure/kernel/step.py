"""One attempt of one step: run the tool, watch its time, settle what came of it.

                 +-- result ---------------------------------> completed
    launch --> task -- exception --> retries left? -- yes ---> failed, retry_at
                 |                        +---------- no ----> failed
                 +-- timeout, lost heartbeat: as an exception for repeatable effects;
                 |                            for `once`, nobody knows: unknown
                 +-- withdrawn (the agent stopped waiting) --> cancelled
                 +-- shutdown ------------------------------->  nothing is written: it counts as a crash in flight

The tool runs on the host's loop (or in a thread), never inside the run's own loop.
"""

from __future__ import annotations

import asyncio
import traceback
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perdure.agents.attempt import Attempt, NotBegun, ReportKind
from perdure.errors import AgentError, CutOff, InvalidInput, NoRetry, StepTimeout
from perdure.values.clock import Alarm
from perdure.values.json import encode

if TYPE_CHECKING:
    from perdure.journal.commands import Call
    from perdure.kernel.kernel import Kernel
    from perdure.kernel.steps import Steps
    from perdure.values.runs import Run

_STREAM_BYTES_MOST = 4096
_HEARTBEAT_SECONDS_LEAST = 1.0

#: Where our own code lies, but not the demo's agents: they are users of it.
_OURS = tuple(f"{Path(__file__).parents[1] / name}/" for name in ("agents", "hands", "journal", "kernel"))


class Stop(Enum):
    """Why an attempt was told to stop."""

    TIMEOUT = "took longer than its timeout"
    HEARTBEAT = "sent no heartbeat in time"
    WITHDRAWN = "is no longer waited for"
    SHUTDOWN = "was cut off by a shutdown"


class StepAttempt:
    """An attempt. `steps` hears of its end exactly once."""

    def __init__(
        self, steps: Steps, kernel: Kernel, run: Run, call: Call, number: int, last_heartbeat: Any = None
    ) -> None:
        self.call = call
        self.number = number
        self.statements: list[tuple[str, Any]] = []
        self.streamed: dict[str, list[Any]] = {}
        self.stop_reason: Stop | None = None
        self.task: asyncio.Task[None] | None = None
        #: True once the tool may have acted
        self.launched = False
        #: it has a result, which is on its way into the journal
        self.committing = False
        self._steps = steps
        self._kernel = kernel
        self._loop = asyncio.get_running_loop()
        self._alarms: list[Alarm] = []
        self._beat_alarm: Alarm | None = None
        self._streamed_bytes = 0
        #: details of the last heartbeat, here or of an earlier attempt
        self.heartbeat = last_heartbeat
        self._last_beat = -_HEARTBEAT_SECONDS_LEAST
        self._seen = Attempt(
            run.id, run.session, call.step, number, f"{run.id}:{call.step}", self._report, last_heartbeat,
            may_begin=lambda: kernel.membership.term.runs,
        )  # fmt: skip

    def launch(self) -> None:
        """Start the tool."""
        self.task = self._loop.create_task(self._execute())
        self.task.add_done_callback(self._ended)

    def stop(self, reason: Stop) -> None:
        """Cancel the tool; it may clean up."""
        if self.stop_reason is None and self.task is not None and not self.task.done():
            self.stop_reason = reason
            self.task.cancel(reason.value)

    async def _execute(self) -> None:
        try:
            result = await self._act()
        except asyncio.CancelledError as error:
            self._settle_stopped(error)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a tool raises is its step's outcome
            self._settle_failure(error)
        else:
            self._silence()
            self.statements = self._seen.statements
            # A result that arrives although the attempt was stopped is still what happened.
            self._steps.completed(self, result)

    async def _act(self) -> str:
        """Have the hands do it while this node may act; when that was over before they could begin, once it may again."""
        while True:
            await self._kernel.membership.term.assured()
            # Not a moment passes between that and the tool: whatever this process slept through, nobody took over before.
            self._watch_time()
            self.launched = True
            try:
                return await self._kernel.hands.execute(self.call, self._seen)
            except NotBegun:  # it stood in a queue meanwhile
                self._silence()
                self.launched = False

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # before its first turn: nothing of the tool has run
            self._settle_stopped(asyncio.CancelledError())
        elif isinstance(fault := task.exception(), Exception):  # ours: whatever a tool raises was settled
            self._kernel.fail(fault)

    def _settle_stopped(self, error: BaseException) -> None:
        self._silence()
        name = self.call.name
        match self.stop_reason:
            case Stop.SHUTDOWN:
                self._steps.abandoned(self)
            case Stop.WITHDRAWN:
                self._steps.cancelled(self)
            case Stop.TIMEOUT | Stop.HEARTBEAT as reason:
                if self.call.target.options.effect.repeatable:
                    timeout = StepTimeout(f"{name} {reason.value}", type="StepTimeout", step=self.call.step)
                    self._steps.failed(self, describe(timeout), retry=True)
                else:
                    self._steps.cut_off(self, reason.value)
            case None:
                self._settle_failure(RuntimeError(f"{name} cancelled itself ({error})"))

    def _settle_failure(self, error: BaseException) -> None:
        self._silence()
        options = self.call.target.options
        if isinstance(error, CutOff) and not options.effect.repeatable:
            self._steps.cut_off(self, str(error))
            return
        never = isinstance(error, NoRetry | InvalidInput | AgentError) or type(error).__name__ in options.retries.never
        self._steps.failed(self, describe(error), retry=not never)

    def _watch_time(self) -> None:
        options = self.call.target.options
        if options.timeout is not None:
            self._alarms.append(self._kernel.clock.call_later(options.timeout, lambda: self.stop(Stop.TIMEOUT)))
        if options.heartbeat_timeout is not None:
            self._expect_heartbeat(options.heartbeat_timeout)

    def _silence(self) -> None:
        for alarm in self._alarms:
            alarm.cancel()
        self._alarms.clear()
        if self._beat_alarm is not None:
            self._beat_alarm.cancel()

    def _expect_heartbeat(self, seconds: float) -> None:
        if self._beat_alarm is not None:
            self._beat_alarm.cancel()
        self._beat_alarm = self._kernel.clock.call_later(seconds, lambda: self.stop(Stop.HEARTBEAT))

    # What the tool reports while it runs, from whichever thread.

    def _report(self, kind: ReportKind, name: str, data: Any) -> None:
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self._take_report(kind, name, data)
        else:
            self._loop.call_soon_threadsafe(self._take_report, kind, name, data)

    def _take_report(self, kind: ReportKind, name: str, data: Any) -> None:
        if self.task is None or self.task.done() or self.stop_reason is not None:
            return
        match kind:
            case "heartbeat":
                self._take_heartbeat(data)
            case "stream":
                self._take_piece(name, data)
            case "emit":
                self._steps.report(self, name, encode(data if data is not None else {}))

    def _take_heartbeat(self, details: Any) -> None:
        if (seconds := self.call.target.options.heartbeat_timeout) is not None:
            self._expect_heartbeat(seconds)
        self.heartbeat = details
        now = self._kernel.clock.monotonic()
        if now - self._last_beat >= _HEARTBEAT_SECONDS_LEAST:
            self._last_beat = now
            raw = encode({"step": self.call.step, "details": details})
            self._steps.report(self, "step.heartbeat", raw)

    def _take_piece(self, name: str, piece: Any) -> None:
        self.streamed.setdefault(name, []).append(piece)
        self._streamed_bytes += len(piece) if isinstance(piece, str) else 64
        self._steps.streaming(self, pressing=self._streamed_bytes >= _STREAM_BYTES_MOST)

    def take_deltas(self) -> list[str]:
        """The data of one `stream.delta` per stream with unwritten pieces, coalesced."""
        deltas = []
        for name, pieces in self.streamed.items():
            if pieces:
                text = all(isinstance(piece, str) for piece in pieces)
                content = {"text": "".join(pieces)} if text else {"items": list(pieces)}
                deltas.append(encode({"step": self.call.step, "name": name, **content}))
                pieces.clear()
        self._streamed_bytes = 0
        return deltas


def describe(error: BaseException) -> dict[str, Any]:
    """An error as data: type, message, and the file:line that raised it, in the user's own code where it went through."""
    if isinstance(told := getattr(error, "described", None), dict):  # in the process that raised it
        return told
    named = getattr(error, "type", None)
    described: dict[str, Any] = {
        "type": _sayable(named) if isinstance(named, str) else type(error).__name__,
        "message": _message(error),
    }
    if notes := [_sayable(note) for note in getattr(error, "__notes__", ()) if isinstance(note, str)]:
        described["notes"] = notes
    frames = traceback.extract_tb(error.__traceback__)
    if frames:
        theirs = [frame for frame in frames if not frame.filename.startswith(_OURS)]
        place = (theirs or frames)[-1]
        described["at"] = _sayable(f"{Path(place.filename).name}:{place.lineno}")
    if isinstance(error, BaseExceptionGroup):
        described["errors"] = [describe(inner) for inner in error.exceptions]
    return described


def _message(error: BaseException) -> str:
    try:
        return _sayable(str(error) or repr(error))
    except Exception as broken:  # noqa: BLE001 - an error that cannot even be printed is still that step's outcome
        return f"(its message cannot be read: {type(broken).__name__})"


def _sayable(text: str) -> str:
    """`text` without what no JSON can hold: halves of characters."""
    return text.encode("utf-8", "replace").decode()
