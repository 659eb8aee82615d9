"""A real worker process is killed again and again under load, and nothing is lost or done twice."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from perdure.runtime import AgentSet
from perdure.store import SqliteStore
from perdure.testing.chaos.campaign import run_campaign
from perdure.testing.chaos.kills import KillsOfOne
from perdure.testing.history import check_history
from perdure.testing.invariants import find_violations, gather_evidence
from perdure.testing.workflows import AGENTS
from perdure.testing.world import FileWorld


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_kills_violate_nothing():
    """100 kills under load: every run ends, every acknowledgement holds, no effect is repeated."""
    command = [sys.executable, "-m", "perdure.testing.chaos", "--kills", "100", "--json"]

    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    verdict = json.loads(ended.stdout)
    assert verdict["violations"] == [], f"seed {verdict['seed']}\n{ended.stderr[-2000:]}"
    assert verdict["strikes"] == 100
    assert verdict["runs"] > 100, "the load was too small to prove anything"
    assert verdict["acks"] > 1000


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """What a short campaign left: its store, its effects, and what the client noted."""
    directory = tmp_path_factory.mktemp("chaos")
    verdict = asyncio.run(run_campaign(KillsOfOne(f"sqlite:///{directory}/chaos.db"), 5, 1, str(directory)))
    assert verdict.violations == []

    async def read():
        store = SqliteStore(str(directory / "chaos.db"))
        await store.open()
        try:
            return await gather_evidence(store, FileWorld(str(directory / "effects.jsonl")), AgentSet(AGENTS))
        finally:
            await store.close()

    lines = [json.loads(line) for line in (directory / "history.jsonl").read_text().splitlines()]
    return asyncio.run(read()), lines


@pytest.mark.slow
def test_the_checker_sees_a_lost_event(campaign):
    """An event that a client saw and the store does not have is a violation."""
    evidence, lines = campaign
    seen = next(line for line in lines if line["what"] == "saw!" and line["type"] == "step.completed")
    kept = evidence.journals[seen["run"]]
    evidence.journals[seen["run"]] = [event for event in kept if event.seq != seen["seq"]]

    found = [*find_violations(evidence), *check_history(evidence, lines)]

    evidence.journals[seen["run"]] = kept
    assert any(violation.startswith(seen["run"]) and "is gone or changed" in violation for violation in found)


@pytest.mark.slow
def test_the_checker_sees_a_lost_run_that_was_acknowledged(campaign):
    """A start that was acknowledged names a run of the store."""
    evidence, lines = campaign
    lost = {"what": "start!", "key": "start 0", "run": "run_nowhere"}

    assert "run_nowhere: was started with start 0, and is gone" in [*check_history(evidence, [*lines, lost])]


@pytest.mark.slow
def test_the_checker_sees_a_repeated_effect(campaign):
    """An effect that must not be repeated, and was, is a violation."""
    evidence, _ = campaign
    deed = next(deed for deed in evidence.world.deeds if deed.name == "ship")
    evidence.world.deeds.append(deed)

    found = find_violations(evidence)

    evidence.world.deeds.pop()
    assert f"{deed.run}: step {deed.step} must not be repeated, and happened 2 times" in found
