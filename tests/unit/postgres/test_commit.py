"""Batches: what is written together stays each one's own, and nodes that write at the same time do not undo each other."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from perdure.errors import AlreadySettled, SessionBusy
from perdure.store.contract import AskClose, Fence, NewRun, QuotaWish, RunUpdate, Transaction
from perdure.store.contract import Node as Entry
from perdure.store.postgres import PostgresStore, journals
from perdure.values.events import Event
from perdure.values.runs import Run, RunStatus
from tests.unit.postgres.nodes import SHARD, ask_database, create, event, open_node, open_store, signal

WAITS = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"

SAME_RUN = """
insert into perdure.runs (shard, id, agent, version, status, created, updated, priority, attempt, strikes, seq, steps)
values ('x', 'run_3', 'x', '', 'queued', 1, 1, 0, 1, 0, 0, 0)
"""


def play(url, scenario):
    """A scenario with a node that has two runs."""

    async def stage():
        async with open_node(url) as node:
            await node.begin("run_1", "run_2")
            await scenario(node)

    asyncio.run(stage())


async def until_waiting(url, task, many=1):
    """So many sessions wait for a lock."""
    while (await asyncio.to_thread(ask_database, url, WAITS))[0] < many:
        assert not task.done(), task


def test_a_refused_update_leaves_nothing_to_the_next_one(postgres_url):
    """Two changes of one run go out together; the first is refused, and its attempt is not the second's."""

    async def scenario(node):
        closed = AskClose("run_1:never", "answered", 1)
        refused, accepted = await node.store.commit(
            [
                Transaction(
                    fence=node.fence, close_asks=[closed], updates={"run_1": RunUpdate(RunStatus.RUNNING, 1, attempt=7)}
                ),
                Transaction(fence=node.fence, updates={"run_1": RunUpdate(RunStatus.WAITING, 2)}),
            ]
        )
        assert isinstance(refused, AlreadySettled)
        assert accepted is None
        run = await node.store.run("run_1")
        assert (run.status, run.attempt) == (RunStatus.WAITING, 1)

    play(postgres_url, scenario)


def test_what_a_run_was_for_a_moment_counts(postgres_url):
    """Two changes of a run in one batch: the first would make its session's second active run, and is refused for that."""

    async def scenario(node):
        await node.store.commit([create("run_3", session="s"), create("run_4", session="s")])
        begin, end = RunUpdate(RunStatus.RUNNING, 1), RunUpdate(RunStatus.CANCELLED, 1)
        await node.store.commit([Transaction(fence=node.fence, updates={"run_3": begin})])
        refused, accepted = await node.store.commit(
            [Transaction(fence=node.fence, updates={"run_4": change}) for change in (begin, end)]
        )
        assert isinstance(refused, SessionBusy)
        assert accepted is None

    play(postgres_url, scenario)


def test_an_ask_that_one_transaction_closes_twice(postgres_url):
    """It is refused, as the second of two transactions would be; where the second is lenient the first one's word counts."""
    insert = (
        "insert into perdure.asks (id, run, agent, shard, step, kind, title, detail, created, status) "
        "values ('run_1:1', 'run_1', 'buyer', 'buyer:1', 1, 'ask', '?', '{}', 1, 'open')"
    )

    async def scenario(node):
        ask_database(postgres_url, insert)
        strict, lenient = AskClose("run_1:1", "answered", 1), AskClose("run_1:1", "expired", 2, lenient=True)
        [refused] = await node.store.commit([Transaction(close_asks=[strict, strict])])
        assert isinstance(refused, AlreadySettled)
        assert await node.store.commit([Transaction(close_asks=[strict, lenient])]) == [None]
        assert (await node.store.ask("run_1:1")).status == "answered"

    play(postgres_url, scenario)


def test_a_session_that_two_nodes_want_for_themselves(postgres_url):
    """They look at the same time: one gets it, and the other hears that it is busy."""

    async def scenario():
        async with open_store(postgres_url) as first, open_store(postgres_url) as second:
            works = []
            for number in range(40):
                run = Run(f"run_{number}", "buyer", "v1", f"s{number // 2}", SHARD, RunStatus.QUEUED, 1, 1)
                works.append(Transaction(create=[NewRun(run, [event(run.id, 1)], session_must_be_free=True)]))
            outcomes = await asyncio.gather(
                *(store.commit([work]) for pair in range(20) for store, work in zip(
                    (first, second), works[pair * 2 : pair * 2 + 2], strict=True
                ))
            )  # fmt: skip
            verdicts = [outcome for [outcome] in outcomes]
            assert [sorted(map(str, map(type, verdicts[pair : pair + 2]))) for pair in range(0, 40, 2)] == [
                sorted([str(type(None)), str(SessionBusy)])
            ] * 20

    asyncio.run(scenario())


