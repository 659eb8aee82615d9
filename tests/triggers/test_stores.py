"""What is told and started is the same in every store, also in one that is several databases."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from perdure import Runtime
from perdure.store import MemoryStore, store_from_url
from perdure.store.many import ManyStores
from perdure.triggers.courier import Courier
from perdure.triggers.cron import Cron
from perdure.triggers.deliveries import delivery_agent
from perdure.triggers.egress import Reach
from perdure.triggers.triggers import Triggers
from perdure.values.clock import SystemClock
from tests.triggers.worlds import AGENTS, Receiver


@pytest.fixture(params=["sqlite", "two memories", "two sqlites", "postgres"])
def store(request, tmp_path):
    """A store of each kind, in real time."""
    clock = SystemClock()
    match request.param:
        case "sqlite":
            return store_from_url(f"sqlite:///{tmp_path}/one.db", clock)
        case "two sqlites":
            return store_from_url(f"sqlite:///{tmp_path}/one.db,sqlite:///{tmp_path}/two.db", clock)
        case "two memories":
            return ManyStores({name: MemoryStore(clock=clock) for name in ("first", "second")}, clock=clock)
    return store_from_url(request.getfixturevalue("postgres_url"), clock)


def test_every_event_is_told_once(store):
    """Also of a run whose key and session live in different databases; and a backfill fills each slot once."""

    async def main():
        async with asyncio.timeout(40), Receiver().listening() as receiver:
            courier = Courier(store, SystemClock(), Reach(loopback=True))
            runtime = Runtime(store, [*AGENTS, delivery_agent(courier)])
            triggers = Triggers(runtime, courier)
            triggers.tell()
            async with runtime, triggers:
                await triggers.webhooks.add(receiver.url, ["run.queued", "run.succeeded"], agent="noting")
                await triggers.look()
                handles = [
                    await runtime.start_json(
                        "noting", f"{number}", session=f"s{number}" if number % 3 else None,
                        idempotency_key=f"k{number}" if number % 2 else None,
                    )
                    for number in range(12)
                ]  # fmt: skip
                await triggers.schedules.add("hourly", "noting", Cron("0 * * * *"), session="clock")
                now = runtime.kernel.clock.now_us()
                filled = (await triggers.schedules.backfill("hourly", now - 4 * 3_600_000_000, now)).runs
                again = await triggers.schedules.backfill("hourly", now - 4 * 3_600_000_000, now)
                assert filled == again.runs
                runs = [*(handle.id for handle in handles), *filled]
                for run in runs:
                    await (await runtime.run(run)).result()
                await receiver.got(2 * len(runs))
                await runtime.idle()
            seen = Counter((event["subject"], event["type"]) for event in receiver.events)
            assert seen == Counter(
                {(run, f"dev.perdure.run.{type}"): 1 for run in runs for type in ("queued", "succeeded")}
            )

    asyncio.run(main())
