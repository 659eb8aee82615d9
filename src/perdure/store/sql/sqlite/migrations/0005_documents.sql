-- Small records that belong to no run: keys, schedules and the like of a gateway.

create table perdure_documents (
    kind text not null,
    id text not null,
    data text not null,
    version integer not null,
    expires integer,
    primary key (kind, id)
) strict, without rowid;

-- Those that will be gone one day: who writes forgets them without a look at the others.
create index perdure_documents_expiring on perdure_documents (kind, expires) where expires is not null;
