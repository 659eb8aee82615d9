"""`perdure cluster`: what people and autoscalers see of nodes and queues, and how they steer them."""

import re
import signal

import pytest

from perdure.store.contract import Backlog, Node, Shard
from perdure.views.metrics import metrics_text
from perdure.views.standing import Standing
from tests.cli.conftest import read_until

NOW = 1_000_000_000
BUYER = (("buyer", "1"),)
NODES = [
    Node(
        "node_a",
        "one:1",
        NOW - 10_000_000,
        BUYER,
        figures='{"moving":3,"steps":50,"steps_per_second":5.0}',
        expires=NOW + 4,
        alive=True,
    ),
    Node("node_b", "two:2", NOW - 10_000_000, BUYER, draining=True, expires=NOW + 1_000_000, alive=True),
    Node("node_c", "three:3", 0, (("seller", "1"),), figures='{"moving":9,"steps":9}', expires=NOW - 1),
]
SHARDS = [
    Shard("buyer:10", "node_a", 3, NOW + 4_000_000, alive=True),
    Shard("buyer:2", "node_a", 1, NOW + 4_000_000, alive=True),
    Shard("buyer:3", "node_c", 1, NOW - 1, alive=False),
    Shard("seller:0", None, 2, None, alive=False),
]
BACKLOG = [
    Backlog("buyer:2", 2, NOW - 5_000_000, 0, None, 1, NOW - 250_000),
    Backlog("buyer:3", 1, NOW - 7_000_000, 1, NOW - 30_000_000, 0, None),
    Backlog("ti:to:0", 1, NOW, 0, None, 0, None),
]


@pytest.fixture
def standing():
    """Two living nodes, a dead one, and work for three agents."""
    return Standing(NOW, NODES, SHARDS, BACKLOG, {"buyer:2": "sqlite:///b.db"})


def test_a_look_adds_up_what_waits_for_each_agent(standing):
    """Counts are summed over its shards; the oldest of all counts; dead nodes and their shards do not."""
    buyer, seller, other = standing.agents

    assert (buyer.name, buyer.shards, buyer.owned, buyer.nodes) == ("buyer", 3, 2, 2)
    assert buyer.lag.as_json() == {
        "queued": 3,
        "oldest_queued_seconds": 7.0,
        "due": 1,
        "oldest_due_seconds": 30.0,
        "unread": 1,
        "oldest_unread_seconds": 0.25,
    }
    assert (seller.shards, seller.owned, seller.nodes, seller.lag.queued) == (1, 0, 0, 0)
    assert (other.name, other.lag.queued, other.lag.oldest_queued_seconds) == ("ti:to", 1, 0.0)
    assert standing.lag().queued == 4


def test_a_node_tells_its_own_speed(standing):
    """One that never said has none."""
    first, second, _ = standing.as_json()["nodes"]

    assert (first["steps_per_second"], second["steps_per_second"]) == (5.0, None)


def test_metrics_are_what_prometheus_reads(standing):
    """Every sample has a help and a type above it; agents without work have zeros, so that no series disappears."""
    lines = metrics_text(standing).splitlines()
    samples = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))

    assert all(
        re.fullmatch(r'[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.e+]+', line)
        for line in lines
        if line[0] != "#"
    )
    named = {sample.partition("{")[0] for sample in samples}
    assert {line.split()[2] for line in lines if line.startswith("# TYPE")} == named
    assert samples["perdure_nodes"] == "2"
    assert samples["perdure_nodes_draining"] == "1"
    assert samples['perdure_queue_depth{agent="buyer"}'] == "3"
    assert samples['perdure_queue_depth{agent="seller"}'] == "0"
    assert samples['perdure_oldest_due_seconds{agent="buyer"}'] == "30"
    assert samples['perdure_shards_unowned{agent="buyer"}'] == "1"
    assert samples['perdure_moving_runs{node="node_a",place="one:1"}'] == "3"
    assert not any("node_c" in sample for sample in samples)


