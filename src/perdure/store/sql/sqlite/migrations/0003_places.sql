-- What the databases of one store agree by, and what passes between them. Empty where there is only one.

-- A note is kept with a shard (or '': with none), and moves with it.
create table perdure_notes (
    kind text not null,
    name text not null,
    value text not null,
    shard text not null,
    primary key (kind, name)
) strict, without rowid;

create index perdure_notes_shard on perdure_notes (shard) where shard != '';

-- autoincrement: the number of a delivered parcel never comes back.
create table perdure_parcels (
    number integer primary key autoincrement,
    shard text not null,
    sender text not null,
    body text not null
) strict;

-- Up to which number the parcels of another database for a shard were delivered.
create table perdure_delivered (
    shard text not null,
    sender text not null,
    number integer not null,
    primary key (shard, sender)
) strict, without rowid;

-- The last move that froze a shard: an earlier one that was asleep can do nothing any more.
create table perdure_moves (
    shard text primary key,
    move integer not null
) strict, without rowid;

-- Shards that live elsewhere, or are on their way there: every start and every message looks for them.
create index perdure_shards_moved on perdure_shards (name) where owner glob 'move:*';
