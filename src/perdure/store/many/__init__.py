"""One store made of several databases."""

from perdure.store.many.store import ManyStores

__all__ = ["ManyStores"]
