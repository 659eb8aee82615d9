"""The Client: what a Runtime is where runs live, from anywhere else.

async with Client("http://127.0.0.1:8420", token=key) as client:
    run = await client.start("buyer", ["pen"], session="acme")
    print(await run.result())
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, TypeVarTuple, overload

from perdure.agents.agent import Agent, AnyAgent
from perdure.client.connection import Connection
from perdure.client.following import follow
from perdure.client.reading import read_ask, read_difference, read_event, read_run, read_session
from perdure.errors import InvalidInput, RunCancelled, RunFailed
from perdure.journal.diff import Difference
from perdure.store.contract import Ask, RunFilter, SessionRow
from perdure.values.clock import iso
from perdure.values.events import TERMINAL, Event
from perdure.values.json import decode
from perdure.values.runs import Run

Ts = TypeVarTuple("Ts")
R = TypeVar("R")

DEFAULT_SERVER = "http://127.0.0.1:8420"
#: What a server lists at once.
_PAGE = 1000
_KEY_LENGTH_MOST = 255
_UNCHANGED: Any = object()
_NO_INPUT: Any = object()


@dataclass(frozen=True, slots=True)
class Session:
    """An agent's durable identity for one key, with its state and its newest runs."""

    agent: str
    session: str
    #: id of the run that has begun and not ended
    active: str | None
    state: dict[str, Any]
    runs: list[Run]


