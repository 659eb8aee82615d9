-- name: gaps
-- Journals whose numbers are not dense from their beginning.
select 'run ' || run.id || ': ' || count(*) || ' events, but they are numbered ' || min(event.seq) || ' to '
    || max(event.seq)
from perdure.events as event join perdure.runs as run on run.id = event.run and run.shard = event.shard
group by run.id, run.forked_seq
having min(event.seq) != coalesce(run.forked_seq, 0) + 1
    or max(event.seq) != coalesce(run.forked_seq, 0) + count(*)
limit 20;

-- name: orphans
-- Events that belong to no run of their shard.
select 'events of an unknown run: ' || event.run || ' of shard ' || event.shard || ', ' || count(*) || ' events'
from perdure.events as event
where not exists (select from perdure.runs as run where run.id = event.run and run.shard = event.shard)
group by event.shard, event.run limit 20;

-- name: after_the_end
-- Events after a terminal one.
select 'run ' || last.run || ': ' || last.type || ' at ' || last.seq || ' is not its last event'
from perdure.events as last
where last.type in ('run.succeeded', 'run.failed', 'run.cancelled', 'run.continued')
    and exists (
        select from perdure.events as later
        where later.shard = last.shard and later.run = last.run and later.seq > last.seq
    )
limit 20;

-- name: two_active
-- Sessions with more than one run that has begun and not ended.
select 'session ' || agent || '/' || session || ': ' || count(*) || ' active runs'
from perdure.runs
where session is not null and status in ('running', 'waiting', 'paused', 'quarantined')
group by agent, session having count(*) > 1 limit 20;

-- name: no_journal
-- Runs without any event.
select 'run ' || id || ': it has no events'
from perdure.runs as run
where forked_run is null
    and not exists (select from perdure.events as event where event.shard = run.shard and event.run = run.id)
limit 20;

-- name: unreadable
-- Events whose data is no JSON.
select 'run ' || run || ': event ' || seq || ' is unreadable'
from perdure.events where not perdure.is_json(data) limit 20;
