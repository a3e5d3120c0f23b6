"""docs/configuration.md, made of the settings themselves. `python -m taskflow.wiring.reference`."""

from __future__ import annotations

from itertools import groupby
from typing import Final

from taskflow.wiring.options import OPTIONS, Option

HEAD: Final = """\
# Configuration

Every setting has a default. Flags beat the environment, which beats `taskflow.toml`, which beats the defaults;
`taskflow config show` tells what is in force and from where, `taskflow config check` whether it can work. Everything that
cannot work is refused at the start, all problems at once. In the file a setting stands in its section (`[api]`, then
`port = 9000`); in the environment it is `TASKFLOW_<SECTION>_<KEY>`. What is secret may lie in a file: `TASKFLOW_…_FILE`
names it. Durations are seconds or such as `1h30m`.
"""
LEASES: Final = """
`consumer.lease` is each consumer's own, and consumers may differ: a worker's row carries its lease, every scheduler and
`taskflow doctor` judge it by that, and the worker stops its runs before it is over. A scheduler derives from its own only how
often it sweeps, every quarter of it and every 5 s at most: give it the shortest of its consumers'.
"""
URLS: Final = """
## URLs

The scheme of a URL chooses the adapter; what stands after `?` are its options.

| URL | for | options |
|---|---|---|
| `postgresql://user:password@host:5432/database` | store | `sslmode` (disable, prefer, require, verify-ca, verify-full), `sslrootcert`, `sslcert`, `sslkey`; `schema` (where the tables are); `pool_size` (most connections of a process, 10); `pgbouncer=true` (behind a transaction pooler) |
| `sqlite:///{data}/taskflow.db` | store | |
| `amqp://user:password@host:5672/vhost`, `amqps://…` | broker | `heartbeat`, `timeout`, `name`, `auth`; `cafile`, `capath`, `cadata`, `certfile`, `keyfile`, `no_verify_ssl` |
| `redis://user:password@host:6379/0`, `rediss://…` | cache, events, limiter | `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile` |
| `memory://` | broker, cache, events, limiter | |
| `s3://bucket/prefix` | artifacts | `endpoint` (`http://host:9000` for MinIO and others; none: Amazon), `region`, `public_endpoint` (what signed links name), `virtual_hosted`, `ca` |
| `gs://bucket/prefix`, `az://container/prefix` | artifacts | |
| `file://{data}/objects` | artifacts | |

The keys of an object store are `artifacts.access_key` and `artifacts.secret_key`, or what its SDKs find in the environment.
"""


def reference() -> str:
    """The text of the page."""
    lines = [HEAD]
    for section, options in groupby(OPTIONS.values(), key=lambda option: option.key.rpartition(".")[0]):
        lines += [f"\n## {f'`[{section}]`' if section else 'At the top'}\n", "| setting | default | |", "|---|---|---|"]
        lines += [_row(option) for option in options]
        lines += [LEASES.rstrip()] if section == "consumer" else []
    return "\n".join(lines) + "\n" + URLS


def _row(option: Option) -> str:
    name = option.key.rpartition(".")[2]
    default = f"`{option.default}`" if option.default != "" else ""
    if option.dev is not None:
        default += f"; in `dev` `{option.dev}`" if default else f"in `dev` `{option.dev}`"
    secret = " (secret)" if option.secret else ""
    return f"| `{name}`<br>`{option.env}` | {default} | {option.meaning}{secret} |"


if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201 - its purpose