class Client:
    """The calls of a Runtime, answered by the server at `url` (default: PERDURE_SERVER, then port 8420 of this machine).

    token: an API key (default: PERDURE_TOKEN). away_seconds: how long a run is followed on while the server does not
    answer. Each call raises what it raises on a Runtime; PerdureError where the key may not do that; Unreachable where no
    server answers. A call that was not taken is sent again; one that may have been is not, unless that changes nothing.

    Journals keep the name of the key as `by`: what callers say of themselves is not sent. A run's `reason` and `wait` are
    the server's, which knows who is alive.
    """

    def __init__(self, url: str | None = None, *, token: str | None = None, away_seconds: float = 300.0) -> None:
        url = url or os.environ.get("PERDURE_SERVER") or DEFAULT_SERVER
        self._connection = Connection(url, token or os.environ.get("PERDURE_TOKEN") or None)
        self._away_seconds = away_seconds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; runs go on."""
        await self._connection.close()

    # Runs.

    @overload
    async def start(
        self, agent: str, input: Any = ..., /, *, session: str | None = None, idempotency_key: str | None = None,
        priority: int | None = None, concurrency_key: str | None = None, busy: str | None = None,
    ) -> RemoteRun[Any]: ...  # fmt: skip
    @overload
    async def start(
        self, agent: Agent[*Ts, R], *args: *Ts, session: str | None = None, idempotency_key: str | None = None,
        priority: int | None = None, concurrency_key: str | None = None, busy: str | None = None,
    ) -> RemoteRun[R]: ...  # fmt: skip
    async def start(self, agent: Any, *args: Any, **options: Any) -> RemoteRun[Any]:  # type: ignore[misc]  # it does
        """Start a run; it is durable when this returns. Options as of `Runtime.start`.

        An agent that is given by its name takes its input as one JSON value: the value itself for one parameter, an
        object for several. With an idempotency key a start is sent again when the connection breaks.
        """
        if not isinstance(agent, str):
            by_name = decode(agent.signature.bind(args, {})[1])
            # The very value, which by its name could be taken for one that holds that name.
            input = next(iter(by_name.values())) if len(agent.signature.names) == 1 else by_name
            return await self._start(agent, input, **options)
        if len(args) > 1:
            raise InvalidInput(f"{agent}: an agent given by its name takes several parameters as one object, by name")
        return await self._start(agent, args[0] if args else _NO_INPUT, **options)

    async def start_json(
        self, agent: AnyAgent | str, value: Any, *, session: str | None = None,
        idempotency_key: str | None = None, priority: int | None = None, concurrency_key: str | None = None,
        busy: str | None = None,
    ) -> RemoteRun[Any]:  # fmt: skip
        """Like `start`, with the input as a JSON value: the value itself for one parameter, an object for several."""
        return await self._start(
            agent, value, session=session, idempotency_key=idempotency_key, priority=priority,
            concurrency_key=concurrency_key, busy=busy,
        )  # fmt: skip

    async def run(self, id: str) -> RemoteRun[Any]:
        """The run with this id (or with an id that ends in it). Raises NotFound."""
        return RemoteRun(self, (await self.find(id)).id, None)

    async def find(self, id: str) -> Run:
        """The row of the run with this id, or with the only id that ends in it. Raises NotFound."""
        return read_run(await self._connection.get("runs", id))

    async def runs(self, filter: RunFilter | None = None) -> list[Run]:
        """Runs that match, newest first. Raises InvalidInput for a filter by `suffix` or `ids`: use `find`."""
        wanted = filter or RunFilter()
        if wanted.suffix is not None or wanted.ids:
            raise InvalidInput("a server does not list runs by `suffix` or `ids`; look at one with: find(id)")
        query = {
            "agent": wanted.agent, "session": wanted.session, "status": list(wanted.statuses),
            "parent": wanted.parent, "since": None if wanted.since is None else iso(wanted.since),
            "until": None if wanted.until is None else iso(wanted.until),
        }  # fmt: skip
        found = await self._list(["runs"], query, wanted.limit, wanted.before)
        return [read_run(said) for said in found]

    async def send(self, target: str, topic: str, value: Any = None, *, agent: str | None = None) -> None:
        """Send a message to a run, or with `agent` to that agent's session `target`. Raises NotFound, AlreadySettled."""
        path = ("runs", target) if agent is None else ("sessions", agent, target)
        await self._connection.post(*path, "messages", body={"topic": topic, "value": value})

    async def pause(self, id: str, *, by: str | None = None, note: str | None = None) -> None:
        """Stop a run from moving until resumed; what is in flight may end. Raises NotFound, AlreadySettled."""
        await self._connection.post("runs", id, "pause", body={"note": note})

    async def resume(self, id: str, *, by: str | None = None) -> None:
        """Let a paused run go on. Raises NotFound, AlreadySettled."""
        await self._connection.post("runs", id, "resume")

    async def cancel(self, id: str, *, by: str | None = None, reason: str | None = None) -> None:
        """Cancel a run and its children; its clean-up code runs. Raises NotFound, AlreadySettled."""
        await self._connection.post("runs", id, "cancel", body={"reason": reason})

    async def retry(self, id: str, *, from_step: int | None = None) -> RemoteRun[Any]:
        """Try again what did not work out: see `Runtime.retry`."""
        return self._handle(await self._connection.post("runs", id, "retry", body={"from_step": from_step}), None)

    async def fork(self, id: str, *, at: int, input: Any = None, result: Any = _UNCHANGED) -> RemoteRun[Any]:
        """A new run that shares this one's journal before step `at` and goes on live from there.

        input: another input. result: what step `at` is to have brought, instead of running it. Raises NotFound, InvalidInput.
        """
        body = {"at": at, "input": input, **({} if result is _UNCHANGED else {"result": result})}
        return self._handle(await self._connection.post("runs", id, "fork", body=body), None)

    async def resolve(self, id: str, step: int, outcome: str, *, result: Any = None, by: str | None = None) -> None:
        """Settle a step of unknown outcome: `happened` (with its result), `run-again` or `fail`; see `Runtime.resolve`."""
        # Not sent again: what is said twice may be said of two attempts.
        body = {"step": step, "outcome": outcome, "result": result}
        await self._connection.post("runs", id, "resolve", body=body)

    # People.

    async def inbox(self, *, to: str | None = None, run: str | None = None, limit: int = _PAGE) -> list[Ask]:
        """Open questions and approvals, oldest first, at most `limit`."""
        return [read_ask(said) for said in await self._list(["asks"], {"to": to, "run": run}, limit)]

    async def find_ask(self, id: str) -> Ask:
        """The question or approval with this id, or the only open one whose id ends so. Raises NotFound, InvalidInput."""
        return read_ask(await self._connection.get("asks", id))

    async def answer(self, id: str, value: Any, *, by: str | None = None) -> None:
        """Answer a question. The same answer again changes nothing. Raises NotFound, InvalidInput, AlreadySettled."""
        await self._connection.post("asks", id, "answer", body={"value": value}, again=True)

    async def approve(
        self, id: str, *, edit: dict[str, Any] | None = None, by: str | None = None, note: str | None = None
    ) -> None:
        """Consent to an action, or with `edit` to it with other arguments (by name, those that change).

        Raises NotFound, InvalidInput (an edit of no such argument, or one that does not fit), AlreadySettled.
        """
        await self._connection.post("asks", id, "approve", body={"edit": edit, "note": note}, again=True)

    async def reject(self, id: str, *, by: str | None = None, note: str | None = None) -> None:
        """Refuse an action. Raises NotFound, AlreadySettled."""
        await self._connection.post("asks", id, "reject", body={"note": note}, again=True)

    # Journals.

    async def events(self, id: str, after: int = 0) -> AsyncIterator[Event]:
        """The journal after `after`, then live, until the run's last event: each once, also when the server restarts."""
        async with aclosing(self._follow((await self.find(id)).id, after)) as stream:
            async for event in stream:
                yield event

    async def journal(self, id: str, after: int = 0, limit: int | None = None) -> list[Event]:
        """The journal as it is now."""
        found: list[Event] = []
        while limit is None or len(found) < limit:
            size = _PAGE if limit is None else min(_PAGE, limit - len(found))
            page = await self._connection.get("runs", id, "events", after=after, limit=size)
            found += [read_event(said) for said in page["items"]]
            if len(page["items"]) < size:
                break
            after = found[-1].seq
        return found

    async def diff(self, left: str, right: str) -> list[Difference]:
        """Two runs side by side, aligned step by step. Raises NotFound."""
        said = await self._connection.get("diff", left=left, right=right)
        return [read_difference(pair) for pair in said["steps"]]

    # The server.

    async def agents(self) -> list[dict[str, Any]]:
        """What can be started: names, versions, schemas of input and output, as HTTP lists them."""
        found: list[dict[str, Any]] = (await self._connection.get("agents"))["items"]
        return found

    async def sessions(self, *, agent: str | None = None, limit: int = _PAGE) -> list[SessionRow]:
        """Sessions by agent and key, at most `limit`."""
        return [read_session(said) for said in await self._list(["sessions"], {"agent": agent}, limit)]

    async def session(self, agent: str, session: str) -> Session:
        """A session's state, and its newest runs. Raises NotFound."""
        said = await self._connection.get("sessions", agent, session)
        return Session(agent, session, said["active"], said["state"], [read_run(run) for run in said["runs"]])

    async def system(self) -> dict[str, Any]:
        """Nodes, shards, and what waits in them, as HTTP tells it."""
        found: dict[str, Any] = await self._connection.get("system")
        return found

    # Details.

    async def _start(
        self, agent: AnyAgent | str, input: Any, *, session: str | None = None, idempotency_key: str | None = None,
        priority: int | None = None, concurrency_key: str | None = None, busy: str | None = None,
    ) -> RemoteRun[Any]:  # fmt: skip
        query = {"session": session, "priority": priority, "concurrency_key": concurrency_key, "busy": busy}
        said = await self._connection.post(
            "agents", agent if isinstance(agent, str) else agent.name, "runs", query=query,
            headers=_key_header(idempotency_key), again=idempotency_key is not None,
            **({} if input is _NO_INPUT else {"body": input}),
        )  # fmt: skip
        return self._handle(said, None if isinstance(agent, str) else agent)

    def _handle(self, said: dict[str, Any], agent: AnyAgent | None) -> RemoteRun[Any]:
        return RemoteRun(self, said["id"], agent)

    def _follow(self, run: str, after: int, types: Sequence[str] = ()) -> AsyncGenerator[Event, None]:
        return follow(self._connection, run, after, types, away_seconds=self._away_seconds)

    async def _end(self, id: str) -> Event:
        """The run's last event, once there is one."""
        run = await self.find(id)
        async with aclosing(self._follow(run.id, max(0, run.seq - 1), sorted(TERMINAL))) as stream:
            async for event in stream:
                return event
        raise AssertionError("a stream ends with the run's last event")

    async def _list(
        self, path: list[str], query: dict[str, Any], limit: int, cursor: str | None = None
    ) -> list[dict[str, Any]]:
        """Items of as many pages as `limit` takes."""
        found: list[dict[str, Any]] = []
        while len(found) < limit:
            size = min(_PAGE, limit - len(found))
            more = {} if cursor is None else {"cursor": cursor}
            page = await self._connection.get(*path, **query, **more, limit=size)
            found += page["items"]
            cursor = page["next"]
            if cursor is None or not page["items"]:
                break
        return found


