"""For tests of tasks and of adapters."""

from taskflow.testing.run import RunResult, run

__all__ = ["RunResult", "run"]
