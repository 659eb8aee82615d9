"""The answer to a commit is lost: whatever became of the request, the batch happens once and is answered truly."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import psycopg
import pytest

from perdure.errors import Fenced, StoreBroken, StoreBusy
from perdure.store.contract import Fence, Transaction
from perdure.store.postgres import commit
from tests.unit.postgres.nodes import ask_database, create, event, open_node, signal

WAITS = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


class Line:
    """The way of a store's commits to the server, as it is seen from here: the next one may be lost on it.

    What is lost was taken by the network, and may arrive later: `arrive`.
    """

    def __init__(self, node, url):
        self.url = url
        self.held: Any = None
        self.tries = 0
        self._committer = node.store._committer
        self._send = self._committer._rows
        self._committer._rows = self._rows
        self._lose = False
        self._stray: Any = None
        self.before_try = {}

    def lose_next(self):
        self._lose = True

    async def _rows(self, sql, values):
        if sql not in {commit._SQL["commit"], "commit"}:
            return await self._send(sql, values)
        self.tries += 1
        if self.tries in self.before_try:
            self.before_try.pop(self.tries)()
        if self._lose:
            self._lose = False
            self.held = (sql, values)
            if sql == "commit":  # the server has the rest of the transaction
                self._stray, self._committer._connection = self._committer._connection, None
            raise ConnectionResetError("the line broke")
        return await self._send(sql, values)

    def arrive(self):
        """The server gets the request of a connection that is long given up; its refusal, if it has one."""
        sql, values = self.held
        try:
            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute(sql, values, binary=True)
        except psycopg.Error as error:
            return error.sqlstate
        return None

    async def arrive_as_it_was(self):
        """The same on the very connection, where the rest of the transaction is."""
        await self._stray.execute(*self.held)
        await self.hang_up()

    async def hang_up(self):
        """The server sees that the connection is gone."""
        await self._stray.close()


def play(url, scenario):
    """A scenario with a node that has a run, and its line."""

    async def stage():
        async with open_node(url) as node:
            await node.begin("run_1")
            await scenario(node, Line(node, url))

    asyncio.run(stage())


def usual(node):
    """A batch that goes out in one statement."""
    return [
        Transaction(fence=node.fence, events=[event("run_1", 2)], signals=[signal("1"), signal("2")]),
        Transaction(signals=[signal("3", run="nobody"), signal("4")]),
        node.append("run_1", 3),
    ]


def careful(node):
    """One with a refusal, so that it goes out in parts."""
    return [*usual(node), node.append("run_1", 9)]


def shape(outcomes):
    """Outcomes with kinds instead of numbers and words."""
    return [
        [bool(id) for id in outcome] if isinstance(outcome, list) else outcome and type(outcome) for outcome in outcomes
    ]


BATCHES = pytest.mark.parametrize(
    ("make", "wanted"),
    [(usual, [[True, True], [False, True], None]), (careful, [[True, True], [False, True], None, ValueError])],
)


async def happened_once(node, outcomes):
    """The journal and the signals are as the outcomes say."""
    assert await node.seqs("run_1") == [1, 2, 3]
    signals, _ = await node.store.signals(["buyer:1"])
    assert [found.data for found in signals] == ["1", "2", "4"]
    assert [found.id for found in signals] == [*outcomes[0], outcomes[1][1]]


@BATCHES
@pytest.mark.parametrize("fault", ["swallow_commit", "swallow_commit_reply"])
def test_a_lost_request_and_a_lost_reply_are_the_same_to_the_caller(postgres_url, proxy, make, wanted, fault):
    """On a real line: the outcome is that of the one time it happened, and the ids are those that are stored."""

    async def scenario():
        async with open_node(proxy.url(postgres_url)) as node:
            await node.begin("run_1")
            getattr(proxy, fault)()
            outcomes = await node.store.commit(make(node))
            assert shape(outcomes) == wanted
            await happened_once(node, outcomes)
            assert proxy.counts.commits_swallowed + proxy.counts.replies_swallowed == 1

    asyncio.run(scenario())


def test_a_request_that_arrives_before_anybody_asks(postgres_url):
    """The note says so, and nothing is sent again."""

    async def scenario(node, line):
        line.lose_next()
        settle = node.store._committer._settle

        async def arrive_first():
            assert line.arrive() is None
            return await settle()

        node.store._committer._settle = arrive_first
        outcomes = await node.store.commit(usual(node))
        await happened_once(node, outcomes)
        assert line.tries == 1

    play(postgres_url, scenario)


def test_a_request_that_arrives_between_the_question_and_the_second_try(postgres_url):
    """The second finds its rows there already, in whatever words: it asks again, and gives the first one's answer."""

    async def scenario(node, line):
        line.lose_next()
        line.before_try[2] = line.arrive
        outcomes = await node.store.commit(usual(node))
        await happened_once(node, outcomes)
        assert line.tries == 2
        assert await node.store.commit([node.append("run_1", 4)]) == [None]

    play(postgres_url, scenario)


