"""One process of the local pool, as the node sees it: started, given bodies one after another, and buried.

Started with `spawn` semantics (a fresh interpreter): a fork would copy the node's threads' locks and its audit hook.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

from perdure.errors import OutOfMemory, WorkerLost
from perdure.hands.compute.contract import Message, Work
from perdure.hands.compute.ending import ending_of
from perdure.hands.compute.place import import_path
from perdure.values.json import decode

#: Seconds that a killed process may take to be gone before nobody waits for it any longer.
_BURIED_SECONDS = 5.0


class Process:
    """A process that runs bodies.

    Make it on a thread that lives as long as the node does, such as its loop's: on Linux it dies with that thread.
    """

    def __init__(self) -> None:
        path = f"import sys; sys.path[:] = {import_path()!r}"
        start = f"from perdure.hands.compute.child import main; main({os.getpid()})"
        # A session of its own keeps Ctrl-C at the terminal from it: the node lets steps under way finish.
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, with our own program
            [sys.executable, "-c", f"{path}; {start}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._in_use = threading.Lock()
        #: it has begun a body
        self.used = False

    def run(self, work: Work, take_report: Callable[[Message], None]) -> str:
        """Run a body and wait for its end; `take_report` is called in this thread. Raises as `Engine.run` does.

        After anything but a result or a `Raised`, the process is of no more use.
        """
        ooms, begun = _system_ooms(), False
        with self._in_use:
            for message in self._messages(work):
                match message:
                    case ["begun"]:
                        begun = self.used = True
                    case ["report", *report]:
                        take_report(report)
                    case ending:
                        return ending_of(work, ending)
            self.kill()
            how = _how_it_ended(self._process.wait())
        if not begun:
            raise WorkerLost(f"the process of {work.title} {how} before the body began", in_doubt=False)
        if how == _KILLED and _system_ooms() > ooms:
            raise OutOfMemory(f"{work.title} was killed while this machine was out of memory", in_doubt=True)
        raise WorkerLost(f"the process of {work.title} {how}", in_doubt=True)

    def kill(self) -> None:
        """End it at once, with whatever its body started. Does not wait."""
        if self._process.returncode is None:  # nobody has collected it, so the number is still its own
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if hasattr(os, "killpg"):
                    os.killpg(self._process.pid, signal.SIGKILL)
                else:  # Windows
                    self._process.kill()

    def bury(self) -> None:
        """After `kill`: wait until it is gone (as long as freeing its memory takes) and close its pipes. Once is enough."""
        if self._in_use.acquire(timeout=_BURIED_SECONDS):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_BURIED_SECONDS)
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):  # unsent input, and nobody there to take it
                    pipe.close()  # type: ignore[union-attr]
            self._in_use.release()

    def _messages(self, work: Work) -> Iterator[Message]:
        """What it says until its output ends."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # then the output ends as well
            self._process.stdin.write(work.as_json().encode() + b"\n")
            self._process.stdin.flush()
        for line in self._process.stdout:
            if line.endswith(b"\n"):  # it was not cut off in the middle
                yield decode(line)


_KILLED = "was killed by SIGKILL"


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _system_ooms() -> int:
    """How many processes the system has killed for lack of memory since it started; 0 where it does not say."""
    try:
        with open("/proc/vmstat", encoding="ascii") as counters:  # noqa: PTH123 - a Path costs as much as the reading
            return next(int(line.split()[1]) for line in counters if line.startswith("oom_kill "))
    except (OSError, StopIteration):
        return 0
