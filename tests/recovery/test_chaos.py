"""Does a real worker, killed again and again under load, lose or repeat anything? A hundred kills here, more on demand."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

KILLS = 100


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_hundred_kills_of_a_real_worker_break_no_promise(tmp_path):
    """The checker, which reads only the client's history, the effect file and the store, finds no violation."""
    command = [sys.executable, "-m", "perdure.testing.chaos", "--kills", str(KILLS), "--seed", "1", "--json"]

    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = json.loads(ended.stdout.splitlines()[-1])
    assert report["kills"] == KILLS
    assert report["steps"] > KILLS
    assert not report["violations"]
