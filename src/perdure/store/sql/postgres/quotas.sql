-- name: name_limits
-- Limits that nobody has shared before.
insert into perdure.limits (name) select name from unnest(%(names)s::text[]) as given (name) order by name
on conflict do nothing;

-- name: lock_limits
-- Alone with these limits until we commit; in order, so that nobody waits in a circle.
select from perdure.limits where name = any(%(names)s) order by name for update;

-- name: shares
-- Who holds and wants how much of these limits, and is alive. A node that we take for dead must not be in the midst of
-- a beat that says otherwise: so the dead are locked too.
select quota.name, quota.node, quota.held, quota.wanted, node.expires > %(now)s from perdure.quotas as quota
join perdure.nodes as node on node.id = quota.node
where quota.name = any(%(names)s) order by node.id for share of node;

-- name: time
-- What time it is, and whether a node is alive.
select coalesce(%(now)s, perdure.now()), exists (
    select from perdure.nodes where id = %(node)s and expires > coalesce(%(now)s, perdure.now())
);

-- name: set_share
-- A node's new share.
insert into perdure.quotas (name, node, held, wanted) values (%s, %s, %s, %s)
on conflict (name, node) do update set held = excluded.held, wanted = excluded.wanted;

-- name: drop_share
-- A node neither holds nor wants any.
delete from perdure.quotas where name = %s and node = %s;

-- name: buckets
-- What was in buckets when somebody last took from them.
select name, period, level, time from perdure.buckets where name = any(%(names)s);

-- name: set_bucket
-- What is in it now.
insert into perdure.buckets (name, period, level, time) values (%s, %s, %s, %s)
on conflict (name, period) do update set level = excluded.level, time = excluded.time;
