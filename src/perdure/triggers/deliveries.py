"""What becomes of what somebody is to be told? Each event for each webhook is a run of a built-in agent.

So a delivery is tried again as any step is, survives a crash as any run does, and can be looked at as any journal can. One
that has used up its tries has failed: the failed runs of this agent are the dead letters.
"""

from __future__ import annotations

from typing import Any

from perdure.agents.agent import AnyAgent, agent
from perdure.agents.context import Context
from perdure.agents.tool import tool
from perdure.errors import InvalidInput
from perdure.kernel.starting import StartOptions, start_run
from perdure.runtime import Runtime
from perdure.store.contract import RunFilter
from perdure.triggers.courier import Courier
from perdure.triggers.webhooks import Webhooks
from perdure.values.clock import iso
from perdure.values.effects import Retries
from perdure.values.json import encode
from perdure.values.runs import Run, RunStatus

AGENT = "perdure.webhook"
#: Tries over about a day: after 5 s, 20 s, 80 s, 5 min, 21 min, 85 min, 5 h 40 min, and every 6 h.
PATIENCE = Retries(retries=9, first_seconds=5.0, factor=4.0, most_seconds=6 * 3600.0)
#: Deliveries under way at once, over all servers: a receiver that does not answer holds few places, and agents the others.
_AT_ONCE = 64
_AT_ONCE_EACH = 8
_PAGE = 500


def delivery_agent(courier: Courier, patience: Retries = PATIENCE) -> AnyAgent:
    """The agent whose runs deliver."""

    @tool(name="deliver", effect="keyed", timeout=60.0, retries=patience)
    async def deliver(webhook: str, run: str, seq: int) -> dict[str, Any]:
        return await courier.deliver(webhook, run, seq)

    @agent(name=AGENT, concurrency=_AT_ONCE, concurrency_per_key=_AT_ONCE_EACH)
    async def webhook(ctx: Context, webhook: str, run: str, seq: int) -> dict[str, Any]:
        """Tells a webhook of one event of a run."""
        return await deliver(webhook, run, seq)

    return webhook


class Deliveries:
    """What is on its way to webhooks, has arrived, or has not."""

    def __init__(self, runtime: Runtime, webhooks: Webhooks, agent: AnyAgent) -> None:
        self._runtime = runtime
        self._webhooks = webhooks
        self._agent = agent

    async def list(self, webhook: str, *, dead: bool = False, limit: int = 100) -> list[dict[str, Any]]:
        """Deliveries to a webhook, newest first; with `dead` those that failed and were not tried again. Raises NotFound."""
        await self._webhooks.find(webhook)
        statuses = (RunStatus.FAILED,) if dead else ()
        found: list[dict[str, Any]] = []
        before: str | None = None
        while len(found) < limit:
            page = await self._runtime.runs(RunFilter(agent=AGENT, statuses=statuses, before=before, limit=_PAGE))
            for run in page:
                if run.concurrency_key == webhook and not (dead and await self._retried(run)):
                    found.append(await self._shown(run))
                    if len(found) == limit:
                        break
            if len(page) < _PAGE:
                break
            before = page[-1].id
        return found

    async def retry(self, webhook: str, delivery: str) -> str:
        """Deliver again what is dead; the id of the new run. Asked again, the same one. Raises NotFound, InvalidInput."""
        await self._webhooks.find(webhook)
        run = await self._runtime.find(delivery)
        if run.agent != AGENT or run.concurrency_key != webhook or run.status is not RunStatus.FAILED:
            raise InvalidInput(
                f"{run.id} is no dead delivery of {webhook}; list them with: perdure webhook dead {webhook}"
            )
        about = (await self._runtime.journal(run.id, 0, 1))[0].data["input"]
        options = StartOptions(idempotency_key=_again(run), concurrency_key=webhook)
        return (await start_run(self._runtime.kernel, self._agent, encode(about), options)).id

    async def _retried(self, run: Run) -> bool:
        return await self._runtime.store.run_by_key(AGENT, _again(run)) is not None

    async def _shown(self, run: Run) -> dict[str, Any]:
        about = (await self._runtime.journal(run.id, 0, 1))[0].data["input"]
        shown = {
            "id": run.id, "status": run.status, "created": iso(run.created), "updated": iso(run.updated),
            "run": about["run"], "seq": about["seq"], "reason": run.reason,
        }  # fmt: skip
        if run.status is RunStatus.FAILED:
            shown["reason"] = (await self._runtime.journal(run.id, run.seq - 1, 1))[0].data["error"]["message"]
        return shown


def _again(run: Run) -> str:
    return f"retry:{run.id}"
