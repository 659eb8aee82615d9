"""The benchmark says what it promises to say. How fast anything is, no test asks: that depends on the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from click import ClickException
from click.testing import CliRunner

import perdure
from perdure.bench import command as bench
from perdure.bench.cluster import takeover_seconds
from perdure.bench.databases import Databases, with_database
from perdure.bench.figures import METRICS, Figure, percentile, settle
from perdure.bench.killing import Line, judge
from perdure.bench.sizes import Sizes
from perdure.bench.worker import WORKLOADS
from perdure.errors import InvalidSetting, StoreError

TINY = Sizes(
    rounds=1, raw_commits=4, sequential_runs=1, sequential_steps=3, concurrent_runs=2, concurrent_steps=2, short_runs=3,
    idle_calls=2, children=3, parked_runs=6, parked_batch=3, parked_warm_up=3, idle_seconds=0.01, wakes=2,
    killed_runs=2, killed_steps=2, kill_after_lines=2, short_journal_steps=2, long_journal_steps=4, returns=1,
    long_run_steps=12, window_steps=2, windows=2, stored_events=50, starts=1,
    remote_parked_runs=3, scaling_rounds=1, lease_seconds=1.0,
)  # fmt: skip

FIGURES = {
    "W2": ["steps_per_second"],
    "W3": ["runs_per_second", "idle_call_ms_p50", "idle_call_ms_p99"],
    "W4": ["rss_bytes_per_parked", "disk_bytes_per_parked", "idle_cpu_percent", "wake_ms_p50", "wake_ms_p99"],
    "W5": ["all_resumed_seconds", "all_resumed_from_exec_seconds", "lost", "repeated", "repeated_reads"],
    "W6": ["replay_1000_ms", "replay_10000_ms"],
    "W7": ["join_1000_seconds"],
    "growth": ["flat_step_ratio", "journal_ratio", "million_ratio"],
    "start": ["import_seconds", "help_seconds", "idle_worker_mb"],
}


@pytest.fixture(autouse=True)
def _children_find_perdure(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(perdure.__file__).parents[1]))


@pytest.fixture
def tiny(monkeypatch):
    """`--quick` is quicker still."""
    monkeypatch.setattr(bench, "QUICK", TINY)


def invoke(*words):
    """Run the command in this process."""
    return CliRunner().invoke(bench.command, [*words])


def json_lines(result):
    """What it printed for programs."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def bench_databases(url):
    """The names of our databases on the server."""
    with psycopg.connect(url) as connection:
        return connection.execute("select datname from pg_database where datname like 'perdure_bench%'").fetchall()


def test_json_lines_carry_metric_value_unit_and_bar(tiny, tmp_path):
    """Programs read one object a line: the machine first, then every figure of the workloads asked for."""
    result = invoke("--quick", "--workload", "W1", "--workload", "W3", "--json", "--store", str(tmp_path))

    assert result.exit_code == 0, result.output
    machine, *figures = json_lines(result)
    assert machine["machine"]["raw_commit_ms_p50"] > 0
    assert [(line["workload"], line["metric"]) for line in figures] == [
        ("W1", "step_ms_p50"),
        ("W1", "step_vs_raw_commit"),
        ("W1", "raw_commit_ms_p50"),
        ("W3", "runs_per_second"),
        ("W3", "idle_call_ms_p50"),
        ("W3", "idle_call_ms_p99"),
    ]
    for line in figures:
        assert set(line) == {"workload", "metric", "value", "unit", "bar", "pass"}
        assert line["value"] > 0
        assert (line["bar"] is None) == (line["pass"] is None)


def test_a_person_sees_the_bar_beside_each_figure(tiny, tmp_path):
    """Without --json: a line about the machine, then lines of metric, value, unit, bar and verdict."""
    result = invoke("--quick", "--workload", "W7", "--repeat", "2", "--store", f"sqlite:///{tmp_path}")

    assert result.exit_code == 0, result.output
    machine, figure = result.stdout.splitlines()
    assert machine.startswith("python ")
    assert "raw commit" in machine
    assert figure.startswith("W7 ")
    assert "join_1000_seconds" in figure
    assert "<= 0.6" in figure


def test_nothing_is_left_on_the_disk(tiny, tmp_path):
    """Stores are made below --store and removed again."""
    assert invoke("--quick", "--workload", "W2", "--store", str(tmp_path)).exit_code == 0
    assert list(tmp_path.iterdir()) == []


