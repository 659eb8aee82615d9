"""How large is a step's next attempt? As its tool says, and larger after attempts that ran out of memory.

Known to this node only: where another takes the run over, the step begins again at its first size.
"""

from __future__ import annotations

from collections import OrderedDict

from perdure.agents.attempt import Attempt
from perdure.values.compute import Compute, memory_text

#: Steps to remember. Those that failed for good leave an entry behind, which the oldest make room for.
_STEPS_MOST = 10_000


class Growth:
    """How often steps ran out of memory, by the key that their attempts share."""

    def __init__(self) -> None:
        self._ooms: OrderedDict[str, int] = OrderedDict()

    def size(self, compute: Compute, attempt: Attempt) -> Compute:
        """What this attempt gets. A grown one says so in the journal: `progress` with `compute`."""
        ooms = self._ooms.get(attempt.key, 0)
        size = compute.grown(ooms)
        if size is not compute and size.memory_bytes is not None:
            attempt.emit(
                "progress",
                {
                    "compute": {
                        "memory_bytes": size.memory_bytes,
                        "memory": memory_text(size.memory_bytes),
                        "ooms": ooms,
                    }
                },
            )
        return size

    def ran_out(self, key: str) -> None:
        """An attempt took more memory than it had."""
        self._ooms[key] = self._ooms.pop(key, 0) + 1
        if len(self._ooms) > _STEPS_MOST:
            self._ooms.popitem(last=False)

    def forget(self, key: str) -> None:
        """The step has its result."""
        self._ooms.pop(key, None)
