"""How much of a machine does a tool's body need, and how may that grow? Says nothing of who provides it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from perdure.errors import InvalidSetting

_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "KB": 10**3, "MB": 10**6, "GB": 10**9}
#: The finest share of a cpu or gpu that Ray can count.
_SHARE_LEAST = 0.0001


@dataclass(frozen=True, slots=True)
class Compute:
    """What one attempt of a tool's step gets, in a process of its own. Raises InvalidSetting for what makes no sense.

    Memory is text with a unit ("8GiB", "512MiB", "2GB") or a number of bytes.
    """

    #: cores; a share (0.5) lets several steps use one
    cpus: float = 1
    #: GPUs: a share of one, or a whole number. Only Ray has them
    gpus: float = 0
    #: what the body may take on top of the bare process; None means no limit
    memory: str | int | None = None
    #: how many times the memory the next attempt gets after one that ran out of it
    grow: float = 1.0
    #: where growing ends
    max_memory: str | int | None = None
    #: steps of milliseconds: up to so many that come up together are one Ray task, and run in it one after another
    batch: int = 1

    def __post_init__(self) -> None:
        _check_share("cpus", self.cpus, least=_SHARE_LEAST)
        _check_share("gpus", self.gpus, least=0)
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise InvalidSetting(f"gpus must be a share of one GPU or a whole number, not {self.gpus}")
        _check_share("grow", self.grow, least=1)
        if type(self.batch) is not int or self.batch < 1:
            raise InvalidSetting(f"batch must be a whole number of 1 or more, not {self.batch!r}")
        least, most = self.memory_bytes, self.max_memory_bytes
        if (self.grow > 1) != (most is not None):
            raise InvalidSetting("grow and max_memory belong together: by how much, and where it ends")
        if most is not None and (least is None or most < least):
            raise InvalidSetting(
                f"max_memory ({self.max_memory}) needs a memory that is not more (it is {self.memory})"
            )

    @property
    def memory_bytes(self) -> int | None:
        """The memory in bytes, or None for no limit."""
        return None if self.memory is None else _to_bytes("memory", self.memory)

    @property
    def max_memory_bytes(self) -> int | None:
        """The most that memory grows to, in bytes; None where it does not grow."""
        return None if self.max_memory is None else _to_bytes("max_memory", self.max_memory)

    def grown(self, ooms: int) -> Compute:
        """What an attempt gets after `ooms` attempts that ran out of memory."""
        least, most = self.memory_bytes, self.max_memory_bytes
        if least is None or most is None or ooms < 1:
            return self
        # Once it is at its most, more powers would only overflow.
        needed = math.ceil(math.log(most / least, self.grow)) if most > least else 0
        return replace(self, memory=min(most, round(least * self.grow ** min(ooms, needed))))


def memory_text(bytes: int) -> str:
    """A number of bytes as people say it: 512 MiB, 1.5 GiB."""
    unit = next((name for name in ("TiB", "GiB", "MiB", "KiB") if bytes >= _BYTES[name]), "B")
    return f"{round(bytes / _BYTES[unit], 2):g} {unit}"


def _check_share(name: str, value: float, *, least: float) -> None:
    if type(value) not in (int, float) or not least <= value < math.inf or 0 < value < _SHARE_LEAST:
        raise InvalidSetting(f"{name} must be a number of {least} or more, not {value!r}")


def _to_bytes(name: str, value: str | int) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        count = value
    else:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?i?B)", value) if isinstance(value, str) else None
        if found is None or found[2] not in _BYTES:
            raise InvalidSetting(f'{name} must be a number of bytes or text like "512MiB" or "8GiB", not {value!r}')
        count = round(float(found[1]) * _BYTES[found[2]])
    if count < _BYTES["MiB"]:
        raise InvalidSetting(f"{name} must be 1 MiB at least, not {value!r}")
    return count
