-- name: document
-- One document that has not expired.
select kind, id, data, version, expires from perdure.documents
where kind = %(kind)s and id = %(id)s and (expires is null or expires > coalesce(%(now)s, perdure.now()));

-- name: documents
-- Documents of a kind that have not expired.
select kind, id, data, version, expires from perdure.documents
where kind = %(kind)s and id > %(after)s and (expires is null or expires > coalesce(%(now)s, perdure.now()))
order by id limit %(limit)s;

-- name: make
-- A document where there is none, or one that has expired.
insert into perdure.documents as old (kind, id, data, version, expires)
values (%(kind)s, %(id)s, %(data)s, 1, %(expires)s)
on conflict (kind, id) do update set data = excluded.data, version = 1, expires = excluded.expires
where old.expires <= coalesce(%(now)s, perdure.now());

-- name: change
-- A document's next version, after the one that its writer knows.
update perdure.documents set data = %(data)s, expires = %(expires)s, version = version + 1
where kind = %(kind)s and id = %(id)s and version = %(version)s
    and (expires is null or expires > coalesce(%(now)s, perdure.now()));

-- name: drop
-- A document goes, if it is the one that is meant.
delete from perdure.documents
where kind = %(kind)s and id = %(id)s and (%(version)s::bigint is null or version = %(version)s)
    and (expires is null or expires > coalesce(%(now)s, perdure.now()));

-- name: forget_expired
-- What nobody can see any more, but for what somebody else has in hand.
with expired as (
    select kind, id from perdure.documents
    where kind = %(kind)s and expires <= coalesce(%(now)s, perdure.now()) for update skip locked
)
delete from perdure.documents as document using expired
where document.kind = expired.kind and document.id = expired.id;
