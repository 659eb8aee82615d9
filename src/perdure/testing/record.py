"""Who owned what, who was told what, and who acted when? The record of a whole cluster, kept beside the store.

It adds to commit_log.py what only shows with several nodes: that an epoch has one owner and only that one writes with it,
that nobody begins what another node may do by now, that what was finished is written before its shard is let go, and
that limits which all nodes share hold at every instant.

The store of a simulation keeps its promise here that the same batch, given again, does not happen twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from perdure.agents.agent import AnyAgent
from perdure.agents.attempt import Attempt
from perdure.errors import Fenced
from perdure.journal.commands import Call
from perdure.kernel.contract import Agents, Hands
from perdure.store.contract import Fence, Lease, RateWish, Shard, Store, Tokens, Transaction
from perdure.testing.commit_log import CommitLog
from perdure.testing.host import SimulatedHost, current_node
from perdure.values.events import Event
from perdure.values.runs import Run

Verdicts = list[Exception | list[int] | None]


class Move(NamedTuple):
    """An attempt that is under way, and the right by which it began."""

    run: Run
    fence: Fence
    #: as it calls itself, and as the simulation calls it
    node: str
    life: str
    began: float


class ClusterRecord(CommitLog):
    """All accepted writes, claims and attempts of a cluster."""

    def __init__(self, agents: Agents, host: SimulatedHost, latest_us: Callable[[], float]) -> None:
        super().__init__(host.time, latest_us)
        self._host = host
        #: how many shards were claimed
        self.claims = 0
        #: what nodes gave up in good order
        self.released: set[tuple[str, Fence]] = set()
        self._agents = agents
        self._runs: dict[str, Run] = {}
        #: which node claimed it
        self._claimers: dict[Fence, str] = {}
        #: every batch that happened and what came of it, by identity; kept, so that no other takes its place
        self._batches: dict[int, tuple[Sequence[Transaction], Verdicts]] = {}
        self._moves: dict[object, Move] = {}
        #: by name of a rate: how many may begin, as nodes were told, and how many did
        self._tokens: Counter[str] = Counter()
        self._begun: Counter[str] = Counter()

    async def commit(self, store: Store, batch: Sequence[Transaction]) -> Verdicts:
        return await self.commit_of(current_node(), store, batch)

    async def commit_of(self, node: str, store: Store, batch: Sequence[Transaction]) -> Verdicts:
        """Commit what `node` sent, unless that happened before."""
        if (known := self._batches.get(id(batch))) is not None:
            return known[1]
        verdicts = await super().commit(store, batch)
        self._batches[id(batch)] = batch, verdicts
        for transaction, verdict in zip(batch, verdicts, strict=True):
            self._check_writer(node, transaction, verdict)
        return verdicts

    async def claim(self, store: Store, node: str, shards: Collection[str], lease_seconds: float) -> list[Lease]:
        leases = await super().claim(store, node, shards, lease_seconds)
        self.claims += len(leases)
        for lease in leases:
            other = self._claimers.setdefault(Fence(*lease), current_node())
            if other != current_node():
                self.violations.append(f"{lease.shard}: {other} and {current_node()} both claimed epoch {lease.epoch}")
            self._check_stopped(lease)
        return leases

    def told(self, wishes: Sequence[RateWish], tokens: Sequence[Tokens]) -> None:
        """A node was told how many of its runs may begin."""
        for wish, answer in zip(wishes, tokens, strict=True):
            self._tokens[wish.name] += answer.granted

    async def begin(self, key: object, attempt: Attempt, call: Call, node: str, store: Store) -> None:
        """`node` (as it calls itself) begins an attempt. `store` is what all nodes share, and answers at once."""
        shards = await store.shards()
        run = self._runs.get(attempt.run)
        if run is None:
            self.violations.append(f"{attempt.run}: {node} acts for it, and it was never created")
            return
        lease = next(shard for shard in shards if shard.name == run.shard)
        if not lease.alive or lease.owner != node:
            self.violations.append(
                f"{run.id}: attempt {attempt.attempt} of step {attempt.step} ({call.name}) was begun by {node} at "
                f"{self._now():.3f} s, when {lease.owner if lease.alive else 'nobody'} owned {run.shard}"
            )
        self._moves[key] = Move(run, _fence(lease), node, current_node(), self._now())
        agent = self._agents.latest(run.agent)
        if agent is not None and not agent.unlimited:
            alive = {other.id for other in await store.nodes() if other.alive}
            self._check_places(
                agent, run, {(*_fence(shard), shard.owner) for shard in shards if shard.alive and shard.owner in alive}
            )

    def end(self, key: object) -> None:
        """An attempt is over."""
        self._moves.pop(key, None)

    def _check_places(self, agent: AnyAgent, run: Run, standing: set[tuple[str, int, str | None]]) -> None:
        # Only what still has the right by which it began: a node that is paused for longer cannot stop what it began.
        moving = {
            move.run.id: move.run.concurrency_key
            for move in self._moves.values()
            if move.run.agent == run.agent and (*move.fence, move.node) in standing
        }
        if agent.concurrency is not None and len(moving) > agent.concurrency:
            self.violations.append(f"{run.agent}: {sorted(moving)} move at once at {self._now():.3f} s")
        if agent.concurrency_per_key is not None and run.concurrency_key is not None:
            alike = sorted(id for id, key in moving.items() if key == run.concurrency_key)
            if len(alike) > agent.concurrency_per_key:
                self.violations.append(
                    f"{run.agent}/{run.concurrency_key}: {alike} move at once at {self._now():.3f} s"
                )

    def _check_stopped(self, lease: Lease) -> None:
        for move in self._moves.values():
            if move.fence.shard == lease.shard and self._host.awake_since(move.life, move.began):
                self.violations.append(
                    f"{move.run.id}: {move.life} works on it, {current_node()} claimed {lease.shard}"
                )

    def _check_writer(self, node: str, transaction: Transaction, verdict: object) -> None:
        fence = transaction.fence
        if fence is None:
            return
        if isinstance(verdict, Fenced):
            brought = [event for event in transaction.events if event.type == "step.completed"]
            if brought and (node, fence) in self.released:
                self.violations.append(
                    f"{brought[0].run}: {node} gave {fence.shard} up before it wrote {brought[0].raw}"
                )
        elif not isinstance(verdict, Exception) and self._claimers.get(fence) != node:
            self.violations.append(f"{fence.shard}: {node} wrote with epoch {fence.epoch}, which it never had")

    def _note(self, transaction: Transaction) -> None:
        for new in transaction.create:
            self._runs[new.run.id] = new.run
        super()._note(transaction)

    def _note_event(self, event: Event) -> None:
        super()._note_event(event)
        run = self._runs.get(event.run)
        if run is not None and event.type == "run.started":
            agent = self._agents.latest(run.agent)
            if agent is not None and agent.rate is not None:
                self._check_tokens(run, run.agent)
            if agent is not None and agent.rate_per_key is not None and run.concurrency_key is not None:
                self._check_tokens(run, f"{run.agent}/{run.concurrency_key}")

    def _check_tokens(self, run: Run, name: str) -> None:
        self._begun[name] += 1
        if self._begun[name] > self._tokens[name]:
            self.violations.append(
                f"{run.id}: is the {self._begun[name]}th of {name}; {self._tokens[name]} might begin"
            )


class RecordedStore:
    """A store of one node, with what it says and hears noted."""

    def __init__(self, store: Store, record: ClusterRecord) -> None:
        self._store = store
        self._record = record

    async def release(self, node: str, leases: Collection[Lease]) -> None:
        self._record.released |= {(current_node(), Fence(*lease)) for lease in leases}
        await self._store.release(node, leases)

    async def take(self, wishes: Sequence[RateWish]) -> list[Tokens]:
        tokens = await self._store.take(wishes)
        self._record.told(wishes, tokens)
        return tokens

    def __getattr__(self, name: str) -> Any:
        self.__dict__[name] = method = getattr(self._store, name)  # asked for thousands of times
        return method


class RecordedHands:
    """Hands of `node`, with what they begin and end noted. `store` is what all nodes share."""

    def __init__(self, hands: Hands, record: ClusterRecord, store: Store, node: str) -> None:
        self._hands = hands
        self._record = record
        self._store = store
        self._node = node

    async def execute(self, call: Call, attempt: Attempt) -> str:
        key = object()
        await self._record.begin(key, attempt, call, self._node, self._store)
        try:
            return await self._hands.execute(call, attempt)
        finally:
            self._record.end(key)

    async def probe(self, call: Call) -> Any:
        return await self._hands.probe(call)

    def close(self) -> None:
        self._hands.close()


def _fence(shard: Shard) -> Fence:
    return Fence(shard.name, shard.epoch)
