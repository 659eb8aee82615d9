-- name: nodes
-- Every node that is known.
select id, place, started, programs, draining, figures, expires, drain_asked from perdure_nodes order by started, id;

-- name: expires
-- Until when one node is taken for alive.
select expires from perdure_nodes where id = ?;

-- name: beat
-- What a node says of itself; that it was asked to drain is kept.
insert into perdure_nodes (id, place, started, programs, draining, figures, expires) values (?, ?, ?, ?, ?, ?, ?)
on conflict (id) do update set place = excluded.place, started = excluded.started, programs = excluded.programs,
    draining = excluded.draining, figures = excluded.figures, expires = excluded.expires;

-- name: leave
-- A node's entry goes.
delete from perdure_nodes where id = ?;

-- name: dead_since
-- Nodes that died so long ago.
select id from perdure_nodes where expires <= ?;

-- name: ask_drain
-- Word for a node, for its next beat.
update perdure_nodes set drain_asked = 1 where id = ?;

-- name: drop_shares
-- What a node may use goes with it.
delete from perdure_quotas where node = ?;

-- name: drop_full_buckets
-- A bucket that is full again is as good as none.
delete from perdure_buckets where time + period <= ?;
