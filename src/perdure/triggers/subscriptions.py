"""Which events does this node tell of? The webhooks of the store, as of a few seconds ago.

Known before the node does its first work, so that no event of a recovery is missed; and while there are none, no commit
is looked at.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from perdure.agents.agent import AnyAgent
from perdure.errors import StoreError
from perdure.kernel.contract import Notice
from perdure.kernel.kernel import Kernel
from perdure.triggers.webhooks import Webhook, Webhooks
from perdure.values.events import Event
from perdure.values.ids import notice_run_id
from perdure.values.json import encode

log = logging.getLogger("perdure.triggers")

#: What others change is seen within this.
LOOK_SECONDS = 3.0
#: Agents of Perdure's own: nobody is told of what they do, or telling would be told of.
OWN = "perdure."


class Subscriptions:
    """What a kernel is to tell of; `agent` is the one whose runs tell it."""

    def __init__(self, kernel: Kernel, webhooks: Webhooks, agent: AnyAgent) -> None:
        self._kernel = kernel
        self._webhooks = webhooks
        self._agent = agent
        self.attached = False
        self._known: Sequence[Webhook] = ()
        #: (agent, event type) -> ids of webhooks
        self._wanted: dict[tuple[str, str], tuple[str, ...]] = {}

    def attach(self) -> None:
        """Have the kernel ask here, from before its first work on."""
        self.attached = True
        self._kernel.before_work.append(self._begin)

    async def look(self) -> None:
        """See what was changed. Raises StoreError."""
        self._known = [webhook for webhook in await self._webhooks.list() if webhook.disabled is None]
        self._wanted = {}
        self._kernel.tell(self if self._known else None)

    def notices(self, agent: str, event: Event) -> Iterator[Notice]:
        """What tells of an event: a run for each webhook that wants it."""
        wanted = self._wanted.get((agent, event.type))
        if wanted is None:
            own = agent.startswith(OWN)
            wanted = tuple(hook.id for hook in self._known if not own and hook.wants(agent, event.type))
            self._wanted[agent, event.type] = wanted
        for id in wanted:
            about = encode({"webhook": id, "run": event.run, "seq": event.seq})
            yield Notice(self._agent, notice_run_id(event.run, event.seq, id), about, id)

    async def _begin(self) -> None:
        await self.look()
        self._look_later()

    def _look_later(self) -> None:
        self._kernel.clock.call_later(LOOK_SECONDS, self._look_again, upkeep=True)

    def _look_again(self) -> None:
        if not self._kernel.halted:
            self._kernel.spawn_task(self._try_look())

    async def _try_look(self) -> None:
        try:
            await self.look()
        except StoreError as error:
            log.warning("webhooks are as they were: %s", error)
        except Exception:
            log.exception("webhooks are as they were")
        self._look_later()
