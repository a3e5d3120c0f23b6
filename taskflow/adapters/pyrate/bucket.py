"""A token bucket in Redis: one script is the whole question and answer, on the clock of the server."""

from __future__ import annotations

from typing import Final

from pyrate_limiter import Rate as PyRate
from pyrate_limiter import RedisStateStore, TokenBucket
from redis.asyncio import Redis

from taskflow.ports.limiter import Rate, Verdict

# The bucket is one number: the instant, in microseconds, at which it is full again. Integers of this size are exact in
# Lua. One that lies further ahead than an empty bucket comes from a clock that ran ahead, and must lock nobody out.
SCRIPT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local cost, ttl, emission, burst = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[5]), tonumber(ARGV[6])
local most = burst * emission
local full = math.min(math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now), now + most)
local wait = -1
if cost <= burst then
  wait = math.max(0, full + cost * emission - most - now)
  if wait == 0 and cost > 0 then
    full = full + cost * emission
    redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', ttl)
  end
end
return {wait, burst - math.ceil((full - now) / emission), full - now}
"""


class RedisBucket(TokenBucket):
    """pyrate-limiter's bucket with a script that also tells what is left."""

    def redis_script(self) -> str:
        """See `SCRIPT`."""
        return SCRIPT


class RedisBuckets(RedisStateStore):
    """The buckets of all keys; the script is kept once."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis, key="")
        self._bucket = RedisBucket()

    async def take(self, key: str, rate: Rate, cost: int) -> Verdict:
        """Take `cost` units of the bucket under `key`, if it has them. A server that forgot the script gets it anew."""
        rates = [PyRate(rate.limit, round(rate.period * 1_000), burst=rate.burst)]
        args = [0, cost, self._ttl_for(rates), 1, *self._bucket.redis_args(rates)]
        script = self._script(self._bucket)
        wait, remaining, reset = await script(keys=[key], args=args)
        # More than the bucket holds never fits: a full refill is the time that is told.
        never = rate.burst * rate.period / rate.limit
        return Verdict(
            allowed=wait == 0,
            remaining=remaining,
            reset=reset / 1_000_000,
            retry_after=never if wait < 0 else wait / 1_000_000,
        )
