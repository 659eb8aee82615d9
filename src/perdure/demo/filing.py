"""Where do reports live? Writes and reads report.md and report.json in a folder; computes nothing."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from perdure.demo.report import Report, render_json, render_markdown

#: what a run leaves in its folder
FILES = ("report.md", "report.json", "payments.csv")


def file_report(report: Report, folder: Path) -> Path:
    """Write the report for people and for programs; each file is there whole, or as it was. Returns report.md."""
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / "report.json", render_json(report))
    _replace(folder / "report.md", render_markdown(report))
    return folder / "report.md"


def read_report(folder: Path) -> Report:
    """The report that was filed."""
    return TypeAdapter(Report).validate_json((folder / "report.json").read_bytes())


def set_aside(folder: Path) -> Path | None:
    """Move what an earlier run left into a folder of its own, named for its time; None when there is nothing."""
    left = [folder / name for name in FILES if (folder / name).exists()]
    if not left:
        return None
    written = datetime.fromtimestamp(max(file.stat().st_mtime for file in left), tz=UTC)
    archive = folder / f"{written:%Y-%m-%dT%H%M%S.%f}Z"
    archive.mkdir(exist_ok=True)
    for file in left:
        file.replace(archive / file.name)
    return archive


def _replace(file: Path, text: str) -> None:
    fresh = file.with_name(f"{file.name}.new")
    with fresh.open("w", encoding="utf-8", newline="") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(file)
