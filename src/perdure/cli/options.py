"""What do all commands share? --json, --store and --server, JSON arguments, durations; and the way to where runs are."""

from __future__ import annotations

import asyncio
import functools
import json
import re
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

import click
from click.core import ParameterSource

from perdure.errors import NotFound

if TYPE_CHECKING:
    from perdure.agents.agent import AnyAgent
    from perdure.cli.here import Here
    from perdure.cli.reach import Reach

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

DEFAULT_STORE = "sqlite:///.perdure/perdure.db"

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def store_option(function: F) -> F:
    """--store URL, or PERDURE_STORE."""
    return click.option(
        "--store", metavar="URL", envvar="PERDURE_STORE", default=DEFAULT_STORE, show_default=True, show_envvar=True,
        help="Where runs live.",
    )(function)  # fmt: skip


class Place(NamedTuple):
    """Where runs are: in a store, or behind a server."""

    store: str
    server: str | None = None


def place_options(function: Callable[..., int]) -> Callable[..., int]:
    """--store and --server, as one `place`."""

    @click.option(
        "--server", metavar="URL", envvar="PERDURE_SERVER", show_envvar=True,
        help="A server to ask instead of a store; its key is taken from PERDURE_TOKEN.",
    )  # fmt: skip
    @store_option
    @functools.wraps(function)
    def placed(*args: Any, store: str, server: str | None, **options: Any) -> int:
        return function(*args, place=_place_of(store, server), **options)

    return placed


def _place_of(store: str, server: str | None) -> Place:
    # What is typed counts before what the environment says.
    ctx, typed = click.get_current_context(), ParameterSource.COMMANDLINE
    names_store, names_server = [ctx.get_parameter_source(name) is typed for name in ("store", "server")]
    if names_store and names_server:
        raise click.UsageError("--store and --server name two places: give one of them")
    return Place(store, None if names_store else server or None)


def json_option(function: F) -> F:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(function)


class JsonArgument(click.ParamType[Any]):
    """A JSON value: as text, as @FILE, or as - for standard input."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return Given(json.loads(_text_of(value)))
        except OSError as error:
            self.fail(f"{error.filename}: {error.strerror}", param, ctx)
        except (ValueError, RecursionError) as error:
            shown = value if len(value) <= 60 else f"{value[:60]}..."
            self.fail(f"{shown!r} is not JSON ({error}); text needs double quotes inside: '\"text\"'", param, ctx)


class Given:
    """A JSON value that was given: tells `null` from nothing at all."""

    def __init__(self, value: Any) -> None:
        self.value = value


JSON = JsonArgument()


class Moment(click.ParamType[int]):
    """A moment in microseconds since the epoch: 90s, 30m, 1h or 2d ago, or an ISO date and time."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from perdure.values.clock import SystemClock

        ago = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", str(value))
        if ago is not None:
            return SystemClock().now_us() - round(float(ago[1]) * _UNITS[ago[2]] * 1e6)
        from datetime import datetime

        try:
            return round(datetime.fromisoformat(str(value)).astimezone().timestamp() * 1e6)
        except ValueError:
            self.fail(f"{value!r} is neither a time span (90s, 30m, 1h, 2d) nor an ISO date", param, ctx)


MOMENT = Moment()


def execute(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine to its end."""
    return asyncio.run(work)


@overload
def client(place: str, agents: Iterable[AnyAgent] = ()) -> AbstractAsyncContextManager[Here]: ...
@overload
def client(place: Place, agents: Iterable[AnyAgent] = ()) -> AbstractAsyncContextManager[Reach]: ...
def client(place: str | Place, agents: Iterable[AnyAgent] = ()) -> AbstractAsyncContextManager[Reach]:
    """The way to runs: a Client of a server, or a Runtime that does no work itself, on a store that exists.

    Raises NotFound where there is no store.
    """
    if isinstance(place, Place) and place.server is not None:
        from perdure.cli.there import There

        return There(place.server)
    return _here(place.store if isinstance(place, Place) else place, agents)


@asynccontextmanager
async def _here(store: str, agents: Iterable[AnyAgent]) -> AsyncIterator[Here]:
    await must_exist(store)
    from perdure.cli.here import Here

    async with Here(store, agents, work=False) as runtime:
        yield runtime


async def must_exist(store: str) -> None:
    """Raises NotFound where a database of `store` is missing or empty: opening it would make one."""
    url = await missing(store)
    if url is not None:
        raise NotFound(
            f"there is no store at {url}{_from_where(url)}. `perdure run FILE.py:AGENT` makes one; another one is "
            f"named with --store URL or PERDURE_STORE"
        )


async def missing(store: str) -> str | None:
    """The first database of `store` in which there is none, as people may see it. Raises StoreError, InvalidSetting."""
    from perdure.store import store_from_url
    from perdure.store.urls import is_postgres, split_urls, without_passwords

    store_from_url(store)
    for url in split_urls(store):
        path = sqlite_path(url)
        if path is not None and not path.exists():
            return url
        if is_postgres(url):
            from perdure.store.postgres.facts import read_schema

            state, _ = await read_schema(url)
            if state == "nothing":
                return without_passwords(url)
    return None


def shown(store: str) -> str:
    """A store's URL as people may see it: without passwords."""
    from perdure.store.urls import without_passwords

    return without_passwords(store)


def sqlite_path(store: str) -> Path | None:
    """The file of a SQLite store's URL, or None for other stores."""
    scheme, _, rest = store.partition("://")
    return Path(rest[1:]) if scheme == "sqlite" and len(rest) > 1 else None


def person() -> str:
    """Who types: the name that journals keep for answers and decisions."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run under a number without a name
        return "cli"


def _from_where(url: str) -> str:
    return f" (from {Path.cwd()})" if sqlite_path(url) is not None else ""


def _text_of(value: str) -> str:
    if value == "-":
        return sys.stdin.read()
    return Path(value[1:]).read_text(encoding="utf-8") if value.startswith("@") else value
