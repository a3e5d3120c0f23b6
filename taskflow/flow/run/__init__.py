"""Execute: one claim, one run, one ending. Handlers never share the loop that claims, settles and serves."""

from taskflow.flow.run.runners import Runners
from taskflow.flow.run.stop import StopReason

__all__ = ["Runners", "StopReason"]
