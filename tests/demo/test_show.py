"""The whole demo, as a person types it: real processes, real kills, real files; only the pauses are left out."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from perdure.demo.bank import read_transfers
from perdure.demo.batches import split_batches
from perdure.demo.matching import match_batch
from perdure.demo.outcome import merge
from perdure.demo.payments import Payment, payments_due
from perdure.demo.records import AS_OF, DATA, read_invoices, read_ledger, read_rates
from perdure.demo.report import Status
from perdure.demo.show import main
from perdure.demo.stage import PACE

SRC = Path(__file__).parents[2] / "src"
SECONDS_MOST = 50

INVOICES = """\
Invoice No,Supplier,Issue Date,Due Date,Amount,Currency,IBAN
A-1,Acme,2026-01-02,2026-02-01,100.00,EUR,DE1
A-2,Acme,2026-01-02,2026-02-01,see mail,EUR,DE1
A-3,Acme,2026-01-05,2026-02-01,9000.00,EUR,DE1
B-1,Bolt,2026-01-05,2026-02-01,50.00,EUR,DE2
"""
LEDGER = """\
Date,Amount,Currency,Counterparty,Text
2026-01-20,100.00,EUR,Acme,A-1
2026-01-21,,EUR,Bolt,nothing
"""


@pytest.fixture(autouse=True, scope="module")
def full_speed() -> Iterator[None]:
    """No pauses, and workers that find these sources wherever the test runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PACE, "0")
        patch.setenv("PYTHONPATH", str(SRC))
        patch.delenv("PERDURE_STORE", raising=False)
        yield


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    """A person's own small files, with a bad row in each."""
    invoices, ledger = tmp_path / "bills.csv", tmp_path / "bank.csv"
    invoices.write_text(INVOICES)
    ledger.write_text(LEDGER)
    return invoices, ledger


@contextmanager
def started(folder: Path, *options: str, **streams) -> Iterator[subprocess.Popen[str]]:
    """`perdure demo` in a process of its own, with its words on stderr; gone in the end, whatever happens."""
    command = [sys.executable, "-m", "perdure", "demo", "--json", *options]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    with subprocess.Popen(command, cwd=folder, text=True, **streams) as process:
        try:
            yield process
        finally:
            process.kill()


def play(folder: Path, *options: str) -> tuple[int, str, str]:
    """The demo from its beginning to its end: exit code, stdout, stderr."""
    with started(folder, *options) as process:
        out, err = process.communicate(timeout=SECONDS_MOST)
        return process.returncode, out, err


def read_until(process: subprocess.Popen[str], pattern: str) -> str:
    """What the demo says until a line of it matches."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if re.search(pattern, line):
            return said
    raise AssertionError(f"the demo ended without saying {pattern!r}:\n{said}")


def alive(pid: int) -> bool:
    """True while such a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def workers(said: str) -> set[int]:
    """The processes that were named as workers."""
    return {int(pid) for pid in re.findall(r"worker (\d+)", said)}


def payments_of_shipped_files() -> list[Payment]:
    """What the pure functions say is to be paid."""
    invoices, _ = read_invoices(DATA / "invoices.csv")
    lines, bad = read_ledger(DATA / "ledger.csv")
    outcome = merge(match_batch(batch.invoices, batch.lines, read_rates()) for batch in split_batches(invoices, lines))
    return payments_due(outcome, AS_OF, Decimal(5000), bad)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the show on the shipped files takes place."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def show(folder) -> tuple[int, str, str]:
    """One show on the shipped files, looked at from all sides by the tests below."""
    return play(folder, "--yes")


@pytest.fixture(scope="module")
def end(show) -> dict[str, Any]:
    """What it printed for programs."""
    code, out, err = show
    assert code == 0, err
    assert out.count("\n") == 1, "one JSON object and nothing else"
    printed: dict[str, Any] = json.loads(out)
    return printed


def test_two_workers_are_killed_and_the_run_goes_on(end):
    """Once while matching, once while paying, both with SIGKILL; each time another worker takes the run over."""
    kills = end["evidence"]["kills"]
    assert [kill["scene"] for kill in kills] == ["matching", "paying"]
    assert [kill["signal"] for kill in kills] == [signal.SIGKILL, signal.SIGKILL]
    assert len({kill["pid"] for kill in kills}) == 2
    assert end["evidence"]["recoveries"] == 2
    assert end["evidence"]["steps_replayed"] == [kill["steps_completed"] for kill in kills]
    assert 0 < kills[0]["steps_completed"] < kills[1]["steps_completed"]


def test_every_payment_is_in_the_file_exactly_once(folder, end):
    """The file holds what the pure functions say, no key twice, and the total to the cent."""
    due = payments_of_shipped_files()
    transfers = read_transfers(folder / "perdure-demo" / "payments.csv")
    assert Counter(transfer.key for transfer in transfers) == Counter(payment.key for payment in due)
    total = sum(payment.amount_eur for payment in due)
    assert sum(transfer.amount_eur for transfer in transfers) == total == Decimal(end["result"]["paid_eur"])


