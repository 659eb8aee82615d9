-- name: fence
-- The current epoch of a shard.
select epoch from perdure_shards where name = ?;

-- name: tail
-- Where a run's journal ends, and what may not change any more.
select run.key, run.shard, run.status,
    max(run.seq, coalesce((select max(seq) from perdure_events where run = run.key), 0)),
    max(run.steps, coalesce((select max(step) from perdure_events where run = run.key and seq > run.seq), 0))
from perdure_runs as run where run.id = ?;

-- name: append
-- One event. The unique index is the last guard of the journal's order.
insert into perdure_events (run, seq, type, time, step, attempt, data) values (?, ?, ?, ?, ?, ?, ?);

-- name: create_run
-- A new run's row.
insert into perdure_runs (
    id, agent, version, session, shard, status, reason, wait, wake_at, created, updated, parent, parent_step,
    priority, concurrency_key, idempotency_key, attempt, strikes, forked_run, forked_seq, seq, steps
) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: update_run
-- New values of a run's row, unless it has ended.
update perdure_runs
set status = ?, updated = ?, reason = ?, wait = ?, wake_at = ?, attempt = coalesce(?, attempt),
    strikes = coalesce(?, strikes), seq = ?, steps = ?
where key = ? and status not in ('succeeded', 'failed', 'cancelled');

-- name: session_taken
-- A run of the session that has not ended. The indexes are named: a session may have thousands of ended runs.
select id from perdure_runs indexed by perdure_runs_active
where agent = ?1 and session = ?2 and session is not null
    and status in ('running', 'waiting', 'paused', 'quarantined')
union all
select id from perdure_runs indexed by perdure_runs_next
where agent = ?1 and session = ?2 and session is not null and status = 'queued'
limit 1;

-- name: run_taken
-- What a new run collides with: its own id, or another run with its idempotency key.
select id from perdure_runs where id = ?1
union all
select id from perdure_runs where agent = ?2 and idempotency_key = ?3
limit 1;

-- name: put_run_signal
-- A signal for a run, kept under that run's shard; for no run, none.
insert into perdure_signals (agent, session, run, kind, data, shard, created)
select agent, session, id, ?1, ?2, shard, ?3 from perdure_runs where id = ?4;

-- name: put_signal
-- A signal for a session.
insert into perdure_signals (agent, session, run, kind, data, shard, created) values (?, ?, ?, ?, ?, ?, ?);

-- name: consume_signal
-- A signal that is now journaled.
delete from perdure_signals where id = ?;

-- name: open_ask
-- A question or an approval.
insert into perdure_asks (
    id, run, agent, session, shard, step, kind, title, detail, addressee, created, deadline, status, answer,
    closed_by, note, closed
) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: close_ask
-- The end of a question or approval that is still open.
update perdure_asks set status = ?, closed = ?, answer = ?, closed_by = ?, note = ? where id = ? and status = 'open';

-- name: set_state
-- One key of a session's state.
insert into perdure_state (agent, session, name, value) values (?, ?, ?, ?)
on conflict (agent, session, name) do update set value = excluded.value;

-- name: unset_state
-- One key less.
delete from perdure_state where agent = ? and session = ? and name = ?;
