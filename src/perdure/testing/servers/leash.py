"""How does a server end when the test that started it is gone, however it went? It is kept on a leash.

`python leash.py SIGNAL USER GROUP DIRECTORY COMMAND...` runs the command as that account ("" for one's own), prints its
process id, and ends when it and all that it started have ended. Its standard input is the leash: once the other end is
closed, be it by SIGKILL, the command gets SIGNAL, SIGKILL if that does not help, and DIRECTORY (unless "") is removed.

PR_SET_PDEATHSIG from the test's own process would not do: the kernel sends it when the *thread* that started the server
ends, and running code between fork and exec is not safe beside other threads. Here is one thread only, so it guards the
rest of the way: should the leash itself be killed, the command gets SIGNAL all the same.

Runs as a script without site-packages, hence imports nothing of ours: it starts in a few hundredths of a second.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import sys
from contextlib import suppress
from typing import NoReturn

END_SECONDS_MAX = 10.0

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Run the command of the arguments until it or the leash ends."""
    name, user, group, directory, *command = sys.argv[1:]
    ending = signal.Signals[name]
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # orphans of the command become our children, so we can wait for them
    ends = _ends_of_children()
    holder = os.getpid()
    child = os.fork()
    if child == 0:
        _become(command, user, group, ending, holder)
    os.write(1, b"%d\n" % child)
    os.close(1)
    if not _await_end(child, ends):
        _end(child, ending)
        if directory:
            shutil.rmtree(directory, ignore_errors=True)
    with suppress(ChildProcessError):
        while True:
            os.wait()


def _await_end(child: int, ends: int) -> bool:
    """True once the child has ended; False if the other end of the leash was let go before."""
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        ready, _, _ = select.select([0, ends], [], [])
        if 0 in ready:
            return False
        os.read(ends, 4096)
    return True


def _end(child: int, ending: signal.Signals) -> None:
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, END_SECONDS_MAX)
    os.kill(child, ending)
    os.waitpid(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)


def _ends_of_children() -> int:
    """A file descriptor that becomes readable when a child ends: what `select` can wait for beside the leash."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return reading


def _become(command: list[str], user: str, group: str, ending: signal.Signals, holder: int) -> NoReturn:
    """Turn this forked process into the command."""
    try:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and what is ignored outlives exec
        if user:
            os.setgroups([])
            os.setgid(int(group))
            os.setuid(int(user))
        _prctl(_PR_SET_PDEATHSIG, ending)  # after setuid, which would clear it
        if os.getppid() == holder:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(2, 1)
            os.execv(command[0], command)  # noqa: S606 - a server, without a shell between
    except OSError as error:
        os.write(2, f"{command[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main()
