"""An S3 of the tests' own: SeaweedFS."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from tests.throwaway.server import ThrowawayServer, free_ports

# Each of its ports has another one for gRPC, so much higher.
GRPC = 10_000
# As many as it opens volumes for a bucket, and not empty: those need none.
PROBES = [f"ready/{number}" for number in range(7)]
PORTS = ("master.port", "volume.port", "filer.port", "s3.port", "admin.port")


class ThrowawayWeed(ThrowawayServer):
    """Has one bucket, and one who may use it. Objects stay over a restart.

    Attributes:
        bucket: its bucket.
        access_key: who may use it.
        secret_key: and the proof.
    """

    binary = "weed"
    starting = 60.0
    bucket = "taskflow"
    access_key = "throwaway"
    secret_key = "throwaway-secret"

    def __init__(self) -> None:
        super().__init__()
        self._ports = dict(zip(PORTS, free_ports(len(PORTS), below=2 * GRPC), strict=True))

    @property
    def port(self) -> int:
        """Where S3 is spoken."""
        return self._ports["s3.port"]

    @property
    def endpoint(self) -> str:
        """The URL of that."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}?endpoint={self.endpoint}"

    def executable(self, name: str | None = None) -> str:
        beside = Path(sys.executable).with_name(name or self.binary)
        return str(beside) if beside.exists() else super().executable(name)

    def prepare(self) -> None:
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
        (self.directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
        (self.directory / "data").mkdir()

    def command(self) -> list[str]:
        return [
            *(self.executable(), "-logtostderr=true", "mini", f"-dir={self.directory / 'data'}"),
            *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", *(f"-{name}={port}" for name, port in self._ports.items())),
            *(f"-s3.config={self.directory / 's3.json'}", "-s3.autoCreateBucket=false", f"-bucket={self.bucket}"),
            *("-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        ]

    def answers(self) -> bool:
        # It lists what it does not serve yet: after a restart, its volumes come one after the other.
        try:
            store = self._store()
            for key in PROBES:
                obstore.put(store, key, key.encode(), use_multipart=False)
            for kept in obstore.list(store).collect():
                obstore.get(store, kept["path"]).bytes()
        except BaseError as error:
            raise OSError(str(error)) from error
        return True

    def delete_all(self) -> None:
        """Every object in the bucket."""
        store = self._store()
        for page in obstore.list(store):
            obstore.delete(store, [kept["path"] for kept in page])

    def close(self) -> None:
        super().close()
        for port in self._ports.values():
            for number in (port, port + GRPC):
                for left in Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):
                    left.unlink(missing_ok=True)

    def _store(self) -> S3Store:
        return S3Store(
            self.bucket,
            endpoint=self.endpoint,
            region="us-east-1",
            access_key_id=self.access_key,
            secret_access_key=self.secret_key,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True, "timeout": "5s"},
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=1)},
        )
