"""docs/contract.md is a promise: its examples are typed, in order, and what they print is compared.

`...` in an expected line stands for anything within the line, and alone on a line for any lines. Expected `[exit N]`
is the exit code, 0 where none is given. Only stdout counts.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from perdure.values.runs import RunStatus
from tests.cli.conftest import AGENTS, environment

PAGE = Path(__file__).parent.parent.parent / "docs" / "contract.md"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
END = "end of command, exit code "


class Example(NamedTuple):
    """A command of the page and what it is to print."""

    command: str
    expected: list[str]
    code: int


def examples():
    """Every command of the page, in order."""
    found = []
    for block in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *expected = part.splitlines()
            code = 0
            if expected and (ended := re.fullmatch(r"\[exit (\d+)\]", expected[-1])):
                code = int(ended[1])
                expected.pop()
            found.append(Example(command, expected, code))
    return found


def pattern(lines):
    """The regular expression of expected lines."""
    return "".join(
        r"(?:.*\n)+" if line.strip() == "..." else ".*".join(re.escape(part) for part in line.split("...")) + r"\n"
        for line in lines
    )


def typed(commands, folder):
    """What each of the commands printed, and its exit code; one shell, so that variables last."""
    program = folder / "bin" / "perdure"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m perdure "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    python = Path(sys.executable).parent
    script = "".join(f'{command}\necho "{END}$?"\n' for command in commands)
    variables = environment()
    variables["PATH"] = f"{program.parent}:{python}:{variables['PATH']}"
    ended = subprocess.run(
        ["sh", "-s"], input=script, cwd=folder, env=variables, capture_output=True, text=True, check=True, timeout=50
    )
    return re.findall(rf"(.*?){END}(\d+)\n", ended.stdout, flags=re.DOTALL)


@pytest.mark.slow
def test_the_examples_of_the_contract_are_true(tmp_path):
    """Each prints what the page shows and ends with the code that the page gives."""
    shutil.copy(AGENTS, tmp_path / "shop.py")
    page = examples()
    printed = typed([example.command for example in page], tmp_path)

    assert len(page) == len(printed) > 10
    for example, (out, code) in zip(page, printed, strict=True):
        told = f"$ {example.command}\n{out}[exit {code}]"
        assert re.fullmatch(pattern(example.expected), out), told
        assert int(code) == example.code, told


def test_every_status_is_explained():
    """The table names each status once."""
    page = PAGE.read_text(encoding="utf-8")

    assert re.findall(
        r"^\| `(\w+)` \| [a-z].*\|$", page.partition("### Statuses")[2].partition("###")[0], re.MULTILINE
    ) == [status.value for status in RunStatus]
