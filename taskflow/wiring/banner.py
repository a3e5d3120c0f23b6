"""What a starting process says of itself."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

from taskflow.wiring.options import OPTIONS
from taskflow.wiring.plugins import PORTS
from taskflow.wiring.settings import Settings, shown_value


def _version() -> str:
    try:
        return version("taskflow-orchestrator")
    except PackageNotFoundError:
        return "unknown"


VERSION = _version()
LOCAL = "http://127.0.0.1:8000"


def show(settings: Settings, revision: str, port: int | None) -> None:
    """Write roles, adapters, addresses and a first command to standard error."""
    lines = [f"TaskFlow {VERSION} · roles {', '.join(settings['roles'])} · schema {revision}"]
    lines += [f"  {name:9} {shown_value(OPTIONS[f'{name}.url'], settings.raw[f'{name}.url'])}" for name in PORTS]
    if port is not None:
        host = settings["api.host"]
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        lines += [f"  API       {url}/api/v1   docs {url}/docs   reference {url}/redoc"]
        if settings.mode == "dev":
            body = '{"task": "demo.echo", "payload": {"hello": "world"}}'
            lines += [
                "",
                "Submit a job:",
                f"  curl -s -X POST {url}/api/v1/jobs -H 'content-type: application/json' -d '{body}'",
            ]
            if url != LOCAL:
                lines += ["Point the command line at it:", f"  export TASKFLOW_URL={url}"]
            lines += ["Ctrl-C stops; jobs that are accepted go on when it starts again."]
    print("\n".join(lines), file=sys.__stderr__, flush=True)
