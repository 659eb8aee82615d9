"""deploy/*.yaml: are they what Kubernetes and KEDA take, and do they say the same as the command line?"""

import asyncio
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import jsonschema
import psycopg
import pytest
import yaml
from click import Context

from perdure.cli.work import work
from perdure.store.contract import NewRun, Transaction
from perdure.store.postgres import PostgresStore
from perdure.values.events import Event
from perdure.values.runs import Run, RunStatus
from perdure.values.settings import Settings

DEPLOY = Path(__file__).parent.parent.parent / "deploy"


def fields(required="", **properties: Any) -> dict[str, Any]:
    """A schema of an object that has these fields and no others: a misspelt one is found."""
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


TEXT, COUNT, FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
WORDS = {"type": "array", "items": TEXT, "minItems": 1}
NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
SIZE = {"type": "string", "pattern": "^[0-9]+(m|Ki|Mi|Gi)?$"}
LABELS = {"type": "object", "additionalProperties": TEXT, "minProperties": 1}
SELECTOR = fields("matchLabels", matchLabels=LABELS)
META = fields("name", name=NAME, labels=LABELS)
PROBE = fields(
    "exec",
    exec=fields("command", command=WORDS),
    periodSeconds=COUNT,
    failureThreshold=COUNT,
    initialDelaySeconds=COUNT,
)
ENV = fields(
    "name",
    name=TEXT,
    value=TEXT,
    valueFrom=fields("secretKeyRef", secretKeyRef=fields("name key", name=NAME, key=TEXT)),
)
CONTAINER = fields(
    "name image command env resources securityContext readinessProbe livenessProbe",
    name=NAME, image=TEXT, command=WORDS, env={"type": "array", "items": ENV},
    readinessProbe=PROBE, startupProbe=PROBE, livenessProbe=PROBE,
    resources=fields("requests limits", requests=fields("cpu memory", cpu=SIZE, memory=SIZE), limits=fields(memory=SIZE)),
    securityContext=fields(
        allowPrivilegeEscalation=FLAG, readOnlyRootFilesystem=FLAG, capabilities=fields("drop", drop=WORDS)
    ),
    volumeMounts={"type": "array", "items": fields("name mountPath", name=NAME, mountPath=TEXT)},
)  # fmt: skip
POD = fields(
    "containers securityContext terminationGracePeriodSeconds",
    automountServiceAccountToken=FLAG, terminationGracePeriodSeconds=COUNT,
    securityContext=fields(
        runAsNonRoot=FLAG, runAsUser=COUNT, runAsGroup=COUNT, fsGroup=COUNT, seccompProfile=fields("type", type=TEXT)
    ),
    topologySpreadConstraints={
        "type": "array",
        "items": fields(
            "maxSkew topologyKey whenUnsatisfiable",
            maxSkew=COUNT, topologyKey=TEXT, whenUnsatisfiable=TEXT, labelSelector=SELECTOR,
        ),
    },
    containers={"type": "array", "items": CONTAINER, "minItems": 1},
    volumes={
        "type": "array",
        "items": fields("name emptyDir", name=NAME, emptyDir=fields(medium={"const": "Memory"}, sizeLimit=SIZE)),
    },
)  # fmt: skip
SPECS = {
    ("apps/v1", "Deployment"): fields(
        "selector template", replicas=COUNT, minReadySeconds=COUNT, selector=SELECTOR,
        strategy=fields(rollingUpdate=fields(maxSurge=COUNT, maxUnavailable=COUNT)),
        template=fields("metadata spec", metadata=fields("labels", labels=LABELS), spec=POD),
    ),
    ("policy/v1", "PodDisruptionBudget"): fields("maxUnavailable selector", maxUnavailable=COUNT, selector=SELECTOR),
    ("keda.sh/v1alpha1", "TriggerAuthentication"): fields(
        "secretTargetRef",
        secretTargetRef={
            "type": "array",
            "items": fields("parameter name key", parameter={"const": "connection"}, name=NAME, key=TEXT),
        },
    ),
    ("keda.sh/v1alpha1", "ScaledObject"): fields(
        "scaleTargetRef triggers", scaleTargetRef=fields("name", name=NAME), minReplicaCount=COUNT, maxReplicaCount=COUNT,
        pollingInterval=COUNT, cooldownPeriod=COUNT,
        triggers={
            "type": "array",
            "items": fields(
                "type metadata authenticationRef", type={"const": "postgresql"}, authenticationRef=fields("name", name=NAME),
                metadata=fields("query targetQueryValue", query=TEXT, targetQueryValue=TEXT),
            ),
        },
    ),
}  # fmt: skip