class RemoteRun(Generic[R]):
    """One run of a server, from outside."""

    def __init__(self, client: Client, id: str, agent: AnyAgent | None) -> None:
        self.id = id
        self._client = client
        self._agent = agent

    async def result(self, timeout: float | None = None) -> R:
        """The run's result, once it has one; of its continuation, if it continued.

        Raises RunFailed, RunCancelled, and TimeoutError after `timeout` seconds (the run goes on).
        """
        async with asyncio.timeout(timeout):
            return await self._result()

    def events(self, after: int = 0) -> AsyncIterator[Event]:
        """The journal after `after`, then live, until the run's last event: each once, also when the server restarts."""
        return self._client._follow(self.id, after)

    async def status(self) -> Run:
        """The run's row as it is now."""
        return await self._client.find(self.id)

    async def send(self, topic: str, value: Any = None) -> None:
        """Send the run a message."""
        await self._client.send(self.id, topic, value)

    async def pause(self) -> None:
        """Stop it from moving."""
        await self._client.pause(self.id)

    async def resume(self) -> None:
        """Let it go on."""
        await self._client.resume(self.id)

    async def cancel(self, reason: str | None = None) -> None:
        """Cancel it and its children."""
        await self._client.cancel(self.id, reason=reason)

    async def _result(self) -> R:
        end = await self._client._end(self.id)
        data = end.data
        match end.type:
            case "run.continued":
                following: RemoteRun[R] = await self._client.run(data["run"])
                return await following._result()
            case "run.failed":
                error = data["error"]
                raise RunFailed(f"{error['type']}: {error['message']}", type=error["type"], run=self.id)
            case "run.cancelled":
                raise RunCancelled(f"{self.id} was cancelled" + (f": {data['reason']}" if data.get("reason") else ""))
        result: R = self._agent.signature.decode_result(data["result"]) if self._agent is not None else data["result"]
        return result


def _key_header(key: str | None) -> dict[str, str]:
    if key is None:
        return {}
    if not (key.strip() and key.isascii() and key.isprintable() and len(key) <= _KEY_LENGTH_MOST):
        raise InvalidInput(f"over HTTP an idempotency key has 1 to {_KEY_LENGTH_MOST} printable ASCII characters")
    return {"Idempotency-Key": key}
