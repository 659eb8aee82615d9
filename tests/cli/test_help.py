"""Help is quick, complete and true."""

import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest

import perdure
from perdure.cli.main import COMMANDS, main
from perdure.cli.reference import cli_markdown
from tests.cli.conftest import COMMAND

DOCS = Path(__file__).parent.parent.parent / "docs"
NAMES = [name for section in COMMANDS.values() for name in section]


def python(code):
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_what_the_list_says(name):
    """It can be imported, has help of its own, takes --json and --store, and knows its name."""
    root = click.Context(main, info_name="perdure")
    command = main.get_command(root, name)

    assert command is not None
    assert command.name == name
    assert command.help
    leaves = command.commands.values() if isinstance(command, click.Group) else [command]
    for leaf in leaves:
        assert {"--json", "--store"} <= {flag for parameter in leaf.params for flag in parameter.opts}


def test_help_imports_nothing_but_click():
    """No pydantic, no SQLite, no asyncio, and no command's own module."""
    loaded = python(
        "import sys\n"
        "from perdure.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(*sorted(sys.modules), file=sys.stderr)\n"
        "heavy = {'pydantic', 'apsw', 'asyncio', 'rich', 'perdure.runtime', 'perdure.cli.run'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )

    assert loaded.splitlines()[-1] == "HEAVY []"


#: What any program with these libraries pays before it does anything: 0.13 s on the machine of docs/benchmarks.md.
YARDSTICK = [sys.executable, "-c", "import asyncio; from pydantic import TypeAdapter; TypeAdapter(dict[str, int])"]


@pytest.mark.parametrize(
    ("command", "yardsticks"),
    [
        ([*COMMAND, "--help"], 0.15 / 0.13),
        ([sys.executable, "-c", "from perdure import Runtime, agent, tool"], 0.3 / 0.13),
    ],
    ids=["perdure --help", "import perdure"],
)
def test_nobody_waits_for_it(command, yardsticks):
    """In processor time, beside what the libraries alone take just now, however slow the machine is; the best of a few tries.

    `perdure bench --workload start` has the seconds.
    """
    taken: list[float] = []
    while len(taken) < 5 and min(taken, default=yardsticks) >= yardsticks:
        taken.append(processor_seconds(command) / processor_seconds(YARDSTICK))

    assert min(taken) < yardsticks


def processor_seconds(command):
    """What a command takes of the processor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_names_of_the_package_are_all_there_and_no_others():
    """They come when they are first used; what is not promised is an AttributeError."""
    for name in perdure.__all__:
        assert getattr(perdure, name) is not None
    assert set(perdure.__all__) <= set(dir(perdure))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = perdure.nonsense  # type: ignore[attr-defined]


def test_the_page_of_commands_is_generated():
    """docs/cli.md is what `python -m perdure.cli.reference` prints."""
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == cli_markdown()
