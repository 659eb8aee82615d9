-- name: shards
-- Every shard that was ever claimed.
select name, owner, epoch, expires from perdure_shards order by name;

-- name: shard
-- Who owns one shard.
select owner, epoch, expires from perdure_shards where name = ?;

-- name: claim
-- A shard's next epoch begins.
insert into perdure_shards (name, owner, epoch, expires) values (:shard, :owner, 1, :expires)
on conflict (name) do update set owner = :owner, epoch = epoch + 1, expires = :expires
returning epoch;

-- name: renew
-- A lease that is still held lasts longer.
update perdure_shards set expires = :expires where name = :shard and owner = :owner and epoch = :epoch;

-- name: release
-- A lease ends before its time; the epoch ends with it, so that a late write of its owner is refused.
update perdure_shards set owner = null, expires = null, epoch = epoch + 1
where name = :shard and owner = :owner and epoch = :epoch;