def test_whoever_wants_a_session_waits_for_another_who_does(postgres_url):
    """The first has looked and not committed: the second looks only then."""

    async def scenario():
        async with open_node(postgres_url) as node, open_store(postgres_url) as other:
            wish = create("run_2", session="s")
            wish.create[0].session_must_be_free = True
            async with await psycopg.AsyncConnection.connect(postgres_url) as slow:
                await slow.execute("select from perdure.shards where name = %s for no key update", [SHARD])
                task = asyncio.create_task(other.commit([wish]))
                await until_waiting(postgres_url, task)
                assert await node.store.commit([create("run_1", session="s")]) == [None]
                await slow.commit()
                assert isinstance((await task)[0], SessionBusy)

    asyncio.run(scenario())


def test_a_lease_is_renewed_while_a_commit_hangs(postgres_url):
    """The commit holds the shard against others; its own node's renewal does not wait for it."""

    async def scenario(node):
        async with await psycopg.AsyncConnection.connect(postgres_url) as other:
            await other.execute(SAME_RUN)
            work = Transaction(fence=node.fence, create=create("run_3").create)
            task = asyncio.create_task(node.store.commit([work]))
            await until_waiting(postgres_url, task)
            assert await node.store.renew("node_a", [node.lease], 60) == [node.lease]
            ask_database(postgres_url, "update perdure.shards set expires = 0")
            claim = asyncio.create_task(node.store.claim("node_b", [SHARD], 60))
            await until_waiting(postgres_url, claim, 2)
            await other.rollback()
            assert await task == [None]
            [lease] = await claim
            assert lease.epoch == node.fence.epoch + 1

    play(postgres_url, scenario)


def test_renewals_do_not_wait_behind_reads(postgres_url):
    """All readers are busy with something long; leases and beats have a way of their own."""

    async def scenario(node):
        async with await psycopg.AsyncConnection.connect(postgres_url) as other:
            await other.execute("lock table perdure.runs in access exclusive mode")
            reads = [asyncio.create_task(node.store.run("run_1")) for _ in range(20)]
            await until_waiting(postgres_url, reads[-1], 4)
            assert await node.store.renew("node_a", [node.lease], 60) == [node.lease]
            await node.store.beat(Entry("node_a", "here", 1, ()), 60)
        assert [run.id for run in await asyncio.gather(*reads)] == ["run_1"] * 20

    play(postgres_url, scenario)


def test_a_beat_under_way_keeps_its_shares(postgres_url):
    """Another node that finds it late waits for the beat; then it is alive, and what it holds is not given away."""

    async def scenario(node):
        store, wish = node.store, QuotaWish("cpu", 10, 0, 10)
        await store.beat(Entry("node_a", "here", 1, ()), 60)
        await store.beat(Entry("node_b", "there", 2, ()), 60)
        assert await store.share("node_a", [wish]) == [10]
        ask_database(postgres_url, "update perdure.nodes set expires = perdure.now() + 100000 where id = 'node_a'")
        async with await psycopg.AsyncConnection.connect(postgres_url) as slow:
            await slow.execute("update perdure.nodes set expires = perdure.now() + 60000000 where id = 'node_a'")
            await slow.execute("select pg_sleep(0.15)")
            share = asyncio.create_task(store.share("node_b", [wish]))
            await until_waiting(postgres_url, share)
            await slow.commit()
            assert await share == [0]

    play(postgres_url, scenario)


def test_more_journals_than_are_remembered(postgres_url, monkeypatch):
    """Their ends are read again: appends stay dense, within a batch and over many."""
    monkeypatch.setattr(journals, "_TAILS_MAX", 3)

    async def scenario(node):
        runs = [f"run_{number}" for number in range(3, 13)]
        await node.begin(*runs)
        for seq in range(2, 6):
            assert await node.store.commit([node.append(run, seq) for run in runs]) == [None] * 10
        [refused] = await node.store.commit([node.append("run_3", 7)])
        assert isinstance(refused, ValueError)

    play(postgres_url, scenario)


def test_ends_that_somebody_else_moved_are_read_again(postgres_url):
    """The shard went to another node and came back: what was remembered under the old epoch does not count."""

    async def scenario(node):
        assert await node.store.commit([node.append("run_1", 2)]) == [None]
        await node.store.release("node_a", [node.lease])
        async with open_node(postgres_url, "node_b") as other:
            assert await other.store.commit([other.append("run_1", 3)]) == [None]
            await other.store.release("node_b", [other.lease])
        [lease] = await node.store.claim("node_a", [SHARD], 60)
        fence = Fence(*lease)
        assert await node.store.commit([Transaction(fence=fence, events=[event("run_1", 4)])]) == [None]

    play(postgres_url, scenario)


