"""What can a monitor or an autoscaler read of the cluster? Prometheus' text; the names are in docs/contract.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from perdure.views.standing import AgentStanding, Standing, figures_of


class Metric(NamedTuple):
    """One name, with what it says and its samples as (labels, value)."""

    name: str
    kind: str
    about: str
    samples: list[tuple[dict[str, str], float]]


def metrics_text(standing: Standing) -> str:
    """Every metric, each with a line of help. What waits for nobody is 0, so that no series ever disappears."""
    return "".join(line for metric in (*_of_nodes(standing), *_of_agents(standing.agents)) for line in _lines(metric))


def _of_nodes(standing: Standing) -> Iterator[Metric]:
    living = standing.living
    yield _gauge("perdure_nodes", "Living nodes.", [({}, len(living))])
    draining = sum(node.draining or node.drain_asked for node in living)
    yield _gauge("perdure_nodes_draining", "Living nodes that give their shards up.", [({}, draining)])
    moving = [({"node": node.id, "place": node.place}, figures_of(node).get("moving", 0)) for node in living]
    yield _gauge("perdure_moving_runs", "Runs that move on a node right now.", moving)
    steps = [({"node": node.id, "place": node.place}, figures_of(node).get("steps", 0)) for node in living]
    yield Metric("perdure_steps_total", "counter", "Steps that a node has ended since it started.", steps)


def _of_agents(agents: Iterable[AgentStanding]) -> Iterator[Metric]:
    labelled = [({"agent": agent.name}, agent) for agent in agents]
    for name, about, value in _AGENT_METRICS:
        yield _gauge(name, about, [(labels, value(agent) or 0) for labels, agent in labelled])


_AGENT_METRICS: tuple[tuple[str, str, Callable[[AgentStanding], float | None]], ...] = (
    ("perdure_agent_nodes", "Living nodes that have the agent.", lambda agent: agent.nodes),
    ("perdure_shards", "Shards of the agent.", lambda agent: agent.shards),
    ("perdure_shards_unowned", "Shards that no living node owns.", lambda agent: agent.shards - agent.owned),
    ("perdure_queue_depth", "Runs that could begin and wait for a place.", lambda agent: agent.lag.queued),
    ("perdure_oldest_queued_seconds", "Age of the oldest of them.", lambda agent: agent.lag.oldest_queued_seconds),
    ("perdure_due_runs", "Runs whose timer is due.", lambda agent: agent.lag.due),
    ("perdure_oldest_due_seconds", "How late the latest of them is.", lambda agent: agent.lag.oldest_due_seconds),
    ("perdure_unread_signals", "Signals that no owner has journaled.", lambda agent: agent.lag.unread),
    ("perdure_oldest_unread_seconds", "Age of the oldest of them.", lambda agent: agent.lag.oldest_unread_seconds),
)


def _gauge(name: str, about: str, samples: list[tuple[dict[str, str], float]]) -> Metric:
    return Metric(name, "gauge", about, samples)


def _lines(metric: Metric) -> Iterator[str]:
    yield f"# HELP {metric.name} {metric.about}\n# TYPE {metric.name} {metric.kind}\n"
    for labels, value in metric.samples:
        pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        yield f"{metric.name}{{{pairs}}} {value:g}\n" if pairs else f"{metric.name} {value:g}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
