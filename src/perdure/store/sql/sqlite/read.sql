-- name: run
-- One run.
select * from perdure_runs_now where id = ?;

-- name: run_by_key
-- The run an idempotency key started.
select * from perdure_runs_now where agent = ? and idempotency_key = ?;

-- name: runs
-- Runs by a filter: its conditions replace `true`.
select * from perdure_runs_now where true order by key desc limit :limit;

-- name: session_active
-- The session's run that has begun and not ended.
select * from perdure_runs_now
where agent = ? and session = ? and session is not null
    and status in ('running', 'waiting', 'paused', 'quarantined');

-- name: session_next
-- The session's queued run that goes next.
select * from perdure_runs_now
where agent = ? and session = ? and session is not null and status = 'queued'
order by priority desc, key limit 1;

-- name: sessions
-- Sessions from a place on, behind another; from one to the next by the index, however many runs they have had. Their
-- newest runs, and those that have begun and not ended.
with recursive found (agent, session) as (
    select agent, session from (
        select run.agent, run.session from perdure_runs as run
        where run.session is not null and (run.agent, run.session) >= (:first_agent, :first_session)
        order by run.agent, run.session limit 1
    )
    where :agent is null or agent = :agent
    union all
    select next.agent, next.session from found join perdure_runs as next on next.key = coalesce(
        (
            select run.key from perdure_runs as run
            where run.session is not null and run.agent = found.agent and run.session > found.session
            order by run.session limit 1
        ),
        (
            select run.key from perdure_runs as run
            where run.session is not null and run.agent > found.agent and :agent is null
            order by run.agent, run.session limit 1
        )
    )
    limit :limit + 1
)
select found.agent, found.session, newest.updated, (
    select run.id from perdure_runs as run
    where run.agent = found.agent and run.session = found.session and run.session is not null
        and run.status in ('running', 'waiting', 'paused', 'quarantined')
)
from found join perdure_runs_now as newest on newest.key = (
    select run.key from perdure_runs as run
    where run.agent = found.agent and run.session = found.session and run.session is not null
    order by run.key desc limit 1
)
where (found.agent, found.session) is not (:after_agent, :after_session)
order by found.agent, found.session limit :limit;

-- name: active
-- Runs that some owner of these shards had in hand.
select * from perdure_runs_now
where key in (
    select run.key from json_each(:shards) as owned
    join perdure_runs as run on run.shard = owned.value and run.status = 'running'
)
order by key;

-- name: queues
-- What tenants have queued at an agent, by priority; from one to the next by the index, however long they are. Without a
-- priority from the first on.
with recursive queue (priority, tenant) as (
    select :priority, :tenant
    union all
    select next.priority, coalesce(next.concurrency_key, '')
    from queue join perdure_runs as next on next.key = coalesce(
        (
            select run.key from perdure_runs as run
            where run.agent = :agent and run.status = 'queued' and run.priority = queue.priority
                and coalesce(run.concurrency_key, '') > queue.tenant
            order by coalesce(run.concurrency_key, ''), run.key limit 1
        ),
        (
            select run.key from perdure_runs as run
            where run.agent = :agent and run.status = 'queued' and run.priority < queue.priority
            order by run.priority desc, coalesce(run.concurrency_key, '') limit 1
        ),
        (
            select run.key from perdure_runs as run
            where run.agent = :agent and run.status = 'queued' and queue.priority is null
            order by run.priority desc, coalesce(run.concurrency_key, '') limit 1
        )
    )
    limit :limit + 1
)
select :agent, priority, tenant from queue limit -1 offset 1;

-- name: ready
-- The first runs of some queues that can begin. Those of unknown programs only until their row says so.
select * from perdure_runs_now
where key in (
    select first.key from json_each(:queues) as queue
    join perdure_runs as first on first.key in (
        select run.key from perdure_runs as run
        where run.status = 'queued' and run.agent = queue.value ->> 0 and run.priority = queue.value ->> 1
        and coalesce(run.concurrency_key, '') = queue.value ->> 2
        and run.key > coalesce((select last.key from perdure_runs as last where last.id = queue.value ->> 3), 0)
        and run.shard in (select value from json_each(:shards))
        and (
            run.wait is null
            or run.wait ->> '$.kind' is not 'pause' and (
                :programs is null
                or (run.agent, run.version) in (select value ->> 0, value ->> 1 from json_each(:programs))
            )
        )
        and (
            run.session is null
            or run.key = (
                select other.key from perdure_runs as other
                where other.agent = run.agent and other.session = run.session and other.session is not null
                    and other.status = 'queued'
                order by other.priority desc, other.key limit 1
            )
            and not exists (
                select 1 from perdure_runs as other
                where other.agent = run.agent and other.session = run.session and other.session is not null
                    and other.status in ('running', 'waiting', 'paused', 'quarantined')
            )
        )
        order by run.key limit :each
    )
)
order by key;

