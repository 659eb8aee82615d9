"""What was a client told? Its own record, and whether the store still agrees with it.

A line is noted before each request and another, its name ending in `!`, when it was acknowledged. So whatever is
acknowledged in the record must be found in the store, whoever was killed in between.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from perdure.testing.invariants import Evidence, received_twice
from perdure.values.json import decode, encode


class History:
    """A client's record, in memory, or in a file of JSON lines that others may read."""

    def __init__(self, path: str | None = None) -> None:
        self.lines: list[dict[str, Any]] = []
        self.acks = 0
        self._file = None if path is None else os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)

    def note(self, what: str, **fields: Any) -> None:
        """One line."""
        self.acks += what.endswith("!")
        line = {"what": what, **fields}
        if self._file is None:
            self.lines.append(line)
        else:
            os.write(self._file, encode(line).encode() + b"\n")


def check_history(evidence: Evidence, lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Everything that was acknowledged to the client is in the store, as it was acknowledged (I1, I10)."""
    keys = Counter(run.idempotency_key for run in evidence.runs.values())
    letters = _letters(evidence)
    decided = {ask.id for ask in evidence.asks if ask.status in {"answered", "approved", "rejected"}}
    for line in lines:
        match line:
            case {"what": "start", "key": key} if keys[key] > 1:
                yield f"{key}: started {keys[key]} runs"
            case {"what": "start!", "key": key, "run": run}:
                if run not in evidence.runs or evidence.runs[run].idempotency_key != key:
                    yield f"{run}: was started with {key}, and is gone"
            case {"what": "saw!", "run": run, "seq": seq, "raw": raw, "type": type}:
                journal = evidence.journals.get(run, [])
                if seq > len(journal) or (journal[seq - 1].type, journal[seq - 1].raw) != (type, raw):
                    yield f"{run}: event {seq} ({type}) was shown to a client, and is gone or changed"
            case {"what": "answer!", "ask": ask} if ask not in decided:
                yield f"{ask}: was decided, and the store does not know it"
            case {"what": "send", "letter": letter} if repeated := received_twice(evidence, letters[letter]):
                yield f"{repeated} letter {letter} of the client"
            case {"what": "send!", "letter": letter, "run": run} if not letters[letter]:
                if run is None or not evidence.runs[run].status.terminal:
                    yield f"letter {letter} of the client, to {run or 'a session'}, is lost"


def _letters(evidence: Evidence) -> defaultdict[int, list[str]]:
    """Where each of the client's letters got to; not counting what runs hand on to each other."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    for run in evidence.journals:
        for event in evidence.own_events(run):
            if event.type == "message.received" and event.data["topic"] == "unasked" and not event.data.get("sender"):
                found[event.data["value"]].append(run)
    for signal in evidence.signals:
        if signal.kind == "message":
            data = decode(signal.data)
            if data["topic"] == "unasked" and not data.get("sender"):
                found[data["value"]].append("")
    return found
