"""All peers and Perdure on all workloads, in turn, in one run: a JSON line per result, then the table of ratios.

Every pair is a process of its own on fresh data, one at a time, under a cap of wall time. A pair that fails is a line
with "error"; the run goes on. Pairs of one workload follow each other, so that what is compared is measured together.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from machine import probe_disk, segment, wait_until_quiet
from report import markdown
from workloads import METRICS

HERE = Path(__file__).resolve().parent
SCRATCH = HERE.parents[1] / ".bench"

#: Script and arguments of each peer, in the order of measuring.
PEERS: dict[str, tuple[str, ...]] = {
    "raw": ("raw_peer.py",),
    "raw-postgres": ("raw_peer.py", "--backend", "postgres"),
    "perdure": ("perdure_peer.py",),
    "perdure-postgres": ("perdure_peer.py", "--backend", "postgres"),
    "dbos-sqlite": ("dbos_peer.py", "--backend", "sqlite"),
    "dbos-postgres": ("dbos_peer.py", "--backend", "postgres"),
    "langgraph": ("langgraph_peer.py",),
    "langgraph-postgres": ("langgraph_peer.py", "--backend", "postgres"),
    "absurd": ("absurd_peer.py",),
    "restate": ("restate_peer.py",),
}
ONLY = {"raw": ("W1",), "raw-postgres": ("W1",)}


def main() -> None:
    options = parse()
    options.data.mkdir(parents=True, exist_ok=True)
    options.logs.mkdir(parents=True, exist_ok=True)
    lines = []
    for pair in pairs(options):
        line = measure(options, *pair)
        print(json.dumps(line), flush=True)
        lines.append(line)
    text = markdown(lines)
    if options.markdown:
        options.markdown.write_text(text)
    else:
        print(text)
    sys.exit(1 if any("error" in line for line in lines) else 0)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Perdure and its peers on the same workloads; see README.md.")
    parser.add_argument("--quick", action="store_true", help="reduced sizes: shows that it runs, not how fast")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), help="which peers (default: all)")
    parser.add_argument("--workloads", nargs="+", choices=METRICS, default=list(METRICS), help="default: all")
    parser.add_argument("--rounds", type=int, default=1, help="how often; the table holds medians (default: 1)")
    parser.add_argument("--cap-seconds", type=float, default=88.0, help="wall time of one pair (default: 88)")
    parser.add_argument("--data", type=Path, default=SCRATCH / "data", help="the disk to measure on")
    parser.add_argument("--logs", type=Path, default=SCRATCH / "logs", help="what the peers print on stderr")
    parser.add_argument("--markdown", type=Path, help="write the table there instead of to stdout")
    return parser.parse_args()


def pairs(options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    for _ in range(options.rounds):
        for workload in options.workloads:
            for peer in options.peers:
                if workload in ONLY.get(peer, METRICS):
                    yield peer, workload


def measure(options: argparse.Namespace, peer: str, workload: str) -> dict[str, Any]:
    """The result line of one pair, with what the machine was doing."""
    data = options.data / f"{peer}-{workload}"
    script, *arguments = PEERS[peer]
    command = [sys.executable, str(HERE / script), workload, "--json", "--data", str(data), *arguments]
    command += ["--quick"] if options.quick else []
    wait_until_quiet()
    line: dict[str, Any] = {"peer": peer, "workload": workload, "quick": options.quick, **probe_disk(options.data)}
    with segment(options.data) as record, (options.logs / f"{peer}-{workload}.log").open("wb") as log:
        result = outcome(command, log.fileno(), options.cap_seconds)
    shutil.rmtree(data, ignore_errors=True)
    return line | result | record


def outcome(command: list[str], log: int, cap_seconds: float) -> dict[str, Any]:
    """The line that the script prints, or why there is none."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
    try:
        output, _ = process.communicate(timeout=cap_seconds)
    except subprocess.TimeoutExpired:
        kill_family(process)
        return {"error": f"not done within {cap_seconds:g} s"}
    except BaseException:
        kill_family(process)
        raise
    for text in reversed(output.splitlines()):
        with suppress(json.JSONDecodeError):
            return dict(json.loads(text))
    return {"error": f"ended with code {process.returncode} and no result; see the log"}


def kill_family(process: subprocess.Popen[bytes]) -> None:
    """A peer's servers are its children: list them before it is gone, or they would outlive it."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.send_signal(signal.SIGKILL)
    psutil.wait_procs(family, timeout=5)
    process.communicate()


if __name__ == "__main__":
    main()
