-- name: tables
-- How much there is in a schema of our name.
select count(*) from pg_class join pg_namespace as namespace on namespace.oid = relnamespace where nspname = 'perdure';

-- name: schema
-- The version of our schema.
select coalesce((select value from perdure.meta where name = 'version'), '');

-- name: clock
-- The server's time, in seconds.
select extract(epoch from clock_timestamp());

-- name: server
-- Its version, its connections, our role and the size of our tables.
select current_setting('server_version'), current_setting('max_connections')::integer,
    (select count(*) from pg_stat_activity where backend_type = 'client backend'), current_user::text,
    (select rolsuper from pg_roles where rolname = current_user),
    has_database_privilege(current_database(), 'create'),
    (
        select coalesce(sum(pg_total_relation_size(class.oid)), 0)::bigint from pg_class as class
        join pg_namespace as namespace on namespace.oid = class.relnamespace
        where namespace.nspname = 'perdure' and class.relkind = 'r'
    );

-- name: settings
-- What decides whether something that was acknowledged survives a crash.
select name, setting from pg_settings
where name in ('fsync', 'full_page_writes', 'synchronous_commit', 'synchronous_standby_names');

-- name: lacking
-- What a worker needs and our role has not.
select wanted.privilege || ' on ' || class.oid::regclass from pg_class as class
join pg_namespace as namespace on namespace.oid = class.relnamespace
cross join unnest(array['select', 'insert', 'update', 'delete']) as wanted (privilege)
where namespace.nspname = 'perdure' and class.relkind = 'r' and class.relname <> 'meta'
    and not has_table_privilege(class.oid, wanted.privilege)
order by 1;
