"""deploy/perdure-worker@.service: does systemd take it, and how much does it leave open?"""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from perdure.values.settings import Settings

UNIT = Path(__file__).parent.parent.parent / "deploy" / "perdure-worker@.service"


class Lines(configparser.RawConfigParser):
    """A unit file's sections; keys keep their case, and may come twice."""

    def optionxform(self, optionstr):
        return optionstr


@pytest.fixture
def unit():
    """Section -> key -> value."""
    lines = Lines(strict=False, interpolation=None)
    lines.read_string(UNIT.read_text(encoding="utf-8"))
    return lines


@pytest.fixture
def analyze(tmp_path):
    """`systemd-analyze` on an instance of it, with a program that exists."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd is not on this machine")
    text = UNIT.read_text(encoding="utf-8").replace("/opt/perdure/%i/.venv/bin/perdure", sys.executable)
    instance = tmp_path / "perdure-worker@shop.service"
    instance.write_text(text, encoding="utf-8")

    def call(*words):
        return subprocess.run([program, *words, instance], capture_output=True, text=True, check=False, timeout=30)

    return call


def test_systemd_finds_nothing_wrong_with_it(analyze):
    """No unknown key, no bad value: verify says nothing about this file."""
    said = analyze("verify", "--man=no").stderr

    assert [line for line in said.splitlines() if "perdure-worker" in line] == []


def test_it_leaves_little_open(analyze):
    """Systemd's own judgement, offline: 0.0 is nothing, 10.0 everything; most services are above 9."""
    judged = analyze("security", "--offline=yes", "--threshold=25", "--no-pager")

    assert judged.returncode == 0, judged.stdout[-300:] + judged.stderr


def test_it_stops_in_good_order_and_comes_back_after_a_crash(unit):
    """SIGTERM, more time than steps may take, a restart only where it failed; the URL from a file, not from the unit."""
    service = unit["Service"]

    assert service["KillSignal"] == "SIGTERM"
    assert float(service["TimeoutStopSec"]) > 2 * Settings().finish_seconds
    assert service["Restart"] == "on-failure"
    assert service["EnvironmentFile"].startswith("/etc/")
    assert "://" not in "".join(service.values())
    assert {service[key] for key in ("DynamicUser", "NoNewPrivileges")} == {"yes"}
    assert service["ProtectSystem"] == "strict"
