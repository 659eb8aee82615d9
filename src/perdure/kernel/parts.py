"""Which shards should this node claim, and which give up? What the store says, put to the arithmetic of balance.py."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from perdure.kernel.balance import Owners, shards_to_claim, shards_to_give
from perdure.kernel.needs import Needs
from perdure.store.contract import Node

if TYPE_CHECKING:
    from perdure.kernel.kernel import Kernel

#: the owner of a shard that is neither ours nor free
_SOMEBODY = ""


class Parts:
    """The part of one node."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        #: what shards need, of which not all nodes have it
        self.needs = Needs(())

    async def owners(self) -> dict[str, str | None]:
        """Who owns each shard that we could own; None where it is free."""
        leases, me = self._kernel.leases, self._kernel.node
        alive = {shard.name: shard.owner for shard in await self._kernel.store.shards() if shard.alive}
        owners = {}
        for shard in leases.wanted:
            # What we are giving up, or once had and cannot write, is not free, and not ours either.
            not_ours = _SOMEBODY if leases.leaves(shard) or alive.get(shard) == me else alive.get(shard)
            owners[shard] = me if leases.holds(shard) else not_ours
        return owners

    def to_claim(self, owners: Owners, nodes: Iterable[Node]) -> list[str]:
        """What is free and our part, among `nodes`."""
        found = []
        for able, part in _by_agent(owners, nodes):
            found += shards_to_claim(self._kernel.node, able, part, self.needs.suits)
        return found

    def to_give(self, owners: Owners, nodes: Iterable[Node]) -> list[str]:
        """What is beyond our part, or beyond what we can run; the cheapest first."""
        moving = Counter(live.run.shard for live in self._kernel.live.all() if live.steps.busy)
        found = []
        for able, part in _by_agent(owners, nodes):
            cost = partial(self._cost, moving=moving, part=part)
            found += shards_to_give(self._kernel.node, able, part, cost, self.needs.suits)
        return found

    def _cost(self, shard: str, *, moving: Counter[str], part: Owners) -> tuple[bool, int, str, int]:
        """What giving up `shard` costs: steps under way may be cut off, and a commit is for one database.

        So shards at rest go first, and among them those of the database that we have the fewest in: nodes gather around
        databases. The one that stands for its database keeps those of one together where the numbers are even.
        """
        store, me = self._kernel.store, self._kernel.node
        company = [other for other, owner in part.items() if owner == me and store.together(shard, other)]
        return moving[shard] > 0, len(company), min(company, default=shard), moving[shard]


def _by_agent(owners: Owners, nodes: Iterable[Node]) -> Iterator[tuple[list[str], Owners]]:
    """For each agent, the nodes that can run it and take work, and who owns its shards."""
    able = [(node.id, {name for name, _ in node.programs}) for node in nodes if not node.draining]
    parts: defaultdict[str, dict[str, str | None]] = defaultdict(dict)
    for shard, owner in owners.items():
        parts[shard.rpartition(":")[0]][shard] = owner
    for agent, part in parts.items():
        yield [node for node, agents in able if agent in agents], part
