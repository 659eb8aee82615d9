"""The connection to Ray: everything here blocks, and is called in one thread. It never phones home."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any

from perdure.errors import ComputeRefused, WorkerLost
from perdure.hands.compute.contract import Work
from perdure.hands.compute.place import import_path
from perdure.hands.compute.ray_task import serve
from perdure.values.compute import memory_text

#: For `ray.init`: quiet, and nothing that listens to the network for people.
_QUIET: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}


class Cluster:
    """A Ray cluster. `processes` are the cpus of one of our own (address `local`); None means the machine's."""

    def __init__(self, address: str, processes: int | None) -> None:
        self._address = address
        self._processes = processes
        self._ray: Any = None
        self._task: Any = None
        self._ours = False

    def connect(self) -> None:
        """Join the cluster. Raises WorkerLost when it cannot be reached."""
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # a call without a connection fails, rather than find one
        ray: Any = importlib.import_module("ray")  # half a second, and only where it is used
        if not ray.is_initialized():  # the program that we are part of may have connected for itself
            cpus = {"num_cpus": self._processes} if self._address == "local" else {}
            try:
                ray.init(address=self._address, **cpus, **_QUIET)
            except Exception as error:
                told = " ".join(str(error).split())
                raise WorkerLost(f"Ray at {self._address} cannot be reached: {told}", in_doubt=False) from error
            self._ours = True
        self._ray = ray
        # No retries of Ray's own: a body that was lost may have acted, and the kernel knows whether it may act again.
        self._task = ray.remote(max_retries=0, num_returns="streaming")(serve)

    def submit(self, works: Sequence[Work]) -> Any:
        """Send bodies of one size off as one task; the stream of what it yields. Connects first if need be.

        Raises WorkerLost when the cluster cannot be reached, ComputeRefused when it can never have the room.
        """
        if self._task is None:
            self.connect()
        compute = works[0].compute
        if self._address == "local":
            self._refuse_too_large(works[0])
        size: dict[str, Any] = {"num_cpus": round(compute.cpus, 4), "num_gpus": round(compute.gpus, 4)}
        if compute.memory_bytes is not None:
            size["memory"] = compute.memory_bytes
        return self._task.options(**size).remote(import_path(), [work.as_json() for work in works])

    def cancel(self, stream: Any) -> None:
        """Kill the worker of a task. One that has ended is left alone."""
        self._ray.cancel(stream, force=True)

    def disconnect(self) -> None:
        """Leave; a cluster of our own ends."""
        if self._task is not None and self._ours:
            self._ray.shutdown()
        self._task = None

    def _refuse_too_large(self, work: Work) -> None:
        """On a cluster of many machines room may come; on this one a task that is too large would wait for ever."""
        has, compute = self._ray.cluster_resources(), work.compute
        wanted = {"CPU": compute.cpus, "GPU": compute.gpus, "memory": compute.memory_bytes or 0}
        for name, amount in wanted.items():
            if amount > has.get(name, 0):
                all = memory_text(int(has["memory"])) if name == "memory" else f"{has.get(name, 0):g}"
                raise ComputeRefused(
                    f"{work.place} wants more {name} than there is for Ray on this machine ({all}); make its Compute "
                    f"smaller, or give the address of a cluster"
                )
