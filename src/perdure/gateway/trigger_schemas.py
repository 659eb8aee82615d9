"""What do callers send and get that is about triggers: schedules, webhooks in both directions, links?"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from perdure.gateway.schemas import Given, Limit, Moment, Note, Shown, Text
from perdure.triggers.inbound import Action
from perdure.triggers.signatures import Scheme

Name = Annotated[str, Field(min_length=1, max_length=100)]
Secret = Annotated[str | None, Field(max_length=1000, description="Left out, one is made.")]


class Slot(Shown):
    """A slot that was dealt with: its run, or why there is none."""

    slot: Moment
    run: str | None


class Schedule(Shown):
    """When an agent is started by itself."""

    name: str
    agent: str
    cron: str
    timezone: str
    input: Any
    session: str | None
    paused: bool
    catch_up_seconds: float
    next: Moment | None
    last: Slot | None
    problem: Annotated[str | None, Field(description="Why this server cannot read it, or null.")]


class Schedules(Shown):
    """All schedules, by name."""

    items: list[Schedule]
    next: None


class ScheduleBody(Given):
    """A new schedule."""

    name: Name
    agent: Name
    cron: Annotated[str, Field(max_length=200, description="minute hour day month weekday")]
    timezone: Annotated[str, Field(max_length=100, description="IANA, as Europe/Berlin")] = "UTC"
    input: Any = None
    session: Annotated[str | None, Field(min_length=1, max_length=1000)] = None
    paused: bool = False
    catch_up_seconds: Annotated[float, Field(ge=0, le=31 * 86_400)] = 0


class Backfill(Given):
    """Which slots: from `since` to `until`, both included, 1,000 at most."""

    since: Moment
    until: Moment


class Unstarted(Shown):
    """A slot that could not start, and why."""

    slot: Moment
    problem: str


class Started(Shown):
    """The runs that there are now for these slots, oldest first, and the slots that have none."""

    runs: list[str]
    problems: list[Unstarted]


class Webhook(Shown):
    """Who is told of which events; without its secret."""

    id: str
    url: str
    types: list[str]
    agent: str | None
    created: Moment
    disabled: str | None


class NewWebhook(Webhook):
    """A webhook with its secret, which is shown this once."""

    secret: str


class WebhookList(Shown):
    """All webhooks."""

    items: list[Webhook]
    next: None


class WebhookBody(Given):
    """A new webhook."""

    url: Annotated[str, Field(max_length=2000)]
    types: Annotated[tuple[Text, ...], Field(min_length=1, max_length=50, description="run.failed, ask.*")]
    agent: Text | None = None
    secret: Secret = None


class Trial(Shown):
    """What came of a test."""

    ok: bool
    status: int | None


class DeliveryQuery(Given):
    """Which deliveries."""

    status: Literal["dead", "all"] = "all"
    limit: Limit = 100


class Delivery(Shown):
    """An event on its way: a run of the agent perdure.webhook."""

    id: str
    status: str
    run: str
    seq: int
    reason: str | None


class DeliveryList(Shown):
    """Deliveries, newest first."""

    items: list[Delivery]
    next: None


class Retried(Shown):
    """The delivery that goes on."""

    id: str


class Inbound(Shown):
    """What a webhook of somebody else does here; without its secret."""

    name: str
    agent: str
    action: Action
    topic: str | None
    session_from: str | None
    scheme: Scheme
    created: Moment


class NewInbound(Inbound):
    """An inbound webhook with its address, and its secret, which is shown this once."""

    secret: str
    url: str


class InboundList(Shown):
    """All inbound webhooks."""

    items: list[Inbound]
    next: None


class InboundBody(Given):
    """A new inbound webhook."""

    name: Name
    agent: Name
    action: Action = "start"
    topic: Annotated[str | None, Field(min_length=1, max_length=1000)] = None
    session_from: Annotated[str | None, Field(max_length=1000, description="JSON pointer into the body")] = None
    scheme: Scheme = Scheme.STANDARD
    secret: Secret = None


class Taken(Shown):
    """It was taken: the run that it started, or null for a message."""

    run: str | None


class LinkBody(Given):
    """A new link: for how long, for whom (the journal's `by` names him), and whether he may change the arguments."""

    expires_seconds: Annotated[float, Field(ge=1, le=30 * 86_400)] = 86_400
    to: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    edit: bool = False


class Link(Shown):
    """A link, which is shown this once."""

    url: str
    expires: Moment


class LinkForm(Given):
    """What the page of a link sends."""

    decision: Literal["approve", "reject"]
    note: Note = None
