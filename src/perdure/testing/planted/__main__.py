"""How many seeds does it take to find each planted bug?

    python -m perdure.testing.planted [--only NAME] [--tries 5] [--most 2000] [--processes 2] [--json]

Looks for each bug from `tries` first seeds on, and prints the median and the most seeds that it took. Each bug has a
process of its own: what a broken kernel leaves behind is gone with it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
from collections.abc import Sequence
from functools import partial

from perdure.testing.planted import BUGS, look_for
from perdure.testing.simulator import hash_alike


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 1 when a bug was not found."""
    parser = argparse.ArgumentParser(prog="python -m perdure.testing.planted", description=__doc__)
    parser.add_argument("--only", default="", help="bugs whose name contains this")
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--most", type=int, default=2_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    if (code := hash_alike("perdure.testing.planted", arguments)) is not None:
        return code
    taken: dict[str, list[int | None]] = {}
    bugs = [bug.name for bug in BUGS if options.only in bug.name]
    look = partial(look_for, tries=options.tries, most=options.most)
    with multiprocessing.get_context("spawn").Pool(options.processes, maxtasksperchild=1) as pool:
        for name, counts in pool.imap(look, bugs, chunksize=1):
            taken[name] = counts
            print(f"{name}: {_describe(counts)}", file=sys.stderr if options.json else sys.stdout, flush=True)
    if options.json:
        print(json.dumps(taken))
    return 1 if any(count is None for counts in taken.values() for count in counts) else 0


def _describe(counts: Sequence[int | None]) -> str:
    found = [count for count in counts if count is not None]
    if not found:
        return "NOT FOUND"
    missed = f", missed {len(counts) - len(found)} times" if len(found) < len(counts) else ""
    return f"found after {statistics.median(found):g} seeds (median), {max(found)} at most{missed}"


if __name__ == "__main__":
    raise SystemExit(main())
