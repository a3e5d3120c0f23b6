"""The container hands settings to adapters."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any, Self

import pytest

from taskflow.wiring.container import container_of
from taskflow.wiring.plugins import PORTS
from taskflow.wiring.settings import SettingsError, load


class Recorder:
    """An adapter that only keeps what it was given."""

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        made = cls()
        made.url, made.options = url, options
        return made

    url: str
    options: dict[str, Any]


def test_every_adapter_hears_the_namespace_and_the_object_store_its_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody else hears those."""
    environ = {"TASKFLOW_ARTIFACTS_ACCESS_KEY": "who", "TASKFLOW_ARTIFACTS_SECRET_KEY": "proof"}
    settings = load("run", {"namespace": "n"}, environ, None)
    monkeypatch.setattr(EntryPoint, "load", lambda point: Recorder)
    container = container_of(settings.values)
    options = {port: getattr(container, port)().options for port in PORTS}
    assert options.pop("artifacts") == {"namespace": "n", "access_key": "who", "secret_key": "proof"}
    assert all(given == {"namespace": "n"} for given in options.values())


def test_the_real_adapters_of_the_default_services_are_found() -> None:
    """By their schemes, and made without asking anybody."""
    redis = "redis://u:p@nowhere.invalid/0"
    flags = {"cache.url": redis, "events.url": redis, "limiter.url": redis.replace("redis:", "rediss:")}
    settings = load("run", {**flags, "artifacts.url": "s3://bucket/prefix?endpoint=http://nowhere.invalid"}, {}, None)
    container = container_of(settings.values)
    made = [type(getattr(container, port)()).__name__ for port in ("cache", "events", "limiter", "artifacts")]
    assert made == ["RedisCache", "RedisEvents", "RedisLimiter", "S3Artifacts"]


def test_half_of_the_credentials_is_refused_at_start() -> None:
    """By the names of the settings."""
    with pytest.raises(SettingsError, match=r"artifacts\.access_key and artifacts\.secret_key go together"):
        load("run", {}, {"TASKFLOW_ARTIFACTS_ACCESS_KEY": "who"}, None)
