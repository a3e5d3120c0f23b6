"""The HTTP API. `create_app(ApiDeps(...))` makes it; one file a resource."""

from taskflow.roles.api.app import create_app
from taskflow.roles.api.deps import ApiDeps, ApiSettings

__all__ = ["ApiDeps", "ApiSettings", "create_app"]
