"""A PostgreSQL server of one's own: started, stopped and killed at will, and never left behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from perdure.errors import NotFound, StoreError
from perdure.testing.servers.postgres import PostgresServer
from perdure.testing.servers.programs import OVERRIDE, find_postgres, major_version

SECONDS_MAX = 20


@pytest.fixture(scope="module")
def server():
    with PostgresServer() as server:
        yield server


def ask(url, query):
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    return row and row[0]


def tell(url, statement):
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def test_rows_survive_a_kill(server):
    """What was committed is there after SIGKILL of the postmaster and all its children, at the same address."""
    url = server.create_database("kill")
    tell(url, "create table kept as select 7 as number")
    port, pid = server.port, server.pid
    server.kill()
    assert server.pid is None
    with pytest.raises(psycopg.OperationalError):
        ask(url, "select 1")
    server.start()
    assert (server.port, server.pid != pid) == (port, True)
    assert ask(url, "select number from kept") == 7


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_breaks_open_connections(server, mode):
    """Whoever is connected is thrown out; whoever comes again is served."""
    with psycopg.connect(server.url()) as connection:
        server.restart(mode)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    assert ask(server.url(), "select 1") == 1


def test_fsync_is_on_unless_settings_say_otherwise(server, postgres_server):
    """A server is as safe as PostgreSQL ships it; the one that tests share is not."""
    assert ask(server.url(), "show fsync") == "on"
    assert ask(postgres_server.url(), "show fsync") == "off"


def test_settings_may_hold_quotes(tmp_path):
    """A setting arrives as it was given."""
    with PostgresServer(settings={"search_path": '"it\'s", public', "fsync": "off"}) as server:
        assert ask(server.url(), "show search_path") == '"it\'s", public'


def test_databases_hold_utf8_and_any_name(server):
    """A name with blanks and quotes is a name."""
    url = server.create_database('a "b/c')
    assert ask(url, "select current_database()") == 'a "b/c'
    assert ask(url, "show server_encoding") == "UTF8"
    server.drop_database('a "b/c')
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        ask(url, "select 1")


def test_a_closed_server_leaves_nothing():
    """Neither processes nor files nor shared memory, even if it was killed just before."""
    with PostgresServer() as server:
        place, pid = server.directory.parent, server.pid
        segment = (server.directory / "postmaster.pid").read_text().splitlines()[6].split()[1]
        server.kill()
        assert place.is_dir()
        assert segment in segments()
    assert not place.exists()
    assert not Path(f"/proc/{pid}").exists()
    assert segment not in segments()


def segments():
    """The ids of the machine's shared memory segments."""
    return {line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()}


def test_servers_start_side_by_side():
    """Each has its own port and directory."""
    with ThreadPoolExecutor(3) as pool:
        servers = list(pool.map(lambda _: PostgresServer(settings={"fsync": "off"}).__enter__(), range(3)))
    try:
        # Their threads have ended: had a server been tied to its thread, it would be gone.
        assert len({ask(server.url(), "show port") for server in servers}) == 3
    finally:
        for server in servers:
            server.close()


PARENT = """
import sys
from perdure.testing.servers.postgres import PostgresServer
with PostgresServer() as server:
    print(server.pid, server.directory.parent, flush=True)
    sys.stdin.read()
"""


def test_a_server_dies_with_the_process_that_started_it():
    """SIGKILL of the test's process is the end of the server, its children and its temporary directory."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid, place = parent.stdout.readline().split()
        leash = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        end = os.pidfd_open(int(leash))
        parent.kill()
        assert ended_within(end, SECONDS_MAX)
    assert not Path(f"/proc/{pid}").exists()
    assert not Path(place).exists()


def test_a_server_dies_with_its_leash():
    """SIGKILL of the process that holds it ends it, too."""
    with PostgresServer() as server:
        assert server.pid
        leash = int(Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[1])
        end = os.pidfd_open(server.pid)
        os.kill(leash, signal.SIGKILL)
        assert ended_within(end, SECONDS_MAX)


def ended_within(handle, seconds):
    """Has the process of the pidfd ended?"""
    try:
        return bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)


def test_a_server_that_cannot_start_says_why():
    """With what PostgreSQL said; and nothing is left."""
    with pytest.raises(StoreError, match="max_connections"), PostgresServer(settings={"max_connections": "many"}):
        pass


def test_a_directory_out_of_reach_is_named(tmp_path):
    """Root lends an account, which must be able to enter."""
    if os.geteuid() != 0:
        pytest.skip("everybody reaches his own directories")
    tmp_path.chmod(0o700)
    with pytest.raises(StoreError, match="ermission denied"), PostgresServer(tmp_path / "data"):
        pass


def test_missing_programs_come_with_the_remedy(tmp_path, monkeypatch):
    """The override is the only place looked at, and what was found instead is named."""
    found = find_postgres()
    monkeypatch.setenv(OVERRIDE, str(tmp_path))
    with pytest.raises(NotFound, match=rf"{OVERRIDE}={tmp_path}.*found: nothing.*Install"):
        find_postgres()
    monkeypatch.setenv(OVERRIDE, str(found))
    assert find_postgres(major_version(found)) == found
    with pytest.raises(NotFound, match=f"no PostgreSQL 9 .*found: {major_version(found)} in"):
        find_postgres(9)


def test_tests_do_not_meet_each_others_tables(bare_postgres_url):
    """A database is swept between tests, whatever was made in it ..."""
    assert ask(bare_postgres_url, LEFT) is None
    tell(
        bare_postgres_url,
        "create schema perdure; create table perdure.runs(); create table mine(); create schema other",
    )


def test_tests_do_not_meet_each_others_schemas(bare_postgres_url):
    """... in this order or the other."""
    assert ask(bare_postgres_url, LEFT) is None
    tell(
        bare_postgres_url,
        "create schema perdure; create table perdure.runs(); create table mine(); create schema other",
    )


LEFT = """
select nspname from pg_namespace where nspname !~ '^pg_' and nspname not in ('information_schema', 'public')
union all select relname from pg_class where relnamespace = 'public'::regnamespace
"""


def test_a_test_may_have_many_databases(postgres_databases):
    """Each call gives another."""
    assert len({postgres_databases() for _ in range(3)}) == 3
