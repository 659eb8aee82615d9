-- name: held
-- The shards of which there is anything here.
select name from perdure.shards where epoch > 0 union select shard from perdure.runs order by 1;

-- name: freeze
-- A shard's epoch ends, and nobody can claim it. Waits for all that is being written to it.
with held as (
    select name from perdure.shards where name = %(shard)s and move <= %(move)s for update
)
update perdure.shards as shard
set owner = %(owner)s, epoch = epoch + 1, expires = 4611686018427387904, move = %(move)s
from held where shard.name = held.name
returning shard.epoch;

-- name: thaw
-- A shard is free, in an epoch beyond all before.
with held as (
    select name from perdure.shards where name = %(shard)s and owner = %(owner)s for update
)
update perdure.shards as shard set owner = null, expires = null, epoch = greatest(epoch, %(epoch)s) + 1
from held where shard.name = held.name
returning shard.epoch;

-- name: last_move
-- The last move that froze a shard.
select move from perdure.shards where name = %s;

-- name: frozen
-- The epoch of a shard that a move has frozen. Until we have committed no other move goes on with it.
select epoch from perdure.shards where name = %(shard)s and owner = %(owner)s for update;

-- name: runs
-- Runs of a shard, oldest first.
select * from perdure.runs_now where shard = %(shard)s and key > %(p0)s order by key limit %(limit)s;

-- name: shared
-- What the forks among them share with other runs, in the forks' names. (Of the first, perhaps nothing is left.)
with recursive fork as (
    select id, forked_run, forked_seq from perdure.runs
    where shard = %(shard)s and forked_seq > 0 and id >= %(p0)s order by id limit %(limit)s + 1
), stretch (fork, origin, last) as (
    select id, forked_run, forked_seq from fork
    union all
    select stretch.fork, run.forked_run, least(stretch.last, run.forked_seq)
    from stretch join perdure.runs as run on run.id = stretch.origin where run.forked_run is not null
)
select stretch.fork, event.seq, event.type, event.time, event.step, event.attempt, event.data
from stretch join perdure.runs as run on run.id = stretch.origin
join perdure.events as event on event.shard = run.shard and event.run = run.id and event.seq <= stretch.last
where (stretch.fork, event.seq) > (%(p0)s, %(p1)s)
order by stretch.fork, event.seq limit %(limit)s;

-- name: events
-- Journals of a shard.
select run, seq, type, time, step, attempt, data from perdure.events
where shard = %(shard)s and (run, seq) > (%(p0)s, %(p1)s) order by run, seq limit %(limit)s;

-- name: signals
-- Signals of a shard.
select id, agent, session, run, kind, data, shard, created, id from perdure.signals
where shard = %(shard)s and id > %(p0)s order by id limit %(limit)s;

-- name: asks
-- Asks of a shard.
select key, id, run, agent, session, shard, step, kind, title, detail, addressee, created, deadline, status, answer,
    closed_by, note, closed
from perdure.asks where shard = %(shard)s and key > %(p0)s order by key limit %(limit)s;

-- name: state
-- What the sessions of a shard hold.
select agent, session, name, value from perdure.state
where shard = %(shard)s and (agent, session, name) > (%(p0)s, %(p1)s, %(p2)s)
order by agent, session, name limit %(limit)s;

-- name: notes
-- Notes that are kept with a shard.
select kind, name, value from perdure.notes
where shard = %(shard)s and shard <> '' and (kind, name) > (%(p0)s, %(p1)s) order by kind, name limit %(limit)s;

-- name: delivered
-- How far the posts of other databases for a shard came.
select sender, number from perdure.delivered
where shard = %(shard)s and sender > %(p0)s order by sender limit %(limit)s;

-- name: copy_shared
-- What runs of other shards share with runs of this one is theirs from now on.
with recursive fork as (
    select fork.id, fork.shard, fork.forked_run, fork.forked_seq from perdure.runs as origin
    join perdure.runs as fork on fork.forked_run = origin.id and fork.shard <> origin.shard
    where origin.shard = %(shard)s
), stretch (fork, shard, origin, last) as (
    select id, shard, forked_run, forked_seq from fork
    union all
    select stretch.fork, stretch.shard, run.forked_run, least(stretch.last, run.forked_seq)
    from stretch join perdure.runs as run on run.id = stretch.origin where run.forked_run is not null
)
insert into perdure.events (shard, run, seq, type, time, step, attempt, data)
select stretch.shard, stretch.fork, event.seq, event.type, event.time, event.step, event.attempt, event.data
from stretch join perdure.runs as run on run.id = stretch.origin
join perdure.events as event on event.shard = run.shard and event.run = run.id and event.seq <= stretch.last;

-- name: own_shared
-- They share nothing any more.
update perdure.runs as fork set forked_run = null, forked_seq = null from perdure.runs as origin
where origin.shard = %(shard)s and fork.forked_run = origin.id and fork.shard <> origin.shard;

-- name: drop_state
-- A shard's sessions forget their state.
delete from perdure.state where shard = %(shard)s;

-- name: drop_events
-- A shard's journals.
delete from perdure.events where shard = %(shard)s;

-- name: drop_runs
-- A shard's runs.
delete from perdure.runs where shard = %(shard)s;

-- name: drop_signals
-- A shard's signals.
delete from perdure.signals where shard = %(shard)s;

-- name: drop_asks
-- A shard's asks.
delete from perdure.asks where shard = %(shard)s;

-- name: drop_notes
-- A shard's notes.
delete from perdure.notes where shard = %(shard)s and shard <> '';

-- name: drop_delivered
-- How far others' posts for the shard came.
delete from perdure.delivered where shard = %(shard)s;
