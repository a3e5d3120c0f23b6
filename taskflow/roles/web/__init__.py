"""The api role: HTTP in, documents out."""

from taskflow.roles.web.app import create_app
from taskflow.roles.web.deps import ApiDeps, ApiSettings

__all__ = ["ApiDeps", "ApiSettings", "create_app"]
