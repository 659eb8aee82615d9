"""A folder with agents and no store, and two ways to type into it: as a process of its own, or within the test's."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from perdure.cli.main import main

AGENTS = Path(__file__).with_name("agents.py")
#: The command, whatever the path holds.
COMMAND = [sys.executable, "-m", "perdure"]


class Ended(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output as one JSON value."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Its output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


class Shell:
    """Types commands as processes of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, *words: str, input: str = "") -> Ended:
        ended = subprocess.run(
            [*COMMAND, *words], cwd=self.directory, input=input, capture_output=True, text=True, check=False,
            timeout=30, env=environment(),
        )  # fmt: skip
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start a command and leave it running."""
        return subprocess.Popen(
            [*COMMAND, *words], cwd=self.directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip


class Typed:
    """Types commands within this process: quick, and as strict about what is printed where."""

    def __call__(self, *words: str, input: str | None = None) -> Ended:
        result = CliRunner().invoke(main, list(words), input=input, prog_name="perdure")
        assert "Traceback" not in result.output
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ended(result.exit_code, result.stdout, result.stderr)


def environment() -> dict[str, str]:
    """The variables of this process, without what would change how commands behave."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PERDURE_")}


def read_until(stream: Any, text: str) -> str:
    """Read lines until one holds `text`; returns all that was read."""
    read = ""
    for line in stream:
        read += str(line)
        if text in line:
            return read
    raise AssertionError(f"{text!r} never came; read {read!r}")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with shop.py, the current one; modules that commands import there are forgotten afterwards."""
    shutil.copy(AGENTS, tmp_path / "shop.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERDURE_STORE", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(("shop", "perdure_file_")):
            del sys.modules[name]


@pytest.fixture
def shell(folder):
    """Commands as processes."""
    return Shell(folder)


@pytest.fixture
def typed(folder):
    """Commands within this process."""
    return Typed()
