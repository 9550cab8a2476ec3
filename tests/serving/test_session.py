"""What goes with the clicks of the last minute."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.config.serving import ServingConfig
from recsys.serving.app import create_app
from recsys.serving.request import BadRequest, session_wish
from tests.release.making import places
from tests.serving.client import Client, running
from tests.serving.stores import MemoryReleases, MemoryStore

ITEMS = {
    "tea": places("cup", "pot", source="similar"),
    "bike": places("bell", "pump", source="similar"),
    "pot": [],  # goes with nothing
}
USERS = {
    "ana": places("lamp", "cup"),
    "eve": places("1", "2", "3", "4", "5"),  # the longest list bounds n
    "nobody's": [],
}
SEGMENTS = {"": places("lamp", "vase", "bell", source="popular")}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    store = MemoryStore(users=USERS, items=ITEMS, segments=SEGMENTS)
    with running(create_app(ServingConfig(), MemoryReleases(store))) as client:
        yield client


def ask(client: Client, **body: Any) -> dict[str, Any]:
    response = client.post("/v1/recommendations", body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def listed(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(item["item_id"], item["source"]) for item in answer["items"]]


@pytest.mark.parametrize(
    ("body", "source", "items"),
    [
        # the newer click weighs more
        (
            {"recent": ["tea", "bike"], "n": 4},
            "session",
            [("bell", "similar"), ("cup", "similar"), ("pump", "similar"), ("pot", "similar")],
        ),
        (
            {"recent": ["bike", "tea"], "n": 2},
            "session",
            [("cup", "similar"), ("bell", "similar")],
        ),
        # a click again counts at its newest place, once
        ({"recent": ["tea", "bike", "tea"], "n": 1}, "session", [("cup", "similar")]),
        # what is in both orders comes first, then in turns; what is too short is filled up
        (
            {"user_id": "ana", "recent": ["tea"], "n": 5},
            "session",
            [
                ("cup", "similar"),
                ("lamp", "model"),
                ("pot", "similar"),
                ("vase", "popular"),
                ("bell", "popular"),
            ],
        ),
        # what was looked at is not offered, nor what is excluded
        (
            {"recent": ["cup", "tea"], "exclude": ["lamp"], "n": 3},
            "session",
            [("pot", "similar"), ("vase", "popular"), ("bell", "popular")],
        ),
        # unknown items are ignored
        ({"recent": ["?", "tea", "!"], "n": 1}, "session", [("cup", "similar")]),
        # nothing recent that is known: the stored list, or the popular one
        ({"recent": ["?"], "user_id": "ana", "n": 1}, "personal", [("lamp", "model")]),
        ({"recent": [], "user_id": "ana", "n": 1}, "personal", [("lamp", "model")]),
        ({"user_id": "ana", "n": 2}, "personal", [("lamp", "model"), ("cup", "model")]),
        ({"user_id": "zed", "n": 1}, "popular", [("lamp", "popular")]),
        ({"user_id": "nobody's", "n": 1}, "popular", [("lamp", "popular")]),
        ({"n": 1}, "popular", [("lamp", "popular")]),
        ({"recent": None, "user_id": None, "n": 1}, "popular", [("lamp", "popular")]),
        # known, and nothing goes with it, or nothing that may be shown
        ({"recent": ["pot"], "n": 1}, "popular", [("lamp", "popular")]),
        (
            {"recent": ["tea"], "exclude": ["cup", "pot"], "user_id": "ana", "n": 2},
            "personal",
            [("lamp", "model")],
        ),
    ],
)
def test_a_session_is_answered_from_what_was_looked_at(
    client: Client, body: dict[str, Any], source: str, items: list[tuple[str, str]]
) -> None:
    answer = ask(client, **body)
    assert (answer["source"], listed(answer)) == (source, items)
    assert answer["user_id"] == body.get("user_id")
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)


def test_a_session_looks_at_the_first_twenty_of_a_shelf() -> None:
    """However deep the shelf is: what a session costs does not grow with what it is filled up from."""
    deep = {"tea": places(*(f"cup {n}" for n in range(1, 41)), source="similar")}
    long = {"eve": places(*map(str, range(50)))}
    store = MemoryStore(users=long, items=deep, segments={"": places("lamp", source="popular")})
    with running(create_app(ServingConfig(), MemoryReleases(store))) as client:
        items = listed(ask(client, recent=["tea"], n=50))
        whole = client.get("/v1/items/tea/similar?n=40").json()["items"]
    assert items == [(f"cup {n}", "similar") for n in range(1, 21)] + [("lamp", "popular")]
    assert len(whole) == 40


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"", 400, "the body is not JSON: "),
        (b"{", 400, "the body is not JSON: "),
        (b'"\xff"', 400, "the body is not JSON: "),
        ([], 422, "the body must be a JSON object, got []"),
        ({"recents": ["tea"]}, 422, "unknown key 'recents'; did you mean 'recent'?"),
        ({"q": 1}, 422, "unknown key 'q'; known: user_id, recent, exclude, n"),
        ({"recent": "tea"}, 422, 'recent must be a list of strings, got "tea"'),
        ({"recent": ["tea", 1]}, 422, 'recent must be a list of strings, got ["tea",1]'),
        ({"recent": ["tea"] * 101}, 422, "recent: at most 100, got 101"),
        ({"exclude": {"a": 1}}, 422, 'exclude must be a list of strings, got {"a":1}'),
        ({"user_id": 7}, 422, "user_id must be a string, got 7"),
        ({"n": 0}, 422, "n must be a whole number from 1 to 5, got 0"),
        ({"n": 6}, 422, "n must be a whole number from 1 to 5, got 6"),
        ({"n": True}, 422, "n must be a whole number from 1 to 5, got true"),
        ({"n": "2"}, 422, 'n must be a whole number from 1 to 5, got "2"'),
    ],
)
def test_a_bad_body_is_told_what_is_wrong(
    client: Client, body: object, status: int, error: str
) -> None:
    response = client.post("/v1/recommendations", body)
    assert response.status_code == status
    assert response.json()["error"].startswith(error)
    assert response.json()["request_id"] == response.headers["x-request-id"]


def test_other_methods_are_told_which(client: Client) -> None:
    response = client.get("/v1/recommendations")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


def test_a_visitor_without_an_account_is_no_user_without_a_list() -> None:
    store = MemoryStore(users=USERS, items=ITEMS, segments=SEGMENTS)
    with running(create_app(ServingConfig(), MemoryReleases(store))) as client:
        for body in ({}, {"recent": ["zed"]}, {"exclude": ["lamp"]}, {"recent": ["pot"]}):
            assert ask(client, **body)["source"] == "popular"
        ask(client, recent=["tea"])
        for user_id in ("ana", "zed"):
            ask(client, user_id=user_id)
            ask(client, user_id=user_id, recent=["tea"])
        lines = client.get("/metrics").text.splitlines()
    for line in (
        'recsys_lookups_total{kind="users",result="hit"} 2.0',
        'recsys_lookups_total{kind="users",result="miss"} 2.0',
        'recsys_fallbacks_total{reason="unknown_user"} 1.0',
        'recsys_fallbacks_total{reason="nothing_similar"} 1.0',
    ):
        assert line in lines


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
bodies = st.binary(max_size=30) | st.dictionaries(
    st.sampled_from(["user_id", "recent", "exclude", "n"]), json_values
).map(lambda body: json.dumps(body).encode())


@given(body=bodies)
def test_any_body_is_a_wish_or_a_bad_request(body: bytes) -> None:
    try:
        wish = session_wish(body, 10, 100)
    except BadRequest as error:
        assert len(str(error)) < 200
    else:
        assert 1 <= wish.n <= 100
        assert all(isinstance(item_id, str) for item_id in wish.recent)
