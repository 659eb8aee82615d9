-- name: run
-- One run.
select * from perdure.runs_now where id = %s;

-- name: run_by_key
-- The run an idempotency key started.
select * from perdure.runs_now where agent = %s and idempotency_key = %s;

-- name: runs
-- Runs by a filter: its conditions replace `true`.
select * from perdure.runs_now where true order by key desc limit %(limit)s;

-- name: session_active
-- The session's run that has begun and not ended.
select * from perdure.runs_now
where agent = %s and session = %s and session is not null
    and status in ('running', 'waiting', 'paused', 'quarantined');

-- name: session_next
-- The session's queued run that goes next.
select * from perdure.runs_now
where agent = %s and session = %s and session is not null and status = 'queued'
order by priority desc, key limit 1;

-- name: sessions
-- Sessions from a place on, behind another; from one to the next by the index, however many runs they have had. Their
-- newest runs (`key + 0` keeps the planner from the index on keys, which holds all that is newer), and those that have
-- begun and not ended: asked for one by one, since a join that was planned for empty tables would read whole ones.
with recursive found (agent, session) as (
    select agent, session from (
        select run.agent, run.session from perdure.runs as run
        where run.session is not null
            and (run.agent, run.session) >= (%(first_agent)s::text, %(first_session)s::text)
        order by run.agent, run.session limit 1
    ) as first
    where %(agent)s::text is null or agent = %(agent)s
    union all
    select next.agent, next.session from found cross join lateral (
        select run.agent, run.session from perdure.runs as run
        where run.session is not null and (run.agent, run.session) > (found.agent, found.session)
        order by run.agent, run.session limit 1
    ) as next
    where %(agent)s::text is null or next.agent = %(agent)s
), page as (
    select agent, session from found
    where (agent, session) is distinct from (%(after_agent)s::text, %(after_session)s::text)
    limit %(limit)s
)
select page.agent, page.session, (
    select newest.updated from perdure.runs_now as newest where newest.key = (
        select run.key from perdure.runs as run
        where run.agent = page.agent and run.session = page.session order by run.key + 0 desc limit 1
    )
), (
    select run.id from perdure.runs as run
    where run.agent = page.agent and run.session = page.session and run.session is not null
        and run.status in ('running', 'waiting', 'paused', 'quarantined')
)
from page order by page.agent, page.session;

-- name: active
-- Runs that some owner of these shards had in hand.
select * from perdure.runs_now where shard = any(%(shards)s) and status = 'running' order by key;

-- name: queues
-- What tenants have queued at an agent, by priority; from one to the next by the index, however long they are. Without a
-- priority from the first on.
with recursive queue (priority, tenant) as (
    select %(priority)s::bigint, %(tenant)s::text collate "C"
    union all
    select next.priority, next.tenant from queue cross join lateral (
        (
            select run.priority, coalesce(run.concurrency_key, '') as tenant from perdure.runs as run
            where run.agent = %(agent)s and run.status = 'queued' and run.priority = queue.priority
                and coalesce(run.concurrency_key, '') > queue.tenant
            order by run.priority desc, coalesce(run.concurrency_key, '') limit 1
        )
        union all
        (
            select run.priority, coalesce(run.concurrency_key, '') from perdure.runs as run
            where run.agent = %(agent)s and run.status = 'queued' and run.priority < queue.priority
            order by run.priority desc, coalesce(run.concurrency_key, '') limit 1
        )
        union all
        (
            select run.priority, coalesce(run.concurrency_key, '') from perdure.runs as run
            where run.agent = %(agent)s and run.status = 'queued' and queue.priority is null
            order by run.priority desc, coalesce(run.concurrency_key, '') limit 1
        )
        limit 1
    ) as next
)
select %(agent)s::text, priority, tenant from queue offset 1 limit %(limit)s;

-- name: ready
-- The first runs of some queues that can begin. Those of unknown programs only until their row says so.
select runs_now.* from unnest(
    %(queue_agents)s::text[], %(priorities)s::bigint[], %(tenants)s::text[], %(afters)s::text[]
) as queue (agent, priority, tenant, after)
cross join lateral (
    select run.key from perdure.runs as run
    where run.status = 'queued' and run.agent = queue.agent and run.priority = queue.priority
    and coalesce(run.concurrency_key, '') = queue.tenant
    and run.key > coalesce((select last.key from perdure.runs as last where last.id = queue.after), 0)
    and run.shard = any(%(shards)s)
    and (
        run.wait is null
        or run.wait::json ->> 'kind' is distinct from 'pause' and (
            %(agents)s::text[] is null
            or (run.agent, run.version) in (select * from unnest(%(agents)s::text[], %(versions)s::text[]))
        )
    )
    and (
        run.session is null
        or run.key = (
            select other.key from perdure.runs as other
            where other.agent = run.agent and other.session = run.session and other.status = 'queued'
            order by other.priority desc, other.key limit 1
        )
        and not exists (
            select from perdure.runs as other
            where other.agent = run.agent and other.session = run.session
                and other.status in ('running', 'waiting', 'paused', 'quarantined')
        )
    )
    order by run.key limit %(each)s
) as first
join perdure.runs_now on runs_now.key = first.key
order by first.key;

