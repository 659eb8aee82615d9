-- name: nodes
-- Every node that is known.
select id, place, started, programs, draining, figures, expires, expires > coalesce(%(now)s, perdure.now()), drain_asked
from perdure.nodes order by started, id;

-- name: beat
-- What a node says of itself; that it was asked to drain is kept.
insert into perdure.nodes (id, place, started, programs, draining, figures, expires)
values (%(id)s, %(place)s, %(started)s, %(programs)s, %(draining)s, %(figures)s,
    coalesce(%(now)s, perdure.now()) + %(lease)s)
on conflict (id) do update set place = excluded.place, started = excluded.started, programs = excluded.programs,
    draining = excluded.draining, figures = excluded.figures, expires = excluded.expires;

-- name: lock_node
-- Whether a node is alive is either seen before this beat or after it, never in the midst.
select from perdure.nodes where id = %(id)s for update;

-- name: lapse
-- A node that had not beaten in time has lost its shares.
delete from perdure.quotas where node in (
    select id from perdure.nodes where id = %(id)s and expires <= coalesce(%(now)s, perdure.now())
);

-- name: leave
-- A node's entry goes.
delete from perdure.nodes where id = %(id)s;

-- name: ask_drain
-- Word for a node, for its next beat.
update perdure.nodes set drain_asked = true where id = %s returning id;

-- name: forget_dead
-- Nodes that died so long ago, and what is left of shares that belong to nobody.
delete from perdure.nodes where expires <= coalesce(%(now)s, perdure.now()) - %(kept)s;

-- name: drop_shares
-- What a node may use goes with it.
delete from perdure.quotas where node = %(id)s;

-- name: drop_left_shares
-- Shares of nodes that are known no more.
delete from perdure.quotas where not exists (select from perdure.nodes where id = node);

-- name: drop_full_buckets
-- A bucket that is full again is as good as none.
delete from perdure.buckets where time + period <= coalesce(%(now)s, perdure.now()) - 60000000;
