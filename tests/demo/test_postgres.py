"""The show on PostgreSQL: the same, but for the lease of each worker that is killed, and the password nobody sees."""

import json
import os
import subprocess
import sys

import pytest

from perdure.demo.stage import PACE

SECRET = "hush-hush"


@pytest.mark.slow
def test_the_show_survives_both_kills_on_postgresql(postgres_url, tmp_path):
    """Both are taken over when the lease has run out, which people are told of; no file or output has the password."""
    url = postgres_url.replace("@", f":{SECRET}@")
    ended = subprocess.run(
        [sys.executable, "-m", "perdure", "demo", "--yes", "--json"], cwd=tmp_path, capture_output=True, text=True,
        check=False, timeout=55, env={**os.environ, "PERDURE_STORE": url, PACE: "0"}, stdin=subprocess.DEVNULL,
    )  # fmt: skip

    assert ended.returncode == 0, ended.stderr
    end = json.loads(ended.stdout)
    evidence = end["evidence"]
    assert (len(evidence["kills"]), evidence["recoveries"]) == (2, 2)
    assert (evidence["steps_recorded_twice"], evidence["effects_repeated"], evidence["effects_astray"]) == (0, 0, 0)
    assert ended.stderr.count("the next worker waits until it has run out") == 2
    written = "".join(file.read_text() for file in (tmp_path / "perdure-demo").iterdir())
    assert SECRET not in ended.stdout + ended.stderr + written
    assert all("--store" not in command for command in end["commands"]), "its URL cannot be shown: PERDURE_STORE has it"
