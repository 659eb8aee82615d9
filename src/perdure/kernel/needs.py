"""Which node can run what lies in a shard? While versions of an agent change, not all can: some have the old, some both.

As long as living nodes differ, the owner of a shard says with its beats which versions the shard needs: all it has itself,
so that no run is left behind, and any that it found wanting. Such a shard only goes to a node that has them all, and goes
there at once when its owner does not. Where nobody has them all it stays, and its runs say what they wait for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeAlias

from perdure.store.contract import Node
from perdure.values.json import decode

#: shard -> versions
_Versions: TypeAlias = dict[str, set[str]]


class Needs:
    """What shards need, as this node and the others say. `programs` are this node's own."""

    def __init__(self, programs: Collection[tuple[str, str]]) -> None:
        self._programs = frozenset(programs)
        #: what we say, also of shards that we gave up: until the nodes do not differ any more
        self._ours: _Versions = {}
        #: what was said by anybody, ourselves included, and so is known to all
        self._heard: _Versions = {}
        self._living: dict[str, frozenset[tuple[str, str]]] = {}
        #: what others have of our agents and we do not
        self.elsewhere: frozenset[tuple[str, str]] = frozenset()

    def lacks(self, shard: str, version: str) -> None:
        """A run of our `shard` needs `version`, which we do not have."""
        self._ours.setdefault(shard, set()).add(version)

    def say(self, shards: Iterable[str]) -> dict[str, list[str]]:
        """What to say of our `shards`, as JSON."""
        for shard in shards:
            ours = {version for name, version in self._programs if name == _agent_of(shard)}
            self._ours.setdefault(shard, set()).update(ours)
        self._ours = {shard: versions for shard, versions in self._ours.items() if self._matters(shard, versions)}
        return {shard: sorted(versions) for shard, versions in self._ours.items()}

    def hear(self, nodes: Collection[Node]) -> bool:
        """These live and say so; True when one of them has a version that we lack and nobody had before."""
        self._living = {node.id: frozenset(node.programs) for node in nodes}
        self._heard = {}
        for node in nodes:
            for shard, versions in _said_by(node).items():
                self._heard.setdefault(shard, set()).update(versions)
        names = {name for name, _ in self._programs}
        others = frozenset(program for node in nodes for program in node.programs if program[0] in names)
        before, self.elsewhere = self.elsewhere, others - self._programs
        return not self.elsewhere <= before

    def suits(self, node: str, shard: str) -> bool:
        """True when `node` has all that is needed for `shard`."""
        needed = self._heard.get(shard)
        return not needed or _has_all(self._living.get(node, ()), shard, needed)

    def _matters(self, shard: str, versions: Collection[str]) -> bool:
        agent = _agent_of(shard)
        able = [programs for programs in self._living.values() if any(name == agent for name, _ in programs)]
        return not all(_has_all(programs, shard, versions) for programs in able)


def _has_all(programs: Collection[tuple[str, str]], shard: str, versions: Iterable[str]) -> bool:
    return all((_agent_of(shard), version) in programs for version in versions)


def _said_by(node: Node) -> Mapping[str, Any]:
    said = decode(node.figures)
    needs = said.get("needs") if isinstance(said, dict) else None
    return needs if isinstance(needs, dict) else {}


def _agent_of(shard: str) -> str:
    return shard.rpartition(":")[0]
