"""What a PostgreSQL URL may say."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from taskflow.adapters.sql import PostgresStore
from taskflow.adapters.sql.postgres.database import _arguments
from taskflow.adapters.sql.postgres.errors import translated
from taskflow.adapters.sql.postgres.url import parse
from taskflow.core.errors import DataRejected, StoreUnavailable
from taskflow.wiring import plugins

WHERE = "postgresql://me:se%40cret@db.example:6432/jobs"


def test_options_are_taken_out_and_the_rest_is_the_drivers() -> None:
    """The password stays encoded, and is shown nowhere."""
    target = parse(f"{WHERE}?schema=tf&pool_size=7&pgbouncer=true&host=/run/postgresql")
    assert (target.schema, target.pool_size, target.pgbouncer) == ("tf", 7, True)
    assert target.dsn == f"{WHERE}?host=%2Frun%2Fpostgresql"
    assert "se%40cret" not in repr(target)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgres://h/d", "use postgresql://"),
        ("postgresql://h", "names no database"),
        (f"{WHERE}?shema=x", "did you mean schema"),
        (f"{WHERE}?sslmode=yes", "use one of disable"),
        (f"{WHERE}?pool_size=1", "from 2 to 1,000"),
        (f"{WHERE}?pool_size=many", "from 2 to 1,000"),
        (f"{WHERE}?pgbouncer=1", "use true or false"),
        (f'{WHERE}?schema=a"b', "letters, digits"),
        (f"{WHERE}?sslkey=k.pem", "without an sslcert"),
        (f"{WHERE}?sslrootcert=", "name a file"),
    ],
)
def test_what_cannot_be_meant_is_refused_without_the_password(url: str, message: str) -> None:
    """With what would be right."""
    with pytest.raises(ValueError, match=message) as refused:
        PostgresStore.from_url(url)
    assert "cret" not in str(refused.value)


def test_the_plug_in_is_found_by_its_scheme() -> None:
    """As every other one."""
    assert isinstance(plugins.adapter("store", WHERE, namespace="tf"), PostgresStore)


@pytest.mark.parametrize(
    ("mode", "checked", "named"),
    [
        ("require", ssl.CERT_NONE, False),
        ("verify-ca", ssl.CERT_REQUIRED, False),
        ("verify-full", ssl.CERT_REQUIRED, True),
    ],
)
def test_tls_is_as_strict_as_it_says(mode: str, checked: ssl.VerifyMode, named: bool) -> None:
    """`require` encrypts, `verify-ca` asks who signed, `verify-full` asks for whom, too."""
    context = parse(f"{WHERE}?sslmode={mode}").tls()
    assert isinstance(context, ssl.SSLContext)
    assert (context.verify_mode, context.check_hostname) == (checked, named)


def test_tls_may_be_off_or_up_to_the_server() -> None:
    """And nothing said is the driver's own default."""
    found = [parse(f"{WHERE}{rest}").tls() for rest in ("?sslmode=disable", "?sslmode=prefer", "")]
    assert found == [False, "prefer", None]


async def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    """When the store is opened: a URL alone reads nothing."""
    store = PostgresStore.from_url(f"{WHERE}?sslmode=verify-full&sslrootcert={tmp_path}/root.pem")
    with pytest.raises(StoreUnavailable, match=r"root\.pem"):
        async with store:
            pass


def test_a_certificate_that_is_not_trusted_is_an_outage() -> None:
    """And no bad data, though its error is a ValueError, too; what the driver cannot encode is."""
    assert type(translated(ssl.SSLCertVerificationError("self-signed"), sent=False)) is StoreUnavailable
    assert type(translated(ValueError("no such value"), sent=True)) is DataRejected


def test_a_pooler_gets_no_session_settings() -> None:
    """And no statement is prepared for later; of several hosts the primary is looked for."""
    pooled = _arguments(parse(f"{WHERE}?pgbouncer=true&schema=tf"), "me")
    assert pooled["server_settings"] == {"application_name": "me"}
    assert pooled["statement_cache_size"] == 0
    direct = _arguments(parse("postgresql://a:1,b:2/d?schema=tf"), "me")
    assert direct["server_settings"]["search_path"] == '"tf"'
    assert direct["target_session_attrs"] == "primary"
