-- name: notes
-- What all notes of a kind say, or one.
select name, value from perdure.notes where kind = %(kind)s and (%(name)s::text is null or name = %(name)s);

-- name: parcels
-- What is to be delivered.
select shard, sender, body, number from perdure.parcels order by number limit %s;
