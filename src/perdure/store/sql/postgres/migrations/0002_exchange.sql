-- What the databases of one store agree by, and what passes between them. Empty where there is only one.

-- A note is kept with a shard (or '': with none), and moves with it.
create table perdure.notes (
    kind text collate "C" not null,
    name text collate "C" not null,
    value text not null,
    shard text collate "C" not null,
    primary key (kind, name)
);

create index notes_shard on perdure.notes (shard) where shard <> '';

-- What was posted and is not delivered.
create table perdure.parcels (
    number bigint generated always as identity primary key,
    shard text collate "C" not null,
    sender text collate "C" not null,
    body text not null
);

-- A row for each shard that parcels are for: who posts for it holds this until he has committed, so that the numbers of
-- its parcels grow in the order of their commits.
create table perdure.outboxes (
    shard text collate "C" primary key
);

-- Up to which number the parcels of another database for a shard were delivered.
create table perdure.delivered (
    shard text collate "C" not null,
    sender text collate "C" not null,
    number bigint not null,
    primary key (shard, sender)
) with (fillfactor = 50);

-- The last move that froze a shard: an earlier one that was asleep can do nothing any more.
alter table perdure.shards add column move bigint not null default 0;

create index shards_moved on perdure.shards (move) where move > 0;

-- A shard that leaves must find the forks that stay.
create index runs_forked on perdure.runs (forked_run) where forked_run is not null;

-- Holds the shards that a batch changes from outside, until we have committed: none of them leaves for another database
-- in between. A row is made where there is none: who freezes the shard must find something to wait for. Together with
-- the shards that the batch has fences for, in order, so that nobody waits in a circle. Raises PD005 when one has left.
create function perdure.hold_1(fences text[], work jsonb) returns void language plpgsql as $function$
declare
    touched text[];
    gone text;
begin
    select array_agg(distinct shard) into touched from (
        select value ->> 'shard' from jsonb_array_elements(work -> 'creates')
        union all
        select value ->> 'shard' from jsonb_array_elements(work -> 'signals')
        union all
        select value ->> 'shard' from jsonb_array_elements(work -> 'notes')
        union all
        select ask.shard from jsonb_array_elements(work -> 'closes')
        join perdure.asks as ask on ask.id = value ->> 'id'
    ) as changed (shard) where shard <> '' and shard <> all(fences);
    if touched is null then
        return;
    end if;
    insert into perdure.shards (name, epoch)
    select name, 0 from unnest(touched) as given (name) order by name on conflict do nothing;
    select min(name) filter (where owner like 'move:%' and name = any(touched)) into gone from (
        select name, owner from perdure.shards where name = any(touched || fences) order by name for key share
    ) as held;
    if gone is not null then
        raise exception 'shard % is in another database, or on its way there', gone using errcode = 'PD005', detail = gone;
    end if;
end;
$function$;

-- What a batch has to do with other databases: all of it, or it raises PD006 or PD007. Its parts are in the order of
-- their keys, so that nobody waits in a circle.
create function perdure.exchange_1(work jsonb) returns void language plpgsql as $function$
declare
    delivery record;
    note record;
    found_many integer;
begin
    for delivery in
        select * from jsonb_to_recordset(work -> 'deliveries')
            as given (shard text, sender text, first bigint, last bigint)
    loop
        insert into perdure.delivered as channel (shard, sender, number) values (delivery.shard, delivery.sender, delivery.last)
        on conflict (shard, sender) do update set number = excluded.number where channel.number < delivery.first;
        if not found then
            raise exception 'parcel % for % was delivered before', delivery.first, delivery.shard using errcode = 'PD007';
        end if;
    end loop;

    if work ? 'unposts' then
        with gone as (
            select parcel.number from jsonb_to_recordset(work -> 'unposts') as given (shard text, number bigint)
            join perdure.parcels as parcel on parcel.number = given.number and parcel.shard = given.shard
            order by parcel.number for update of parcel
        )
        delete from perdure.parcels as parcel using gone where parcel.number = gone.number;
        get diagnostics found_many = row_count;
        if found_many <> jsonb_array_length(work -> 'unposts') then
            raise exception 'a parcel is gone: somebody delivered it' using errcode = 'PD007';
        end if;
    end if;

    -- One by one: a later note of a batch may build on an earlier one.
    for note in
        select * from jsonb_to_recordset(work -> 'notes')
            as given (kind text, name text, value text, was text, shard text)
    loop
        found_many := 1;
        if note.was is not null then
            delete from perdure.notes where kind = note.kind and name = note.name and value = note.was;
            get diagnostics found_many = row_count;
        end if;
        if note.value is not null and found_many = 1 then
            insert into perdure.notes (kind, name, value, shard)
            values (note.kind, note.name, note.value, note.shard) on conflict do nothing;
            get diagnostics found_many = row_count;
        end if;
        if found_many <> 1 then
            raise exception '% % is not what it was', note.kind, note.name using errcode = 'PD006';
        end if;
    end loop;

    if work ? 'posts' then
        insert into perdure.outboxes (shard)
        select distinct value ->> 'shard' from jsonb_array_elements(work -> 'posts') order by 1 on conflict do nothing;
        perform from perdure.outboxes as outbox
        where shard in (select value ->> 'shard' from jsonb_array_elements(work -> 'posts')) order by shard for update;
        insert into perdure.parcels (shard, sender, body)
        select shard, sender, body from jsonb_to_recordset(work -> 'posts') as parcel (shard text, sender text, body text);
    end if;
end;
$function$;
