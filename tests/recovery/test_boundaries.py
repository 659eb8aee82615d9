"""A crash at every point of every reference workflow, and again at every point of the recovery."""

from __future__ import annotations

import logging

import pytest

from perdure.testing.boundaries import crash_everywhere
from perdure.testing.workflows import WORKFLOWS

EACH = pytest.mark.parametrize("workflow", [pytest.param(flow, id=flow.name.replace(" ", "-")) for flow in WORKFLOWS])
SMALL = [pytest.param(flow, id=flow.name.replace(" ", "-")) for flow in WORKFLOWS if flow.small]


@pytest.fixture(autouse=True)
def _dying_nodes_may_complain(caplog):
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def judge(trials, points_least):
    """No trial may violate anything, and there were as many as there should be."""
    trials = list(trials)
    assert len(trials) > points_least, "the workflow has fewer points than expected: what does it still exercise?"
    broken = {str(trial): trial.violations for trial in trials if trial.violations}
    assert not broken, dict(list(broken.items())[:3])


@EACH
def test_a_crash_at_every_point_in_memory(workflow):
    """Wherever the node dies, the next one brings the workflow to the same outcome, with the same deeds."""
    judge(crash_everywhere(workflow), 20)


@EACH
@pytest.mark.slow
def test_a_crash_at_every_point_on_sqlite(workflow):
    """The same on a file that each node opens anew."""
    judge(crash_everywhere(workflow, "sqlite"), 20)


@pytest.mark.parametrize("workflow", SMALL)
@pytest.mark.slow
def test_a_crash_at_every_pair_of_points(workflow):
    """A node that dies while it recovers what another left behind loses nothing either."""
    judge(crash_everywhere(workflow, pairs=True), 300)
