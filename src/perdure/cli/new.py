"""`new DIR`: writes a small project that runs as it stands."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import click

from perdure.cli import exits
from perdure.cli.options import json_option, store_option
from perdure.cli.output import note, print_json
from perdure.errors import PerdureError

#: What is written, and from which file of the folder `project`: named .txt there, since they are texts to us.
FILES = {
    "shop.py": "shop.py.txt",
    "test_shop.py": "test_shop.py.txt",
    "README.md": "README.md.txt",
    ".gitignore": "gitignore.txt",
}


@click.command("new", short_help="Write a small project: an agent, its test, a README.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@store_option
@json_option
def new(directory: Path, store: str, *, as_json: bool) -> int:
    """Write a small project into DIR: an agent, its test, a README. DIR must be new or empty.

    \b
      perdure new shop
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise click.UsageError(f"{directory} is there already and is not empty; name a new directory")
    _write(directory)
    if as_json:
        print_json({"directory": str(directory), "files": list(FILES)})
    else:
        note(f'wrote {", ".join(FILES)}\nnext: cd {directory} && perdure run shop.py:buyer \'["pen", "ink"]\'')
    return exits.OK


def _write(directory: Path) -> None:
    texts = resources.files("perdure.cli") / "project"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, source in FILES.items():
            (directory / name).write_text((texts / source).read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as error:
        raise PerdureError(f"{directory} cannot be written: {error.strerror}; name another directory") from error
