-- name: document
-- One document that has not expired.
select kind, id, data, version, expires from perdure_documents
where kind = ?1 and id = ?2 and (expires is null or expires > ?3);

-- name: documents
-- Documents of a kind that have not expired.
select kind, id, data, version, expires from perdure_documents
where kind = ?1 and id > ?2 and (expires is null or expires > ?3) order by id limit ?4;

-- name: make
-- A document where there is none.
insert into perdure_documents (kind, id, data, version, expires) values (?, ?, ?, 1, ?) on conflict do nothing;

-- name: change
-- A document's next version, after the one that its writer knows.
update perdure_documents set data = ?, expires = ?, version = version + 1 where kind = ? and id = ? and version = ?;

-- name: drop
-- A document goes, if it is the one that is meant.
delete from perdure_documents
where kind = ?1 and id = ?2 and (?3 is null or version = ?3) and (expires is null or expires > ?4);

-- name: forget_expired
-- What nobody can see any more.
delete from perdure_documents where kind = ? and expires <= ?;
