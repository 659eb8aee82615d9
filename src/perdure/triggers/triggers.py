"""All that starts runs from outside and tells others of them, on one node.

    courier = Courier(store, clock)
    runtime = Runtime(store, [*agents, delivery_agent(courier)], clock=clock)
    triggers = Triggers(runtime, courier)
    triggers.tell()
    async with runtime, triggers: ...

A server does all of it. A node that only works tells webhooks of what its runs do, `Triggers(runtime).tell()`, and leaves
the rest to servers.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from perdure.runtime import Runtime
from perdure.triggers.courier import Courier
from perdure.triggers.deliveries import AGENT, Deliveries, delivery_agent
from perdure.triggers.inbound import Inbounds
from perdure.triggers.links import Links
from perdure.triggers.schedules import Schedules
from perdure.triggers.subscriptions import Subscriptions
from perdure.triggers.timetable import Timetable
from perdure.triggers.webhooks import Webhooks


class Triggers:
    """Schedules, webhooks in both directions, and links."""

    def __init__(self, runtime: Runtime, courier: Courier | None = None) -> None:
        clock = runtime.kernel.clock
        self.courier = courier or Courier(runtime.store, clock)
        agent = runtime.agents.latest(AGENT) or delivery_agent(self.courier)
        self.schedules = Schedules(runtime)
        self.timetable = Timetable(self.schedules, clock)
        self.webhooks = Webhooks(runtime.store, clock)
        self.deliveries = Deliveries(runtime, self.webhooks, agent)
        self.subscriptions = Subscriptions(runtime.kernel, self.webhooks, agent)
        self.inbound = Inbounds(runtime)
        self.links = Links(runtime)

    def tell(self) -> None:
        """Have webhooks told of what this node's runs do. Before the runtime starts."""
        self.subscriptions.attach()

    async def look(self) -> None:
        """Something was changed here: this node knows at once, others within seconds."""
        self.timetable.look_now()
        if self.subscriptions.attached:
            await self.subscriptions.look()

    async def __aenter__(self) -> Self:
        """Start what is scheduled, from now on."""
        self.timetable.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.timetable.stop()