def test_a_request_of_signals_only_that_arrives_in_between(postgres_url):
    """Nothing in it collides with itself: its number alone tells."""

    async def scenario(node, line):
        line.lose_next()
        line.before_try[2] = line.arrive
        [ids] = await node.store.commit([Transaction(signals=[signal("1")])])
        found, _ = await node.store.signals(["buyer:1"])
        assert [one.id for one in found] == ids

    play(postgres_url, scenario)


@pytest.mark.parametrize("later", [False, True])
def test_a_request_that_arrives_after_the_second_try(postgres_url, later):
    """Right after it, or after other batches too: it changes nothing."""

    async def scenario(node, line):
        line.lose_next()
        batch = [Transaction(signals=[signal("1")])]
        await node.store.commit(batch)
        if later:
            await node.store.commit([node.append("run_1", 2)])
        assert line.arrive() == "PD000"
        found, _ = await node.store.signals(["buyer:1"])
        assert len(found) == 1

    play(postgres_url, scenario)


@pytest.mark.parametrize("arrives", [True, False])
def test_a_careful_commit_that_is_held_up_makes_the_question_wait(postgres_url, arrives):
    """Its word to commit, or its end, decides; until then nobody claims to know."""

    async def scenario(node, line):
        line.lose_next()
        retry = asyncio.create_task(node.store.commit(careful(node)))
        while await asyncio.to_thread(ask_database, postgres_url, WAITS) == [0]:
            assert not retry.done()
        await (line.arrive_as_it_was() if arrives else line.hang_up())
        outcomes = await retry
        assert shape(outcomes) == [[True, True], [False, True], None, ValueError]
        await happened_once(node, outcomes)
        assert line.tries == (1 if arrives else 2)

    play(postgres_url, scenario)


@pytest.mark.parametrize("arrives", ["before", "between", "after", "never"])
def test_the_caller_gives_up_and_sends_another_batch(postgres_url, monkeypatch, arrives):
    """The first may have happened or not, but the second gets an answer of its own, and a late first changes nothing."""
    monkeypatch.setattr(commit, "_PATIENCE_SECONDS", -1)

    async def scenario(node, line):
        line.lose_next()
        with pytest.raises(StoreBusy):
            await node.store.commit([Transaction(signals=[signal("first")])])
        monkeypatch.setattr(commit, "_PATIENCE_SECONDS", 2)
        if arrives == "before":
            assert line.arrive() is None
        elif arrives == "between":
            line.before_try[2] = line.arrive
        [ids] = await node.store.commit([Transaction(signals=[signal("second")])])
        if arrives == "after":
            assert line.arrive() == "PD000"
        found, _ = await node.store.signals(["buyer:1"])
        assert [one.data for one in found] == (["first"] * (arrives in {"before", "between"}) + ["second"])
        assert [one.id for one in found][-1:] == ids

    play(postgres_url, scenario)


def test_what_the_caller_gave_up_and_gives_again_later(postgres_url, monkeypatch):
    """The same batch object after StoreBusy: it happened once, and has the ids of that once."""
    monkeypatch.setattr(commit, "_PATIENCE_SECONDS", -1)

    async def scenario(node, line):
        batch = usual(node)
        line.lose_next()
        with pytest.raises(StoreBusy):
            await node.store.commit(batch)
        line.arrive()
        await happened_once(node, await node.store.commit(batch))

    play(postgres_url, scenario)


def test_two_batches_are_given_up_and_the_first_arrives_late(postgres_url, monkeypatch):
    """Nobody knew when the second was sent; given again, each has happened once."""
    monkeypatch.setattr(commit, "_PATIENCE_SECONDS", -1)

    async def scenario(node, line):
        first, second = [Transaction(signals=[signal("1")])], [Transaction(signals=[signal("2")])]
        arrivals = []
        for batch in (first, second):
            line.lose_next()
            with pytest.raises(StoreBusy):
                await node.store.commit(batch)
            arrivals.append(line.held)
        line.held = arrivals[0]
        assert line.arrive() is None
        outcomes = [await node.store.commit(batch) for batch in (first, second)]
        line.held = arrivals[1]
        assert line.arrive() == "PD000"
        found, _ = await node.store.signals(["buyer:1"])
        assert [(one.data, [[one.id]]) for one in found] == list(zip("12", outcomes, strict=True))

    play(postgres_url, scenario)


