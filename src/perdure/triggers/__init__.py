"""What starts runs from outside, and who is told of them?

    triggers.py       all of it, on one node: what a server starts and stops
    schedules.py      definitions: cron expressions with time zones; timetable.py starts what is due
    cron.py           when
    webhooks.py       who is told: subscriptions; subscriptions.py says so to the kernel, courier.py carries the news
    deliveries.py     the built-in agent whose runs are deliveries, and what became of them
    egress.py         which addresses may be called, and how
    inbound.py        webhooks of others that start runs or bring messages
    signatures.py     who signed this?
    links.py          approvals with one tap
    records.py        definitions are documents of the store

Nothing here is a second way to run anything: a slot, a delivery, a hook each becomes a run, with an idempotency key.
"""
