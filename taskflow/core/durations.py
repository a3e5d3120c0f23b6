"""Durations as people write them: `30`, `1.5`, `"10m"`, `"1h30m"`."""

from __future__ import annotations

import math
import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_WHOLE = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")


def seconds(value: float | str) -> float:
    """Read a duration.

    Args:
        value: seconds as a number or numeric text, or units in falling order such as `1h30m`.

    Returns:
        Seconds, finite and not negative.

    Raises:
        ValueError: the value is no such duration.
    """
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is no duration: use seconds or a text such as '1h30m'")
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        number = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))
        return _checked(value, number)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{value!r} is no duration: use seconds or a text such as '1h30m'") from None
    return _checked(value, number)


def _checked(value: float | str, number: float) -> float:
    if not math.isfinite(number) or number < 0:
        value = f"{value[:40]}…" if isinstance(value, str) and len(value) > 40 else value
        raise ValueError(f"{value!r} is no duration: it must be finite and not negative")
    return number