def test_a_missing_directory_is_refused(tmp_path):
    """--store names a directory that exists."""
    result = invoke("--store", str(tmp_path / "nowhere"))

    assert result.exit_code == 2
    assert "there is no directory" in result.output


@pytest.mark.parametrize("workload", ["W4", "W6", "growth", "start"])
def test_every_workload_gives_its_figures(workload, tmp_path):
    """Each runs to its end in processes of its own, and names its figures as docs/benchmarks.md does."""
    figures = bench.measure(workload, TINY, tmp_path)

    assert [figure.metric for figure in figures] == FIGURES[workload]


@pytest.mark.slow
@pytest.mark.parametrize("workload", FIGURES)
def test_every_workload_gives_the_same_figures_on_postgresql(workload, postgres_url, tmp_path):
    """The store changes what a figure is, not which there are, and nothing of a workload stays on the server."""
    figures = bench.measure(workload, TINY, tmp_path, store=postgres_url)

    assert [figure.metric for figure in figures] == FIGURES[workload]
    assert bench_databases(postgres_url) == []


def test_a_killed_worker_loses_nothing_and_repeats_no_unrepeatable_effect(tmp_path):
    """W5's counts are not a matter of speed."""
    figures = {figure.metric: figure.value for figure in bench.measure("W5", TINY, tmp_path)}

    assert list(figures) == FIGURES["W5"]
    assert figures["lost"] == 0
    assert figures["repeated"] == 0


@pytest.mark.slow
@pytest.mark.timeout(240)  # nodes share the work only once they have been there for a lease, three times
def test_what_a_node_leaves_behind_moves_on_the_other(postgres_url, tmp_path):
    """cluster: killed or told to stop, its runs go on elsewhere, and an orderly end repeats no step."""
    killed = replace(TINY, killed_runs=16, killed_steps=3, kill_after_lines=16)
    sizes = replace(killed, concurrent_runs=20, concurrent_steps=20, lease_seconds=3.0)
    store = f"{postgres_url},{postgres_url}"  # "scaling" needs two databases, which may be of one server
    figures = {each.metric: each.value for each in bench.measure("cluster", sizes, tmp_path, store=store)}

    assert set(figures) == {
        "remote_wake_ms_p50",
        "remote_wake_ms_p99",
        "kill_takeover_seconds",
        "stop_takeover_seconds",
        "lost",
        "repeated",
        "repeated_reads",
        "scaling",
    }
    assert figures["lost"] == 0
    assert figures["repeated"] == 0


def test_every_workload_is_offered():
    """What a worker can measure, the command line can ask for."""
    assert list(bench.WORKLOADS) == list(WORKLOADS)


@pytest.mark.parametrize(
    ("metric", "value", "passed"),
    [
        ("step_ms_p50", 0.3, True),
        ("step_ms_p50", 0.31, False),
        ("steps_per_second", 10_000, True),
        ("steps_per_second", 9_999, False),
        ("idle_call_ms_p99", 99, None),
    ],
)
def test_a_figure_is_held_against_its_bar(metric, value, passed):
    """At the bar is enough; a figure without one neither passes nor fails."""
    assert Figure("W", metric, value).as_json()["pass"] is passed


def test_bars_differ_by_store():
    """A step may take longer where the server is another process; what may be lost is the same: nothing."""
    assert Figure("W1", "step_ms_p50", 0.5).as_json()["pass"] is False
    assert Figure("W1", "step_ms_p50", 0.5, on_postgres=True).as_json()["pass"] is True
    assert Figure("W5", "lost", 1, on_postgres=True).as_json()["pass"] is False


def test_of_several_rounds_the_median_counts_but_the_worst_where_nothing_is_allowed():
    """One lost step in three rounds is a lost step."""
    assert settle("step_ms_p50", [0.2, 0.9, 0.3]) == 0.3
    assert settle("lost", [0, 0, 1]) == 1


def test_percentiles_are_elements_of_the_sample():
    """Element floor(n * p), as on the peers."""
    sample = [float(number) for number in range(200, 0, -1)]
    assert percentile(sample, 0.5) == 101
    assert percentile(sample, 0.99) == 199


def test_bars_are_those_of_the_issue():
    """A figure that has to be reached has its bar here; the rest is for information."""
    assert {name for name, metric in METRICS.items() if metric.bar is None} == {
        "raw_commit_ms_p50",
        "idle_call_ms_p99",
        "all_resumed_from_exec_seconds",
        "repeated_reads",
        "remote_wake_ms_p99",
    }


