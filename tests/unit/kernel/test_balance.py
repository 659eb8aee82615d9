"""Spreading shards over nodes: every start ends even, with no more moves than that takes."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from perdure.kernel.balance import fair_parts, shards_to_claim, shards_to_give


def no_cost(_):
    """All shards are as cheap."""
    return 0


class Room:
    """Some nodes and the shards of one agent, as the store would show them."""

    def __init__(self, slots, nodes, owners=None, suits=lambda _node, _shard: True):
        self.nodes = list(nodes)
        self.owners = owners or {f"a:{slot}": None for slot in range(slots)}
        self.suits = suits
        self.moves = 0

    def leave(self, node):
        """A node dies: what it had is free."""
        self.nodes.remove(node)
        self.owners = {shard: None if owner == node else owner for shard, owner in self.owners.items()}

    def act(self, node, seen):
        """A node does what follows from what it saw, which may be old."""
        for shard in shards_to_give(node, self.nodes, seen, no_cost, self.suits):
            if self.owners[shard] == node:
                self.owners[shard] = None
                self.moves += 1
        for shard in shards_to_claim(node, self.nodes, seen, self.suits):
            if self.owners[shard] is None:
                self.owners[shard] = node

    def round(self, dice):
        """Every node looks and acts, in any order; some act on what they saw before the others did."""
        before = dict(self.owners)
        for node in dice.sample(self.nodes, len(self.nodes)):
            self.act(node, before if dice.random() < 0.3 else dict(self.owners))

    def settle(self, dice):
        """Rounds until nothing changes; gives how many it took."""
        for rounds in range(20):
            before = dict(self.owners)
            self.round(dice)
            if self.owners == before:
                return rounds
        raise AssertionError(f"no end in sight: {self.owners}")

    @property
    def holdings(self):
        """How many shards each node owns."""
        held = Counter(self.owners.values())
        return [held[node] for node in self.nodes]


@st.composite
def rooms(draw):
    """Any slots, nodes, and owners of the shards, some of whom are not there."""
    slots, count = draw(st.integers(1, 40)), draw(st.integers(1, 9))
    nodes = [f"n{number}" for number in range(count)]
    owner = st.sampled_from([*nodes, None])
    return Room(slots, nodes, {f"a:{slot}": draw(owner) for slot in range(slots)})


def surplus(room):
    """How many shards are where there are too many."""
    parts, held = fair_parts(room.nodes, room.owners), Counter(room.owners.values())
    return sum(max(0, held[node] - parts[node]) for node in room.nodes)


@given(rooms(), st.randoms(use_true_random=False))
def test_from_any_start_all_shards_are_owned_evenly_within_a_few_rounds(room, dice):
    """No node has two more than another, and then nothing moves any more."""
    rounds = room.settle(dice)
    assert None not in room.owners.values()
    assert max(room.holdings) - min(room.holdings) <= 1
    assert rounds <= 5


@given(rooms())
def test_no_more_shards_move_than_there_are_too_many_somewhere(room):
    """When all act on what is there, the moves are the surpluses, and no shard moves twice."""
    least = surplus(room)
    for _ in range(6):
        for node in room.nodes:
            room.act(node, dict(room.owners))
    assert room.moves == least


@given(rooms(), st.data())
def test_nodes_that_look_at_the_same_moment_want_different_shards_and_leave_none(room, data):
    """What is free is claimed by exactly one, unless shards have to be given up first."""
    claims = [shard for node in room.nodes for shard in shards_to_claim(node, room.nodes, room.owners)]
    free = [shard for shard, owner in room.owners.items() if owner is None]
    assert sorted(claims) == sorted(free)


def test_nodes_that_come_and_go_move_only_what_they_must():
    """A newcomer is given its part and nothing else moves; what somebody leaves is taken by those who have least."""
    dice = random.Random(7)
    room = Room(16, ["n0"])
    room.settle(dice)
    for number in range(1, 60):
        room.moves = 0
        if len(room.nodes) > 1 and dice.random() < 0.5:
            room.leave(dice.choice(room.nodes))
            least = surplus(room)
        else:
            room.nodes.append(f"n{number}")
            least = 16 // len(room.nodes)
        for _ in range(4):
            for node in room.nodes:
                room.act(node, dict(room.owners))
        assert (room.moves, sum(room.holdings)) == (least, 16)
        assert max(room.holdings) - min(room.holdings) <= 1


def test_what_is_even_stays_whoever_has_the_odd_one():
    """The order of the nodes is no reason to move a shard."""
    for odd in range(3):
        held = [node for number in range(3) for node in [f"n{number}"] * (6 if number == odd else 5)]
        room = Room(16, ["n0", "n1", "n2"], {f"a:{slot}": node for slot, node in enumerate(held)})
        assert room.settle(random.Random(1)) == room.moves == 0


def test_no_more_is_given_than_those_lack_who_can_take_it():
    """What a third one lacks, which cannot, stays."""
    owners = {f"a:{slot}": "old" for slot in range(12)}
    given = shards_to_give("old", ["old", "both", "new"], owners, no_cost, lambda node, _: node != "new")
    assert len(given) == 4


def test_what_is_cheapest_to_move_is_given():
    """Shards in which much moves stay."""
    owners = {f"a:{slot}": "old" for slot in range(4)}
    cost = {"a:0": 5, "a:1": 0, "a:2": 9, "a:3": 1}
    assert shards_to_give("old", ["old", "new"], owners, cost.__getitem__) == ["a:1", "a:3"]


def test_shards_of_somebody_who_takes_no_part_are_counted_but_not_taken():
    """He will leave them: then they are free, and until then nobody gives up more than that."""
    owners = {"a:0": "drains", "a:1": "drains", "a:2": "one", "a:3": None}
    assert shards_to_claim("two", ["one", "two"], owners) == ["a:3"]
    assert shards_to_give("one", ["one", "two"], owners, no_cost) == []


def test_a_shard_goes_to_a_node_that_suits_it_also_beyond_its_part():
    """And is not given back for the sake of evenness; others make up for it."""
    room = Room(8, ["old", "new"], {f"a:{slot}": "old" if slot < 4 else "new" for slot in range(8)})
    room.suits = lambda node, shard: node == "new" or shard != "a:1"
    room.settle(random.Random(1))
    assert room.owners["a:1"] == "new"
    assert sorted(room.holdings) == [4, 4]


def test_shards_that_only_one_node_suits_may_leave_it_with_more_than_its_part():
    """Nothing goes back and forth over it."""
    room = Room(8, ["old", "new"], {f"a:{slot}": "old" for slot in range(8)})
    room.suits = lambda node, shard: node == "new" or shard in {"a:0", "a:1"}
    room.settle(random.Random(1))
    assert room.holdings == [2, 6]


def test_a_shard_that_nobody_suits_is_owned_all_the_same():
    """Whoever owns it can at least say why its runs wait."""
    room = Room(3, ["one", "two"], suits=lambda _node, _shard: False)
    room.settle(random.Random(1))
    assert None not in room.owners.values()


def test_who_is_not_there_has_no_part():
    """A node whose own entry has run out neither claims nor gives, also when nobody else is left."""
    owners = {"a:0": None, "a:1": "me", "a:2": "other"}
    for nodes in ([], ["other"]):
        assert shards_to_claim("me", nodes, owners) == []
        assert shards_to_give("me", nodes, owners, lambda _: 0) == []
