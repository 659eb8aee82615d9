"""Which shards of an agent should this node own? Pure arithmetic on who is there and who owns what.

Each node works it out for itself from what the store says, and all come to the same: they need not talk. Shards are
spread evenly, and no more of them move than must: who has more than others already is the one that may have one more.

Nodes are given in an order that all agree on; it decides wherever nothing else does. Some shards can only be owned by
some nodes: those that `suits` says of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

#: Who owns each shard of an agent: the name of a node (perhaps one that takes no part), or None where it is free.
Owners: TypeAlias = Mapping[str, str | None]

#: Whether a node can do what a shard needs.
Suits: TypeAlias = Callable[[str, str], bool]


def shards_to_claim(
    node: str, nodes: Sequence[str], owners: Owners, suits: Suits = lambda _node, _shard: True
) -> list[str]:
    """The free shards that `node` may take now, so that nobody takes what another one is about to."""
    if node not in nodes:
        return []  # its own entry has run out: it has no part until it is heard again
    held = _holdings(owners)
    parts = fair_parts(nodes, owners)
    claims: dict[str, list[str]] = {name: [] for name in nodes}
    for shard in _pickiest_first(nodes, owners, suits):
        able = [name for name in nodes if suits(name, shard)] or nodes
        # Whoever lacks most of its part; a shard that only one can own goes there even beyond its part.
        taker = max(able, key=lambda name: parts[name] - held[name])
        claims[taker].append(shard)
        held[taker] += 1
    return claims.get(node, [])


def shards_to_give(
    node: str, nodes: Sequence[str], owners: Owners, cost: Callable[[str], Any],
    suits: Suits = lambda _node, _shard: True,
) -> list[str]:  # fmt: skip
    """The shards that `node` should give up because others have too few, or can do what it cannot; the cheapest first.

    `cost` gives anything that has an order.
    """
    if node not in nodes:
        return []
    held, parts = _holdings(owners), fair_parts(nodes, owners)
    mine = sorted((shard for shard, owner in owners.items() if owner == node), key=lambda shard: (cost(shard), shard))
    gives = [shard for shard in mine if not suits(node, shard) and any(suits(name, shard) for name in nodes)]
    lacking = {name: parts[name] - held[name] for name in nodes if parts[name] > held[name]}
    for shard in mine:
        taker = next((name for name, count in lacking.items() if count and suits(name, shard)), None)
        if taker is not None and shard not in gives and held[node] - len(gives) > parts[node]:
            gives.append(shard)
            lacking[taker] -= 1
    return gives


def fair_parts(nodes: Sequence[str], owners: Owners) -> dict[str, int]:
    """How many shards each node should own; parts differ by one at most and add up to all."""
    held = _holdings(owners)
    least, more = divmod(len(owners), max(1, len(nodes)))
    return {name: least + (place < more) for place, name in enumerate(sorted(nodes, key=lambda name: -held[name]))}


def _holdings(owners: Owners) -> Counter[str]:
    return Counter(owner for owner in owners.values() if owner is not None)


def _pickiest_first(nodes: Sequence[str], owners: Owners, suits: Suits) -> list[str]:
    free = [shard for shard, owner in owners.items() if owner is None]
    return sorted(free, key=lambda shard: (sum(suits(name, shard) for name in nodes) or len(nodes), shard))
