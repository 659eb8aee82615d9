"""`demo`: the options of the tour; the tour itself is perdure.demo."""

from __future__ import annotations

from pathlib import Path

import click

from perdure.cli.options import json_option

_CSV = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("demo", short_help="A minute's tour: an agent on real files, killed half-way.")
@click.option("--yes", is_flag=True, help="Approve by itself, and say so.")
@click.option("--invoices", type=_CSV, metavar="A.csv", help="Your own invoices, with --ledger.")
@click.option("--ledger", type=_CSV, metavar="B.csv", help="Your own ledger lines, with --invoices.")
@click.option("--limit", metavar="AMOUNT", help="Payments above it need consent.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Where reports go.")
@click.option("--store", metavar="URL", envvar="PERDURE_STORE", show_envvar=True, help="Where runs live.")
@json_option
def demo(
    invoices: Path | None, ledger: Path | None, limit: str | None, out: Path | None, store: str | None, *, yes: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Reconcile a thousand invoices with a ledger; be killed half-way, come back, ask you, and pay each exactly once.

    \b
      perdure demo
      perdure demo --invoices A.csv --ledger B.csv
    """
    if (invoices is None) != (ledger is None):
        raise click.UsageError("--invoices and --ledger belong together")
    from perdure.demo.show import main

    return main(yes=yes, invoices=invoices, ledger=ledger, store=store, limit=limit, out=out, as_json=as_json)
