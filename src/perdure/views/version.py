"""Which Perdure is this?"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def _installed() -> str:
    try:
        return version("perdure")
    except PackageNotFoundError:  # run from a folder that was never installed
        return "unknown"


VERSION = _installed()
