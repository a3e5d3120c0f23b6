"""Rate limiters by pyrate-limiter. The one in Redis is imported by its own name, since it needs a driver more."""

from taskflow.adapters.pyrate.memory import MemoryLimiter

__all__ = ["MemoryLimiter"]
