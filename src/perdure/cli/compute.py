"""--ray ADDRESS: which Ray cluster do tools with `compute=` use? Shared by the commands that work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def ray_option(function: F) -> F:
    """--ray ADDRESS, or PERDURE_RAY."""
    return click.option(
        "--ray", metavar="ADDRESS", envvar="PERDURE_RAY", show_envvar=True,
        help="Run tools with compute= on Ray: HOST:PORT of the cluster, or local.",
    )(function)  # fmt: skip
