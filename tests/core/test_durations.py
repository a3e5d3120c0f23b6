"""Durations and ids: whatever comes in, what is accepted is sane."""

from __future__ import annotations

import math
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow.core.durations import seconds
from taskflow.core.ids import is_id, new_id
from taskflow.core.limits import is_name


@given(st.text(max_size=30) | st.from_regex(r"[0-9.]{1,6}[smhdx ]{0,2}", fullmatch=True) | st.floats() | st.integers())
def test_a_duration_is_finite_and_not_negative_or_refused(value: float | str) -> None:
    """And nothing but ValueError comes out."""
    try:
        read = seconds(value)
    except ValueError:
        return
    assert math.isfinite(read)
    assert read >= 0


@given(st.integers(0, 10_000), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_units_in_falling_order_add_up(days: int, hours: int, minutes: int, secs: int, millis: int) -> None:
    """As a person would add them."""
    text = f"{days}d{hours}h{minutes}m{secs}s{millis}ms"
    whole = days * 86_400 + hours * 3_600 + minutes * 60 + secs + millis / 1_000
    assert seconds(text) == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("value", ["9" * 400 + "h", "9" * 400, 10**400, "9" * 308 + "d"])
def test_a_duration_beyond_every_float_is_refused_briefly(value: float | str) -> None:
    """An infinite delay would be refused by nobody behind."""
    with pytest.raises(ValueError, match="no duration") as refused:
        seconds(value)
    assert len(str(refused.value)) < 600


@given(st.floats(0, 1e12))
def test_a_number_is_itself(value: float) -> None:
    """As a number and as its text."""
    assert seconds(value) == seconds(repr(value)) == value


@given(st.text(max_size=40))
def test_any_text_may_be_asked_whether_it_is_an_id_or_a_name(text: str) -> None:
    """Never an error; what is a name is short and plain ASCII."""
    is_id(text)
    if is_name(text):
        assert text.isascii()
        assert 1 <= len(text) <= 128


def test_ids_of_other_versions_are_ids_in_canonical_form_only() -> None:
    """Lower or upper case, with hyphens, nothing around."""
    text = str(uuid4())
    assert is_id(text)
    assert not any(is_id(other) for other in (text.replace("-", ""), f"{{{text}}}", f"urn:uuid:{text}", f"{text} ", ""))
    made = UUID(new_id())
    assert (made.version, made.variant) == (7, "specified in RFC 4122")


@pytest.mark.parametrize("name", ["a", "A.b_c:d-9", "x" * 128])
def test_names(name: str) -> None:
    """The one grammar."""
    assert is_name(name)
    assert not any(is_name(other) for other in ("", name + " ", name + "/", "ä", name + "\n", "x" * 129))
