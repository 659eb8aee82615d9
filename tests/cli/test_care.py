"""What `doctor`, `db` and `new` do for those who look after a machine and its store."""

import sqlite3
from contextlib import closing

import pytest


def verdicts(ended):
    """Findings by what was looked at."""
    return {finding["check"]: finding for finding in ended.json}


@pytest.fixture
def store(typed, folder):
    """A store with one run; its file."""
    typed("run", "shop.py:adder", '{"a": 1}')
    return folder / ".perdure" / "perdure.db"


def test_a_healthy_machine_passes_every_check(typed, store):
    """SQLite with its fix, a disk that was measured, the store's schema and size, integrity, clock, workers."""
    ended = typed("doctor", "--json")
    found = verdicts(ended)

    assert ended.code == 0
    assert {
        "perdure",
        "python",
        "platform",
        "sqlite",
        "space",
        "disk",
        "store",
        "integrity",
        "clock",
        "workers",
    } == set(found)
    assert all(finding["verdict"] in ("ok", "warn") for finding in ended.json)
    assert "1 runs" in found["store"]["found"]
    assert "ms" in found["disk"]["found"]
    assert "none alive" in found["workers"]["found"]


def test_the_doctor_makes_no_store(typed, folder):
    """Looking changes nothing."""
    assert typed("doctor").code == 0
    assert not (folder / ".perdure").exists()


def test_a_damaged_store_fails_the_check_with_a_remedy(typed, store):
    """Exit code 1 from `doctor` and from `db check`; each says what to do."""
    with store.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xa5" * 4096)

    ended = typed("doctor", "--json")
    bad = [finding for finding in ended.json if finding["verdict"] == "fail"]
    assert ended.code == 1
    assert bad
    assert all("perdure db" in (finding["remedy"] or finding["found"]) for finding in bad)
    assert typed("db", "check").code == 1


def test_a_foreign_file_is_no_store(typed, folder):
    """`doctor` says so, and does not touch it."""
    (folder / "notes.db").write_bytes(b"notes " * 500)

    ended = typed("doctor", "--store", "sqlite:///notes.db", "--json")
    assert ended.code == 1
    assert verdicts(ended)["store"]["verdict"] == "fail"


def test_a_sound_store_has_no_problems(typed, store):
    """`db check` ends with 0 and an empty list."""
    assert typed("db", "check", "--json").json == {"store": "sqlite:///.perdure/perdure.db", "problems": []}


def test_a_backup_is_a_store_and_never_overwrites(typed, store):
    """The copy shows the same runs; a second backup to the same file is refused."""
    assert typed("db", "backup", "copy.db").code == 0

    copied = typed("runs", "--json", "--store", "sqlite:///copy.db").json
    assert [row["id"] for row in copied] == [row["id"] for row in typed("runs", "--json").json]
    again = typed("db", "backup", "copy.db")
    assert again.code == 2
    assert "never overwrites" in again.err


def test_migrating_makes_a_store_or_leaves_it_as_new_as_it_is(typed, folder):
    """From nothing to the newest schema, then nothing more to do."""
    first = typed("db", "migrate", "--json").json
    second = typed("db", "migrate", "--json").json

    assert first["before"] == 0
    assert first["after"] == second["before"] == second["after"] > 0


def test_slots_are_chosen_when_the_store_is_made(typed, folder):
    """And are the same for ever: another number is refused."""
    assert typed("db", "migrate", "--slots", "64", "--json").json["slots"] == 64
    assert typed("db", "migrate", "--json").json["slots"] == 64
    refused = typed("db", "migrate", "--slots", "32")
    assert refused.code == 2
    assert "has 64 slots" in refused.err


def test_the_store_can_be_named_by_the_environment(typed, folder, monkeypatch):
    """PERDURE_STORE stands in for --store; the option wins."""
    monkeypatch.setenv("PERDURE_STORE", "sqlite:///mine.db")
    typed("run", "shop.py:adder", '{"a": 1}')

    assert (folder / "mine.db").exists()
    assert len(typed("runs", "--json").json) == 1
    assert typed("runs", "--store", "sqlite:///none.db").code == 1


def test_a_new_project_goes_only_into_an_empty_directory(typed, folder):
    """Files are never overwritten, and a file is no directory."""
    (folder / "empty").mkdir()

    assert typed("new", "empty", "--json").json["files"] == ["shop.py", "test_shop.py", "README.md", ".gitignore"]
    for name in ("empty", "shop.py", "."):
        assert typed("new", name).code == 2
    assert typed("new", "shop.py/inside").code == 1


def test_doctor_and_check_know_a_database_of_something_else(typed, tmp_path):
    """Findings, not a failure half-way; and doctor changes nothing."""
    foreign = tmp_path / "foreign.db"
    with closing(sqlite3.connect(foreign)) as db:
        db.execute("create table theirs (x)")
    before = foreign.read_bytes()
    findings = typed("doctor", "--json", "--store", f"sqlite:///{foreign}").json

    assert ("store", "fail") in [(finding["check"], finding["verdict"]) for finding in findings]
    assert "not a Perdure store" in typed("db", "check", "--store", f"sqlite:///{foreign}").err
    assert foreign.read_bytes() == before


def test_doctor_does_not_migrate(typed, tmp_path):
    """An empty file is reported, and stays empty."""
    empty = tmp_path / "empty.db"
    empty.touch()

    assert typed("doctor", "--store", f"sqlite:///{empty}").code == 0
    assert typed("db", "check", "--store", f"sqlite:///{empty}").code == 0
    assert empty.stat().st_size == 0
