-- name: shares
-- Who holds and wants how much of a limit.
select node, held, wanted from perdure_quotas where name = ?;

-- name: set_share
-- A node's new share.
insert into perdure_quotas (name, node, held, wanted) values (?, ?, ?, ?)
on conflict (name, node) do update set held = excluded.held, wanted = excluded.wanted;

-- name: drop_share
-- A node neither holds nor wants any.
delete from perdure_quotas where name = ? and node = ?;

-- name: bucket
-- What was in a bucket when somebody last took from it.
select level, time from perdure_buckets where name = ? and period = ?;

-- name: set_bucket
-- What is in it now.
insert into perdure_buckets (name, period, level, time) values (?, ?, ?, ?)
on conflict (name, period) do update set level = excluded.level, time = excluded.time;
