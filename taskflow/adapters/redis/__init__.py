"""Redis as cache and as event service. All of it may be lost at any time: jobs do not notice."""

from taskflow.adapters.redis.cache import RedisCache
from taskflow.adapters.redis.events import RedisEvents

__all__ = ["RedisCache", "RedisEvents"]
