-- Small records that belong to no run: keys, schedules and the like of a gateway.

create table perdure.documents (
    kind text collate "C" not null,
    id text collate "C" not null,
    data text not null,
    version bigint not null,
    expires bigint,
    primary key (kind, id)
);

-- Those that will be gone one day: who writes forgets them without a look at the others.
create index documents_expiring on perdure.documents (kind, expires) where expires is not null;
