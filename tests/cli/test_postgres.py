"""The same commands on PostgreSQL: nothing but the URL differs, and what it holds of secrets is never shown."""

import json
import signal
import subprocess

import psycopg
import pytest

from perdure.demo.process import WorkerProcess
from perdure.testing.servers.postgres import PostgresServer
from tests.cli.conftest import COMMAND, environment, read_until

#: Anybody is let in, whatever the password; it must not be seen anywhere.
SECRET = "hush-hush"
#: Nothing listens there.
NOWHERE = f"postgresql://me:{SECRET}@127.0.0.1:1/shop"


@pytest.fixture
def url(bare_postgres_url, monkeypatch):
    """An empty database, named by PERDURE_STORE with a password in it."""
    named = bare_postgres_url.replace("@", f":{SECRET}@")
    monkeypatch.setenv("PERDURE_STORE", named)
    return named


@pytest.fixture
def told(typed, url):
    """Commands on that database; none of them says the password."""

    def type_in(*words, **options):
        ended = typed(*words, **options)
        assert SECRET not in ended.out + ended.err, words
        return ended

    return type_in


def verdicts(ended):
    """Findings by what was looked at."""
    return {finding["check"]: finding for finding in ended.json}


def schemas(url):
    """The names of all schemas that somebody made in a database."""
    with psycopg.connect(url) as connection:
        rows = connection.execute("select nspname from pg_namespace where nspname !~ '^(pg_|information_schema)'")
        return {name for (name,) in rows}


def test_every_command_does_its_work(told, folder):
    """Start, look, people, steer, compare, care: as on a file."""
    waiting = told("run", "shop.py:buyer", '["pen"]', "--session", "acme", "--no-wait", "--json")
    assert (waiting.code, waiting.json["wait"]["kind"]) == (3, "ask"), waiting.err
    run = waiting.json["id"]
    [ask] = told("inbox", "--json").json
    assert "Spend it?" in told("inbox").out
    assert told("send", "--agent", "listener", "--session", "s", "word", '"one"').code == 0
    listener = told("run", "shop.py:listener", "--session", "s", "--detach", "--json").json["id"]
    assert told("pause", listener).code == told("resume", listener).code == 0
    assert told("send", listener, "word", '"two"').code == 0
    assert told("answer", ask["id"], '{"approved": true}').code == 0
    assert told("answer", ask["id"], '{"approved": false}').code == 1
    payer = told("run", "shop.py:payer", '"5"', "--no-wait", "--json").json["id"]
    assert told("approve", f"{payer}:1", "--edit", '{"amount": "4"}').code == 0

    worked = told("work", "shop.py", "--until-idle")
    assert "at postgresql://perdure@127.0.0.1:" in worked.err
    assert {row["id"]: row["status"] for row in told("runs", "--json").json} == dict.fromkeys(
        (run, listener, payer), "succeeded"
    )
    assert told("show", payer, "--json").json["run"]["result"] == "paid 4"
    assert told("show", listener[-6:]).code == 0
    assert told("events", run, "--follow", "--json").lines[-1]["type"] == "run.succeeded"

    failed = told("run", "shop.py:failing", "--json").json["id"]
    assert told("retry", failed, "--json").json["forked_from"] is not None
    fork = told("fork", run, "--at", str(ask["step"]), "--result", '{"approved": false}', "--json").json["id"]
    assert told("cancel", fork, "--reason", "enough").code == 0
    assert told("work", "shop.py", "--until-idle", "--json").code == 0
    assert told("replay", run, "shop.py").code == 0
    assert told("diff", run, fork).code == 0
    assert told("export", run, "--out", "run.jsonl").code == 0
    assert told("import", "run.jsonl", "--json").json["imported_from"] == run
    assert told("runs", "--agent", "buyer", "--since", "1h").code == 0

    assert told("cluster", "status").code == told("cluster", "metrics").code == 0
    assert told("db", "check", "--json").json["problems"] == []
    assert told("db", "backup", "copy.dump").code == 0
    assert told("db", "backup", "copy.dump").code == 2
    migrated = told("db", "migrate", "--json").json
    assert migrated["before"] == migrated["after"] > 0
    assert told("doctor").code in {0, 1}


def test_looking_makes_no_store(told, url):
    """A database without one is named; neither `runs` nor `doctor` leaves a schema behind."""
    refused = told("runs", "--json")
    assert (refused.code, refused.json["error"]["type"]) == (1, "NotFound")
    assert told("db", "check").code == told("cluster", "status").code == 1
    store = verdicts(told("doctor", "--json"))["store"]

    assert (store["verdict"], "none in postgresql://" in store["found"]) == ("ok", True)
    assert "perdure" not in schemas(url)
    assert told("db", "migrate", "--json").json["before"] == 0
    assert told("runs", "--json").json == []


