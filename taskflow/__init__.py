"""TaskFlow: a self-hosted job orchestrator. This is the whole surface that programs rely on."""

from taskflow.core.retry import RetryPolicy
from taskflow.tasks.context import Context
from taskflow.tasks.declare import lifespan, task
from taskflow.tasks.signals import Fail, Retry, Snooze

__version__ = "0.1.0"

__all__ = ["Context", "Fail", "Retry", "RetryPolicy", "Snooze", "__version__", "lifespan", "task"]
