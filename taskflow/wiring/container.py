"""The container: unopened adapters by URL. Nothing here does I/O; the runtime opens what it needs, in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dependency_injector import containers, providers

from taskflow.wiring.plugins import PORTS, adapter


class Container(containers.DeclarativeContainer):
    """One adapter per port, made when first asked for."""

    config = providers.Configuration(strict=True)
    store = providers.Singleton(adapter, "store", config.store.url, namespace=config.namespace)
    broker = providers.Singleton(adapter, "broker", config.broker.url, namespace=config.namespace)
    cache = providers.Singleton(adapter, "cache", config.cache.url, namespace=config.namespace)
    events = providers.Singleton(adapter, "events", config.events.url, namespace=config.namespace)
    artifacts = providers.Singleton(
        adapter,
        "artifacts",
        config.artifacts.url,
        namespace=config.namespace,
        access_key=config.artifacts.access_key,
        secret_key=config.artifacts.secret_key,
    )
    limiter = providers.Singleton(adapter, "limiter", config.limiter.url, namespace=config.namespace)


def container_of(settings: Mapping[str, Any]) -> Container:
    """The container for settings by key, as `taskflow.wiring.settings` reads them."""
    container = Container()
    config: dict[str, Any] = {port: {"url": settings[f"{port}.url"]} for port in PORTS}
    config["namespace"] = settings["namespace"]
    config["artifacts"] |= {key: settings[f"artifacts.{key}"] for key in ("access_key", "secret_key")}
    container.config.from_dict(config)
    return container
