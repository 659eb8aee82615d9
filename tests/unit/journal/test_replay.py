"""A run is a function of its journal, whatever its code does with asyncio and in whatever order results come."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.journal.driver import Drive, Plan
from tests.unit.journal.replaying import check_every_prefix, check_going_on
from tests.unit.journal.scenarios import SCENARIOS

_ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_prefix_of_a_journal_gives_back_the_run(name):
    """Commands, waits, time, state and outcome are those of the live run, for many orders of results."""
    agent, plan = SCENARIOS[name]
    for seed in [None, *range(6)]:
        drive = Drive(agent, state={"old": 1}).start().play(seed, plan)
        assert drive.over, drive.waits
        check_every_prefix(drive)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_run_goes_on_from_wherever_its_journal_breaks_off(name):
    """What comes after a crash need not come in the order it would have come without."""
    agent, plan = SCENARIOS[name]
    check_going_on(Drive(agent, state={"old": 1}).start().play(7, plan), plan)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_cancelled_run_gives_itself_back_too(name):
    """Clean-up is part of the function: cancelled anywhere, every prefix agrees."""
    agent, plan = SCENARIOS[name]
    for moment in range(2, 9):
        drive = Drive(agent, state={"old": 1}).start()
        drive.play(moment, Plan(mail=plan.mail, cancel_after=moment))
        assert drive.over, drive.waits
        check_every_prefix(drive)


def test_the_order_of_sets_does_not_depend_on_the_process():
    """Hash seeds and addresses differ between processes; what a run asks for does not."""
    orders = {_in_another_process(seed) for seed in ("0", "1", "2", "3")}
    assert len(orders) == 1
    assert len(json.loads(orders.pop())) == len(SCENARIOS)


def _in_another_process(hash_seed: str) -> str:
    code = """
import json, random
ballast = [bytearray(random.randrange(9000)) for _ in range(random.randrange(3000))]  # other addresses each time
from tests.unit.journal.driver import Drive
from tests.unit.journal.scenarios import SCENARIOS
print(json.dumps({n: Drive(a, state={"old": 1}).start().play(5, p).asked for n, (a, p) in SCENARIOS.items()}))
"""
    path = os.pathsep.join([str(_ROOT / "src"), str(_ROOT)])
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path},
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout
