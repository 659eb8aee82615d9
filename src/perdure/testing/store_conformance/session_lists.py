"""Lists of sessions: every one that ever had a run, page by page, with what is to be said of it."""

from __future__ import annotations

from pathlib import Path

from perdure.store.contract import RunFilter, SessionRow
from perdure.testing.store_conformance.bench import Bench, StoreTests
from perdure.values.runs import RunStatus

#: In the order of their characters.
NAMES = ["", "%", "A", "a", "aa", "b", "ä", "日本", "😀"]


class SessionListTests(StoreTests):
    """What holds for lists of sessions."""

    def test_every_session_that_had_a_run_is_listed_once(self, tmp_path: Path) -> None:
        """By agent, then by name; however many runs it had, and none for runs without a session."""

        async def scenario(bench: Bench) -> None:
            assert await bench.store.sessions() == []
            await _open_sessions(bench, "buyer", "seller")
            await bench.queue("run_a", session="b", agent="seller", shard="seller/3")
            await bench.queue("run_b")
            found = [(row.agent, row.session) for row in await bench.store.sessions()]
            assert found == [(agent, name) for agent in ("buyer", "seller") for name in NAMES]

        self.play(tmp_path, scenario)

    def test_sessions_are_read_page_by_page(self, tmp_path: Path) -> None:
        """Of all agents, or of one; from any place on, one that no session has too."""

        async def scenario(bench: Bench) -> None:
            await _open_sessions(bench, "ann", "buyer", "seller")
            listed = await bench.store.sessions()
            for agent, most in ((None, 2), ("buyer", 2), ("seller", 100), ("nobody", 5)):
                found: list[SessionRow] = []
                while page := await bench.store.sessions(agent=agent, after=_place(found), limit=most):
                    assert len(page) <= most
                    found += page
                assert found == [row for row in listed if agent in {None, row.agent}]
            for place in (("buyer", "aaa"), ("b", "z"), ("seller", "😀"), ("z", "")):
                behind = [row for row in listed if row[:2] > place]
                assert await bench.store.sessions(after=place) == behind
                assert await bench.store.sessions(after=place, limit=1) == behind[:1]
                sold = [row for row in behind if row.agent == "seller"]
                assert await bench.store.sessions(agent="seller", after=place) == sold

        self.play(tmp_path, scenario)

    def test_a_session_is_as_old_as_its_newest_run_was_updated(self, tmp_path: Path) -> None:
        """As that run is listed: when it was made, when its row was changed, or when its last event came."""

        async def scenario(bench: Bench) -> None:
            async def updated() -> int:
                [run] = await bench.store.runs(RunFilter(agent="buyer", session="s", limit=1))
                [row] = await bench.store.sessions()
                assert row.updated == run.updated
                return row.updated

            begun = bench.clock.now_us()
            await bench.begin("run_1", session="s")
            assert await updated() == begun
            await bench.clock.advance(1)
            await bench.append("run_1", 3, "progress")
            assert await updated() == begun + 1_000_000
            await bench.clock.advance(1)
            await bench.queue("run_2", session="s")
            await bench.clock.advance(1)
            await bench.move("run_1", RunStatus.SUCCEEDED)
            assert await updated() == begun + 2_000_000
            await bench.move("run_2", RunStatus.RUNNING)
            assert await updated() == begun + 3_000_000

        self.play(tmp_path, scenario)

    def test_a_session_names_its_run_that_has_begun(self, tmp_path: Path) -> None:
        """Whatever holds it up; not one that is queued, nor one that has ended."""

        async def scenario(bench: Bench) -> None:
            async def active() -> str | None:
                [row] = await bench.store.sessions()
                return row.active

            await bench.queue("run_1", session="s")
            assert await active() is None
            for status in (RunStatus.RUNNING, RunStatus.WAITING, RunStatus.PAUSED, RunStatus.QUARANTINED):
                await bench.move("run_1", status)
                assert await active() == "run_1"
            await bench.queue("run_2", session="s")
            assert await active() == "run_1"
            await bench.move("run_1", RunStatus.CANCELLED)
            assert await active() is None
            await bench.move("run_2", RunStatus.RUNNING)
            assert await active() == "run_2"

        self.play(tmp_path, scenario)


async def _open_sessions(bench: Bench, *agents: str) -> None:
    """A run, and sometimes two, for each name; each session in a shard of its own."""
    for agent in agents:
        for number, name in enumerate(reversed(NAMES)):
            for again in range(1 + number % 2):
                await bench.queue(
                    f"run_{agent}_{number}_{again}", agent=agent, session=name, shard=f"{agent}/{number % 4}"
                )


def _place(found: list[SessionRow]) -> tuple[str, str] | None:
    return (found[-1].agent, found[-1].session) if found else None