@pytest.mark.parametrize(
    "words",
    [
        ("run", "shop.py:adder", '{"a": 1}'), ("work", "shop.py"), ("runs",), ("inbox",), ("show", "run_x"),
        ("db", "check"), ("db", "backup", "x"), ("db", "migrate"), ("cluster", "status"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_database_that_is_away_is_one_line_and_exit_code_1(typed, monkeypatch, words):
    """No traceback, no password; programs get the type."""
    monkeypatch.setenv("PERDURE_STORE", NOWHERE)
    plain, told = typed(*words), typed(*words, "--json")

    assert (plain.code, told.code) == (1, 1)
    assert len(plain.err.splitlines()) == 1
    assert "127.0.0.1" in plain.err
    assert told.json["error"]["type"] == "StoreBusy"
    assert SECRET not in plain.err + told.out + told.err


def test_a_url_that_is_none_is_refused_without_its_password(typed):
    """Exit code 2, as for whatever makes no sense."""
    for url in (f"postgressql://me:{SECRET}@host/shop", f"postgresql://me:{SECRET}@host:port/shop"):
        refused = typed("runs", "--store", url)
        assert refused.code == 2
        assert SECRET not in refused.err


def test_doctor_judges_the_server(told, url):
    """The server of the tests does not sync, which is worst of all; the rest of it is fine."""
    told("db", "migrate")
    ended = told("doctor", "--json")
    found = verdicts(ended)

    assert ended.code == 1
    assert {"store", "postgres", "durability", "role", "connections", "distance", "clock", "workers"} <= set(found)
    assert found["durability"]["verdict"] == "fail"
    assert "fsync = on" in found["durability"]["remedy"]
    assert found["role"]["verdict"] == "warn"
    failing = {name for name, finding in found.items() if finding["verdict"] == "fail"}
    assert failing == {"durability"}


@pytest.mark.slow
def test_doctor_finds_nothing_wrong_with_a_plain_server(typed, monkeypatch):
    """As its makers ship it, with a role of its own: nothing fails."""
    with PostgresServer() as server:
        url = server.create_database("shop")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("create role shop login; grant create on database shop to shop")
        monkeypatch.setenv("PERDURE_STORE", url.replace("perdure@", "shop@"))
        typed("db", "migrate")
        ended = typed("doctor", "--json")

    assert ended.code == 0
    found = verdicts(ended)
    assert [found[name]["verdict"] for name in ("store", "durability", "role", "workers")] == ["ok"] * 4
    assert "no synchronous standby" in found["durability"]["found"]


@pytest.mark.slow
def test_two_workers_share_the_work_and_one_drains(shell, url):
    """Each owns a part; when one is drained the other has all, and the waiting run goes on there."""
    env = {**environment(), "PERDURE_STORE": url}
    words = [*COMMAND, "work", "shop.py", "--lease", "1.5"]

    def look(*command):
        ended = subprocess.run(
            [*COMMAND, *command, "--json"], cwd=shell.directory, env=env, capture_output=True, text=True, check=True
        )
        return json.loads(ended.stdout)

    workers = [
        subprocess.Popen(words, cwd=shell.directory, env=env, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        names = [read_until(worker.stderr, "is working on").split()[0] for worker in workers]
        while {node["shards"] for node in look("cluster", "status")["nodes"]} != {64}:
            pass
        subprocess.run(
            [*COMMAND, "run", "shop.py:sleeper", "--detach"],
            cwd=shell.directory,
            env=env,
            check=True,
            capture_output=True,
        )
        assert look("cluster", "drain", names[0], "--wait")["drained"] is True
        assert workers[0].wait(timeout=20) == 0
        while [node["shards"] for node in look("cluster", "status")["nodes"]] != [128]:
            pass
        assert all(agent["owned"] == agent["shards"] for agent in look("cluster", "status")["agents"])
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
            worker.communicate(timeout=20)
    assert workers[1].returncode == 0
    assert look("cluster", "status")["nodes"] == []


def test_a_worker_of_the_demo_is_not_given_the_password_where_all_can_read_it():
    """It comes by the environment."""
    process = WorkerProcess(NOWHERE, "run_x")
    assert SECRET not in " ".join(process._command)
    assert process._environment["PERDURE_STORE"] == NOWHERE
    process._log.close()
