-- What is queued, by tenant, so that none has to be gone through to find the next. Not by shard: who reads queues has many.
-- It is there, and last, so that those of others are passed over without a look at their rows.
drop index perdure_runs_queued;

create index perdure_runs_queued on perdure_runs (agent, priority desc, coalesce(concurrency_key, ''), key, shard)
where status = 'queued';
