"""Benchmarks."""

import os

# Where a server is started for it: tests do without, figures must not.
os.environ.setdefault("TASKFLOW_TEST_FSYNC", "on")
