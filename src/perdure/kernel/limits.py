"""What is a run limited by, beside the places of its node? By what its agent says: so many at once, so many in a time.

Both in total and for each concurrency key, and for all nodes together. A run that goes on after a wait needs a place
again, but it has begun before: no rate holds it up.
"""

from __future__ import annotations

import logging
from itertools import chain, islice
from typing import TYPE_CHECKING

from perdure.kernel.doors import Door
from perdure.kernel.quotas import Quotas
from perdure.kernel.rates import Rates

if TYPE_CHECKING:
    from perdure.kernel.kernel import Kernel


log = logging.getLogger("perdure.kernel")

#: a node says no more of its limits than this with each beat
_TOLD_MOST = 100


class AgentLimits:
    """The doors that the agents of a node ask for."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._agents = kernel.agents
        self._quotas = Quotas(
            kernel.store, kernel.node, kernel.clock, lease_seconds=kernel.settings.lease_seconds,
            weights=kernel.settings.weights, spawn=kernel.spawn_task, dispatcher=lambda: kernel.dispatcher,
            assured=kernel.membership.term.assured, overdrawn=self._stop_runs,
        )  # fmt: skip
        self._rates = Rates(
            kernel.store, kernel.clock, weights=kernel.settings.weights, spawn=kernel.spawn_task,
            dispatcher=lambda: kernel.dispatcher,
        )  # fmt: skip

    def lost(self) -> None:
        """The node's lease may have run out: what it held of limits is others' now."""
        self._quotas.lost()

    def rest(self) -> None:
        """Ask for nothing any more."""
        self._quotas.rest()
        self._rates.rest()

    def doors(self, agent: str, key: str | None, *, begins: bool) -> tuple[Door, ...]:
        limited = self._agents.latest(agent)
        if limited is None:
            return ()
        # Tokens are spent, places come back: so a run has its places for sure before a token is asked for.
        doors: list[Door] = []
        if limited.concurrency is not None:
            doors.append(self._quotas.door(agent, limited.concurrency))
        if limited.concurrency_per_key is not None and key is not None:
            doors.append(self._quotas.door(_name(agent, key), limited.concurrency_per_key))
        if limited.rate is not None and begins:
            doors.append(self._rates.door(agent, limited.rate))
        if limited.rate_per_key is not None and key is not None and begins:
            doors.append(self._rates.door(_name(agent, key), limited.rate_per_key))
        return tuple(doors)

    def doors_at_once(self, agent: str, key: str | None) -> tuple[Door, ...] | None:
        limited = self._agents.latest(agent)
        if limited is None or limited.unlimited:
            return ()
        if limited.rate is not None or limited.rate_per_key is not None:
            return None
        return self.doors(agent, key, begins=True)

    def used_up(self) -> dict[str, str]:
        """Which limits runs wait for here, in words, by the name of the agent or `agent/key`; some, if there are many."""
        places = ((quota.name, f"concurrency limit {quota.limit}") for quota in self._quotas.shut())
        rates = ((door.name, f"rate limit {door.rate}") for door in self._rates.shut())
        shut = islice(chain(places, rates), _TOLD_MOST)
        return {name: f"{limit} of {name} is used up" for name, limit in shut}

    def _stop_runs(self, limit: str) -> None:
        # Which of its runs is one too many nobody can say; all of them are recovered, each as it has a place again.
        agent = limit.partition("/")[0]
        log.error("others have places that runs of %s move in: this node stops them", limit)
        shards = self._kernel.leases.shards
        self._kernel.ownership.drop([shard for shard in shards if shard.rpartition(":")[0] == agent])


def _name(agent: str, key: str) -> str:
    return f"{agent}/{key}"  # no agent has a slash in its name
