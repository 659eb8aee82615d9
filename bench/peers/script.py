"""What is common to all `X_peer.py WN` scripts: arguments, a fresh directory, the output line, and children.

A script gives `run_script` a function per workload and, for the workloads that kill something, functions by role that
run in a process of their own. One call does one workload, so that nothing of an earlier one is left in memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from children import Child
from workloads import FULL, METRICS, QUICK, TITLES, Metrics, Sizes


@dataclass(frozen=True)
class Bench:
    """One workload's task: how much to do, where, and on which back end."""

    script: Path
    sizes: Sizes
    data: Path
    backend: str
    quick: bool

    async def spawn(self, role: str, *arguments: object) -> Child:
        """Run one of the script's roles in a process of its own."""
        command = [sys.executable, str(self.script), "--role", role, "--arguments", json.dumps(arguments)]
        return await Child.spawn(*command)

    async def spawn_all(self, role: str, *arguments: object) -> list[Child]:
        """The same, for callers that want a list."""
        return [await self.spawn(role, *arguments)]


Workload = Callable[[Bench], Coroutine[None, None, Metrics]]
Role = Callable[..., Coroutine[None, None, None]]


def run_script(
    peer: str,
    workloads: Mapping[str, Workload],
    *,
    packages: tuple[str, ...] = (),
    versions: Callable[[str], Mapping[str, str]] = lambda _: {},
    roles: Mapping[str, Role] | None = None,
    backends: tuple[str, ...] = ("",),
) -> None:
    """Do what the command line asks; exits with 1 when the workload failed.

    `packages` are reported with their versions, and so is what `versions` knows about the back end.
    """
    options = parse(workloads, backends)
    if options.role:
        asyncio.run((roles or {})[options.role](*json.loads(options.arguments)))
        return
    line: Metrics = {"peer": f"{peer}-{options.backend}" if options.backend else peer, "workload": options.workload}
    try:
        with fresh_directory(options.data) as data:
            sizes = QUICK if options.quick else FULL
            bench = Bench(Path(sys.argv[0]).resolve(), sizes, data, options.backend, options.quick)
            line |= asyncio.run(workloads[options.workload](bench))
    except Exception as error:  # noqa: BLE001 - whatever a peer does is a result
        traceback.print_exc()
        line["error"] = f"{type(error).__name__}: {error}"
    line["versions"] = {"python": platform.python_version()} | {name: version(name) for name in packages}
    line["versions"] |= versions(options.backend)
    print(json.dumps(line) if options.json else describe(line), flush=True)
    sys.exit(1 if "error" in line else 0)


def parse(workloads: Mapping[str, Workload], backends: tuple[str, ...]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="One workload on one peer; see README.md.")
    parser.add_argument("workload", nargs="?", choices=sorted(workloads), help="which workload")
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    parser.add_argument("--quick", action="store_true", help="reduced sizes: shows that it runs, not how fast")
    parser.add_argument("--data", type=Path, help="where to put the data (default: the system's temporary directory)")
    parser.add_argument("--backend", choices=backends, default=backends[0], help="which database it runs on")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--arguments", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.workload and not options.role:
        parser.error("name a workload: " + ", ".join(f"{name} ({TITLES[name]})" for name in sorted(workloads)))
    return options


@contextmanager
def fresh_directory(parent: Path | None) -> Iterator[Path]:
    """An empty directory, removed afterwards, that other users may enter (PostgreSQL runs as one)."""
    if parent:
        parent.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="bench-", dir=parent)).resolve()
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def describe(line: Metrics) -> str:
    """The same for a person: a line per metric, then the detail."""
    if "error" in line:
        return f"{line['peer']} {line['workload']} failed: {line['error']}"
    names = [name for name in METRICS[line["workload"]] if name in line]
    figures = [f"{line['peer']} {line['workload']} {name} {line[name]:,.4g}" for name in names]
    return "\n".join([*figures, json.dumps(line.get("detail", {}), indent=2)])
