"""What is to be started when? Schedules, kept in the store; each slot starts one run at most, whoever tries.

A slot's run has the idempotency key `schedule:NAME:SLOT`, so that any number of servers may start it, now or after a crash.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from perdure.errors import IdempotencyMismatch, InvalidInput, NotFound, NotJsonError, PerdureError, SessionBusy
from perdure.runtime import Runtime
from perdure.store.contract import Document
from perdure.triggers.cron import Cron
from perdure.triggers.records import add_record, all_records, change_record, check_name, drop_record, record
from perdure.values.clock import iso, moment
from perdure.values.effects import Busy
from perdure.values.json import decode, encode_given

log = logging.getLogger("perdure.triggers")

KIND = "schedule"
#: Slots that one backfill may start.
BACKFILL_MOST = 1_000
#: Beyond this, somebody should decide what is still worth doing.
CATCH_UP_MOST_SECONDS = 31 * 86_400.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as it is kept. Moments are microseconds since the epoch."""

    name: str
    agent: str
    expression: str
    timezone: str
    #: None where this host cannot read it: `problem` says why
    cron: Cron | None
    problem: str | None
    input: Any
    session: str | None
    paused: bool
    #: the newest slot that was missed while no server was up is made up for when it is no older
    catch_up_seconds: float
    #: earlier slots are not its own: when it was made, or resumed
    since: int
    #: {slot, run} of the newest slot that was dealt with, or with `problem` instead of a run
    last: Mapping[str, Any] | None

    def next(self, now_us: int) -> int | None:
        """The slot that comes next; None while it is paused."""
        return None if self.paused or self.cron is None else self.cron.after(now_us)

    def as_json(self, now_us: int) -> dict[str, Any]:
        """The public form."""
        coming = self.next(now_us)
        return {
            "name": self.name, "agent": self.agent, "cron": self.expression, "timezone": self.timezone,
            "input": self.input, "session": self.session, "paused": self.paused,
            "catch_up_seconds": self.catch_up_seconds, "next": None if coming is None else iso(coming),
            "last": None if self.last is None else {**self.last, "slot": iso(self.last["slot"])},
            "problem": self.problem,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Backfill:
    """What came of a backfill."""

    #: of the slots that have one now, oldest first
    runs: list[str]
    #: {slot, problem} of the others
    problems: list[dict[str, str]]

    def as_json(self) -> dict[str, Any]:
        """The public form."""
        return {"runs": self.runs, "problems": self.problems}


class Schedules:
    """The schedules of a Runtime's store."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._store = runtime.store
        self._clock = runtime.kernel.clock

    async def add(
        self, name: str, agent: str, cron: Cron, input: Any = None, *, session: str | None = None,
        paused: bool = False, catch_up_seconds: float = 0.0,
    ) -> Schedule:  # fmt: skip
        """A new schedule. Raises InvalidInput; the input is checked where this Runtime has the agent."""
        now = self._clock.now_us()
        if not 0 <= catch_up_seconds <= CATCH_UP_MOST_SECONDS:
            raise InvalidInput(f"catch_up_seconds must be from 0 to {CATCH_UP_MOST_SECONDS:,.0f}")
        if session is not None and not session:
            raise InvalidInput("a session's key must not be empty")
        if cron.after(now) is None:
            raise InvalidInput(f"{cron.expression!r} names no moment of the next 50 years")
        if (known := self._runtime.agents.latest(agent)) is not None:
            known.signature.from_json(input)
        encode_given(input)
        data = {
            "agent": agent, "cron": cron.expression, "timezone": cron.timezone, "input": input, "session": session,
            "paused": paused, "catch_up_seconds": catch_up_seconds, "since": now, "last": None,
        }  # fmt: skip
        return _schedule(await add_record(self._store, KIND, check_name(KIND, name), data))

    async def list(self) -> list[Schedule]:
        """All schedules, by name."""
        return await all_records(self._store, KIND, _schedule)

    async def find(self, name: str) -> Schedule:
        """The schedule of this name. Raises NotFound."""
        return _schedule(await record(self._store, KIND, name))

    async def remove(self, name: str) -> None:
        """Forget a schedule; its runs go on. Raises NotFound."""
        await drop_record(self._store, KIND, name)

    async def pause(self, name: str) -> Schedule:
        """Start nothing until it is resumed. Raises NotFound."""
        return _schedule(await change_record(self._store, KIND, name, lambda data: {**data, "paused": True}))

    async def resume(self, name: str) -> Schedule:
        """Go on with the next slot; those that came meanwhile are not made up for. Raises NotFound."""
        now = self._clock.now_us()

        def resumed(data: dict[str, Any]) -> dict[str, Any] | None:
            return {**data, "paused": False, "since": now} if data["paused"] else None

        return _schedule(await change_record(self._store, KIND, name, resumed))

    async def trigger(self, name: str) -> str:
        """Start a run now, beside all slots; its id. Raises what starting raises, and NotFound."""
        return await self._start(await self.find(name), None)

    async def backfill(self, name: str, since_us: int, until_us: int) -> Backfill:
        """Start the run of every slot from `since_us` to `until_us`, both included, oldest first.

        A slot that has had its run keeps it, and one that cannot start stops no other. Raises NotFound, and InvalidInput for
        more than BACKFILL_MOST slots or ones that are yet to come: then nothing is started. After a StoreError the same
        backfill goes on where this one ended.
        """
        schedule = await self.find(name)
        if schedule.cron is None:
            raise InvalidInput(f"{name!r}: {schedule.problem}")
        if until_us > self._clock.now_us():
            raise InvalidInput("a backfill ends in the past: what is yet to come starts by itself")
        slots = list(islice(schedule.cron.between(since_us - 1, until_us), BACKFILL_MOST + 1))
        if len(slots) > BACKFILL_MOST:
            raise InvalidInput(
                f"{name!r} has more than {BACKFILL_MOST:,} slots from {iso(since_us)} to {iso(until_us)}, and each would be "
                f"a run; choose a shorter time, and go on from its end"
            )
        done = Backfill([], [])
        for slot in slots:
            run, problem = await self._try_start(schedule, slot)
            if run is not None:
                done.runs.append(run)
            else:
                done.problems.append({"slot": iso(slot), "problem": problem})
        return done

    def can_start(self, schedule: Schedule) -> bool:
        """Whether this Runtime has its agent."""
        return self._runtime.agents.latest(schedule.agent) is not None

    async def fire(self, schedule: Schedule, slot: int) -> None:
        """Start the run of a slot that is due, unless it has had one, and note what came of it. Raises StoreError."""
        run, problem = await self._try_start(schedule, slot)
        last: dict[str, Any] = {"slot": slot, "run": run}
        if run is None:
            last["problem"] = problem
        now = self._clock.now_us()

        def noted(data: dict[str, Any]) -> dict[str, Any] | None:
            before = data["last"]
            # One that is yet to come was noted by a clock that had jumped ahead.
            return {**data, "last": last} if before is None or not slot <= before["slot"] <= now else None

        try:
            await change_record(self._store, KIND, schedule.name, noted)
        except NotFound:
            return  # removed meanwhile

    async def _try_start(self, schedule: Schedule, slot: int) -> tuple[str | None, str]:
        """The run of a slot, or None and what is wrong. Raises what is no fault of the schedule."""
        try:
            return await self._start(schedule, slot), ""
        except (InvalidInput, SessionBusy, IdempotencyMismatch, NotJsonError) as error:
            return None, str(error)
        except PerdureError:
            raise
        except Exception as error:  # a validator of the agent's own may raise anything
            log.exception("schedule %s: its slot %s cannot start", schedule.name, iso(slot))
            return None, f"{type(error).__name__}: {error}"

    async def _start(self, schedule: Schedule, slot: int | None) -> str:
        agent = self._runtime.agents.latest(schedule.agent)
        # Nothing could tell a steering message from its repetition: a slot waits for its turn instead.
        busy = Busy.QUEUE if agent is not None and agent.busy is Busy.STEER and slot is not None else None
        key = None if slot is None else f"schedule:{schedule.name}:{moment(slot).isoformat()}"
        if key is not None and (earlier := await self._store.run_by_key(schedule.agent, key)) is not None:
            return earlier.id  # whatever the schedule's input was then
        handle = await self._runtime.start_json(
            schedule.agent, schedule.input, session=schedule.session, idempotency_key=key, busy=busy
        )
        return handle.id


def _schedule(document: Document) -> Schedule:
    data = decode(document.data)
    cron, problem = None, None
    try:
        cron = Cron(data["cron"], data["timezone"])
    except InvalidInput as error:  # made on a host that knows this zone
        problem = str(error)
    return Schedule(
        document.id, data["agent"], data["cron"], data["timezone"], cron, problem, data["input"], data["session"],
        data["paused"], data["catch_up_seconds"], data["since"], data["last"],
    )  # fmt: skip
