"""`perdure bench`: runs workloads one after the other, each on a fresh store, and shows each figure beside its bar."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from perdure.bench import children
from perdure.bench.figures import Figure, settle
from perdure.bench.machine import describe_machine
from perdure.bench.sizes import MEASUREMENT, QUICK, Sizes
from perdure.cli.options import json_option
from perdure.cli.output import note, paint, print_line

WORKLOADS = {
    "W1": "steps, one after the other",
    "W2": "steps of many runs at once",
    "W3": "short runs at once, and one call when idle",
    "W4": "parked runs: memory, disk, idle CPU, wake",
    "W5": "kill -9 in the middle, and a new worker",
    "W6": "a long journal comes back",
    "W7": "a parent and its children",
    "growth": "a long run, and a full store",
    "start": "import, help, an idle worker",
}


@click.command("bench")
@click.option("--quick", is_flag=True, help="Smaller sizes: a look, not a measurement. Leaves million_ratio out.")
@click.option(
    "--workload", "workloads", multiple=True, type=click.Choice(list(WORKLOADS)), help="Only this one (repeatable)."
)
@click.option("--repeat", type=click.IntRange(min=1), default=1, help="Measure so often; the median counts.")
@click.option("--store", metavar="DIR", help="Where stores are made for the time: a directory of the disk to measure.")
@json_option
def command(*, quick: bool, workloads: Sequence[str], repeat: int, store: str | None, as_json: bool) -> None:
    """Measure this machine with the standard workloads.

    Every store is durable (synchronous=FULL) and removed afterwards; your own is not touched. All of them take about
    two minutes and 1 GB of disk, or half a minute with --quick. Bars are those of docs/benchmarks.md.
    """
    sizes = QUICK if quick else MEASUREMENT
    with _directory(store) as directory:
        _show_machine(describe_machine(directory, sizes.raw_commits), as_json=as_json)
        for workload in workloads or WORKLOADS:
            note(f"{workload}: {WORKLOADS[workload]} ...")
            for figure in measure(workload, sizes, directory, repeat):
                _show(figure, as_json=as_json)


def measure(workload: str, sizes: Sizes, directory: Path, repeat: int = 1) -> list[Figure]:
    """The figures of one workload, measured in processes and stores of its own. Raises ClickException."""
    rounds = [_measure_once(workload, sizes, directory) for _ in range(repeat)]
    return [Figure(workload, metric, settle(metric, [found[metric] for found in rounds])) for metric in rounds[0]]


def _measure_once(workload: str, sizes: Sizes, directory: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix=f"{workload}-", dir=directory) as fresh:
        try:
            output = asyncio.run(children.run("measure", workload, fresh, json.dumps(asdict(sizes))))
        except RuntimeError as error:
            raise click.ClickException(f"{workload} could not be measured: {error}; its own output says why") from None
    figures: dict[str, float] = json.loads(output)
    return figures


@contextmanager
def _directory(store: str | None) -> Iterator[Path]:
    parent = None if store is None else Path(store.removeprefix("sqlite:///"))
    if parent is not None and not parent.is_dir():
        raise click.UsageError(f"--store {store}: there is no directory {parent}")
    with tempfile.TemporaryDirectory(prefix="perdure-bench-", dir=parent) as directory:
        yield Path(directory)


def _show_machine(machine: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_line({"machine": machine})
        return
    click.echo(
        f"Python {machine['python']}, SQLite {machine['sqlite']}, {machine['cpus']} cores; {machine['directory']}: "
        f"fdatasync {machine['fdatasync_ms_p50']:.3f} ms, raw commit {machine['raw_commit_ms_p50']:.3f} ms (p50)"
    )


def _show(figure: Figure, *, as_json: bool) -> None:
    shown = figure.as_json()
    if as_json:
        print_line(shown)
        return
    verdict = {True: paint("ok", "green"), False: paint("MISSED", "red"), None: ""}[shown["pass"]]
    value, bar = f"{shown['value']:,.15g}", shown["bar"] or ""
    click.echo(f"{figure.workload:8}{figure.metric:30}{value:>10} {shown['unit']:14}{bar:>10}  {verdict}".rstrip())
