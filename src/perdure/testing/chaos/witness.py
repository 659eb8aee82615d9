"""Who owned what, and who wrote, by the database's own account? Triggers that know nothing of Perdure's code.

They go by the name that each worker's connections bear. So a write of somebody who was not the last to claim the shard is
seen where it happens, whatever the writer says of itself; and so is a lease that was taken before it had run out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import psycopg

from perdure.testing.chaos.begins import Begin
from perdure.values.runs import Run

_SCHEMA = """
create schema witness;

create table witness.claims (
    shard text, epoch bigint, worker text not null, time bigint not null, primary key (shard, epoch)
);

create table witness.wrongs (what text not null);

create table witness.begun (place bigint generated always as identity, run text not null);

create function witness.note_claim() returns trigger language plpgsql as $$
begin
    insert into witness.claims values (new.name, new.epoch, current_setting('application_name'), perdure.now());
    if new.owner <> old.owner and old.expires > perdure.now() then
        insert into witness.wrongs values (format(
            'shard %s: %s took it %s µs before the lease of its owner had run out', new.name,
            current_setting('application_name'), old.expires - perdure.now()
        ));
    end if;
    return null;
end $$;

create trigger note_claim after update on perdure.shards for each row when (new.epoch <> old.epoch)
execute function witness.note_claim();

create function witness.note_write() returns trigger language plpgsql as $$
begin
    insert into witness.wrongs
    select format('%s: event %s (%s) was written by %s, when shard %s was of %s', added.run, added.seq, added.type,
        current_setting('application_name'), added.shard, claim.worker)
    from added cross join lateral (
        select worker from witness.claims where claims.shard = added.shard order by epoch desc limit 1
    ) as claim
    where added.type <> 'run.queued' and claim.worker <> current_setting('application_name');
    insert into witness.begun (run) select run from added where type = 'run.started';
    return null;
end $$;

create trigger note_write after insert on perdure.events referencing new table as added for each statement
execute function witness.note_write();
"""


class Claim(NamedTuple):
    """A shard's new epoch: claimed by a worker, or given up by it."""

    time_us: int
    shard: str
    worker: str


class Witness:
    """Watches the database at `url`."""

    def __init__(self, url: str) -> None:
        self._url = url

    def call(self) -> None:
        """From here on it watches. Perdure's schema must be there."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(_SCHEMA)

    def takeovers(self) -> int:
        """How often a shard went from one worker to another."""
        with psycopg.connect(self._url) as connection:
            claims = _by_shard(connection.execute("select time, shard, worker from witness.claims order by epoch"))
        return sum(one.worker != other.worker for line in claims.values() for one, other in pairwise(line))

    def begun(self) -> list[str]:
        """The runs in the order in which they began, whatever their clocks said."""
        with psycopg.connect(self._url) as connection:
            return [run for (run,) in connection.execute("select run from witness.begun order by place")]

    def check(self, begins: Iterable[Begin], runs: Mapping[str, Run]) -> Iterator[str]:
        """No lease was taken early, nothing stale was written, and nobody began a step that costs in a shard of others."""
        with psycopg.connect(self._url) as connection:
            claims = _by_shard(connection.execute("select time, shard, worker from witness.claims order by epoch"))
            yield from (what for (what,) in connection.execute("select what from witness.wrongs").fetchall())
        for begin in begins:
            if begin.run not in runs:
                continue  # other checks say so
            shard = runs[begin.run].shard
            place = bisect_right(claims[shard], begin.time_us, key=lambda claim: claim.time_us)
            owner = claims[shard][place - 1].worker if place else "nobody"
            if owner != begin.worker:
                yield f"{begin.run}: step {begin.step} was begun by {begin.worker}, when shard {shard} was of {owner}"


def _by_shard(rows: Iterable[Any]) -> defaultdict[str, list[Claim]]:
    claims: defaultdict[str, list[Claim]] = defaultdict(list)
    for row in rows:
        claims[row[1]].append(Claim(*row))
    return claims
