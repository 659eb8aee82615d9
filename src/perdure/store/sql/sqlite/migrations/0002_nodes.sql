-- Who works on this store, and how much of a limit that all nodes share each of them may use.

create table perdure_nodes (
    id text primary key,
    place text not null,
    started integer not null,
    programs text not null,
    draining integer not null,
    figures text not null,
    expires integer not null,
    drain_asked integer not null default 0
) strict, without rowid;

-- `held` is what the node may use; it counts as long as its node is alive.
create table perdure_quotas (
    name text not null,
    node text not null,
    held integer not null,
    wanted integer not null,
    primary key (name, node)
) strict, without rowid;

-- `level` was in the bucket at `time`, in parts of a token: `period` of them, the microseconds in which it fills up,
-- make one.
create table perdure_buckets (
    name text not null,
    period integer not null,
    level integer not null,
    time integer not null,
    primary key (name, period)
) strict, without rowid;

-- When a bucket is full again.
create index perdure_buckets_full on perdure_buckets (time + period);
