"""A Python environment for each peer, made when it is first needed: what they pin excludes each other."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

HOME: Final = Path(__file__).parents[2] / ".peers"
SERVER: Final = ("uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0", "fastapi==0.165.0")
TASKIQ: Final = ("taskiq==0.13.0", "taskiq-aio-pika==0.6.1", "taskiq-postgres[asyncpg]==0.9.1", "orjson")
PACKAGES: Final[dict[str, tuple[str, ...]]] = {
    "seed": (
        *SERVER,
        "sqlalchemy==2.1.9",
        "greenlet",
        "asyncpg==0.32.0",
        "aio-pika==10.2.1",
        "slowapi==0.1.10",
        "aiocache[redis]==0.12.3",
    ),
    "celery": (*SERVER, "celery==5.7.0"),
    "dramatiq": ("dramatiq[rabbitmq]==2.2.1",),
    "taskiq": (*SERVER, *TASKIQ),
    "procrastinate": ("procrastinate==3.10.0", "psycopg-binary", "psycopg-pool"),
    "pgqueuer": ("pgqueuer[asyncpg]==1.6.0", "asyncpg==0.32.0", "uvloop==0.23.0"),
}
"""The versions that are compared with; what has none is what the index gives."""


def python_of(name: str) -> Path:
    """The interpreter of an environment; makes it where it is missing.

    Raises:
        subprocess.CalledProcessError: something could not be installed; it has said what.
    """
    place, done = HOME / name, HOME / name / "packages"
    wanted = "\n".join(PACKAGES[name])
    if not done.exists() or done.read_text() != wanted:
        print(f"installing {', '.join(PACKAGES[name])} into {place.relative_to(HOME.parent)}", file=sys.stderr)
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *PACKAGES[name]], check=True)
        done.write_text(wanted)
    return place / "bin" / "python"
