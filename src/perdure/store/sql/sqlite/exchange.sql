-- name: moved
-- Shards that live elsewhere, or are on their way there.
select name from perdure_shards where owner glob 'move:*';

-- name: shard_of_ask
-- Where an ask belongs.
select shard from perdure_asks where id = ?;

-- name: note
-- What a note says.
select value from perdure_notes where kind = ? and name = ?;

-- name: notes
-- What all notes of a kind say, or one.
select name, value from perdure_notes where kind = ?1 and (?2 is null or name = ?2);

-- name: keep_note
-- A note says this from now on.
insert or replace into perdure_notes (kind, name, value, shard) values (?, ?, ?, ?);

-- name: drop_note
-- A note less.
delete from perdure_notes where kind = ? and name = ?;

-- name: post
-- A parcel for a shard elsewhere.
insert into perdure_parcels (shard, sender, body) values (?, ?, ?);

-- name: unpost
-- A parcel that was delivered.
delete from perdure_parcels where shard = ? and number = ?;

-- name: parcels
-- What is to be delivered.
select shard, sender, body, number from perdure_parcels order by number limit ?;

-- name: deliver
-- A parcel comes, if neither it nor a later one has come before.
insert into perdure_delivered (shard, sender, number) values (?, ?, ?)
on conflict (shard, sender) do update set number = excluded.number where number < excluded.number;