-- name: due
-- Waiting runs whose timer is due: the earliest of each shard, then the earliest of those.
with earliest as (
    select first.key, first.wake_at from unnest(%(shards)s::text[]) as owned (shard)
    cross join lateral (
        select run.key, run.wake_at from perdure.runs as run
        where run.shard = owned.shard and run.status = 'waiting' and run.wake_at <= %(until)s
        and (
            %(agents)s::text[] is null
            or (run.agent, run.version) in (select * from unnest(%(agents)s::text[], %(versions)s::text[]))
        )
        order by run.wake_at, run.key limit %(limit)s
    ) as first
    order by first.wake_at, first.key limit %(limit)s
)
select runs_now.* from earliest join perdure.runs_now on runs_now.key = earliest.key
order by earliest.wake_at, earliest.key;

-- name: next_due
-- The earliest timer of a waiting run.
select min((
    select min(run.wake_at) from perdure.runs as run
    where run.shard = owned.shard and run.status = 'waiting' and run.wake_at is not null and (
        %(agents)s::text[] is null
        or (run.agent, run.version) in (select * from unnest(%(agents)s::text[], %(versions)s::text[]))
    )
))
from unnest(%(shards)s::text[]) as owned (shard);

-- name: backlog
-- What each shard's owner has yet to do: runs that could begin, timers that are due, word for runs that could take it.
with todo (shard, kind, since) as (
    select run.shard, 'queued', run.created from perdure.runs as run
    where run.status = 'queued' and coalesce(run.wait::json ->> 'kind', '') <> 'pause' and (
        run.session is null or not exists (
            select from perdure.runs as other
            where other.agent = run.agent and other.session = run.session
                and other.status in ('running', 'waiting', 'paused', 'quarantined')
        )
    )
    union all
    select run.shard, 'due', run.wake_at from perdure.shards as owned
    join perdure.runs as run on run.shard = owned.name and run.status = 'waiting' and run.wake_at <= %(now)s
    union all
    select run.shard, 'unread', signal.created from perdure.signals as signal
    join perdure.runs as run on run.id = signal.run and run.status in ('running', 'waiting')
)
select shard,
    count(*) filter (where kind = 'queued'), min(since) filter (where kind = 'queued'),
    count(*) filter (where kind = 'due'), min(since) filter (where kind = 'due'),
    count(*) filter (where kind = 'unread'), min(since) filter (where kind = 'unread')
from todo group by shard order by shard;

-- name: events
-- A run's journal in its own name, with the prefixes that it shares. Each stretch by itself, so that a plan which was
-- made while the tables were empty goes through no other journal when they are full.
with recursive stretch as (
    select shard, id, forked_run, forked_seq, 9223372036854775807 as last from perdure.runs where id = %(run)s
    union all
    select origin.shard, origin.id, origin.forked_run, origin.forked_seq, least(stretch.last, stretch.forked_seq)
    from stretch cross join lateral (
        select * from perdure.runs where id = stretch.forked_run order by id limit 1
    ) as origin
)
select %(run)s, event.seq, event.type, event.time, event.step, event.attempt, event.data
from stretch cross join lateral (
    select * from perdure.events
    where shard = stretch.shard and run = stretch.id and seq > %(after)s and seq <= stretch.last
    order by shard, run, seq limit %(limit)s
) as event
order by event.seq limit %(limit)s;

-- name: signals
-- What came for the owners of these shards since a snapshot, and the snapshot of this look. `xmin` is for the
-- index: what is older has been seen. `id + 0` keeps the planner from the index on ids, which holds all that is old.
select snapshot.now, signal.agent, signal.session, signal.run, signal.kind, signal.data, signal.shard, signal.created,
    signal.id
from (select pg_current_snapshot()::text as now) as snapshot
left join lateral (
    select * from perdure.signals
    where shard = any(%(shards)s) and id > %(after)s
        and put_in >= coalesce(pg_snapshot_xmin(%(since)s::pg_snapshot), '0')
        and (%(since)s::pg_snapshot is null or not pg_visible_in_snapshot(put_in, %(since)s::pg_snapshot))
    order by id + 0 limit %(limit)s
) as signal on true
order by signal.id;

-- name: run_signals
-- What waits for one run: addressed to it, or to its session at large.
select agent, session, run, kind, data, shard, created, id from perdure.signals where run = %(run)s
union all
select signal.agent, signal.session, null, signal.kind, signal.data, signal.shard, signal.created, signal.id
from perdure.runs as run
join perdure.signals as signal on signal.agent = run.agent and signal.session = run.session and signal.run is null
where run.id = %(run)s
order by id;

-- name: ask
-- One question or approval.
select id, run, agent, session, shard, step, kind, title, detail, addressee, created, deadline, status, answer,
    closed_by, note, closed
from perdure.asks where id = %s;

-- name: asks
-- Questions and approvals by run, addressee and status, oldest first: conditions replace `true`.
select id, run, agent, session, shard, step, kind, title, detail, addressee, created, deadline, status, answer,
    closed_by, note, closed
from perdure.asks where true order by key limit %(limit)s;

-- name: state
-- A session's state.
select name, value from perdure.state where agent = %s and session = %s;

-- name: slots
-- Into how many shards an agent's sessions are spread.
select value::integer from perdure.meta where name = 'slots';