def test_the_epoch_ends_while_the_answer_is_lost(postgres_url):
    """A first try that never arrives is fenced at the second, as any write of an owner that is over."""

    async def scenario(node, line):
        line.lose_next()
        line.before_try[2] = lambda: ask_database(postgres_url, "update perdure.shards set epoch = epoch + 1")
        outcomes = await node.store.commit([node.append("run_1", 2)])
        assert isinstance(outcomes[0], Fenced)
        assert await node.seqs("run_1") == [1]

    play(postgres_url, scenario)


def test_a_writer_that_the_database_forgot_stops(postgres_url):
    """The database was replaced by an older copy: nothing is written to it by a node that remembers a newer one."""

    async def scenario(node, _):
        ask_database(postgres_url, "delete from perdure.writers")
        with pytest.raises(StoreBroken, match="Start the node again"):
            await node.store.commit([node.append("run_1", 2)])
        assert await node.seqs("run_1") == [1]

    play(postgres_url, scenario)


@pytest.mark.parametrize("make", [usual, careful])
def test_connections_are_killed_before_a_commit(postgres_url, make):
    """A connection that died while nobody used it is replaced."""

    async def scenario(node, _):
        ask_database(
            postgres_url,
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()",
        )
        await happened_once(node, await node.store.commit(make(node)))

    play(postgres_url, scenario)


def test_connections_are_killed_in_the_midst(postgres_url):
    """A killer goes round while batches are committed: each happens once, in order."""

    async def scenario(node, _):
        over = threading.Event()
        kills = []

        def kill():
            with psycopg.connect(postgres_url, autocommit=True) as connection:
                while not over.wait(0.02):
                    kills.extend(
                        connection.execute(
                            "select pg_terminate_backend(pid) from pg_stat_activity "
                            "where datname = current_database() and pid <> pg_backend_pid() and query ~ 'commit_1|note_1'"
                        ).fetchall()
                    )

        killer = asyncio.create_task(asyncio.to_thread(kill))
        ids = []
        seq = 1
        while len(kills) < 5:
            seq += 1
            refused = [node.append("run_1", 9**9)] * (seq % 3 == 0)
            outcomes = await node.store.commit([node.append("run_1", seq, signals=[signal(str(seq))]), *refused])
            assert all(isinstance(outcome, ValueError) for outcome in outcomes[1:])
            ids += outcomes[0]
        over.set()
        await killer
        assert await node.seqs("run_1") == list(range(1, seq + 1))
        found, _ = await node.store.signals(["buyer:1"], limit=seq)
        assert [one.id for one in found] == ids

    play(postgres_url, scenario)


def test_a_commit_that_is_cancelled_is_cleared_up_by_the_next(postgres_url):
    """Cancelled while it waited for a lock: it did not happen, nothing is held, and the next one is written."""

    async def scenario(node, _):
        async with await psycopg.AsyncConnection.connect(postgres_url) as other:
            await other.execute("select from perdure.shards for update")
            task = asyncio.create_task(node.store.commit([node.append("run_1", 2)]))
            while await asyncio.to_thread(ask_database, postgres_url, WAITS) == [0]:
                assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await node.store.commit([node.append("run_1", 2)]) == [None]
        assert await node.seqs("run_1") == [1, 2]

    play(postgres_url, scenario)


def test_a_writer_whose_opening_was_answered_late_opens(postgres_url):
    """Its row is there when it tries again."""

    async def scenario(node, _):
        await node.store._committer.open()
        assert await node.store.commit([node.append("run_1", 2)]) == [None]

    play(postgres_url, scenario)


def test_a_stale_owner_creates_what_needs_no_fence(postgres_url):
    """Its refusal is its own: what another transaction of the batch creates is there."""

    async def scenario(node, _):
        stale = Fence(node.fence.shard, node.fence.epoch - 1)
        refused, created = await node.store.commit(
            [Transaction(fence=stale, events=[event("run_1", 2)]), create("run_2")]
        )
        assert isinstance(refused, Fenced)
        assert created is None

    play(postgres_url, scenario)
