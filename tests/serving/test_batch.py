"""Many users in one request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.config.places import PathsConfig
from recsys.config.serving import ServingConfig
from recsys.release.stored_list import MAX_KEY_BYTES, key_of, keys_of
from recsys.serving.app import create_app
from recsys.serving.routes import json_insides
from recsys.serving.store import PublishedReleases
from tests.release.making import USERS, make_release
from tests.serving.client import Client, running


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    paths = PathsConfig(root=str(tmp_path_factory.mktemp("batch")))
    make_release(paths)
    settings = ServingConfig(default_n=2, batch_limit=6)
    with running(create_app(settings, PublishedReleases(paths))) as client:
        yield client


def test_each_user_gets_what_they_would_get_alone_in_the_order_asked(client: Client) -> None:
    asked = ["zed", "ana", "王芳", "nobody's", "ana", 'a "quote",']
    batch = client.post("/v1/recommendations:batch", {"user_ids": asked})
    assert batch.status_code == 200
    body = batch.json()
    assert body["request_id"] == batch.headers["x-request-id"]
    assert [user["user_id"] for user in body["users"]] == asked
    for user in body["users"]:
        alone = client.get(f"/v1/users/{user['user_id']}/recommendations").json()
        assert body["release"] == alone.pop("release")
        del alone["request_id"]
        assert user == alone


@given(
    ids=st.lists(st.text('",\\x:') | st.text(st.characters(exclude_categories=["Cs"])), min_size=1)
)
def test_ids_are_json_whatever_they_hold(ids: list[str]) -> None:
    assert [orjson.loads(b'"' + inside + b'"') for inside in json_insides(ids)] == ids


def test_n_is_for_every_user(client: Client) -> None:
    body = client.post("/v1/recommendations:batch", {"user_ids": list(USERS), "n": 1}).json()
    assert [len(user["items"]) for user in body["users"]] == [1] * len(USERS)


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"x", 400, "the body is not JSON"),
        ({}, 422, 'no user_ids: send {"user_ids": ["ID", …]}, 1 to 6 of them'),
        ({"user_ids": []}, 422, "no user_ids"),
        ({"user_ids": ["ana"] * 7}, 422, "user_ids: at most 6, got 7"),
        ({"user_ids": "ana"}, 422, 'user_ids must be a list of strings, got "ana"'),
        ({"user_ids": ["ana", None]}, 422, "user_ids must be a list of strings"),
        ({"users": ["ana"]}, 422, "unknown key 'users'; did you mean 'user_ids'?"),
        ({"user_ids": ["ana"], "n": 4}, 422, "n must be a whole number from 1 to 3, got 4"),
    ],
)
def test_a_bad_batch_is_told_what_is_wrong(
    client: Client, body: object, status: int, error: str
) -> None:
    response = client.post("/v1/recommendations:batch", body)
    assert response.status_code == status
    assert response.json()["error"].startswith(error)


def test_hits_and_misses_of_a_batch_are_counted(tmp_path: Path) -> None:
    paths = PathsConfig(root=str(tmp_path))
    make_release(paths)
    with running(create_app(ServingConfig(), PublishedReleases(paths))) as client:
        client.post("/v1/recommendations:batch", {"user_ids": ["ana", "bob", "zed", "nobody's"]})
        lines = client.get("/metrics").text.splitlines()
    for line in (
        'recsys_lookups_total{kind="users",result="hit"} 3.0',
        'recsys_lookups_total{kind="users",result="miss"} 1.0',
        'recsys_answers_total{source="personal"} 2.0',
        'recsys_answers_total{source="popular"} 2.0',
        'recsys_requests_total{route="batch",status="200"} 1.0',
    ):
        assert line in lines


long_ids = st.sampled_from(
    ["", "x" * MAX_KEY_BYTES, "x" * (MAX_KEY_BYTES + 1), "\udcff", "é", "a\0b"]
)


@given(ids=st.lists(st.text(max_size=4) | long_ids, max_size=5))
def test_keys_of_many_are_the_keys_of_each(ids: list[str]) -> None:
    assert keys_of(ids) == [key_of(id_) for id_ in ids]
