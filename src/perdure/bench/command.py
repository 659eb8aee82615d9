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
from perdure.bench.places import VARIABLE, Place, describe, is_postgres, place_at
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
    "http": "a server: until it is ready, reads, starts, followers",
    "cluster": "a wake from another node, and nodes that end (PostgreSQL)",
}


@click.command("bench")
@click.option("--quick", is_flag=True, help="Smaller sizes: a look, not a measurement. Leaves million_ratio out.")
@click.option(
    "--workload", "workloads", multiple=True, type=click.Choice(list(WORKLOADS)), help="Only this one (repeatable)."
)
@click.option("--repeat", type=click.IntRange(min=1), default=1, help="Measure so often; the median counts.")
@click.option(
    "--store",
    metavar="DIR|URL",
    envvar=VARIABLE,
    show_envvar=True,
    help="Where stores are made for the time: a directory of the disk to measure, or a PostgreSQL server.",
)
@json_option
def command(*, quick: bool, workloads: Sequence[str], repeat: int, store: str | None, as_json: bool) -> None:
    """Measure this machine with the standard workloads.

    Every store is durable (synchronous=FULL) and removed afterwards; your own is not touched. All of them take about
    two minutes and 1 GB of disk, or half a minute with --quick. Bars are those of docs/benchmarks.md.

    --store postgresql://user@host/database measures on that server, in databases named perdure_bench_... that are
    dropped afterwards: its role needs CREATEDB, and the database in the URL is only connected to. The server's settings
    are measured as they are. Keep a password out of the command line: in PGPASSWORD, or the whole URL in the variable.
    """
    if "cluster" in workloads and not (store and is_postgres(store)):
        raise click.UsageError("--workload cluster: nodes of a cluster share a server; give --store postgresql://...")
    sizes, store = QUICK if quick else MEASUREMENT, store or tempfile.gettempdir()
    with _fresh_place(store, "perdure-bench-", _parent(store)) as place:
        _show_machine(describe(place, sizes.raw_commits), as_json=as_json)
        for workload in workloads or _workloads(store):
            note(f"{workload}: {WORKLOADS[workload]} ...")
            for figure in measure(workload, sizes, place.directory, repeat, store):
                _show(figure, as_json=as_json)


def measure(workload: str, sizes: Sizes, directory: Path, repeat: int = 1, store: str = "") -> list[Figure]:
    """The figures of one workload, measured in processes and stores of its own. Raises ClickException."""
    rounds = [_measure_once(workload, sizes, directory, store) for _ in range(repeat)]
    return [
        Figure(workload, metric, settle(metric, [found[metric] for found in rounds]), is_postgres(store))
        for metric in rounds[0]
    ]


def _measure_once(workload: str, sizes: Sizes, directory: Path, store: str) -> dict[str, float]:
    with _fresh_place(store, f"{workload}-", directory) as place:
        words = workload, place.directory, json.dumps(asdict(sizes))
        try:
            output = asyncio.run(children.run("measure", store, *words))
        except RuntimeError as error:
            raise click.ClickException(f"{workload} could not be measured: {error}; its own output says why") from None
    figures: dict[str, float] = json.loads(output)
    return figures


@contextmanager
def _fresh_place(store: str, prefix: str, parent: Path | None) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as directory:
        place = place_at(store, Path(directory))
        try:
            yield place
        finally:
            place.clear()


def _parent(store: str) -> Path | None:
    """Where directories are made; None means where they always are."""
    if is_postgres(store):
        return None
    parent = Path(store.removeprefix("sqlite:///"))
    if not parent.is_dir():
        raise click.UsageError(f"--store {store}: there is no directory {parent}")
    return parent


def _workloads(store: str) -> list[str]:
    return [workload for workload in WORKLOADS if workload != "cluster" or is_postgres(store)]


def _show_machine(machine: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_line({"machine": machine})
        return
    shown = {name: f"{value:.3f} ms" if name.endswith("_ms_p50") else value for name, value in machine.items()}
    click.echo(", ".join(f"{name.removesuffix('_ms_p50').replace('_', ' ')} {value}" for name, value in shown.items()))


def _show(figure: Figure, *, as_json: bool) -> None:
    shown = figure.as_json()
    if as_json:
        print_line(shown)
        return
    verdict = {True: paint("ok", "green"), False: paint("MISSED", "red"), None: ""}[shown["pass"]]
    value, bar = f"{shown['value']:,.15g}", shown["bar"] or ""
    click.echo(f"{figure.workload:8}{figure.metric:30}{value:>10} {shown['unit']:14}{bar:>10}  {verdict}".rstrip())
