"""The dispatcher alone: places, limits, order."""

from __future__ import annotations

import random
from functools import partial
from typing import NamedTuple

from perdure.kernel.dispatch import Dispatcher
from perdure.kernel.doors import Places


class Limits(NamedTuple):
    """How many runs of an agent may move at once: in total, and per concurrency key. None means any number."""

    total: int | None = None
    per_key: int | None = None


class OwnLimits:
    """Limits that nobody else shares."""

    def __init__(self, limits):
        self._limits = limits
        self._doors: dict[str, Places] = {}

    def doors(self, agent, key, *, begins):
        limits = self._limits.get(agent, Limits())
        named = {agent: limits.total, f"{agent}/{key}": limits.per_key if key is not None else None}
        return tuple(
            self._doors.setdefault(name, Places(name, {}, held)) for name, held in named.items() if held is not None
        )

    def doors_at_once(self, agent, key):
        return self.doors(agent, key, begins=True)


class Runs:
    """Runs that note when they got a place."""

    def __init__(self, most=100, **limits):
        self.moved = []
        self.dispatcher = Dispatcher(most, OwnLimits(limits))

    def offer(self, run, agent="a", key=None, priority=0, created=0):
        self.dispatcher.offer(run, agent, key, priority, created, lambda: self.moved.append(run))


def test_places_go_by_priority_then_age():
    """Among those that wait."""
    runs = Runs(most=1)
    runs.offer("first")
    for run, priority, created in (("old", 0, 1), ("young", 0, 2), ("urgent", 5, 3)):
        runs.offer(run, priority=priority, created=created)
    for run in ("first", "urgent", "old", "young"):
        runs.dispatcher.release(run)
    assert runs.moved == ["first", "urgent", "old", "young"]
    assert (runs.dispatcher.moving, runs.dispatcher.queued) == (0, 0)


def test_offering_twice_and_releasing_what_holds_nothing_change_nothing():
    """A run moves once for one place."""
    runs = Runs(most=1)
    for _ in range(3):
        runs.offer("a")
        runs.offer("b")
    runs.dispatcher.release("b")
    runs.dispatcher.release("a")
    assert runs.moved == ["a", "b"]


def test_a_full_agent_or_key_does_not_block_others():
    """Who is blocked waits aside."""
    runs = Runs(a=Limits(total=1), b=Limits(per_key=1))
    for n in range(3):
        runs.offer(f"a{n}", "a")
        runs.offer(f"bx{n}", "b", "x")
    runs.offer("by", "b", "y")
    runs.offer("c", "c")
    assert runs.moved == ["a0", "bx0", "by", "c"]
    runs.dispatcher.release("bx0")
    runs.dispatcher.release("a0")
    assert runs.moved[4:] == ["bx1", "a1"]


def test_a_withdrawn_run_passes_its_turn_on():
    """Also when it was blocked."""
    runs = Runs(a=Limits(total=1))
    for n in range(4):
        runs.offer(f"a{n}", "a")
    runs.dispatcher.withdraw("a1")
    runs.dispatcher.withdraw("a2")
    runs.dispatcher.release("a0")
    assert runs.moved == ["a0", "a3"]
    assert runs.dispatcher.queued_of("a") == 0


def test_at_random_nobody_starves_and_no_limit_is_passed():
    """Whatever the order of offers, withdrawals and releases: at the end everybody had a place."""
    for seed in range(200):
        dice = random.Random(seed)
        limits = {"a": Limits(2, 1), "b": Limits(3, None), "c": Limits(None, 2)}
        moving: dict[str, tuple[str, str | None]] = {}
        moved: set[str] = set()
        withdrawn: set[str] = set()
        dispatcher = Dispatcher(5, OwnLimits(limits))

        def move(run, agent, key, moving=moving, moved=moved):
            moving[run] = (agent, key)
            moved.add(run)

        offered = set()
        for n in range(60):
            agent, key = dice.choice("abc"), dice.choice([None, "x", "y"])
            run = f"{agent}{n}"
            offered.add(run)
            dispatcher.offer(run, agent, key, dice.randrange(3), n, partial(move, run, agent, key))
            if dice.random() < 0.2 and (waiting := sorted(offered - moved - withdrawn)):
                gone = dice.choice(waiting)
                withdrawn.add(gone)
                dispatcher.withdraw(gone)
            if dice.random() < 0.4 and moving:
                done = dice.choice(sorted(moving))
                del moving[done]
                dispatcher.release(done)
            assert len(moving) <= 5
            for agent, limit in limits.items():
                mine = [key for one, key in moving.values() if one == agent]
                assert limit.total is None or len(mine) <= limit.total
                for key in ("x", "y"):
                    assert limit.per_key is None or mine.count(key) <= limit.per_key
        while moving:
            done = next(iter(moving))
            del moving[done]
            dispatcher.release(done)
        assert moved == offered - withdrawn
        assert (dispatcher.moving, dispatcher.queued, dispatcher._lanes) == (0, 0, {})
