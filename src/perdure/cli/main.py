"""`perdure`: which commands are there? Each lives in a module of its own, which is imported when it is invoked.

Only click is imported here: `perdure --help` has to be quick.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import click

from perdure.cli.failures import report_failure


class Entry(NamedTuple):
    """Where a command lives (`module:attribute`), and what it is for in a few words."""

    place: str
    purpose: str


COMMANDS: dict[str, dict[str, Entry]] = {
    "Start": {
        "demo": Entry("perdure.cli.demo:demo", "A minute's tour: an agent on real files, killed half-way."),
        "new": Entry("perdure.cli.new:new", "Write a small project: an agent, its test, a README."),
        "run": Entry("perdure.cli.run:run", "Run an agent and print its result."),
        "work": Entry("perdure.cli.work:work", "Run whatever is due, until stopped."),
        "dev": Entry("perdure.cli.serve:dev", "Server, console and worker for your agents, with reload."),
        "serve": Entry("perdure.cli.serve:serve", "The same for production: keys required, no reload."),
    },
    "Look": {
        "runs": Entry("perdure.cli.look:runs", "List runs, newest first, and why they are not moving."),
        "show": Entry("perdure.cli.look:show", "Show one run: why it is not moving, then its steps."),
        "events": Entry("perdure.cli.look:events", "Print a run's journal, and follow it."),
    },
    "People": {
        "inbox": Entry("perdure.cli.people:inbox", "List open questions and approvals."),
        "answer": Entry("perdure.cli.people:answer", "Answer a question."),
        "approve": Entry("perdure.cli.people:approve", "Consent to an action."),
        "reject": Entry("perdure.cli.people:reject", "Refuse an action."),
        "send": Entry("perdure.cli.people:send", "Send a message to a run or a session."),
    },
    "Steer": {
        "pause": Entry("perdure.cli.steer:pause", "Stop runs from moving until resumed."),
        "resume": Entry("perdure.cli.steer:resume", "Let paused runs go on."),
        "cancel": Entry("perdure.cli.steer:cancel", "Cancel runs and their children; clean-up code runs."),
        "retry": Entry("perdure.cli.steer:retry", "Try again what failed or was parked."),
        "resolve": Entry("perdure.cli.steer:resolve", "Say what became of a step of unknown outcome."),
    },
    "Triggers": {
        "schedule": Entry("perdure.cli.schedule:schedule", "Start agents by the clock: cron, with time zones."),
        "webhook": Entry("perdure.cli.webhook:webhook", "Tell other systems of events, signed, never forgotten."),
    },
    "Access": {
        "key": Entry("perdure.cli.key:key", "Make, list, rotate and revoke the keys of callers."),
    },
    "Cluster": {
        "cluster": Entry("perdure.cli.cluster:cluster", "See nodes and shards, drain a node, move a shard."),
    },
    "Compare": {
        "replay": Entry("perdure.cli.branch:replay", "Does this code still fit that journal? No effects."),
        "fork": Entry("perdure.cli.branch:fork", "A new run from an earlier step of another."),
        "diff": Entry("perdure.cli.branch:diff", "Two runs side by side, step by step."),
        "export": Entry("perdure.cli.branch:export", "Write a run as a file."),
        "import": Entry("perdure.cli.branch:import_", "Read an exported run into this store."),
    },
    "Care": {
        "doctor": Entry("perdure.cli.doctor:doctor", "Check this machine and the store."),
        "bench": Entry("perdure.bench.command:command", "Measure this machine with the standard workloads."),
        "db": Entry("perdure.cli.db:db", "Check, back up or migrate the store."),
    },
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports the one that is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = next((section[cmd_name] for section in COMMANDS.values() if cmd_name in section), None)
        if entry is None:
            return None
        module, _, attribute = entry.place.partition(":")
        found: click.Command = getattr(importlib.import_module(module), attribute)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.purpose) for name, entry in section.items()])

    def main(  # type: ignore[override]  # click overloads it by standalone_mode, which is ours to decide
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> None:
        """Run a command and exit: the only place where errors become messages and exit codes."""
        words = sys.argv[1:] if args is None else list(args)
        try:
            code = super().main(words, prog_name or "perdure", **{**extra, "standalone_mode": False})
            sys.stdout.flush()
        except Exception as error:
            if os.environ.get("PERDURE_DEBUG", "") not in ("", "0"):
                raise
            code = report_failure(error, as_json="--json" in words)
        sys.exit(code if isinstance(code, int) else 0)


@click.command(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]},
    epilog="perdure COMMAND --help says more. Every command takes --json and --store URL.",
)  # fmt: skip
@click.version_option(package_name="perdure", message="%(prog)s %(version)s")
def main() -> None:
    """Durable agents in plain asyncio.

    \b
      perdure run shop.py:buyer '["pen"]'     run an agent
      perdure runs                            what is there, and why is it not moving?
      perdure inbox                           what waits for you?
    """
