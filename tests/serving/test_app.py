"""The routes over an in-memory store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from starlette.types import ASGIApp

from recsys.config.serving import ServingConfig
from recsys.errors import MissingInput
from recsys.release.pull_state import PullState
from recsys.serving.app import create_app
from recsys.serving.guard import ALWAYS_ADMITTED, PROBES
from recsys.serving.metrics import Metrics
from recsys.serving.openapi import document
from tests.serving.client import Client, running
from tests.serving.stores import RELEASE, MemoryReleases, MemoryStore

OPENAPI = Path(__file__).parents[2] / "recsys" / "serving" / "openapi.json"


@pytest.fixture
def app() -> ASGIApp:
    return create_app(ServingConfig(default_n=2), MemoryReleases(MemoryStore()))


@pytest.fixture
def client(app: ASGIApp) -> Iterator[Client]:
    with running(app) as client:
        yield client


def ids(body: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in body["items"]]


def test_a_known_user_gets_their_own_list(client: Client) -> None:
    response = client.get("/v1/users/ana/recommendations?n=3", x_request_id="r-1")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"] == "r-1"
    assert response.json() == {
        "release": RELEASE,
        "request_id": "r-1",
        "user_id": "ana",
        "source": "personal",
        "items": [
            {"item_id": "tea", "score": 3.0, "source": "model"},
            {"item_id": "cup", "score": 2.0, "source": "model"},
            {"item_id": "pot", "score": 1.0, "source": "model"},
        ],
    }


@pytest.mark.parametrize(
    ("path", "source", "items"),
    [
        ("/v1/users/ana/recommendations", "personal", ["tea", "cup"]),  # default_n
        ("/v1/users/bob/recommendations?n=3", "personal", ["cup"]),  # shorter than asked
        ("/v1/users/zed/recommendations", "popular", ["cup", "tea"]),  # unknown
        ("/v1/users/nobody's/recommendations", "popular", ["cup", "tea"]),  # known, empty list
        ("/v1/users/a%2Fb%20c/recommendations", "personal", ["pot", "tea"]),
        ("/v1/users/a/b%20c/recommendations", "personal", ["pot", "tea"]),
        ("/v1/users/a%252Fb%20c/recommendations", "popular", ["cup", "tea"]),  # decoded once
        ("/v1/users/%E7%8E%8B%E8%8A%B3/recommendations", "personal", ["tea"]),
        ("/v1/users//recommendations", "popular", ["cup", "tea"]),
        ("/v1/users/" + "x" * 3000 + "/recommendations", "popular", ["cup", "tea"]),
        ("/v1/users/a%00%0d%0ab/recommendations", "popular", ["cup", "tea"]),
        ("/v1/users/%ff%22/recommendations", "popular", ["cup", "tea"]),  # not UTF-8, and a quote
        ("/v1/items/tea/similar", "similar", ["cup", "pot"]),
        ("/v1/items/cup/similar", "similar", []),  # known, goes with nothing
        ("/v1/items/pot%2F1%20%C3%A9/similar", "similar", ["tea"]),
        ("/v1/items/tea/also-bought", "also_bought", ["pot", "jug"]),
        ("/v1/items/tea/also-bought?n=3", "also_bought", ["pot", "jug", "cup"]),
        ("/v1/items/cup/also-bought", "also_bought", []),  # known, nothing comes after it
        ("/v1/items/pot%2F1%20%C3%A9/also-bought", "also_bought", ["cup"]),
        ("/v1/popular", "popular", ["cup", "tea"]),
        ("/v1/popular?segment=France", "popular", ["pot"]),
        ("/v1/popular?segment=Mars&n=1", "popular", ["cup"]),  # unknown: the whole shop
    ],
)
def test_every_route_answers_with_its_list(
    client: Client, path: str, source: str, items: list[str]
) -> None:
    response = client.get(path)
    assert response.status_code == 200, response.text
    body = response.json()
    assert (body["release"], body["source"], ids(body)) == (RELEASE, source, items)
    assert body["request_id"] == response.headers["x-request-id"]


def test_the_segment_that_was_used_is_named(client: Client) -> None:
    assert client.get("/v1/popular?segment=France").json()["segment"] == "France"
    assert client.get("/v1/popular?segment=Mars").json()["segment"] == ""


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/v1/users/ana/recommendations?n=4", 422, "n must be a whole number from 1 to 3, got '4'"),
        ("/v1/users/zed/recommendations?n=0", 422, "n must be a whole number from 1 to 3, got '0'"),
        ("/v1/items/tea/similar?n=x", 422, "n must be a whole number from 1 to 2, got 'x'"),
        ("/v1/items/tea/also-bought?n=4", 422, "n must be a whole number from 1 to 3, got '4'"),
        (
            "/v1/items/zed/also-bought",
            404,
            f"unknown item 'zed': not in the catalogue of release {RELEASE}",
        ),
        ("/v1/popular?n=-1", 422, "n must be a whole number from 1 to 2, got '-1'"),
        (
            "/v1/items/zed/similar",
            404,
            f"unknown item 'zed': not in the catalogue of release {RELEASE}",
        ),
        ("/v2/popular", 404, "Not Found"),
    ],
)
def test_what_is_wrong_is_said(client: Client, path: str, status: int, error: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.json()["error"]) == (status, error)
    assert response.json()["release"] == RELEASE
    assert response.json()["request_id"] == response.headers["x-request-id"]


def test_a_long_unknown_id_is_not_repeated_whole(client: Client) -> None:
    response = client.get("/v1/items/" + "x" * 5000 + "/similar")
    assert response.status_code == 404
    assert len(response.content) < 400


def test_other_methods_are_refused(client: Client) -> None:
    response = client.request("POST", "/v1/popular")
    assert response.status_code == 405
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}


def test_health_readiness_and_metrics(client: Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok", "release": RELEASE}
    client.get("/v1/users/ana/recommendations")
    client.get("/v1/users/zed/recommendations?n=99")
    ready = {"ready": True, "degraded": False, "release": RELEASE, "problem": ""}
    assert client.get("/readyz").json() == ready
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    lines = response.text.splitlines()
    assert 'recsys_requests_total{route="recommendations",status="200"} 1.0' in lines
    assert 'recsys_requests_total{route="recommendations",status="422"} 1.0' in lines
    assert 'recsys_answers_total{source="personal"} 1.0' in lines
    assert 'recsys_request_seconds_count{route="recommendations"} 2.0' in lines
    assert 'recsys_snapshot_keys{kind="users"} 5.0' in lines
    assert 'recsys_snapshot_keys{kind="also_bought"} 3.0' in lines
    assert "recsys_degraded 0.0" in lines


def test_a_host_that_pulls_shows_how_that_goes() -> None:
    releases = MemoryReleases(MemoryStore())
    with running(create_app(ServingConfig(), releases)) as client:
        assert "recsys_pull_epoch{" not in client.get("/metrics").text
        last = datetime(2024, 6, 1, tzinfo=UTC)
        releases.pulls = PullState(url="http://a", epoch=7, last_success=last)
        lines = client.get("/metrics").text.splitlines()
    assert 'recsys_pull_epoch{url="http://a"} 7.0' in lines
    assert 'recsys_pull_last_success_seconds{url="http://a"} 1.7172e+09' in lines


@pytest.mark.parametrize("sent", [{}, {"x_request_id": "r-7"}], ids=["ours", "theirs"])
def test_a_fault_of_ours_is_in_the_log_and_not_in_the_answer(
    monkeypatch: pytest.MonkeyPatch, sent: dict[str, str]
) -> None:
    store = MemoryStore()
    with running(create_app(ServingConfig(), MemoryReleases(store))) as client:
        monkeypatch.setattr(store, "get", lambda *_: 1 / 0)
        given = int(client.get("/healthz/nowhere").json()["request_id"].rpartition("-")[2], 16)
        with structlog.testing.capture_logs() as logs:
            response = client.get("/v1/users/ana/recommendations", **sent)
    assert response.status_code == 500
    assert response.json()["error"] == "internal error; the log has it under this request id"
    assert "Zero" not in response.text
    request_id = response.json()["request_id"]
    [line] = logs
    assert (line["event"], line["request_id"]) == ("request_failed", request_id)
    assert "ana" not in str({**line, "exc_info": ""})
    assert isinstance(line["exc_info"], ZeroDivisionError)
    if sent:
        assert request_id == "r-7"
    else:
        assert int(request_id.rpartition("-")[2], 16) == given + 1, "one request, one id"


def test_the_service_does_not_start_without_a_release() -> None:
    with (
        pytest.raises(MissingInput, match="no release is live"),
        running(create_app(ServingConfig(), MemoryReleases())),
    ):
        pass


def test_a_head_has_the_headers_of_a_get_and_no_body(client: Client) -> None:
    for path in (
        "/v1/users/ana/recommendations", "/v1/items/zed/similar", "/v1/items/tea/also-bought",
        "/healthz",
    ):  # fmt: skip
        get = client.get(path, x_request_id="r-1")
        head = client.request("HEAD", path, x_request_id="r-1")
        assert (head.status_code, head.headers, head.content) == (get.status_code, get.headers, b"")


def test_a_list_at_hand_is_not_sent_again(client: Client) -> None:
    path = "/v1/users/ana/recommendations"
    etag = client.get(path).headers["etag"]
    beside = client.get("/v1/items/tea/also-bought", if_none_match=etag)
    assert (beside.status_code, beside.content) == (304, b"")
    assert etag.startswith(f'W/"{RELEASE}.')
    for known in (etag, f'"other", {etag}', etag.removeprefix("W/"), "*"):
        again = client.get(path, if_none_match=known)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
        assert "content-length" not in again.headers
    assert client.get(path, if_none_match='W/"older"').status_code == 200
    # What is wrong is said, whatever is at hand.
    assert client.get(f"{path}?n=99", if_none_match=etag).status_code == 422
    assert client.get("/v1/items/zed/similar", if_none_match="*").status_code == 404


def test_another_default_length_is_another_etag() -> None:
    tags = set()
    for n in (1, 2):
        with running(create_app(ServingConfig(default_n=n), MemoryReleases(MemoryStore()))) as one:
            tags.add(one.get("/v1/popular").headers["etag"])
    assert len(tags) == 2


def test_misses_and_fallbacks_are_counted_by_reason(client: Client) -> None:
    client.get("/v1/users/ana/recommendations")
    client.get("/v1/users/zed/recommendations")
    client.get("/v1/users/nobody's/recommendations")
    client.get("/v1/popular?segment=Mars")
    client.get("/v1/items/zed/similar")
    client.get("/v1/items/zed/also-bought")
    client.get("/v1/items/tea/also-bought")
    lines = client.get("/metrics").text.splitlines()
    for line in (
        'recsys_lookups_total{kind="users",result="hit"} 2.0',
        'recsys_lookups_total{kind="users",result="miss"} 1.0',
        'recsys_lookups_total{kind="items",result="hit"} 1.0',
        'recsys_lookups_total{kind="items",result="miss"} 2.0',
        'recsys_answers_total{source="also_bought"} 1.0',
        'recsys_requests_total{route="also_bought",status="200"} 1.0',
        'recsys_requests_total{route="also_bought",status="404"} 1.0',
        'recsys_fallbacks_total{reason="unknown_user"} 1.0',
        'recsys_fallbacks_total{reason="nothing_left"} 1.0',
        'recsys_fallbacks_total{reason="unknown_segment"} 1.0',
        'recsys_fallbacks_total{reason="nothing_similar"} 0.0',
        'recsys_request_seconds_bucket{le="+Inf",route="popular"} 1.0',
    ):
        assert line in lines


def test_buckets_hold_what_took_no_longer() -> None:
    metrics = Metrics()
    for seconds in (0.0001, 0.0002, 0.3, 5.0):
        metrics.routes["popular"].add(200, seconds)
    lines = metrics.text().decode().splitlines()
    for bound, count in (("0.0001", 1), ("0.00025", 2), ("0.1", 2), ("1.0", 3), ("+Inf", 4)):
        line = f'recsys_request_seconds_bucket{{le="{bound}",route="popular"}} {count}.0'
        assert line in lines
    assert 'recsys_request_seconds_count{route="popular"} 4.0' in lines
    assert 'recsys_request_seconds_sum{route="popular"} 5.3003' in lines


@pytest.mark.golden
def test_the_checked_in_document_is_the_one_that_is_served(client: Client) -> None:
    served = client.get("/openapi.json").text + "\n"
    if os.environ.get("REGOLD"):
        OPENAPI.write_text(served)
    assert served == OPENAPI.read_text(), "openapi.json: `make regold`, then review the diff"


def test_the_openapi_document_says_what_the_guard_lets_pass() -> None:
    paths = document(batch_limit=10)["paths"]
    gets = {path: methods["get"] for path, methods in paths.items() if "get" in methods}
    without_key = {path for path, get in gets.items() if get.get("security") == []}
    assert without_key == {path for path, get in gets.items() if "401" not in get["responses"]}
    assert without_key == PROBES
    assert {path for path, get in gets.items() if "503" not in get["responses"]} == ALWAYS_ADMITTED


def test_the_openapi_document_describes_what_is_served(client: Client) -> None:
    document = client.get("/openapi.json").json()
    sent = {"recent": ["tea"], "user_ids": ["ana"]}
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            asked = path.replace("{user_id}", "ana").replace("{item_id}", "tea")
            if method == "post":
                keys = described["requestBody"]["content"]["application/json"]["schema"]
                body = {name: sent[name] for name in keys["properties"] if name in sent}
                response = client.post(asked, body)
            else:
                response = client.get(asked)
            assert response.status_code == 200, path
            schema = described["responses"]["200"]["content"]
            if "schema" in schema.get("application/json", {}):
                answer = response.json()
                wanted = schema["application/json"]["schema"]
                assert_fits(answer, wanted)
            assert client.request("DELETE", asked).status_code == 405
    assert_fits(
        client.get("/v1/popular?n=0").json(),
        document["paths"]["/v1/popular"]["get"]["responses"]["422"]["content"]["application/json"][
            "schema"
        ],
    )


def assert_fits(answer: dict[str, Any], schema: dict[str, Any]) -> None:
    assert set(schema["required"]) <= set(answer) <= set(schema["properties"])
    for name, value in answer.items():
        described = schema["properties"][name]
        assert value in described.get("enum", [value])
        if described.get("type") == "array":
            for one in value:
                assert_fits(one, described["items"])
