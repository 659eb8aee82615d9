"""Names for things: sortable by birth, safe in URLs and file names, short enough to read aloud.

Only a root run draws random bits. A child, an ask and a continuation derive their names from the run
and the step that made them, so that making them twice makes them once.
"""

from __future__ import annotations

import hashlib
import secrets

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u


def new_run_id(time_us: int) -> str:
    """A new root run's id: 9 characters of milliseconds, 9 of randomness (45 bits)."""
    return f"run_{_base32(time_us // 1000, 9)}{_base32(secrets.randbits(45), 9)}"


def new_node_id() -> str:
    """A new node's id; a node lives as long as its process."""
    return f"node_{_base32(secrets.randbits(50), 10)}"


def child_run_id(parent: str, step: int) -> str:
    """The id of the run that step `step` of `parent` spawns."""
    return f"{parent}.{step}"


def continued_run_id(run: str) -> str:
    """The id of the run that continues `run` with a fresh journal."""
    base, _, count = run.partition("~")
    return f"{base}~{int(count or 1) + 1}"


def notice_run_id(run: str, seq: int, to: str) -> str:
    """The id of the run that tells `to` of event `seq` of `run`."""
    return f"{run}.{seq}-{to}"


def ask_id(run: str, step: int) -> str:
    """The id of the question or approval that step `step` of `run` opens."""
    return f"{run}:{step}"


def slot_of(session: str, slots: int) -> int:
    """The slot (0 to slots-1) a session key falls into: stable across processes and versions."""
    return int.from_bytes(hashlib.blake2b(session.encode(), digest_size=4).digest()) % slots


def shard_of(agent: str, key: str, slots: int) -> str:
    """The shard of an agent's session, or of whatever else is found by its key alone."""
    return f"{agent}:{slot_of(key, slots)}"


def _base32(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 32)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