def test_a_store_without_nodes_says_what_is_needed(typed):
    """Queued work and nobody who has its agent: the table ends with the command that helps."""
    typed("run", "shop.py:adder", '{"a": 1}', "--detach")

    told = typed("cluster", "status").out
    assert "no node has worked here lately" in told
    assert "1 wait for adder, and no node has it: perdure work FILE.py" in told
    [adder] = typed("cluster", "status", "--json").json["agents"]
    assert (adder["queued"], adder["nodes"]) == (1, 0)
    assert 'perdure_queue_depth{agent="adder"} 1' in typed("cluster", "metrics").out


def test_a_working_node_is_listed_and_drains_when_asked(shell):
    """By the end of its id; its worker ends with 0, its shards are free, and the node is gone."""
    shell("run", "shop.py:buyer", '["pen"]', "--no-wait")
    worker = shell.begin("work", "shop.py", "--lease", "1.5", "--alive-file", "alive")
    said = read_until(worker.stderr, "is working on")
    node = said.split()[0]

    [shown] = shell("cluster", "status", "--json").json["nodes"]
    assert (shown["id"], shown["alive"], shown["draining"], shown["shards"]) == (node, True, False, 128)
    assert shown["place"].endswith(f":{worker.pid}")
    assert f"({shown['place']})" in said
    assert {"agent": "buyer", "version": "1"} in shown["programs"]
    assert 0 < shown["lease_seconds_left"] <= 1.5
    assert (shell.directory / "alive").exists()

    drained = shell("cluster", "drain", node[-5:], "--wait", "--json")
    assert drained.json == {"node": node, "place": shown["place"], "drained": True}
    _, said = worker.communicate(timeout=20)
    assert worker.returncode == 0
    assert "drained, as somebody asked for" in said
    assert not (shell.directory / "alive").exists()
    after = shell("cluster", "status", "--shards", "--json").json
    assert after["nodes"] == []
    assert {shard["owner"] for shard in after["shards"]} == {None}
    assert [shard["shard"] for shard in after["shards"]][:3] == ["adder:0", "adder:1", "adder:2"]


def test_a_node_that_died_is_shown_dead_and_is_not_asked(shell):
    """It cannot hear; what to do instead is said."""
    worker = shell.begin("work", "shop.py")
    node = read_until(worker.stderr, "is working on").split()[0]
    worker.send_signal(signal.SIGKILL)
    worker.communicate(timeout=20)

    [shown] = shell("cluster", "status", "--json").json["nodes"]
    assert (shown["id"], shown["alive"]) == (node, False)
    assert "dead" in shell("cluster", "status").out
    refused = shell("cluster", "drain", node)
    assert refused.code == 1
    assert "perdure cluster status" in refused.err


def test_a_shard_moves_between_the_databases_of_a_store(typed, folder):
    """Named as --store names them, the one that it left is told; one database has nowhere to move it to."""
    one, two = "sqlite:///one.db", "sqlite:///two.db"
    both = ("--store", f"{one},{two}")
    typed("run", "shop.py:buyer", '["pen"]', "--no-wait", "--session", "acme", *both)
    places = {
        shard["shard"]: shard["database"]
        for shard in typed("cluster", "status", "--shards", "--json", *both).json["shards"]
    }
    shard = next(name for name in places if name.startswith("buyer:"))
    target = two if places[shard] == one else one

    assert typed("cluster", "move-shard", shard, target, "--json", *both).json == {
        "shard": shard,
        "database": target,
        "before": places[shard],
    }
    assert "already" in typed("cluster", "move-shard", shard, target, *both).err
    moved = typed("cluster", "status", "--shards", "--json", *both).json["shards"]
    assert {row["database"] for row in moved if row["shard"] == shard} == {target}
    assert [run["status"] for run in typed("runs", "--json", *both).json] == ["waiting"]

    unknown = typed("cluster", "move-shard", shard, "postgresql://me:hush@b/c", *both)
    assert (unknown.code, "hush" in unknown.err) == (2, False)
    typed("db", "migrate", "--store", "sqlite:///alone.db")
    alone = typed("cluster", "move-shard", shard, "x", "--store", "sqlite:///alone.db")
    assert alone.code == 2
    assert "nowhere to move" in alone.err
