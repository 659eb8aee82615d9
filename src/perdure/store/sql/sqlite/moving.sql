-- name: held
-- The shards of which there is anything here.
select name from perdure_shards union select shard from perdure_runs order by 1;

-- name: freeze
-- A shard's epoch ends, and nobody can claim it.
insert into perdure_shards (name, owner, epoch, expires) values (:shard, :owner, 1, 4611686018427387904)
on conflict (name) do update set owner = :owner, epoch = epoch + 1, expires = 4611686018427387904
returning epoch;

-- name: last_move
-- The last move that froze a shard.
select move from perdure_moves where shard = ?;

-- name: note_move
-- A move freezes a shard.
insert or replace into perdure_moves (shard, move) values (?, ?);

-- name: owner
-- Under which move a shard is frozen, if it is.
select owner from perdure_shards where name = ?;

-- name: thaw
-- A shard is free, in an epoch beyond all before.
update perdure_shards set owner = null, expires = null, epoch = max(epoch, :epoch) + 1 where name = :shard;

-- name: runs
-- Runs of a shard, oldest first.
select * from perdure_runs_now where shard = ? and key > ? order by key limit ?;

-- name: signals
-- Signals of a shard.
select agent, session, run, kind, data, shard, created, id from perdure_signals
where shard = ? and id > ? order by id limit ?;

-- name: asks
-- Asks of a shard.
select key, id, run, agent, session, shard, step, kind, title, detail, addressee, created, deadline, status, answer,
    closed_by, note, closed
from perdure_asks where shard = ? and key > ? order by key limit ?;

-- name: sessions
-- Sessions of a shard.
select distinct agent, session from perdure_runs
where shard = ? and session is not null and (agent, session) > (?, ?) order by agent, session limit ?;

-- name: state
-- What a session holds.
select agent, session, name, value from perdure_state where agent = ? and session = ?;

-- name: notes
-- Notes that are kept with a shard.
select kind, name, value from perdure_notes
where shard = ? and shard != '' and (kind, name) > (?, ?) order by kind, name limit ?;

-- name: delivered
-- How far the posts of other databases for a shard came.
select sender, number from perdure_delivered where shard = ?;

-- name: import_delivered
-- Likewise, as it was elsewhere.
insert or replace into perdure_delivered (shard, sender, number) values (?, ?, ?);

-- name: key
-- Which row a run has.
select key from perdure_runs where id = ?;

-- name: borrowers
-- Runs of other shards that share what belongs to this one.
select fork.id, fork.key, fork.forked_seq from perdure_runs as fork
join perdure_runs as origin on origin.id = fork.forked_run
where origin.shard = ?1 and fork.shard != ?1;

-- name: own
-- A run shares nothing any more.
update perdure_runs set forked_run = null, forked_seq = null where key = ?;

-- name: drop_state
-- A shard's sessions forget their state.
delete from perdure_state where (agent, session) in (
    select agent, session from perdure_runs where shard = ? and session is not null
);

-- name: drop_events
-- A shard's journals.
delete from perdure_events where run in (select key from perdure_runs where shard = ?);

-- name: drop_runs
-- A shard's runs.
delete from perdure_runs where shard = ?;

-- name: drop_signals
-- A shard's signals.
delete from perdure_signals where shard = ?;

-- name: drop_asks
-- A shard's asks.
delete from perdure_asks where shard = ?;

-- name: drop_notes
-- A shard's notes.
delete from perdure_notes where shard = ? and shard != '';

-- name: drop_delivered
-- How far others' posts for the shard came.
delete from perdure_delivered where shard = ?;
