"""The container: unopened adapters by URL. Nothing here does I/O; the runtime opens what it needs, in order."""

from __future__ import annotations

from dependency_injector import containers, providers

from taskflow.wiring.plugins import PORTS, adapter


class Container(containers.DeclarativeContainer):
    """One adapter per port, made when first asked for."""

    config = providers.Configuration(strict=True)
    store = providers.Singleton(adapter, "store", config.store.url)
    broker = providers.Singleton(adapter, "broker", config.broker.url)
    cache = providers.Singleton(adapter, "cache", config.cache.url)
    events = providers.Singleton(adapter, "events", config.events.url)
    artifacts = providers.Singleton(adapter, "artifacts", config.artifacts.url)
    limiter = providers.Singleton(adapter, "limiter", config.limiter.url)


def container_of(urls: dict[str, str]) -> Container:
    """The container for one URL per port."""
    container = Container()
    container.config.from_dict({port: {"url": urls[port]} for port in PORTS})
    return container
