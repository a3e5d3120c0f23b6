"""What a sweep looks at, one after the other."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class Conditions:
    """Standing conditions, each a transaction of its own: one that cannot be met keeps no other from being met."""

    def __init__(self) -> None:
        self._errors: list[Exception] = []

    async def tried(self, condition: Awaitable[T], nothing: T) -> T:
        """What a condition changed; `nothing` where it failed, which is remembered."""
        try:
            return await condition
        except Exception as error:
            self._errors.append(error)
            return nothing

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self._errors:
            raise self._errors[0]
