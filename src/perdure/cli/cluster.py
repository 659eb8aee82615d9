"""`cluster status`, `metrics`, `drain`, `move-shard`: who works on this store, what waits, and who is to do what."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from perdure.cli import exits
from perdure.cli.options import client, execute, json_option, shown, store_option
from perdure.cli.output import note, paint, print_json, print_line, print_table, span
from perdure.errors import InvalidInput, InvalidSetting, NotFound

if TYPE_CHECKING:
    from perdure.store.contract import Node, Store
    from perdure.views.standing import Lag, Standing

#: How often `status --watch` looks, and how often `drain --wait` does.
_WATCH_SECONDS = 2.0
_LOOK_SECONDS = 0.2
#: How long the owner of a shard that moves may take to hear of it and to finish the steps that are under way.
_FINISH_SECONDS = 15.0
#: A node's id may be given by its end, if that is this long.
_ENDING_LEAST = 3
#: The oldest that waits is shown as a warning from here on.
_LATE_SECONDS = 10.0


@click.group("cluster", short_help="See the nodes and shards, drain a node, move a shard.")
def cluster() -> None:
    """See the nodes and shards of a store, drain a node, move a shard. docs/cluster.md has the whole story."""


@cluster.command("status")
@click.option("--watch", is_flag=True, help="Look again every two seconds, until Ctrl-C.")
@click.option("--shards", is_flag=True, help="Every shard on a line of its own.")
@store_option
@json_option
def status(store: str, *, watch: bool, shards: bool, as_json: bool) -> int:
    """Show the nodes, what waits for them, and since when.

    A node is `working`, `draining` or `dead`; steps per second are those of the last second or two (a third of its
    lease). `queued` runs could begin and wait for a place, `due` ones have a timer that is over, `unread` is word that
    no owner has journaled yet; behind each stands for how long the oldest has waited.
    """
    return execute(_status(store, watch=watch, shards=shards, as_json=as_json))


@cluster.command("metrics")
@store_option
@json_option
def metrics(store: str, *, as_json: bool) -> int:
    """Print the same as Prometheus metrics (with --json: as `status` does).

    \b
      perdure cluster metrics > /var/lib/node_exporter/perdure.prom
    """
    return execute(_metrics(store, as_json=as_json))


@cluster.command("drain")
@click.argument("node")
@click.option("--wait", is_flag=True, help="Return when the node has gone.")
@store_option
@json_option
def drain(node: str, store: str, *, wait: bool, as_json: bool) -> int:
    """Ask a node to give its shards up to the others, and end.

    NODE is an id of `cluster status`, or the end of one. It hears of it with its next beat; steps under way get time
    to finish, and its `perdure work` then ends with 0. With --wait this ends with 1 when the node dies before.
    """
    return execute(_drain(node, store, wait=wait, as_json=as_json))


@cluster.command("move-shard")
@click.argument("shard")
@click.argument("database")
@store_option
@json_option
def move_shard(shard: str, database: str, store: str, *, as_json: bool) -> int:
    """Let a shard live in another database of a store that has several, while work goes on.

    \b
      perdure cluster move-shard buyer:7 postgresql://b/perdure

    DATABASE is one of those that --store lists. Runs of the shard stand still meanwhile. A move that was interrupted may
    be typed again; if it is not, the nodes end it by themselves.
    """
    return execute(_move_shard(shard, database, store, as_json=as_json))


async def _status(store: str, *, watch: bool, shards: bool, as_json: bool) -> int:
    from perdure.values.clock import SystemClock
    from perdure.views.standing import Standing

    async with client(store) as runtime:
        while True:
            standing = await Standing.look(runtime.store, SystemClock())
            if as_json:
                (print_line if watch else print_json)(standing.as_json(shards=shards))
            else:
                if watch:
                    click.clear()
                _print_standing(standing, shards=shards)
            if not watch:
                return exits.OK
            await asyncio.sleep(_WATCH_SECONDS)


def _print_standing(standing: Standing, *, shards: bool) -> None:
    from perdure.views.standing import figures_of

    nodes = []
    for node in standing.nodes:
        figures = figures_of(node)
        nodes.append((
            node.id, node.place, _state(node), span(standing.left(node.expires) or 0) if node.alive else "",
            str(standing.owned[node.id]), _figure(figures.get("moving")), _figure(figures.get("queued")),
            _figure(figures.get("steps")), _figure(figures.get("steps_per_second")),
            ", ".join(f"{agent} {version}" for agent, version in node.programs),
        ))  # fmt: skip
    head = ("node", "place", "state", "lease", "shards", "moving", "queued", "steps", "steps/s", "agents")
    if nodes:
        print_table(head, nodes)
    else:
        click.echo("no node has worked here lately; run: perdure work FILE.py")
    click.echo()
    print_table(
        ("agent", "shards", "owned", "nodes", "queued", "oldest", "due", "oldest", "unread", "oldest"),
        [
            (agent.name, str(agent.shards), str(agent.owned), str(agent.nodes), *_lag(agent.lag))
            for agent in standing.agents
        ],
    )
    if shards:
        click.echo()
        _print_shards(standing)
    for warning in _warnings(standing):
        click.echo(paint(f"\n{warning}", "yellow"))


def _print_shards(standing: Standing) -> None:
    places = {node.id: node.place for node in standing.nodes}
    print_table(
        ("shard", "owner", "place", "epoch", "lease", "database"),
        [
            (
                shard.name, (shard.owner or "") if shard.alive else "",
                places.get(shard.owner or "", "") if shard.alive else "", str(shard.epoch),
                span(standing.left(shard.expires) or 0) if shard.alive else "", standing.databases.get(shard.name, ""),
            )
            for shard in standing.shards
        ],
    )  # fmt: skip


def _warnings(standing: Standing) -> list[str]:
    """What somebody should do something about."""
    found = []
    for agent in standing.agents:
        waits = agent.lag.queued + agent.lag.due + agent.lag.unread
        late = max(agent.lag.oldest_due_seconds or 0, agent.lag.oldest_unread_seconds or 0)
        if waits and not agent.nodes:
            found.append(f"{waits} wait for {agent.name}, and no node has it: perdure work FILE.py")
        elif agent.shards > agent.owned and agent.nodes:
            found.append(f"{agent.shards - agent.owned} shards of {agent.name} have no owner at the moment")
        elif late > _LATE_SECONDS:
            found.append(f"{agent.name} is {span(late)} late: more nodes, or fewer runs at once")
    return found


def _state(node: Node) -> str:
    if not node.alive:
        return "dead"
    return "draining" if node.draining else "asked to drain" if node.drain_asked else "working"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:,}"


def _lag(lag: Lag) -> tuple[str, ...]:
    pairs = (
        (lag.queued, lag.oldest_queued_seconds), (lag.due, lag.oldest_due_seconds),
        (lag.unread, lag.oldest_unread_seconds),
    )  # fmt: skip
    return tuple(cell for count, seconds in pairs for cell in (f"{count:,}", "" if seconds is None else span(seconds)))


async def _metrics(store: str, *, as_json: bool) -> int:
    from perdure.values.clock import SystemClock
    from perdure.views.metrics import metrics_text
    from perdure.views.standing import Standing

    async with client(store) as runtime:
        standing = await Standing.look(runtime.store, SystemClock())
    if as_json:
        print_json(standing.as_json())
    else:
        click.echo(metrics_text(standing), nl=False)
    return exits.OK


async def _drain(id: str, store: str, *, wait: bool, as_json: bool) -> int:
    async with client(store) as runtime:
        node = await _find_node(runtime.store, id)
        await runtime.store.ask_drain(node.id)
        if not as_json:
            note(f"{node.id} at {node.place} is asked to drain; it hears of it with its next beat")
        drained = await _until_gone(runtime.store, node.id) if wait else None
    if as_json:
        print_json({"node": node.id, "place": node.place, "drained": drained})
    elif drained is not None:
        note("it has drained and ended" if drained else "it died before it had drained: its shards are taken over")
    return exits.FAILED if drained is False else exits.OK


async def _find_node(store: Store, id: str) -> Node:
    living = [node for node in await store.nodes() if node.alive]
    exact = [node for node in living if node.id == id]
    found = exact or [node for node in living if len(id) >= _ENDING_LEAST and node.id.endswith(id)]
    if len(found) > 1:
        raise InvalidInput(f"{len(found)} nodes end in {id!r}, say which: {', '.join(node.id for node in found)}")
    if not found:
        raise NotFound(f"no living node has the id {id!r} or ends in it; list them with: perdure cluster status")
    return found[0]


async def _until_gone(store: Store, id: str) -> bool:
    """Return when a node is there no more: whether it left in good order."""
    while True:
        node = next((node for node in await store.nodes() if node.id == id), None)
        if node is None or not node.alive:
            return node is None
        await asyncio.sleep(_LOOK_SECONDS)


async def _move_shard(shard: str, database: str, store: str, *, as_json: bool) -> int:
    from perdure.store.many import ManyStores

    async with client(store) as runtime:
        many = runtime.store
        if not isinstance(many, ManyStores):
            raise InvalidSetting(
                "this store is one database, so there is nowhere to move a shard to. Name all of its databases, the "
                "first one first, with commas between: --store URL,URL"
            )
        target, before = shown(database), (await many.places()).get(shard)
        await many.move_shard(shard, target, finish_seconds=_FINISH_SECONDS)
    if as_json:
        print_json({"shard": shard, "database": target, "before": before})
    else:
        note(f"{shard} lives in {target}" + (" already" if before == target else f" now (before: {before})"))
    return exits.OK
