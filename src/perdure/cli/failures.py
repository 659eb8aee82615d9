"""What does an error mean for whoever typed the command? One or two lines, and an exit code; never a traceback."""

from __future__ import annotations

import errno
import json
import os
import sys

import click

from perdure.cli import exits
from perdure.cli.output import visible
from perdure.errors import InvalidInput, InvalidSetting, NotJsonError, PerdureError, RunCancelled


def report_failure(error: Exception, *, as_json: bool) -> int:
    """Say what happened (as JSON on stdout when asked for, else on stderr) and return the exit code."""
    if isinstance(error, BrokenPipeError) or getattr(error, "errno", None) == errno.EPIPE:
        # Whoever read us has gone (`perdure events RUN | head`): nothing more can be said on this pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.FAILED
    if isinstance(error, click.Abort):  # what click makes of Ctrl-C
        return exits.INTERRUPTED
    if as_json:
        failure = {"error": {"type": type_name(error), "message": message(error)}}
        click.echo(json.dumps(failure, ensure_ascii=False))
    else:
        click.echo(f"Error: {visible(message(error))}", err=True)
        if isinstance(error, click.UsageError) and error.ctx is not None:
            click.echo(f"See: {error.ctx.command_path} --help", err=True)
    return exit_code(error)


def exit_code(error: Exception) -> int:
    """2 for what was typed wrong, 4 for a cancelled run, 1 for everything else."""
    if isinstance(error, (click.UsageError, InvalidInput, InvalidSetting, NotJsonError)):
        return exits.USAGE
    return exits.CANCELLED if isinstance(error, RunCancelled) else exits.FAILED


def type_name(error: Exception) -> str:
    """The error's public name."""
    return "UsageError" if isinstance(error, click.UsageError) else type(error).__name__


def message(error: Exception) -> str:
    """What happened, to what, and the remedy."""
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, PerdureError):
        return str(error)
    return f"{type(error).__name__}: {error} (unexpected; PERDURE_DEBUG=1 shows where it comes from)"