def documents():
    """Every object of the files."""
    return [part for file in sorted(DEPLOY.glob("*.yaml")) for part in yaml.safe_load_all(file.read_text("utf-8"))]


@pytest.fixture
def deployed():
    """Kind -> object."""
    return {part["kind"]: part for part in documents()}


@pytest.mark.parametrize("part", documents(), ids=lambda part: part["kind"])
def test_every_field_is_known_and_of_its_type(part):
    """Strictly: what the API server would drop without a word is an error here."""
    spec = SPECS[part["apiVersion"], part["kind"]]

    jsonschema.validate(
        part, fields("apiVersion kind metadata spec", apiVersion=TEXT, kind=TEXT, metadata=META, spec=spec)
    )


def test_the_parts_find_each_other(deployed):
    """Labels select the pods, volumes are there for all mounts, and the scaler names the deployment and its secret."""
    spec = deployed["Deployment"]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    pod = spec["template"]["spec"]
    [container] = pod["containers"]

    assert (
        spec["selector"]["matchLabels"] == deployed["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    )
    assert pod["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"] == labels
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    scaler = deployed["ScaledObject"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == deployed["Deployment"]["metadata"]["name"]
    named = {trigger["authenticationRef"]["name"] for trigger in scaler["triggers"]}
    assert named == {deployed["TriggerAuthentication"]["metadata"]["name"]}


def test_a_pod_stops_in_good_order_and_may_do_little(deployed):
    """More time than steps may take; nobody's root, nothing to write to but its own volumes; the URL from a Secret."""
    pod = deployed["Deployment"]["spec"]["template"]["spec"]
    [container] = pod["containers"]

    assert pod["terminationGracePeriodSeconds"] > 2 * Settings().finish_seconds
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "secretKeyRef" in next(env for env in container["env"] if env["name"] == "PERDURE_STORE")["valueFrom"]


def test_the_worker_understands_its_command_and_the_probes_ask_for_its_file(deployed):
    """The options exist, and the probes look where the worker writes."""
    [container] = deployed["Deployment"]["spec"]["template"]["spec"]["containers"]
    program, name, *words = container["command"]
    parsed = work.make_context(name, words, parent=Context(work)).params

    assert (program, name, parsed["file"]) == ("perdure", "work", "/app/agents.py")
    file = str(parsed["alive_file"])
    probes = [container[probe]["exec"]["command"] for probe in ("readinessProbe", "startupProbe", "livenessProbe")]
    assert all(file in shlex.join(command) for command in probes)
    assert Path(file).parent.as_posix() in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_probes_tell_a_fresh_file_from_an_old_one_and_from_none(deployed, tmp_path):
    """The very commands, on a file here."""
    [container] = deployed["Deployment"]["spec"]["template"]["spec"]["containers"]
    file = tmp_path / "alive"

    def passes(probe):
        command = [word.replace("/run/perdure/alive", str(file)) for word in container[probe]["exec"]["command"]]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    assert not passes("readinessProbe")
    assert not passes("livenessProbe")
    file.touch()
    assert passes("readinessProbe")
    assert passes("livenessProbe")
    subprocess.run(["touch", "-d", "5 minutes ago", file], check=True)
    assert not passes("livenessProbe")


def test_the_autoscaler_asks_what_the_database_can_answer(deployed, shop_url):
    """One row with one number each; queued runs count, those behind a busy session do not."""
    queries = [trigger["metadata"]["query"] for trigger in deployed["ScaledObject"]["spec"]["triggers"]]
    with psycopg.connect(shop_url) as connection:
        answers = [connection.execute(query.encode()).fetchall() for query in queries]

    [[[queued]], [[late]]] = answers
    assert queued == 2
    assert late == pytest.approx(60, abs=30)


@pytest.fixture
def shop_url(postgres_url):
    """A database with two runs that could begin, one behind a busy session, and one whose timer was due a minute ago."""
    now = time.time_ns() // 1000

    async def fill():
        store = PostgresStore(postgres_url)
        await store.open()
        rows = [
            Run("a", "buyer", "1", None, "buyer:0", RunStatus.QUEUED, now, now),
            Run("b", "buyer", "1", "free", "buyer:0", RunStatus.QUEUED, now, now),
            Run("c", "buyer", "1", "busy", "buyer:0", RunStatus.WAITING, now, now, wake_at=now - 60_000_000),
            Run("d", "buyer", "1", "busy", "buyer:0", RunStatus.QUEUED, now, now),
        ]
        created = [
            Transaction(create=[NewRun(row, [Event(row.id, 1, "run.queued", now, None, None, "{}")])]) for row in rows
        ]
        assert await store.commit(created) == [None] * 4
        await store.close()

    asyncio.run(fill())
    return postgres_url
