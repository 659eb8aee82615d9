-- name: shards
-- Every shard that was ever claimed.
select name, owner, epoch, expires, owner is not null and expires > coalesce(%(now)s, perdure.now()) from perdure.shards
where epoch > 0 order by name;

-- name: claim
-- The next epoch of those that are free begins. Locked in the order of their names, as by everybody.
with free as (
    select name from perdure.shards
    where name = any(%(shards)s) and (owner is null or expires <= coalesce(%(now)s, perdure.now()))
    order by name for update
)
update perdure.shards as shard
set owner = %(owner)s, epoch = epoch + 1, expires = coalesce(%(now)s, perdure.now()) + %(lease)s
from free where shard.name = free.name
returning shard.name, shard.epoch;

-- name: name_shards
-- Shards that nobody has claimed before.
insert into perdure.shards (name, epoch) select name, 0 from unnest(%(shards)s::text[]) as given (name) order by name
on conflict do nothing;

-- name: renew
-- Leases that are still held last longer. Waits for no commit of theirs, and none waits for it.
with held as (
    select shard.name from perdure.shards as shard
    join unnest(%(shards)s::text[], %(epochs)s::bigint[]) as lease (name, epoch)
        on lease.name = shard.name and lease.epoch = shard.epoch
    where shard.owner = %(owner)s
    order by shard.name for no key update of shard
)
update perdure.shards as shard set expires = coalesce(%(now)s, perdure.now()) + %(lease)s
from held where shard.name = held.name
returning shard.name, shard.epoch;

-- name: release
-- Leases end before their time; the epoch ends with each, so that a late write of its owner is refused.
with held as (
    select shard.name from perdure.shards as shard
    join unnest(%(shards)s::text[], %(epochs)s::bigint[]) as lease (name, epoch)
        on lease.name = shard.name and lease.epoch = shard.epoch
    where shard.owner = %(owner)s
    order by shard.name for update of shard
)
update perdure.shards as shard set owner = null, expires = null, epoch = epoch + 1
from held where shard.name = held.name;
