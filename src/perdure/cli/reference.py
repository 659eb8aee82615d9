"""docs/cli.md, generated from the commands themselves: `python -m perdure.cli.reference > docs/cli.md`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from perdure.cli.main import COMMANDS, main

_OPENING = """\
# The command line

Generated from the commands by `python -m perdure.cli.reference`; do not edit.

Results go to stdout, remarks and progress to stderr. RUN is a run's id, or an end of one that only it has. JSON is
given as text, as `@FILE`, or as `-` for standard input. Every command takes `--json` and `--store URL`
(`PERDURE_STORE`; by default `sqlite:///.perdure/perdure.db`). Those that also take `--server URL` (`PERDURE_SERVER`) ask
a server instead, with the key in `PERDURE_TOKEN`. What programs may rely on, and the exit codes, is in
[contract.md](contract.md). `PERDURE_DEBUG=1` shows where an unexpected error comes from; `NO_COLOR=1` turns colours
off.
"""


#: Options of every command: said once, above.
_EVERYWHERE = ("--store URL", "--json")


def cli_markdown() -> str:
    """The page."""
    lines = [_OPENING]
    root = click.Context(main, info_name="perdure")
    for title, section in COMMANDS.items():
        lines.append(f"## {title}\n")
        for name, entry in section.items():
            command = main.get_command(root, name)
            assert command is not None
            lines += _describe(command, click.Context(command, info_name=name, parent=root), entry.purpose)
    return "\n".join(lines).rstrip() + "\n"


def _describe(command: click.Command, ctx: click.Context, purpose: str) -> Iterator[str]:
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            inner = command.get_command(ctx, name)
            assert inner is not None
            yield from _describe(inner, click.Context(inner, info_name=name, parent=ctx), purpose)
        return
    usage = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)])
    yield f"### {ctx.command_path}\n\n```text\n{usage}\n```\n"
    yield _prose(command.help or purpose)
    options = [option for option in command.params if isinstance(option, click.Option)]
    records = [option.get_help_record(ctx) for option in options]
    shown = [record for record in records if record is not None and not record[0].startswith(_EVERYWHERE)]
    if shown:
        yield "| option | |\n|---|---|"
        yield from (f"| `{_cell(flag)}` | {_cell(text)} |" for flag, text in shown)
        yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _prose(text: str) -> str:
    """Help as Markdown: what click must not wrap is an example."""
    parts = []
    for part in inspect.cleandoc(text).split("\n\n"):
        body = part.removeprefix("\b\n")
        parts.append(body if body is part else f"```console\n{inspect.cleandoc(body)}\n```")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    click.echo(cli_markdown(), nl=False)
