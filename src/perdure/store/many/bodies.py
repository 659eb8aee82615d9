"""What does a parcel say? One run to create, or signals, as JSON text: data only, like everything that is kept."""

from __future__ import annotations

from dataclasses import asdict

from perdure.store.contract import NewRun, Signal, Transaction
from perdure.values.events import Event
from perdure.values.json import decode, encode
from perdure.values.runs import Run, RunStatus


def creation(new: NewRun) -> str:
    """The text of a parcel that creates a run."""
    events = [(event.seq, event.type, event.time_us, event.step, event.attempt, event.raw) for event in new.events]
    return encode({"run": asdict(new.run), "events": events, "free": new.session_must_be_free})


def delivery(signals: list[Signal]) -> str:
    """The text of a parcel that puts signals."""
    return encode({"signals": [asdict(signal) for signal in signals]})


def read_body(text: str) -> Transaction:
    """What a parcel's text says, as a transaction."""
    body = decode(text)
    if "run" not in body:
        return Transaction(signals=[Signal(**signal) for signal in body["signals"]])
    fields = body["run"]
    run = Run(**fields | {"status": RunStatus(fields["status"]), "forked_from": None})
    events = [Event(run.id, *event) for event in body["events"]]
    return Transaction(create=[NewRun(run, events, body["free"])])
