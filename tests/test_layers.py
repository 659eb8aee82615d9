"""Do the import rules of pyproject.toml bite? Each is shown a copy of the sources with one forbidden import planted."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("importlinter", reason="make check installs it")

PROJECT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("planted_in", "imported", "broken"),
    [
        ("journal/loop.py", "perdure.store.contract", "Imports point one way"),
        ("store/contract.py", "perdure.agents.tool", "Imports point one way"),
        ("errors.py", "perdure.values.json", "Imports point one way"),
        ("stray/thing.py", "perdure.errors", "Imports point one way"),
        ("journal/loop.py", "apsw", "SQLite's driver stays in the store"),
        ("store/contract.py", "click", "The terminal stays in the command line"),
        ("journal/loop.py", "rich.progress", "The terminal stays in the command line"),
    ],
)
def test_a_forbidden_import_breaks_the_gate(tmp_path, planted_in, imported, broken):
    """The planted import fails the check, and the contract it violates is named."""
    shutil.copytree(PROJECT / "src", tmp_path / "src")
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    file = tmp_path / "src/perdure" / planted_in
    file.parent.mkdir(exist_ok=True)
    (file.parent / "__init__.py").touch()
    with file.open("a") as source:
        source.write(f"\nimport {imported}\n")

    lint = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
        "--no-cache",
    ]
    result = subprocess.run(lint, cwd=tmp_path, env={"PYTHONPATH": "src"}, capture_output=True, text=True, check=False)

    assert result.returncode == 1, result.stdout + result.stderr
    assert any(broken in line and " BROKEN" in line for line in result.stdout.splitlines()), result.stdout