def test_the_payment_in_flight_at_the_kill_found_itself(end):
    """It was in the file before its worker died, was tried again, and was not sent again."""
    assert end["evidence"]["transfers_found"] == 1
    assert end["evidence"]["steps_repeated"] >= 1


def test_nothing_is_lost_and_nothing_is_done_twice(end):
    """Every figure that should be zero is."""
    evidence = end["evidence"]
    assert (evidence["effects_repeated"], evidence["effects_astray"], evidence["steps_recorded_twice"]) == (0, 0, 0)


def test_the_report_holds_the_evidence(folder, end):
    """Both forms of the report are there, with the figures and the commands to look further."""
    report = json.loads((folder / "perdure-demo" / "report.json").read_text())
    assert dict(report["evidence"])["Effects repeated"].startswith("0")
    assert report["commands"] == end["commands"]
    text = (folder / "perdure-demo" / "report.md").read_text()
    assert all(command in text for command in end["commands"])
    assert {Path(path).exists() for path in end["files"].values()} == {True}


def test_consent_is_given_by_the_demo_itself_and_says_so(folder, show, end):
    """With --yes nobody is asked, on the screen and in the report."""
    assert "nobody is asked" in show[2]
    report = json.loads((folder / "perdure-demo" / "report.json").read_text())
    approved = [item for item in report["settlements"] if item["status"] == Status.APPROVED]
    assert len(approved) == sum(bool(payment.consent) for payment in payments_of_shipped_files())
    assert {item["note"] for item in approved} == {"approved by perdure demo --yes"}


def test_no_worker_is_left(show, end):
    """Every worker that was named is gone."""
    pids = workers(show[2])
    assert len(pids) == 3
    assert not any(alive(pid) for pid in pids)


def test_the_commands_name_the_run_and_the_store(end):
    """They can be pasted as they are."""
    show, events, fork, runs = end["commands"]
    assert f"show {end['run']} --store sqlite:///perdure-demo/demo.db" in show
    assert f"events {end['run']} --store" in events
    assert re.search(rf"fork {end['run']} --at \d+ --store", fork)
    assert runs.endswith("runs --store sqlite:///perdure-demo/demo.db")


def test_own_files_are_read_and_their_bad_rows_reported(tmp_path, files, capsys):
    """Bad rows are on the screen and in the report with their lines; small files need no kill."""
    invoices, ledger = files
    out = tmp_path / "out"
    assert main(invoices=invoices, ledger=ledger, out=out, limit="5000") == 0
    said = capsys.readouterr().out
    assert "bills.csv:3" in said
    assert "bank.csv:3" in said
    assert "without a terminal: nobody is asked" in said
    report = json.loads((out / "report.json").read_text())
    assert [(row["file"], row["line"]) for row in report["bad_rows"]] == [("bills.csv", 3), ("bank.csv", 3)]
    statuses = {item["payment"]["number"]: item["status"] for item in report["settlements"]}
    assert statuses == {"A-3": Status.APPROVED, "B-1": Status.PAID}
    assert len(read_transfers(out / "payments.csv")) == 2


def test_the_next_show_keeps_the_report_of_the_one_before(tmp_path, files):
    """A finished run is followed by a new one; what the first left is moved aside, and the second pays anew."""
    invoices, ledger = files
    options = ("--invoices", str(invoices), "--ledger", str(ledger), "--out", str(tmp_path / "out"))
    first, second = (json.loads(play(tmp_path, *options)[1]) for _ in range(2))
    assert first["run"] != second["run"]
    kept = [path for path in (tmp_path / "out").glob("*Z/report.json") if first["run"] in path.read_text()]
    assert len(kept) == 1
    assert len(read_transfers(kept[0].with_name("payments.csv"))) == second["evidence"]["transfers"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ledger": "Date,Amount,Currency,Counterparty\n2026-01-20,1.00,EUR,Acme\n"}, "has no column for the text"),
        ({"ledger": ""}, "is empty"),
        ({"limit": "a lot"}, "--limit must be an amount"),
        ({"store": "memory://"}, "must outlive it"),
    ],
)
def test_what_cannot_work_is_refused_before_a_run_exists(tmp_path, files, capsys, options, message):
    """Exit code 1, one line that says what is wrong, and no report."""
    invoices, ledger = files
    if "ledger" in options:
        ledger.write_text(options.pop("ledger"))
    assert main(invoices=invoices, ledger=ledger, out=tmp_path / "out", **options) == 1
    said = capsys.readouterr().out
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out" / "report.md").exists()


