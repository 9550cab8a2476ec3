"""Lists with something left out: excluded, blocked, of other categories."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.config.serving import ServingConfig
from recsys.release.stored_list import Place
from recsys.serving.answers import Answers
from recsys.serving.app import create_app
from recsys.serving.current import Open
from recsys.serving.metrics import Metrics
from recsys.serving.request import Filters, SessionWish
from recsys.serving.session import Sessions
from tests.release.making import places
from tests.serving.client import Client, running
from tests.serving.stores import RELEASE, MemoryReleases, MemoryStore


@pytest.fixture
def releases() -> MemoryReleases:
    return MemoryReleases(MemoryStore())


@pytest.fixture
def client(releases: MemoryReleases) -> Iterator[Client]:
    with running(
        create_app(ServingConfig(default_n=2, blocked_poll_seconds=0.01), releases)
    ) as client:
        yield client


def shown(client: Client, path: str) -> tuple[str, list[str]]:
    response = client.get(path)
    assert response.status_code == 200, response.text
    body = response.json()
    return body["source"], [item["item_id"] for item in body["items"]]


@pytest.mark.parametrize(
    ("path", "source", "items"),
    [
        # ana has tea, cup, pot; two are shown
        ("/v1/users/ana/recommendations?exclude=tea", "personal", ["cup", "pot"]),  # it refills
        ("/v1/users/ana/recommendations?exclude=tea&exclude=pot", "personal", ["cup"]),
        ("/v1/users/ana/recommendations?exclude=tea%2Ccup", "personal", ["tea", "cup"]),  # one id
        ("/v1/users/ana/recommendations?exclude=nothing&n=1", "personal", ["tea"]),
        ("/v1/users/bob/recommendations?exclude=cup", "popular", ["tea"]),  # nothing is left of his
        ("/v1/items/tea/similar?exclude=cup", "similar", ["pot"]),
        ("/v1/items/tea/also-bought?exclude=pot", "also_bought", ["jug", "cup"]),  # it refills
        ("/v1/items/tea/also-bought?category=kitchen&n=3", "also_bought", ["pot", "cup", "jug"]),
        ("/v1/popular?exclude=cup", "popular", ["tea"]),
        # kitchen is cup (of kitchen > cups) and pot; it sells pot, cup, jug
        ("/v1/users/ana/recommendations?category=kitchen&n=1", "personal", ["cup"]),
        ("/v1/users/ana/recommendations?category=kitchen&n=3", "personal", ["cup", "pot", "jug"]),
        ("/v1/users/bob/recommendations?category=kitchen&n=3", "personal", ["cup", "pot", "jug"]),
        ("/v1/users/ana/recommendations?category=kitchen+%3E+cups&n=3", "personal", ["cup"]),
        ("/v1/users/ana/recommendations?category=garden", "popular", []),  # sells nothing
        ("/v1/users/zed/recommendations?category=kitchen", "popular", ["cup", "pot"]),
        ("/v1/popular?category=kitchen&exclude=cup", "popular", ["pot", "jug"]),
        ("/v1/items/tea/similar?category=kitchen&exclude=pot", "similar", ["cup", "jug"]),
        ("/v1/users/ana/recommendations?category=", "personal", ["tea", "cup"]),  # a blank form
    ],
)
def test_what_is_left_out_is_filled_up(
    client: Client, path: str, source: str, items: list[str]
) -> None:
    assert shown(client, path) == (source, items)


@pytest.mark.parametrize(
    ("query", "status", "error"),
    [
        (
            "category=attic",
            404,
            f"unknown category 'attic': not in the catalogue of release {RELEASE}",
        ),
        ("category=kitchen&category=garden", 422, "category: one at most, got 2"),
        (
            "&".join(f"exclude={n}" for n in range(101)),
            422,
            "exclude: at most 100 items, got 101",
        ),
        ("exclude=tea&n=9", 422, "n must be a whole number from 1 to 3, got '9'"),
        ("n=1&exlude=tea", 422, "unknown parameter 'exlude'; did you mean 'exclude'?"),
        ("segment=north", 422, "unknown parameter 'segment'; known: n, exclude, category"),
    ],
)
def test_bad_filters_are_named(client: Client, query: str, status: int, error: str) -> None:
    response = client.get(f"/v1/users/ana/recommendations?{query}")
    assert (response.status_code, response.json()["error"]) == (status, error)


def test_a_shop_without_categories_says_so() -> None:
    releases = MemoryReleases(MemoryStore(categories={}))
    with running(create_app(ServingConfig(default_n=2), releases)) as client:
        response = client.get("/v1/users/ana/recommendations?category=kitchen")
    assert (response.status_code, response.json()["error"]) == (
        404,
        f"unknown category 'kitchen': the shop has no categories in release {RELEASE}",
    )


def test_blocked_items_are_in_no_answer_and_are_counted(
    client: Client, releases: MemoryReleases
) -> None:
    kept = client.get("/v1/users/ana/recommendations").headers["etag"]
    releases.block("tea", "jug")
    look_now(client)
    assert shown(client, "/v1/users/ana/recommendations") == ("personal", ["cup", "pot"])
    assert shown(client, "/v1/users/王芳/recommendations") == ("popular", ["cup"])
    assert shown(client, "/v1/popular") == ("popular", ["cup"])
    assert shown(client, "/v1/popular?category=kitchen&n=2") == ("popular", ["cup", "pot"])
    assert shown(client, "/v1/items/pot%2F1%20%C3%A9/similar") == ("similar", [])
    assert shown(client, "/v1/items/tea/also-bought") == ("also_bought", ["pot", "cup"])
    session = client.post("/v1/recommendations", {"recent": ["cup"], "user_id": "ana", "n": 3})
    assert [item["item_id"] for item in session.json()["items"]] == ["pot"]
    batch = client.post("/v1/recommendations:batch", {"user_ids": ["ana", "zed"], "n": 2}).json()
    items = [[item["item_id"] for item in user["items"]] for user in batch["users"]]
    assert items == [["cup", "pot"], ["cup"]]
    # What a browser kept from before is asked about again, and is not right any more.
    assert client.get("/v1/users/ana/recommendations", if_none_match=kept).status_code == 200
    lines = client.get("/metrics").text.splitlines()
    assert "recsys_blocked_items 2.0" in lines
    [withheld] = [line for line in lines if line.startswith("recsys_withheld_items_total ")]
    assert float(withheld.split()[1]) >= 6
    releases.block()
    look_now(client)
    assert shown(client, "/v1/users/ana/recommendations") == ("personal", ["tea", "cup"])


def look_now(client: Client) -> None:
    """Wait until the watch has seen what is blocked."""

    async def until_seen() -> None:
        with anyio.fail_after(30):
            before = (await client.http.get("/v1/popular")).headers["etag"]
            while (await client.http.get("/v1/popular")).headers["etag"] == before:
                await anyio.sleep(0.01)

    client.portal.call(until_seen)


ids = st.sampled_from("abcdefgh")


@given(
    listed=st.lists(ids, unique=True),
    exclude=st.frozensets(ids),
    blocked=st.frozensets(ids),
    n=st.integers(1, 9),
)
def test_a_sifted_list_is_the_stored_one_without_what_is_left_out(
    listed: list[str], exclude: frozenset[str], blocked: frozenset[str], n: int
) -> None:
    store = MemoryStore(users={"ana": places(*listed)}, segments={"": places("x")})
    opened = Open.of(store, blocked)
    found = Answers(Metrics()).of_user(opened, "ana", n, Filters(exclude))
    left = [item_id for item_id in listed if item_id not in exclude | blocked][:n]
    assert item_ids(bytes(found.items)) == (left or ["x"])
    assert found.source == ("personal" if left else "popular")


lists = st.lists(ids, unique=True)


@given(
    own=lists, shelf=lists, popular=lists, sold=lists,
    blocked=st.frozensets(ids, min_size=1), exclude=st.frozensets(ids, max_size=2),
    n=st.integers(1, 9),
)  # fmt: skip
def test_what_is_blocked_is_in_no_answer_whatever_it_is_filled_up_from(
    own: list[str], shelf: list[str], popular: list[str], sold: list[str],
    blocked: frozenset[str], exclude: frozenset[str], n: int,
) -> None:  # fmt: skip
    store = MemoryStore(
        users={"ana": places(*own)}, items={"tea": places(*shelf)},
        segments={"": places(*popular), "France": places(*own)}, categories={"kitchen": places(*sold)},
    )  # fmt: skip
    opened, answers = Open.of(store, blocked), Answers(Metrics())
    sessions = Sessions(answers, Metrics())
    found = [
        sessions.of(opened, SessionWish(user, recent, exclude, n))
        for user in ("ana", "zed", None)
        for recent in (("tea",), ("nothing we know",), ())
    ]
    for filters in (None, Filters(exclude), Filters(exclude, "kitchen")):
        found += [answers.of_user(opened, user, n, filters) for user in ("ana", "zed")]
        found.append(answers.similar(opened, "tea", n, filters))
        found += [answers.popular(opened, one, n, filters) for one in ("", "France", "Oz")]
    for one in found:
        shown = item_ids(bytes(one.items))
        assert blocked.isdisjoint(shown)
        assert len(shown) == len(set(shown)) <= n


def item_ids(fragments: bytes) -> list[str]:
    items: list[dict[str, Any]] = orjson.loads(b"[" + fragments + b"]")
    return [item["item_id"] for item in items]


def test_a_list_that_is_sifted_keeps_the_stored_bytes() -> None:
    exact = [Place("tea", 0.1, "model"), Place("cup", -0.5, "similar")]
    opened = Open.of(MemoryStore(users={"ana": exact}), frozenset({"nothing here"}))
    found = Answers(Metrics()).of_user(opened, "ana", 2, None)
    plain = Answers(Metrics()).of_user(Open.of(opened.store), "ana", 2, None)
    assert bytes(found.items) == bytes(plain.items)