def test_recovery_is_judged_by_the_lines_alone():
    """Lost is a step without a line, repeated a line too many; resumed is the last run's first line afterwards."""
    old, new = 1, 2
    before = [Line(0, 0, 1.0, old), Line(1, 0, 1.1, old)]
    after = [Line(0, 0, 3.2, new), Line(0, 1, 3.4, new), Line(1, 1, 3.5, new)]

    found = judge(before + after, old, 2, 3, executed=2.0, ready=3.0)

    assert found["lost"] == 2
    assert found["repeated"] == 1
    assert found["resumed"] == pytest.approx(0.5)
    assert found["resumed_from_exec"] == pytest.approx(1.5)


def test_takeover_lasts_until_the_last_unfinished_run_has_moved():
    """Runs that were the other node's all along, and those that had finished, are not waited for."""
    victim, other = 1, 2
    lines = [
        Line(0, 0, 1.0, victim), Line(1, 0, 1.1, victim), Line(2, 0, 1.2, other), Line(3, 0, 1.3, victim),
        Line(2, 1, 9.0, other), Line(0, 1, 6.0, other), Line(1, 1, 6.5, other), Line(0, 2, 7.0, other),
    ]  # fmt: skip

    assert takeover_seconds(lines, victim, ended=2.0) == pytest.approx(4.5)


def test_a_node_without_runs_is_no_takeover():
    """A figure of nothing would look like a very good one."""
    with pytest.raises(RuntimeError, match="nothing to take over"):
        takeover_seconds([Line(0, 0, 1.0, 2)], victim=1, ended=2.0)


def test_a_server_is_measured_in_databases_of_its_own(tiny, bare_postgres_url, monkeypatch):
    """The database of the URL is as it was, and nothing else is left on the server."""
    monkeypatch.setenv("PERDURE_BENCH_STORE", bare_postgres_url)

    result = invoke("--quick", "--workload", "W1", "--json")

    assert result.exit_code == 0, result.output
    machine, *figures = json_lines(result)
    assert machine["machine"]["postgresql"]
    assert {line["metric"]: line["bar"] for line in figures} == {
        "step_ms_p50": "<= 0.7",
        "step_vs_raw_commit": "<= 2",
        "raw_commit_ms_p50": None,
    }
    assert bench_databases(bare_postgres_url) == []
    with psycopg.connect(bare_postgres_url) as connection:
        assert connection.execute("select to_regnamespace('perdure'), to_regclass('step')").fetchall() == [(None, None)]


def test_a_store_may_be_several_databases(postgres_url, tmp_path):
    """Each store is then one database on each of the servers, and all of them go."""
    place = Databases(f"{postgres_url},{postgres_url}", tmp_path)

    first, second = place.make_store("steps").split(",")

    assert {first.rpartition("/")[2], second.rpartition("/")[2]} == {name for [name] in bench_databases(postgres_url)}
    place.clear()
    assert bench_databases(postgres_url) == []


def test_a_failed_workload_leaves_no_database_either(postgres_url, tmp_path):
    """Databases go whatever became of the workload."""
    with pytest.raises(ClickException, match="could not be measured"):
        bench.measure("W4", replace(TINY, parked_batch=0), tmp_path, store=postgres_url)

    assert bench_databases(postgres_url) == []


def test_a_role_that_may_not_create_databases_is_told_so(postgres_url, tmp_path):
    """And what to do about it; the password stays out of it."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("drop role if exists bench_guest")
        connection.execute("create role bench_guest login password 'hush'")
    try:
        guest = postgres_url.replace("://perdure@", "://bench_guest:hush@")
        with pytest.raises(StoreError, match=r"bench_guest may not create databases.*createdb") as refused:
            Databases(guest, tmp_path).make_store("steps")
        assert "hush" not in str(refused.value)
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute("drop role bench_guest")


def test_a_url_that_names_its_database_twice_is_refused():
    """Options win over the path: the workload would run in the user's own database."""
    with pytest.raises(InvalidSetting, match="among the URL's options"):
        with_database("postgresql://me@host/mine?dbname=mine", "perdure_bench_1")


def test_without_the_driver_a_directory_can_still_be_measured():
    """PostgreSQL is an extra: nothing of it is imported before it is asked for."""
    program = "import sys; sys.modules['psycopg'] = None; import perdure.bench.command, perdure.bench.worker"

    subprocess.run([sys.executable, "-c", program], check=True)


def test_nodes_need_a_server(tiny):
    """Processes on one SQLite file are no cluster."""
    result = invoke("--quick", "--workload", "cluster")

    assert result.exit_code == 2
    assert "--store postgresql://" in result.output
