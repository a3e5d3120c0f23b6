"""Adapters that live in this process: for the embedded mode, where nothing else needs to see them."""

from taskflow.adapters.memory.broker import MemoryBroker
from taskflow.adapters.memory.cache import MemoryCache
from taskflow.adapters.memory.events import MemoryEvents

__all__ = ["MemoryBroker", "MemoryCache", "MemoryEvents"]
