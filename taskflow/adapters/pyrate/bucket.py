"""Token buckets in Redis: one script is the whole question and answer of many, on the clock of the server."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from pyrate_limiter import Rate as PyRate
from pyrate_limiter import RedisStateStore, TokenBucket
from redis.asyncio import Redis

from taskflow.ports.limiter import Rate, Verdict

# A bucket is one number: the instant, in microseconds, at which it is full again. Integers of this size are exact in
# Lua. One that lies further ahead than an empty bucket comes from a clock that ran ahead, and must lock nobody out: it is empty,
# and refills from now. What is no number is nothing, and hurts nobody who shares the call with it.
SCRIPT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answers = {}
for i, key in ipairs(KEYS) do
  local at = i * 4 - 3
  local emission, burst = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local most = burst * emission
  local kept = redis.pcall('GET', key)
  local full = type(kept) == 'string' and tonumber(kept) or 0
  local changed = full > now + most
  -- Not full < now: what is not a number is not less than anything.
  if not (full >= now) then
    full = now
  elseif changed then
    full = now + most
  end
  for word in string.gmatch(ARGV[at], '%d+') do
    local cost, wait = tonumber(word), -1
    if cost <= burst then
      wait = math.max(0, full + cost * emission - most - now)
      if wait == 0 and cost > 0 then
        full = full + cost * emission
        changed = true
      end
    end
    answers[#answers + 1] = wait
    answers[#answers + 1] = burst - math.ceil((full - now) / emission)
    answers[#answers + 1] = full - now
  end
  if changed then
    redis.call('SET', key, string.format('%.0f', full), 'PX', ARGV[at + 1])
  end
end
return answers
"""


class Ask(NamedTuple):
    """`cost` units of the bucket under `key`, which fills at `rate`."""

    key: str
    rate: Rate
    cost: int


class RedisBucket(TokenBucket):
    """pyrate-limiter's bucket with a script that answers many at once, and tells what is left."""

    def redis_script(self) -> str:
        """See `SCRIPT`."""
        return SCRIPT


class RedisBuckets(RedisStateStore):
    """The buckets of all keys; the script is kept once."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis, key="")
        self._bucket = RedisBucket()
        self._words = lru_cache(maxsize=100)(self._words_of)

    async def take(self, asks: Sequence[Ask]) -> list[Verdict]:
        """Take what each asks for, one after the other, if its bucket has it. A server that forgot the script gets it anew."""
        places: dict[str, list[int]] = {}
        for place, ask in enumerate(asks):
            places.setdefault(ask.key, []).append(place)
        words: list[str | float] = []
        for same in places.values():
            words += (",".join(str(asks[place].cost) for place in same), *self._words(asks[same[0]].rate))
        answers = iter(await self._script(self._bucket)(keys=list(places), args=words))
        verdicts: dict[int, Verdict] = {}
        for same in places.values():
            for place in same:
                verdicts[place] = _verdict(asks[place].rate, next(answers), next(answers), next(answers))
        return [verdicts[place] for place in range(len(asks))]

    def _words_of(self, rate: Rate) -> tuple[float, ...]:
        """How long a bucket is remembered (ms), how long a unit takes (us), and how many it holds."""
        rates = [PyRate(rate.limit, round(rate.period * 1_000), burst=rate.burst)]
        return (self._ttl_for(rates), *self._bucket.redis_args(rates))


def _verdict(rate: Rate, wait: int, remaining: int, reset: int) -> Verdict:
    # More than the bucket holds never fits: a full refill is the time that is told.
    never = rate.burst * rate.period / rate.limit
    return Verdict(
        allowed=wait == 0,
        remaining=remaining,
        reset=reset / 1_000_000,
        retry_after=never if wait < 0 else wait / 1_000_000,
    )
