"""Perdure on SQLite or PostgreSQL: its own benchmark, `perdure bench`, run as users run it and read as the peers are.

It runs in the project's own environment with the locked versions; `make bench` sets that up.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from postgres import postgres_version, temporary_postgres
from script import Bench, run_script
from workloads import TITLES, Metrics

ROOT = Path(__file__).resolve().parents[2]
LOCKED_PYTHON = ROOT / ".venv" / "bin" / "python"


def python() -> str:
    return str(LOCKED_PYTHON) if LOCKED_PYTHON.exists() else sys.executable


async def measure(bench: Bench, workload: str) -> Metrics:
    """Run one workload and gather its JSON lines. Temporary files go to the disk that all peers use."""
    command = [python(), "-m", "perdure", "bench", "--workload", workload, "--json"]
    with store(bench) as variables:
        process = await asyncio.create_subprocess_exec(
            *command,
            *(["--quick"] if bench.quick else []),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            cwd=bench.data,
            env=os.environ | {"TMPDIR": str(bench.data)} | variables,
        )
        output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"`{' '.join(command[1:])}` ended with code {process.returncode}; its stderr says why")
    return figures(output.decode(), workload)


@contextmanager
def store(bench: Bench) -> Iterator[dict[str, str]]:
    """What tells `perdure bench` where to measure: nothing, or a server of its own."""
    if not bench.backend:
        yield {}
        return
    with temporary_postgres(bench.data / "postgres") as server:
        yield {"PERDURE_BENCH_STORE": server.url}


def figures(output: str, workload: str) -> Metrics:
    """Metrics by name. Raises RuntimeError when there are none."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    found = {line["metric"]: line["value"] for line in lines if line.get("workload") == workload and "metric" in line}
    if "all_resumed_from_exec_seconds" in found:  # peers count from the start of the new process, imports included
        found["all_resumed_seconds"] = found.pop("all_resumed_from_exec_seconds")
    if not found:
        raise RuntimeError(f"perdure bench printed no metric of {workload}: {output!r}")
    return found


def installed_versions(backend: str) -> dict[str, str]:
    """The versions in the environment that it runs in, which is not this one."""
    packages = ("perdure", "psycopg") if backend else ("perdure", "apsw")
    program = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {packages}}}))"
    done = subprocess.run([python(), "-c", program], capture_output=True, text=True, check=False)
    found = json.loads(done.stdout) if done.returncode == 0 else {"perdure": "not installed"}
    return found | ({"postgres": postgres_version()} if backend else {})


if __name__ == "__main__":
    run_script(
        "perdure",
        {workload: partial(measure, workload=workload) for workload in TITLES},
        versions=installed_versions,
        backends=("", "postgres"),
    )