-- name: due
-- Waiting runs whose timer is due: the earliest of each shard, then the earliest of those.
select * from perdure_runs_now
where key in (
    select first.key from json_each(:shards) as owned
    join perdure_runs as first on first.key in (
        select run.key from perdure_runs as run
        where run.shard = owned.value and run.status = 'waiting' and run.wake_at <= :until and (
            :programs is null
            or (run.agent, run.version) in (select value ->> 0, value ->> 1 from json_each(:programs))
        )
        order by run.wake_at, run.key limit :limit
    )
    order by first.wake_at, first.key limit :limit
)
order by wake_at, key;

-- name: next_due
-- The earliest timer of a waiting run.
select min((
    select min(run.wake_at) from perdure_runs as run
    where run.shard = owned.value and run.status = 'waiting' and run.wake_at is not null and (
        :programs is null
        or (run.agent, run.version) in (select value ->> 0, value ->> 1 from json_each(:programs))
    )
))
from json_each(:shards) as owned;

-- name: journal
-- Where a run's own events are, and whose prefix it shares.
select key, forked_run, forked_seq from perdure_runs where id = ?;

-- name: event_types
-- The names behind the numbers.
select code, name from perdure_event_types;

-- name: backlog
-- What each shard's owner has yet to do: runs that could begin, timers that are due, word for runs that could take it.
with todo (shard, kind, since) as (
    select run.shard, 'queued', run.created from perdure_runs as run
    where run.status = 'queued' and coalesce(run.wait ->> '$.kind', '') <> 'pause' and (
        run.session is null or not exists (
            select 1 from perdure_runs as other
            where other.agent = run.agent and other.session = run.session
                and other.status in ('running', 'waiting', 'paused', 'quarantined')
        )
    )
    union all
    select run.shard, 'due', run.wake_at from perdure_shards as owned
    join perdure_runs as run on run.shard = owned.name and run.status = 'waiting' and run.wake_at <= :now
    union all
    select run.shard, 'unread', signal.created from perdure_signals as signal
    join perdure_runs as run on run.id = signal.run and run.status in ('running', 'waiting')
)
select shard,
    count(*) filter (where kind = 'queued'), min(since) filter (where kind = 'queued'),
    count(*) filter (where kind = 'due'), min(since) filter (where kind = 'due'),
    count(*) filter (where kind = 'unread'), min(since) filter (where kind = 'unread')
from todo group by shard order by shard;

-- name: events
-- A stretch of a journal.
select seq, type, time, step, attempt, data from perdure_events
where run = ? and seq > ? and seq <= ? order by seq limit ?;

-- name: end
-- Where a run's own journal ends before a given event, and the highest step until there.
select coalesce(max(seq), 0), coalesce(max(step), 0) from perdure_events where run = ? and seq <= ?;

-- name: signals
-- What waits for the owners of these shards.
select agent, session, run, kind, data, shard, created, id from perdure_signals
where id > :after and shard in (select value from json_each(:shards))
order by id limit :limit;

-- name: run_signals
-- What waits for one run: addressed to it, or to its session at large.
select agent, session, run, kind, data, shard, created, id from perdure_signals where run = :run
union all
select signal.agent, signal.session, null, signal.kind, signal.data, signal.shard, signal.created, signal.id
from perdure_runs as run
join perdure_signals as signal
    on signal.agent = run.agent and signal.session is run.session and signal.run is null
where run.id = :run
order by id;

-- name: ask
-- One question or approval.
select id, run, agent, session, shard, step, kind, title, detail, addressee, created, deadline, status, answer,
    closed_by, note, closed
from perdure_asks where id = ?;

-- name: asks
-- Questions and approvals by run, addressee and status, oldest first: conditions replace `true`.
select id, run, agent, session, shard, step, kind, title, detail, addressee, created, deadline, status, answer,
    closed_by, note, closed
from perdure_asks where true order by key limit :limit;

-- name: state
-- A session's state.
select name, value from perdure_state where agent = ? and session = ?;

-- name: slots
-- Into how many shards an agent's sessions are spread.
select cast(value as integer) from perdure_meta where name = 'slots';

-- name: changes
-- A number that grows when another connection has committed.
pragma data_version;
