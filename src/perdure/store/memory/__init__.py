"""The store in plain dicts."""

from perdure.store.memory.store import MemoryStore

__all__ = ["MemoryStore"]
