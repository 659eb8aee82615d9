"""What do the result lines say side by side? A Markdown table per workload, with each peer against Perdure.

Several rounds of the same pair are summed up by their median. It judges nothing: every line that failed says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from workloads import COUNTS, METRICS, RATES, TITLES, percentile

Line = dict[str, Any]

ON_SQLITE, ON_POSTGRES = "perdure", "perdure-postgres"
OURS = (ON_SQLITE, ON_POSTGRES)
#: Ours on the same database; Restate has one of its own, and is held against both.
RIVALS = {
    "dbos-postgres": (ON_POSTGRES,),
    "langgraph-postgres": (ON_POSTGRES,),
    "absurd": (ON_POSTGRES,),
    "restate": OURS,
}
FLOORS = {"raw": "SQLite", "raw-postgres": "PostgreSQL"}
UNITS = {"ms": "ms", "seconds": "s", "second": "/s", "bytes": "B", "percent": "%"}


def markdown(lines: list[Line]) -> str:
    """The whole report."""
    parts = [header(lines)]
    for workload in METRICS:
        of_workload = [line for line in lines if line["workload"] == workload]
        if of_workload:
            parts += [f"## {workload}: {TITLES[workload]}", table(workload, of_workload)]
    return "\n\n".join([*parts, "## Versions", versions(lines)]) + "\n"


def header(lines: list[Line]) -> str:
    quick = any(line.get("quick") for line in lines)
    size = "**Reduced sizes (`--quick`): these figures show that everything runs, not how fast.**\n\n" if quick else ""
    return (
        "# Perdure and its peers, measured in one run\n\n"
        f"{size}The number in brackets is how many times better Perdure does: peer divided by Perdure for times and "
        "sizes, Perdure divided by peer for rates. A peer on PostgreSQL is held against Perdure on PostgreSQL; Restate has "
        "two numbers, against Perdure on SQLite and on PostgreSQL. Background is the load of others on the machine during "
        "the worst round; flushes are those of the disk."
    )


def table(workload: str, lines: list[Line]) -> str:
    """A row per peer, ours first; then the floors and whatever failed."""
    by_peer = {peer: [line for line in lines if line["peer"] == peer] for peer in (line["peer"] for line in lines)}
    floors = {peer: summed_up("raw_commit_ms_p50", by_peer.get(peer, [])) for peer in FLOORS}
    columns = ["peer", *METRICS[workload], *(["in raw commits"] if any(floors.values()) else [])]
    columns += ["background", "flushes"]
    rows = [columns, ["---", *["---:"] * (len(columns) - 1)]]
    for peer in sorted(by_peer.keys() - FLOORS.keys(), key=lambda peer: (peer not in OURS, list(by_peer).index(peer))):
        theirs, rivals = by_peer[peer], () if peer in OURS else RIVALS.get(peer, (ON_SQLITE,))
        ours = [by_peer[rival] for rival in rivals if rival in by_peer]
        row = [peer, *(cell(metric, theirs, ours) for metric in METRICS[workload])]
        row += [in_commits(theirs, floors[floor_of(peer)])] if any(floors.values()) else []
        rows.append([*row, *surroundings(theirs)])
    parts = ["\n".join(f"| {' | '.join(row)} |" for row in rows)]
    parts += [f"A raw one-row commit on {FLOORS[peer]}: p50 {raw:.3f} ms." for peer, raw in floors.items() if raw]
    parts += [f"{line['peer']} failed: {line['error']}" for line in lines if "error" in line]
    return "\n\n".join(parts)


def cell(metric: str, theirs: list[Line], ours: list[list[Line]]) -> str:
    """A figure, and how many times better each of ours is. A difference of two times may be below zero: about 0."""
    value = summed_up(metric, theirs)
    if value is None:
        return "failed" if any("error" in line for line in theirs) else "-"
    if metric in COUNTS:
        return number(value)
    if value <= 0:
        return "about 0"
    text = f"{number(value)} {unit(metric)}".strip()
    owns = [own for lines in ours if (own := summed_up(metric, lines)) is not None and own > 0]
    ratios = [f"{number(own / value if metric in RATES else value / own)}x" for own in owns]
    return f"{text} ({', '.join(ratios)})" if ratios else text


def floor_of(peer: str) -> str:
    """The bare commit that a peer's steps are counted in."""
    return "raw-postgres" if peer == ON_POSTGRES or RIVALS.get(peer) == (ON_POSTGRES,) else "raw"


def in_commits(lines: list[Line], raw: float | None) -> str:
    value = summed_up("step_ms_p50", lines)
    return "-" if value is None or raw is None else f"{value / raw:.1f}"


def surroundings(lines: list[Line]) -> list[str]:
    background = max((line.get("background_percent", 0.0) for line in lines), default=0.0)
    flushes = summed_up("device_flushes", lines)
    return [f"{background:.0f} %", "-" if flushes is None else f"{flushes:,.0f}"]


def summed_up(metric: str, lines: Iterable[Line]) -> float | None:
    """The median over the rounds that have the metric."""
    values = [float(line[metric]) for line in lines if line.get(metric) is not None]
    return percentile(values, 0.5) if values else None


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def unit(metric: str) -> str:
    words = metric.split("_")
    return next((UNITS[word] for word in words if word in UNITS), "")


def versions(lines: list[Line]) -> str:
    known = {line["peer"]: line["versions"] for line in lines if line.get("versions")}
    return "\n".join(
        f"- {peer}: " + ", ".join(f"{name} {version}" for name, version in found.items())
        for peer, found in known.items()
    )
