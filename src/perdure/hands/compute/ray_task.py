"""The Ray task: runs bodies one after another in a Ray worker, and yields what they say while they run.

A worker imports this module by its name, so every machine of the cluster needs Perdure, and the tools' files.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from queue import Empty, SimpleQueue
from threading import Thread

from perdure.hands.compute.body import run_body
from perdure.hands.compute.contract import Message, Work
from perdure.values.json import encode


def serve(path: Sequence[str], works: Sequence[str]) -> Iterator[str]:
    """Run each body; yields JSON arrays of messages, whatever came up since the last one."""
    sys.path.extend(entry for entry in path if entry not in sys.path)
    outbox: SimpleQueue[Message | None] = SimpleQueue()
    # Beside the generator, which Ray resumes for a message that was yielded: a body must not wait for that.
    Thread(target=_run_all, args=(works, outbox), daemon=True).start()
    while True:
        messages = _taken(outbox)
        yield encode([message for message in messages if message is not None])
        if messages[-1] is None:
            return


def _run_all(works: Sequence[str], outbox: SimpleQueue[Message | None]) -> None:
    try:
        for work in works:
            run_body(Work.from_json(work), outbox.put)
    finally:
        outbox.put(None)


def _taken(outbox: SimpleQueue[Message | None]) -> list[Message | None]:
    messages = [outbox.get()]
    try:
        while True:
            messages.append(outbox.get_nowait())
    except Empty:
        return messages
