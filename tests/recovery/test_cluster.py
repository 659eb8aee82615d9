"""A tenth of the campaign that `python -m perdure.testing.chaos --store postgresql://...` runs whole: nothing is violated."""

from __future__ import annotations

import asyncio
import random

import psycopg
import pytest

from perdure.store.postgres import PostgresStore
from perdure.testing.chaos.begins import Begin
from perdure.testing.chaos.campaign import run_campaign
from perdure.testing.chaos.cluster import FAULTS, fault_in
from perdure.testing.chaos.witness import Witness
from perdure.testing.servers.postgres import PostgresServer
from perdure.testing.workflows import AGENTS
from perdure.values.runs import Run, RunStatus

SHARD = "errand:0"

#: Sharing them out at the start moves fewer.
SHARDS = 16 * len(AGENTS)

#: Faults after which others go on with what the worker had.
TAKEN_OVER = ("kills", "zombies", "partitions", "namespaces")


@pytest.fixture(scope="module")
def server(postgres_server):
    """A server whose commits are on the disk when it says so; there is none where the shared one is skipped."""
    with PostgresServer() as server:
        yield server


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_strikes_again_and_again_violates_nothing(server, name, tmp_path):
    """Every run ends, every acknowledgement holds, no effect is repeated, nothing is stale, no worker ends by itself."""
    fault, seed = FAULTS[name], random.SystemRandom().randrange(1 << 32)

    with fault_in(server.url(), fault, f"chaos_{name}") as struck:
        # Some strikes are shorter than a lease: of ten, all may be.
        strikes = fault.count // (5 if name == "namespaces" else 10)
        verdict = asyncio.run(run_campaign(struck, strikes, seed, str(tmp_path)))

    assert verdict.violations == [], f"seed {seed}"
    assert verdict.runs > fault.count // 20, "the load was too small to prove anything"
    assert name not in TAKEN_OVER or verdict.takeovers > SHARDS, "the fault has hit nobody"


@pytest.fixture
def witnessed(postgres_url):
    """A database with a witness, in which `first` has released the shard and `second` has claimed it."""

    async def own_in_turn():
        first, second = (PostgresStore(f"{postgres_url}?application_name={name}") for name in ("first", "second"))
        await first.open()
        Witness(postgres_url).call()
        leases = await first.claim("node_1", [SHARD], 60.0)
        await first.release("node_1", leases)
        await second.open()
        await second.claim("node_2", [SHARD], 60.0)
        await first.close()
        await second.close()

    asyncio.run(own_in_turn())
    return postgres_url


def see(url, begins=()):
    """What the witness says, where there is one run in the shard."""
    run = Run("run_1", "errand", "1", None, SHARD, RunStatus.RUNNING, created=0, updated=0)
    return list(Witness(url).check(begins, {"run_1": run}))


def write_event(url, worker, seq):
    """An event appears in the shard, without anybody asking who may write."""
    with psycopg.connect(url, application_name=worker) as connection:
        connection.execute(
            "insert into perdure.events values (%s, 'run_1', %s, 'progress', 0, null, null, '{}')", (SHARD, seq)
        )


def test_the_witness_sees_a_write_of_a_former_owner(witnessed):
    """Only the last to claim a shard may write there."""
    write_event(witnessed, "second", 1)
    assert see(witnessed) == []

    write_event(witnessed, "first", 2)

    assert see(witnessed) == ["run_1: event 2 (progress) was written by first, when shard errand:0 was of second"]


def test_the_witness_sees_a_lease_that_is_taken_early(witnessed):
    """A shard passes on when its lease has run out or was released, which is no theft."""
    assert see(witnessed) == []

    with psycopg.connect(witnessed, application_name="third") as connection:
        connection.execute("update perdure.shards set owner = 'node_3', epoch = epoch + 1")

    [wrong] = see(witnessed)
    assert wrong.startswith("shard errand:0: third took it")


def test_the_witness_sees_a_step_that_is_begun_by_a_former_owner(witnessed):
    """What costs is begun by whoever owns the shard at that moment."""
    with psycopg.connect(witnessed) as connection:
        [(claimed,), *_, (taken,)] = connection.execute("select time from witness.claims order by epoch").fetchall()

    assert see(witnessed, [Begin("run_1", 1, "first", claimed + 1), Begin("run_1", 2, "second", taken + 1)]) == []
    assert see(witnessed, [Begin("run_1", 2, "first", taken + 1)]) == [
        "run_1: step 2 was begun by first, when shard errand:0 was of second"
    ]
