"""Does any order of events, crashes and lost acknowledgements break a promise? Two thousand seeds here, more on demand."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SEEDS = 2_000


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_two_thousand_seeds_break_no_promise(tmp_path):
    """Every seed heals, comes to its end and keeps every invariant; every hundredth gives the same trace twice."""
    command = [
        sys.executable, "-m", "perdure.testing.simulator", "--seeds", str(SEEDS), "--processes", "2", "--json",
    ]  # fmt: skip

    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert json.loads(ended.stdout)["seeds"] == SEEDS
