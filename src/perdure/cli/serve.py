"""`dev` and `serve`: the server, the console and a worker, in one process."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import perdure
from perdure.cli import exits
from perdure.cli.compute import ray_option
from perdure.cli.load import Agents, load_agents
from perdure.cli.options import execute, json_option, shown, sqlite_path, store_option
from perdure.cli.output import note, paint, print_line
from perdure.cli.stopping import stop_signals
from perdure.errors import InvalidSetting, PerdureError

if TYPE_CHECKING:
    import socket

    from perdure.gateway.access.access import Issuer
    from perdure.gateway.app import Gateway
    from perdure.gateway.serving import Tls
    from perdure.gateway.settings import GatewaySettings
    from perdure.runtime import Runtime
    from perdure.triggers.triggers import Triggers

PORT = 8420
#: `dev` takes the first free port of so many.
_PORTS = 20


@click.command("dev", short_help="Server, console and worker for your agents; reloads when a file changes.")
@click.argument("file", metavar="[FILE.py]", required=False)
@click.option("--port", type=click.IntRange(0, 65_535), help=f"Default: {PORT}, or the next one that is free.")
@click.option(
    "--open/--no-open", "open_page", default=None, help="Open the page in a browser (default: at a terminal)."
)
@click.option("--no-reload", is_flag=True, help="Do not watch the files of the agents.")
@ray_option
@store_option
@json_option
def dev(
    file: str | None, *, port: int | None, open_page: bool | None, no_reload: bool, ray: str | None, store: str, as_json: bool
) -> int:  # fmt: skip
    """Server, console and worker for the agents in FILE.py, on this machine only.

    \b
      perdure dev shop.py
      perdure dev              with an agent of ours, to look around: no key, no cost

    Prints the page's address with a code that logs your browser in, and a curl line. When a file of the agents changes, the
    process starts again on the new code: runs go on where they were, or are parked and say exactly which step differs.
    Ctrl-C stops it; nothing is lost. --json prints one line, {"url": ..., "token": ...}, when it is ready.
    """
    from perdure.cli.reload import inherited_socket, reloaded
    from perdure.gateway.settings import GatewaySettings

    loaded, token = load_agents(file or _welcome()), _given_token() or _own_token(store)
    listening = inherited_socket() or _bound("127.0.0.1", port, others=_PORTS if port is None else 0)
    port = listening.getsockname()[1]
    settings = GatewaySettings(mode="dev", port=port, public_url=f"http://127.0.0.1:{port}", token=token)
    server = _Server(loaded, store, settings, listening, ray=ray, welcome=file is None)
    opened = (sys.stdout.isatty() if open_page is None else open_page) and not reloaded()
    return execute(server.dev(open_page=opened, reload=not no_reload, as_json=as_json))


@click.command("serve", short_help="Server, console and worker for production: keys required, no reload.")
@click.argument("file", metavar="FILE.py")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option("--port", type=click.IntRange(0, 65_535), default=PORT, show_default=True)
@click.option(
    "--host-name", "names", multiple=True, metavar="NAME",
    help="A name that requests may be addressed to; repeatable. Others are refused.",
)  # fmt: skip
@click.option("--public-url", metavar="URL", help="How people reach it, for links: https://agents.example.com/perdure")
@click.option("--prefix", default="", metavar="/PATH", help="What a proxy puts in front of every path.")
@click.option("--tls-cert", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE")
@click.option("--plain-http", is_flag=True, help="Listen beyond this machine without TLS: a proxy in front has it.")
@click.option("--oidc-issuer", metavar="URL", help="Believe tokens of this OpenID Connect issuer, too (perdure[oidc]).")
@click.option("--oidc-audience", metavar="NAME", help="Whom those tokens must be meant for.")
@click.option(
    "--webhooks-to-private", "private", is_flag=True,
    help="Webhooks may have addresses of this machine and of private networks.",
)  # fmt: skip
@ray_option
@store_option
@json_option
def serve(
    file: str, *, host: str, port: int, names: tuple[str, ...], public_url: str | None, prefix: str,
    tls_cert: Path | None, tls_key: Path | None, plain_http: bool, oidc_issuer: str | None, oidc_audience: str | None,
    private: bool, ray: str | None, store: str, as_json: bool,
) -> int:  # fmt: skip
    """Server, console and worker for the agents in FILE.py: every caller needs a key, nothing reloads.

    \b
      perdure key create me --scope admin
      perdure serve shop.py --host 0.0.0.0 --host-name agents.example.com --tls-cert cert.pem --tls-key key.pem

    Beyond this machine it listens only with TLS, or with --plain-http where a proxy in front of it has TLS. PERDURE_TOKEN
    sets an admin's key. SIGTERM stops it in good order: streams end (readers come back with their position), steps under
    way get time to finish.
    """
    from perdure.gateway.serving import Tls, is_loopback
    from perdure.gateway.settings import LOOPBACK, GatewaySettings

    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    if (oidc_issuer is None) != (oidc_audience is None):
        raise click.UsageError(
            "--oidc-issuer and --oidc-audience go together: a token must say that it is meant for us"
        )
    tls = Tls(tls_cert, tls_key) if tls_cert is not None and tls_key is not None else None
    if not is_loopback(host) and tls is None and not plain_http:
        raise InvalidSetting(
            f"keys would travel in the clear to {host}: give --tls-cert and --tls-key, or --plain-http where a proxy in "
            f"front of this has TLS"
        )
    loaded, token = load_agents(file), _given_token()
    listening = _bound(host, port)
    url = (public_url or f"{'https' if tls else 'http'}://{_shown_host(host)}:{listening.getsockname()[1]}").rstrip("/")
    prefix = _checked_prefix(prefix)
    settings = GatewaySettings(
        hosts=tuple(dict.fromkeys((*map(str.lower, names), *LOOPBACK))),
        public_url=f"{url.removesuffix(prefix)}{prefix}", prefix=prefix, tls=url.startswith("https:"), token=token,
    )  # fmt: skip
    oidc = (oidc_issuer, oidc_audience) if oidc_issuer is not None and oidc_audience is not None else None
    server = _Server(loaded, store, settings, listening, ray=ray, tls=tls, oidc=oidc, private=private)
    return execute(server.serve(as_json=as_json))


_TOKEN_LEAST = 16


class _Server:
    """One process with everything in it."""

    def __init__(
        self, loaded: Agents, store: str, settings: GatewaySettings, listening: socket.socket, *, ray: str | None,
        tls: Tls | None = None, oidc: tuple[str, str] | None = None, private: bool = False,
        welcome: bool = False,
    ) -> None:  # fmt: skip
        self._loaded = loaded
        self._folder = Path(loaded.file).resolve().parent
        self._store = store
        self._settings = settings
        self._listening = listening
        self._ray = ray
        self._tls = tls
        #: webhooks may have addresses of private networks
        self._private = private
        self._oidc = oidc
        self._welcome = welcome

    async def dev(self, *, open_page: bool, reload: bool, as_json: bool) -> int:
        """Until Ctrl-C; starts the process again when a file changes."""
        from perdure.cli.reload import restart, until_changed, until_loads
        from perdure.gateway.access.principal import Principal, Scope

        async def greet(gateway: Gateway) -> None:
            if self._welcome:
                agent = self._loaded.named("welcome")
                await gateway.runtime.start(agent, session="your-first", idempotency_key="welcome")
            admin = Principal("you", frozenset({Scope.ADMIN}), "dev")
            code, _ = await gateway.access.logins.make_code(admin)
            self._greet(code, open_page=open_page, as_json=as_json)

        file = Path(self._loaded.file)
        changed = partial(until_changed, file, self._folder) if reload else None
        if await self._until_stopped(greet, changed):
            await until_loads(file, self._folder)
            note("the code has changed: starting again on it")
            restart(self._listening)
        return exits.OK

    async def serve(self, *, as_json: bool) -> int:
        """Until SIGTERM."""

        async def greet(gateway: Gateway) -> None:
            if self._settings.token is None and not any(
                "admin" in key.scopes for key in await gateway.access.keys.list()
            ):
                raise InvalidSetting(
                    f"nobody could call this server: make a key first (perdure key create NAME --scope admin --store "
                    f"{shown(self._store)}), or set PERDURE_TOKEN"
                )
            if as_json:
                print_line({"url": self._settings.public_url, "token": self._settings.token})
            else:
                note(f"serving {self._names()} at {self._settings.public_url} from {shown(self._store)}")

        await self._until_stopped(greet, None)
        return exits.OK

    async def _until_stopped(self, greet: Any, changed: Any) -> bool:
        """Serve; True when `changed` ended it."""
        from perdure.console.pages import pages
        from perdure.gateway.app import Gateway
        from perdure.gateway.routes import SECTIONS
        from perdure.gateway.serving import serving

        runtime, triggers = self._node()
        async with runtime:
            gateway = Gateway(
                runtime, self._settings, sections=[*SECTIONS, pages], store_name=shown(self._store),
                issuer=self._issuer(runtime), triggers=triggers, examine=self._examine,
            )  # fmt: skip
            with stop_signals() as stopped:
                async with triggers, serving(gateway, self._listening, self._tls) as server:
                    try:
                        await greet(gateway)
                        edited = await _first(runtime, stopped, server, changed)
                    finally:
                        gateway.streams.close()
                if not edited:
                    self._listening.close()  # who comes now is refused, instead of waiting for nobody
                if stopped.is_set():
                    note("stopping: steps under way get time to finish; Ctrl-C again does not wait for them")
                await runtime.stop()
            return edited and not stopped.is_set()

    def _node(self) -> tuple[Runtime, Triggers]:
        """The node, with the agent that delivers to webhooks beside those of the file."""
        from perdure.runtime import Runtime
        from perdure.store import store_from_url
        from perdure.triggers.courier import Courier
        from perdure.triggers.deliveries import delivery_agent
        from perdure.triggers.egress import Reach
        from perdure.triggers.triggers import Triggers
        from perdure.values.clock import SystemClock
        from perdure.values.settings import Settings

        clock = SystemClock()
        store = store_from_url(self._store, clock)
        reach = Reach(loopback=self._private or self._settings.mode == "dev", private=self._private)
        courier = Courier(store, clock, reach)
        agents = [*self._loaded.agents, delivery_agent(courier)]
        runtime = Runtime(store, agents, settings=Settings(ray=self._ray), clock=clock)
        triggers = Triggers(runtime, courier)
        triggers.tell()
        return runtime, triggers

    def _examine(self) -> list[dict[str, Any]]:
        from perdure.cli.doctor import examine

        return [finding.as_json() for finding in examine(self._store)]

    def _issuer(self, runtime: Runtime) -> Issuer | None:
        if self._oidc is None:
            return None
        from perdure.gateway.access.oidc import OidcIssuer

        return OidcIssuer(*self._oidc, runtime.kernel.clock)

    def _greet(self, code: str, *, open_page: bool, as_json: bool) -> None:
        url, token = self._settings.public_url, self._settings.token
        page = f"{url}/#/login?code={code}"
        if as_json:
            print_line({"url": url, "token": token, "page": page})
        else:
            click.echo(f"{paint('Perdure', bold=True)} is running {self._names()} from {shown(self._store)}\n")
            click.echo(f"  page   {paint(page, 'cyan')}")
            click.echo(f"  curl   curl -H 'Authorization: Bearer {token}' {url}/v1/runs")
            click.echo("  stop   Ctrl-C (nothing is lost; the same command goes on)\n")
        if open_page:
            _open(page)

    def _names(self) -> str:
        return ", ".join(dict.fromkeys(agent.name for agent in self._loaded.agents))


def _open(page: str) -> None:
    """Show the page, where there is a screen: a browser in the terminal would wait for the server that waits for it."""
    import threading
    import webbrowser

    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()


async def _first(runtime: Runtime, stopped: asyncio.Event, server: asyncio.Task[None], changed: Any) -> bool:
    """Return when somebody stops or drains the node (False) or a file has changed (True). Raises what broke it."""
    edited = None if changed is None else asyncio.ensure_future(changed())
    waits: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(stopped.wait()), asyncio.ensure_future(runtime.kernel.followers.failure()),
        asyncio.ensure_future(runtime.kernel.membership.drained()),
    ]  # fmt: skip
    waits += [edited] if edited is not None else []
    try:
        done, _ = await asyncio.wait([*waits, server], return_when=asyncio.FIRST_COMPLETED)
        for future in done:
            future.result()
        if server in done:
            raise PerdureError("the server has ended by itself; its log says why")
        return edited is not None and edited in done
    finally:
        for future in waits:
            future.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


def _bound(host: str, port: int | None, *, others: int = 0) -> socket.socket:
    from perdure.gateway.serving import bind

    return bind(host, PORT if port is None else port, others=others)


def _welcome() -> str:
    """The file of an agent for who has none yet."""
    return str(Path(perdure.__file__).parent / "demo" / "welcome.py")


def _given_token() -> str | None:
    token = os.environ.get("PERDURE_TOKEN") or None
    if token is not None and len(token) < _TOKEN_LEAST:
        raise InvalidSetting(f"PERDURE_TOKEN has {len(token)} characters; an admin's key needs at least {_TOKEN_LEAST}")
    return token


def _own_token(store: str) -> str:
    """The token of this folder's development server: the same at every start, readable by its owner only."""
    path = (sqlite_path(store) or Path(".perdure/perdure.db")).parent / "dev-token"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(24))
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise PerdureError(f"{path} cannot be kept: {error.strerror}; set PERDURE_TOKEN instead") from error


def _checked_prefix(prefix: str) -> str:
    prefix = prefix.rstrip("/")
    if prefix and not (prefix.startswith("/") and prefix.isascii() and "//" not in prefix and "?" not in prefix):
        raise InvalidSetting(f"--prefix is a path such as /perdure, not {prefix!r}")
    return prefix


def _shown_host(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