@pytest.mark.parametrize(
    "moment",
    [
        r"worker \d+ runs",
        pytest.param(r"kill -9 \d+", marks=pytest.mark.slow),
        pytest.param(r"worker \d+ took over", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_stops_and_the_same_command_goes_on(tmp_path, moment):
    """Wherever it comes: the worker is gone, the way on is named, and the same run is finished, each payment once."""
    with started(tmp_path, "--yes") as process:
        said = read_until(process, moment)
        process.send_signal(signal.SIGINT)
        out, rest = process.communicate(timeout=SECONDS_MOST)
        assert process.returncode == 130, rest
    assert out == ""
    assert "demo --out perdure-demo --store sqlite:///perdure-demo/demo.db" in rest
    assert "Traceback" not in rest
    assert not any(alive(pid) for pid in workers(said + rest))

    code, out, err = play(tmp_path, "--yes")
    end = json.loads(out)
    assert code == 0
    assert f"Going on with {end['run']}" in err
    assert end["evidence"]["transfers"] == end["result"]["payments"] == len(payments_of_shipped_files())
    assert end["evidence"]["effects_repeated"] == end["evidence"]["effects_astray"] == 0


@pytest.mark.slow
def test_a_worker_that_somebody_else_kills_is_replaced(tmp_path):
    """The show says that it was not its doing, and goes on."""
    with started(tmp_path, "--yes") as process:
        said = read_until(process, r"worker \d+ runs")
        (pid,) = workers(said)
        os.kill(pid, signal.SIGKILL)
        out, rest = process.communicate(timeout=SECONDS_MOST)
    assert f"worker {pid} was killed, and not by this show" in rest
    end = json.loads(out)
    assert pid not in {kill["pid"] for kill in end["evidence"]["kills"]}
    assert end["evidence"]["effects_repeated"] == end["evidence"]["effects_astray"] == 0


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux lets a stranger wait for a process")
def test_no_worker_outlives_a_show_that_is_killed(tmp_path):
    """The worker's input ends with the show, and the worker with its input."""
    with started(tmp_path, "--yes") as process:
        (pid,) = workers(read_until(process, r"worker \d+ runs"))
        worker = os.pidfd_open(pid)
        try:
            process.kill()
            ended, _, _ = select.select([worker], [], [], SECONDS_MOST)
            assert ended
        finally:
            os.close(worker)
    code, out, _ = play(tmp_path, "--yes")
    assert code == 0
    assert json.loads(out)["evidence"]["effects_repeated"] == 0


class Terminal:
    """A person at a terminal of 100 columns who watches the demo and types."""

    def __init__(self, folder: Path) -> None:
        self.seen = ""
        self._master, terminal = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
        command = [sys.executable, "-m", "perdure", "demo"]
        self.process = subprocess.Popen(
            command, cwd=folder, stdin=terminal, stdout=terminal, stderr=terminal, env=environment
        )
        os.close(terminal)

    def type(self, text: str) -> None:
        """Keys."""
        os.write(self._master, text.encode())

    def watch(self, words: str = "\0") -> str:
        """The screen until these words, or until the demo ends."""
        try:
            while words not in self.seen:
                self.seen += os.read(self._master, 65_536).decode(errors="replace")
        except OSError:  # the demo ended, and its side of the terminal with it
            assert words == "\0", self.seen
        return self.seen

    def leave(self) -> int:
        """Close the terminal; the demo's exit code."""
        try:
            return self.process.wait(SECONDS_MOST)
        finally:
            self.process.kill()
            os.close(self._master)


def test_a_person_decides_payment_by_payment(tmp_path):
    """What is not chosen is rejected in the person's name and not paid; nonsense is asked again."""
    terminal = Terminal(tmp_path)
    terminal.watch("to approve, like")
    terminal.type("99\n")
    terminal.watch("numbers from 1 to 10")
    terminal.type("1, 3-4\n")
    terminal.watch()
    assert terminal.leave() == 0
    report = json.loads((tmp_path / "perdure-demo" / "report.json").read_text())
    asked = [item for item in report["settlements"] if item["payment"]["consent"]]
    assert [place for place, item in enumerate(asked, start=1) if item["status"] == Status.APPROVED] == [1, 3, 4]
    rejected = {item["payment"]["key"] for item in asked if item["status"] == Status.REJECTED}
    assert len(rejected) == len(asked) - 3
    assert rejected.isdisjoint(transfer.key for transfer in read_transfers(tmp_path / "perdure-demo" / "payments.csv"))


@pytest.mark.slow
def test_a_terminal_that_is_closed_leaves_the_run_waiting(tmp_path):
    """End of input (Ctrl-D) decides nothing: exit code 3, and nothing is paid."""
    terminal = Terminal(tmp_path)
    terminal.watch("to approve, like")
    terminal.type("\x04")
    assert "To go on from there" in terminal.watch()
    assert terminal.leave() == 3
    assert read_transfers(tmp_path / "perdure-demo" / "payments.csv") == []
