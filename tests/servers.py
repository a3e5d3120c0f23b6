"""Where the real servers are: `TASKFLOW_TEST_*` names them, else the standard local ports."""

from __future__ import annotations

import os
from typing import Final

POSTGRES: Final = os.environ.get("TASKFLOW_TEST_POSTGRES_URL", "postgresql://root@127.0.0.1:5432/test")
AMQP: Final = os.environ.get("TASKFLOW_TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/")
REDIS: Final = os.environ.get("TASKFLOW_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
