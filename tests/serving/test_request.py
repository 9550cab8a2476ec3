"""Reading n and the request id."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.serving.request import BadRequest, RequestIds, wanted_n

LONGEST = 100


@pytest.mark.parametrize(
    ("query", "n"),
    [
        (b"", 10),
        (b"n=1", 1),
        (b"n=100", 100),
        (b"n=007", 7),
        (b"segment=France", 10),
        (b"segment=n%3D5&n=20", 20),
        (b"unknown=1&n=3", 3),
        (b"n=%31", 1),
    ],
)
def test_n_is_read(query: bytes, n: int) -> None:
    assert wanted_n(query, 10, LONGEST) == n


def test_the_default_is_no_longer_than_what_is_stored() -> None:
    assert wanted_n(b"", 10, 3) == 3


@pytest.mark.parametrize(
    "value",
    [b"0", b"101", b"-1", b"1e2", b"1.0", b"NaN", b"", b"9" * 400, b"10;drop", b"%D9%A3", b"%C2%B2", b"+1"],
)  # fmt: skip  # %D9%A3 is an Arabic digit, %C2%B2 a superscript: isdigit() takes both
def test_a_bad_n_is_told_the_range(value: bytes) -> None:
    with pytest.raises(BadRequest, match=r"^n must be a whole number from 1 to 100, got") as caught:
        wanted_n(b"n=" + value, 10, LONGEST)
    assert len(str(caught.value)) < 120


def test_n_given_twice_is_refused() -> None:
    with pytest.raises(BadRequest, match="got 2 values"):
        wanted_n(b"n=1&n=2", 10, LONGEST)


def test_too_many_parameters_are_refused() -> None:
    with pytest.raises(BadRequest, match="more than 110 parameters"):
        wanted_n(b"&".join(b"a=%d" % n for n in range(111)), 10, LONGEST)


@given(query=st.binary(max_size=60))
def test_any_query_gives_a_length_or_a_bad_request(query: bytes) -> None:
    try:
        assert 1 <= wanted_n(query, 10, LONGEST) <= LONGEST
    except BadRequest:
        pass


def test_a_good_request_id_is_echoed_and_a_bad_one_replaced() -> None:
    ids = RequestIds()
    assert ids.of([(b"accept", b"*/*"), (b"x-request-id", b"abc-1.2:3_4")]) == b"abc-1.2:3_4"
    for bad in (b"", b'a"b', b"a b", b"x" * 129, b"\xff", b"a\nb"):
        assert ids.of([(b"x-request-id", bad)]) != bad


def test_made_ids_differ_within_and_between_processes() -> None:
    made = [ids.of([]) for ids in (RequestIds(), RequestIds()) for _ in range(3)]
    assert len(set(made)) == 6
