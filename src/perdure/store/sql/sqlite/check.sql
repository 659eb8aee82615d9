-- name: pages
-- SQLite's own check of every page and index.
pragma integrity_check(20);

-- name: gaps
-- Journals whose numbers are not dense from their beginning.
select 'run ' || run.id || ': ' || count(*) || ' events, but they are numbered ' || min(event.seq) || ' to '
    || max(event.seq)
from perdure_events as event join perdure_runs as run on run.key = event.run
group by event.run
having min(event.seq) != coalesce(run.forked_seq, 0) + 1
    or max(event.seq) != coalesce(run.forked_seq, 0) + count(*)
limit 20;

-- name: unreadable
-- Events whose data is no JSON.
select 'run ' || coalesce(run.id, event.run) || ': event ' || event.seq || ' is unreadable'
from perdure_events as event left join perdure_runs as run on run.key = event.run
where not json_valid(event.data) limit 20;

-- name: orphans
-- Events that belong to no run.
select 'events of an unknown run: key ' || event.run || ', ' || count(*) || ' events'
from perdure_events as event where event.run not in (select key from perdure_runs)
group by event.run limit 20;

-- name: after_the_end
-- Events after a terminal one.
select 'run ' || run.id || ': ' || type.name || ' at ' || last.seq || ' is not its last event'
from perdure_event_types as type
join perdure_events as last on last.type = type.code
join perdure_runs as run on run.key = last.run
where type.name in ('run.succeeded', 'run.failed', 'run.cancelled', 'run.continued')
    and exists (select 1 from perdure_events as later where later.run = last.run and later.seq > last.seq)
limit 20;

-- name: two_active
-- Sessions with more than one run that has begun and not ended.
select 'session ' || agent || '/' || session || ': ' || count(*) || ' active runs'
from perdure_runs
where session is not null and status in ('running', 'waiting', 'paused', 'quarantined')
group by agent, session having count(*) > 1 limit 20;

-- name: no_journal
-- Runs without any event.
select 'run ' || id || ': it has no events'
from perdure_runs where not exists (select 1 from perdure_events where run = key) and forked_run is null limit 20;
