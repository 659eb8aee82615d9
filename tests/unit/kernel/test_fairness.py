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
    """Agents with one limit each; those that have none in `places` are not limited."""

    def __init__(self, **places):
        self._doors = {agent: Places(agent, WEIGHTS, held) for agent, held in places.items()}

    def doors(self, agent, key, *, begins):
        return (self._doors[agent],) if agent in self._doors else ()

    def doors_at_once(self, agent, key):
        return self.doors(agent, key, begins=True)


WEIGHTS = {"heavy": 3.0, "half": 0.5}


class Queue:
    """A dispatcher, and the order in which runs got their places. A run is named `agent/key/number`."""

    def __init__(self, most=1, **places):
        self.moved: list[str] = []
        self.moving: list[str] = []
        self.dispatcher = Dispatcher(most, Limited(**places), weights=WEIGHTS)
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
    """What a dispatcher should do, said simply: all that wait in one list, looked through from the start each time."""

    def __init__(self, most, places):
        self.places = {"node": most} | places
        self.moving: dict[str, tuple[str, str]] = {}
        self.waiting: dict[str, tuple[str, str, int]] = {}

    def room(self, agent):
        used = sum(1 for one, _ in self.moving.values() if one == agent)
        return len(self.moving) < self.places["node"] and used < self.places.get(agent, 1_000)

    def stuck(self):
        """True when nobody who waits has room, which is when a dispatcher may leave them waiting."""
        return not any(self.room(agent) for agent, _, _ in self.waiting.values())


def test_at_random_it_agrees_with_a_simple_model():
    """Who gets a place has room and is the most urgent of its agent that waits; nobody waits who has room."""
    for seed in range(150):
        dice = random.Random(seed)
        places = {"a": 1, "b": 2}
        model = Model(4, places)
        dispatcher = Dispatcher(4, Limited(**places), weights=WEIGHTS)

        def move(run, model=model):
            agent, key, priority = model.waiting.pop(run)
            assert model.room(agent), run
            rivals = [p for other, k, p in model.waiting.values() if (other, k) == (agent, key)]
            assert priority >= max(rivals, default=priority), run
            model.moving[run] = (agent, key)

        for n in range(80):
            agent, key, priority = dice.choice("abc"), dice.choice(["heavy", "x", "y"]), dice.randrange(3)
            model.waiting[f"r{n}"] = (agent, key, priority)
            dispatcher.offer(f"r{n}", agent, key, priority, n, partial(move, f"r{n}"), begins=dice.random() < 0.5)
            for _ in range(dice.randrange(3)):
                if dice.random() < 0.3 and model.waiting:
                    gone = dice.choice(sorted(model.waiting))
                    del model.waiting[gone]
                    dispatcher.withdraw(gone)
                elif model.moving:
                    done = dice.choice(sorted(model.moving))
                    del model.moving[done]
                    dispatcher.release(done)
            assert model.stuck()
            assert (dispatcher.moving, dispatcher.queued) == (len(model.moving), len(model.waiting))
        while model.moving:
            done = model.moving.popitem()[0]
            dispatcher.release(done)
        assert (dispatcher.moving, dispatcher.queued, dispatcher._lanes) == (0, 0, {})
