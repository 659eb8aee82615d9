"""Do the examples in the documents run? A page that lies is a bug, and this is the test that finds it.

A block that opens with ```python is a whole program: it runs in an empty folder and must end well.
One that opens with ```python fragment is part of something: it only has to compile.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

PROJECT = Path(__file__).parent.parent.parent
FENCE = re.compile(r"^```python(?P<fragment> fragment)?\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


class Example(NamedTuple):
    """A block of Python in a document; `place` is file:line."""

    place: str
    code: str
    whole: bool


def examples() -> list[Example]:
    """Every block of Python in the pages of the project and of docs/."""
    found = []
    for page in sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")]):
        text = page.read_text(encoding="utf-8")
        for block in FENCE.finditer(text):
            place = f"{page.relative_to(PROJECT)}:{text.count(chr(10), 0, block.start()) + 1}"
            found.append(Example(place, block["code"], whole=block["fragment"] is None))
    return found


PROGRAMS = [pytest.param(example, id=example.place) for example in examples() if example.whole]
FRAGMENTS = [pytest.param(example, id=example.place) for example in examples() if not example.whole]


@pytest.mark.slow
@pytest.mark.parametrize("example", PROGRAMS)
def test_a_program_in_a_document_runs_as_it_stands(example, tmp_path):
    """Copied into an empty folder and started, the program ends with 0."""
    program = tmp_path / "example.py"
    program.write_text(example.code, encoding="utf-8")

    ended = subprocess.run(
        [sys.executable, program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=50
    )

    assert ended.returncode == 0, f"{example.place}\n{ended.stdout}{ended.stderr}"


@pytest.mark.parametrize("example", FRAGMENTS)
def test_a_fragment_in_a_document_is_python(example):
    """It compiles; `await` outside of a function is fine."""
    compile(example.code, example.place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