@pytest.mark.parametrize(
    "unstorable",
    [
        {"events": [Event("run_1", 2, "custom.\ud800", 1, None, None, "{}")]},
        {"events": [Event("run_1", 2, "custom.\0", 1, None, None, "{}")]},
        {"events": [Event("run_1", 2, "progress", 2**70, None, None, "{}")]},
        {"events": [Event("run_1", 2, "progress", 1, 2**63, None, "{}")]},
        {"events": [Event("run_1", 2, "progress", "1,2", None, None, "{}")]},  # type: ignore[arg-type]
        {"events": [Event("run_1", 2, "progress", 1, None, None, object())]},  # type: ignore[arg-type]
        {"events": [Event("run_1", 2, "progress", 1, None, None, "\0")]},
        {"updates": {"run_1": RunUpdate(RunStatus.RUNNING, 1)}, "state": ("buyer", "s", {"\ud800": "1"})},
        {"updates": {"run_1": RunUpdate(RunStatus.RUNNING, 1)}, "state": ("buyer", "s", {"a\0b": "1"})},
        {"updates": {"run_1": RunUpdate(RunStatus.WAITING, 1, wake_at=2**63)}},
        {"updates": {"run_1": RunUpdate(RunStatus.RUNNING, 1, reason="\ud800")}},
        {"signals": [signal("\0")]},
        {"consume": [2**70]},
    ],
)
def test_what_cannot_be_stored_is_refused_alone(postgres_url, unstorable):
    """Wherever in a transaction it is found: the transaction leaves no trace, and its neighbours are committed."""

    async def scenario(node):
        before = await node.store.run("run_1")
        first, refused, third = await node.store.commit(
            [node.append("run_2", 2), Transaction(fence=node.fence, **unstorable), node.append("run_2", 3)]
        )
        assert (first, third) == (None, None)
        assert isinstance(refused, (ValueError, AlreadySettled))
        assert await node.store.run("run_1") == before
        assert await node.seqs("run_2") == [1, 2, 3]

    play(postgres_url, scenario)


def test_a_large_batch_and_a_large_event(postgres_url):
    """Two thousand transactions of a kilobyte, one refused among them; and one event of 50 MB."""

    async def scenario(node):
        batch = [
            Transaction(fence=node.fence, events=[event("run_1", seq, f'"{"x" * 1000}"')], signals=[signal()])
            for seq in range(2, 2002)
        ]
        outcomes = await node.store.commit([*batch[:1500], node.append("run_2", 9), *batch[1500:]])
        assert isinstance(outcomes.pop(1500), ValueError)
        ids = [id for outcome in outcomes for id in outcome]
        assert ids == sorted(set(ids))
        large = f'"{"å" * 25_000_000}"'
        assert await node.store.commit([Transaction(fence=node.fence, events=[event("run_2", 2, large)])]) == [None]
        assert (await node.store.events("run_2", after=1))[0].raw == large

    play(postgres_url, scenario)


def test_two_nodes_that_lock_each_other_out(postgres_url):
    """One closes two asks, another the same in the other order, each in parts: both hear, and each ask is closed once."""
    closes = [AskClose(id, "answered", 1) for id in ("run_1:1", "run_1:2")]

    async def scenario(node):
        insert = (
            "insert into perdure.asks (id, run, agent, shard, step, kind, title, detail, created, status) "
            "select 'run_1:' || number, 'run_1', 'buyer', 'buyer:1', 1, 'ask', '?', '{}', 1, 'open' "
            "from generate_series(1, 2) as number"
        )
        ask_database(postgres_url, insert)
        async with open_store(postgres_url) as other:
            ways = [
                store.commit([Transaction(close_asks=[one]) for one in order])
                for store, order in ((node.store, closes), (other, closes[::-1]))
            ]
            [first, second], [fourth, third] = await asyncio.gather(*ways)
            assert (
                sorted(str(type(verdict)) for verdict in (first, third))
                == [str(AlreadySettled), str(type(None))][:: 1 if str(AlreadySettled) < str(type(None)) else -1]
            )
            assert (second is None) != (fourth is None)

    play(postgres_url, scenario)


def test_the_database_s_clock_is_the_only_one(postgres_url, monkeypatch):
    """A node whose own clock is a year ahead neither takes nor keeps a lease by it."""

    async def scenario(node):
        monkeypatch.setattr("time.time", lambda: 4e9)
        monkeypatch.setattr("time.time_ns", lambda: 4 * 10**18)
        other = PostgresStore(postgres_url)
        await other.open()
        assert await other.claim("node_b", [SHARD], 60) == []
        [shard] = await other.shards()
        assert shard.alive
        await other.close()

    play(postgres_url, scenario)
