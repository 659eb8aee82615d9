"""Turns of tenants: whose run goes next, whatever the length of the queues."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial

import pytest

from perdure.errors import InvalidSetting
from perdure.kernel.dispatch import Dispatcher
from perdure.kernel.doors import Places
from perdure.kernel.turns import Turns
from perdure.values.settings import Settings


class Limited:
    """Limits by name: `agent`, or `agent/key`. What is not named is not limited."""

    def __init__(self, places):
        self._doors = {name: Places(name, WEIGHTS, held) for name, held in places.items()}

    def doors(self, agent, key, *, begins):
        return tuple(self._doors[name] for name in (agent, f"{agent}/{key}") if name in self._doors)

    def doors_at_once(self, agent, key):
        return self.doors(agent, key, begins=True)


WEIGHTS = {"heavy": 3.0, "half": 0.5}


class Queue:
    """A dispatcher, and the order in which runs got their places. A run is named `agent/key/number`."""

    def __init__(self, most=1, **places):
        self.moved: list[str] = []
        self.moving: list[str] = []
        self.dispatcher = Dispatcher(most, Limited(places), weights=WEIGHTS)
        self._created = 0

    def offer(self, key, count=1, *, agent="a", priority=0):
        for _ in range(count):
            self._created += 1
            run = f"{agent}/{key}/{self._created}"
            move = partial(self._move, run)
            self.dispatcher.offer(run, agent, key, priority, self._created, move)

    def _move(self, run):
        self.moved.append(run)
        self.moving.append(run)

    def end(self, count=1):
        """The longest moving runs give their places back."""
        for _ in range(count):
            self.dispatcher.release(self.moving.pop(0))

    def tenants(self, *, agent="a"):
        """Whose runs got places, in order."""
        return [run.split("/")[1] for run in self.moved if run.split("/")[0] == agent]


@pytest.mark.parametrize("length", [10, 1_000])
@pytest.mark.parametrize("where", ["node", "agent"])
def test_tenants_take_turns_whatever_the_length_of_their_queues(where, length):
    """One to one, where the node is short of places and where the agent is; also for runs without a key."""
    queue = Queue(most=1) if where == "node" else Queue(most=100, a=1)
    queue.offer("x", length)
    queue.offer(None, 5)
    queue.offer("y", 5)
    queue.end(15)
    assert Counter(queue.tenants()[1:16]) == {"x": 5, "None": 5, "y": 5}
    queue.end(length - 6)
    assert set(queue.tenants()[16:]) == {"x"}


@pytest.mark.parametrize("length", [10, 1_000])
@pytest.mark.parametrize("where", ["node", "agent"])
def test_turns_go_by_weight(where, length):
    """Three to one, in every stretch of it; a weight below one means less than the others."""
    queue = Queue(most=2) if where == "node" else Queue(most=100, a=2)
    queue.offer("other", length)
    queue.offer("heavy", length)
    queue.end(length)
    turns = queue.tenants()[2 : length + 2]
    for start in range(0, length - 8, 4):
        assert Counter(turns[start : start + 8])["heavy"] in {5, 6, 7}
    assert Counter(turns)["heavy"] == pytest.approx(0.75 * length, abs=2)

    slow = Queue()
    slow.offer("half", 9)
    slow.offer("other", 9)
    slow.end(9)
    assert Counter(slow.tenants()[1:10])["half"] == 3


def test_higher_priority_goes_before_turns():
    """Tenants take turns only among what is equally urgent, and what was urgent is not held against them later."""
    queue = Queue()
    queue.offer("x", 3)
    queue.offer("y", 3)
    queue.offer("x", 10, priority=1)
    queue.end(15)
    assert queue.tenants()[1:11] == ["x"] * 10
    assert queue.tenants()[11:] == ["x", "y", "x", "y", "y"] or queue.tenants()[11:] == ["y", "x", "y", "x", "y"]


def test_who_had_nothing_to_do_has_no_turns_saved_up():
    """A tenant that comes later takes turns from then on; it does not catch up."""
    queue = Queue()
    queue.offer("x", 100)
    queue.end(50)
    queue.offer("y", 20)
    queue.end(20)
    assert Counter(queue.tenants()[51:71]) == {"x": 10, "y": 10}


def test_turns_in_one_agent_are_not_paid_for_with_turns_in_another():
    """A tenant that moves much in an agent with room has its turns in the agent that is short of places."""
    queue = Queue(most=10_000, a=1)
    queue.offer("x", 20)
    queue.offer("y", 20)
    queue.offer("x", 1_000, agent="b")
    for _ in range(20):
        queue.dispatcher.release(next(run for run in queue.moving if run.startswith("a/")))
        queue.moving.remove(next(run for run in queue.moving if run.startswith("a/")))
    assert Counter(queue.tenants()[1:21]) == {"x": 10, "y": 10}


def test_tenants_that_are_gone_are_forgotten():
    """However many there were while somebody always waited."""
    turns = Turns({})
    for n in range(10_000):
        turns.take(0, f"tenant{n}")
        turns.take(0, "steady")
    assert len(turns._ended) <= 200


@pytest.mark.parametrize("weight", [0, -1.0, float("inf"), float("nan")])
def test_a_weight_that_gives_no_turns_or_all_of_them_is_refused(weight):
    """The error names the key."""
    with pytest.raises(InvalidSetting, match="'acme'"):
        Settings(weights={"acme": weight})


class Model:
    """What a dispatcher should do, said simply: each time, all that wait are looked through."""

    def __init__(self, most, places):
        self._most = most
        self._places = places
        #: run -> agent, key
        self.moving: dict[str, tuple[str, str]] = {}
        #: run -> agent, key, priority
        self.waiting: dict[str, tuple[str, str, int]] = {}

    def move(self, run):
        """The dispatcher moves a run: it must have room, and nobody like it may be more urgent."""
        agent, key, priority = self.waiting.pop(run)
        assert self._room(agent, key), run
        assert priority == max([priority, *(p for *like, p in self.waiting.values() if like == [agent, key])]), run
        self.moving[run] = (agent, key)

    def nobody_could_move(self):
        """True when there is room for none of those that wait."""
        return not any(self._room(agent, key) for agent, key, _ in self.waiting.values())

    def _room(self, agent, key):
        used = Counter(name for one, other in self.moving.values() for name in (one, f"{one}/{other}"))
        full = any(used[name] >= self._places.get(name, 1_000) for name in (agent, f"{agent}/{key}"))
        return len(self.moving) < self._most and not full


def test_at_random_it_agrees_with_a_simple_model():
    """Who gets a place has room, and nobody like it is more urgent; nobody waits who has room."""
    for seed in range(150):
        dice = random.Random(seed)
        places = {"a": 2, "a/x": 1, "b": 3, "b/x": 1, "b/y": 2}
        model = Model(6, places)
        dispatcher = Dispatcher(6, Limited(places), weights=WEIGHTS)
        for n in range(80):
            agent, key, priority = dice.choice("abc"), dice.choice(["heavy", "x", "y"]), dice.randrange(3)
            model.waiting[f"r{n}"] = (agent, key, priority)
            dispatcher.offer(f"r{n}", agent, key, priority, n, partial(model.move, f"r{n}"), begins=dice.random() < 0.5)
            for _ in range(dice.randrange(3)):
                _end_or_withdraw(model, dispatcher, dice)
            assert model.nobody_could_move()
            assert (dispatcher.moving, dispatcher.queued) == (len(model.moving), len(model.waiting))
        while model.moving:
            dispatcher.release(model.moving.popitem()[0])
            assert model.nobody_could_move()
        assert (dispatcher.moving, dispatcher.queued, dispatcher._lanes) == (0, 0, {})


def _end_or_withdraw(model, dispatcher, dice):
    if dice.random() < 0.3 and model.waiting:
        gone = dice.choice(sorted(model.waiting))
        del model.waiting[gone]
        dispatcher.withdraw(gone)
    elif model.moving:
        done = dice.choice(sorted(model.moving))
        del model.moving[done]
        dispatcher.release(done)
