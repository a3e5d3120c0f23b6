"""The parts that need no NATS."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taskflow_nats.address import Address
from taskflow_nats.names import Names
from taskflow_nats.wire import TICKET_BYTES, Unreadable, decode, encode

from taskflow.core.job import Lane, LaneKey, RunsIn, Ticket
from taskflow.wiring.plugins import NoSuchAdapter, adapter

LANE = LaneKey("default", Lane.NORMAL)
instants = st.datetimes(
    min_value=datetime(2000, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=2))]),
)


@given(st.lists(st.tuples(st.uuids(), st.sampled_from(RunsIn), instants), min_size=1, max_size=64))
def test_what_is_written_is_read(rows: list[tuple[Any, RunsIn, datetime]]) -> None:
    """Every ticket, to the microsecond, in as many bytes each."""
    tickets = tuple(Ticket(str(job), LANE, kind, at) for job, kind, at in rows)
    body = encode(tickets)
    assert len(body) == 1 + TICKET_BYTES * len(tickets)
    assert decode(body, LANE) == tickets


@given(st.one_of(st.binary(max_size=120), st.binary(max_size=120).map(lambda rest: b"1\n" + rest)))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """By one kind of error."""
    try:
        decode(body, LANE)
    except Unreadable:
        pass


@given(st.text("ab.:=-_", min_size=1, max_size=6), st.text("ab.:-_", min_size=1, max_size=6))
def test_two_queues_never_share_a_name(one: str, other: str) -> None:
    """Whatever their dots."""
    if "=" in one:
        return
    names = Names("n")
    same = names.consumer(LaneKey(one, Lane.LOW)) == names.consumer(LaneKey(other, Lane.LOW))
    assert same == (one == other)


@pytest.mark.parametrize(
    ("url", "servers", "user", "password"),
    [
        ("nats://h", ("nats://h:4222",), None, None),
        ("nats://h:1,[::1]:2,g", ("nats://h:1", "nats://[::1]:2", "nats://g:4222"), None, None),
        ("nats://u:p%40ss@h/", ("nats://h:4222",), "u", "p@ss"),
        ("nats://token@h", ("nats://h:4222",), "token", None),
    ],
)
def test_urls(url: str, servers: tuple[str, ...], user: str | None, password: str | None) -> None:
    """As NATS writes them."""
    address = Address.of(url)
    assert (address.servers, address.user, address.password) == (servers, user, password)


def test_a_token_and_a_user_are_told_apart() -> None:
    """By the password."""
    assert Address.of("nats://t@h").credentials() == {"servers": ["nats://h:4222"], "token": "t"}
    assert Address.of("nats://u:p@h").credentials() == {"servers": ["nats://h:4222"], "user": "u", "password": "p"}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nats://", "is no NATS URL: use nats://user:password@host:4222"),
        ("nats://h:port", "is no NATS URL"),
        ("nats://h,", "is no NATS URL"),
        ("nats://u:p@h,u:p@g", "is no NATS URL"),
        ("nats://h/path", "is no NATS URL"),
        ("nats://h?replica=3", "unknown option 'replica'; known are cafile, certfile"),
        ("nats://h?replicas=9", "replicas=9 is no whole number from 1 to 5"),
        ("nats://h?tls=yes", "tls=yes is neither true nor false"),
        ("nats://h?keyfile=k", "a keyfile is nothing without its certfile"),
        ("nats://u:hunter2@h?x=1", "'nats://***@h?x=1': unknown option 'x'"),
    ],
)
def test_what_is_wrong_with_a_url_is_told(url: str, told: str) -> None:
    """At the start, without a password."""
    with pytest.raises(NoSuchAdapter) as caught:
        adapter("broker", url)
    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)
