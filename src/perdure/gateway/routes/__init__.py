"""What can be asked for? Each file holds the endpoints about one kind of thing."""

from __future__ import annotations

from perdure.gateway.endpoint import Section
from perdure.gateway.routes.agents import agents
from perdure.gateway.routes.asks import asks
from perdure.gateway.routes.documents import documents
from perdure.gateway.routes.inbound import inbound
from perdure.gateway.routes.keys import keys
from perdure.gateway.routes.links import links
from perdure.gateway.routes.login import login
from perdure.gateway.routes.runs import runs
from perdure.gateway.routes.schedules import schedules
from perdure.gateway.routes.server import server
from perdure.gateway.routes.sessions import sessions
from perdure.gateway.routes.steering import steering
from perdure.gateway.routes.webhooks import webhooks

#: In the order in which people read about them.
SECTIONS: tuple[Section, ...] = (
    agents, runs, steering, asks, sessions, schedules, webhooks, inbound, links, server, keys, login, documents,
)  # fmt: skip
