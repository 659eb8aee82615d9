"""Every scenario is played on each store, and once more with waiting runs evicted at once."""

from __future__ import annotations

import pytest

from perdure import Settings
from tests.scenario.worlds import World


@pytest.fixture(
    params=[
        "memory", "sqlite", "postgres", "memory-evicting", "sqlite-evicting",
        pytest.param("postgres-evicting", marks=pytest.mark.slow),
    ]
)  # fmt: skip
def world(request, tmp_path):
    """A fresh world on one kind of store."""
    store, _, evicting = request.param.partition("-")
    settings = Settings(idle_most=0) if evicting else Settings()
    url = request.getfixturevalue("postgres_url") if store == "postgres" else ""
    return World(store, tmp_path, settings, url=url)
