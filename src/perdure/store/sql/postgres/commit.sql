-- name: commit
-- A batch, with its note.
select perdure.commit_1(
    %s, %s::bigint, %s::bigint, %b::text[], %s::bigint[], %b::text[], %b::text[], %s::bigint[], %b::text[], %s::bigint[],
    %s::bigint[], %s::bigint[], %b::text[], %s
);

-- name: write
-- A part of a batch.
select perdure.write_1(
    %b::text[], %s::bigint[], %b::text[], %b::text[], %s::bigint[], %b::text[], %s::bigint[], %s::bigint[],
    %s::bigint[], %b::text[], %s
);

-- name: lock_shards
-- Nobody takes these until we have committed.
select from perdure.shards where name = any(%b::text[]) order by name for share;

-- name: note
-- The note of a batch that was written in parts.
select perdure.note_1(%s, %s::bigint, %s::bigint, '');

-- name: begin_writer
-- A writer that has committed nothing yet.
insert into perdure.writers (id, number, try, outcome) values (%s, 0, 0, '') on conflict do nothing;

-- name: end_writer
-- A writer that commits no more.
delete from perdure.writers where id = %s;

-- name: forget_writers
-- Those whose processes died long ago.
delete from perdure.writers where begun < clock_timestamp() - interval '400 days';

-- name: settle
-- What a writer has committed. Waits for its transaction under way, and writes: see commit.py.
update perdure.writers set number = number where id = %s returning number, try, outcome;

-- name: ends
-- Where the journals of runs end, and what may not change any more.
select id, shard, status, seq, steps from perdure.runs_now where id = any(%b::text[]);

-- name: shared
-- How many of a run's first events there are, and the highest step among them.
with recursive stretch as (
    select shard, id, forked_run, forked_seq, %(seq)s::bigint as last from perdure.runs where id = %(run)s
    union all
    select origin.shard, origin.id, origin.forked_run, origin.forked_seq, least(stretch.last, stretch.forked_seq)
    from stretch join perdure.runs as origin on origin.id = stretch.forked_run
)
select coalesce(max(event.seq), 0), coalesce(max(event.step), 0)
from stretch
join perdure.events as event
    on event.shard = stretch.shard and event.run = stretch.id and event.seq <= stretch.last;

-- name: epoch
-- The current epoch of a shard.
select epoch from perdure.shards where name = %s;

-- name: lock_shard
-- Alone among those that want a session of this shard for themselves, until we commit. Its owner's commits go on.
insert into perdure.shards (name, epoch) values (%s, 0) on conflict (name) do update set epoch = shards.epoch
returning owner;

-- name: hold_origin
-- The shards that have the journal of a run, with the prefixes that it shares, stay in this database until we commit.
select from perdure.shards where name in (
    with recursive stretch as (
        select shard, forked_run from perdure.runs where id = %s
        union all
        select origin.shard, origin.forked_run
        from stretch join perdure.runs as origin on origin.id = stretch.forked_run
    )
    select shard from stretch
) order by name for key share;

-- name: session_taken
-- A run of the session that has not ended.
select id from perdure.runs
where agent = %s and session = %s and status in ('queued', 'running', 'waiting', 'paused', 'quarantined') limit 1;

-- name: run_taken
-- What a new run collides with: its own id, or another run with its idempotency key.
select id from perdure.runs where id = %(id)s
union all
select id from perdure.runs where agent = %(agent)s and idempotency_key = %(key)s
limit 1;
