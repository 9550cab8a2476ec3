"""The routes over an in-memory store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from starlette.applications import Starlette

from recsys.config.sections import ServingConfig
from recsys.errors import MissingInput
from recsys.serving.app import create_app
from tests.serving.client import Client, running
from tests.serving.stores import RELEASE, MemoryReleases, MemoryStore


@pytest.fixture
def app() -> Starlette:
    return create_app(ServingConfig(default_n=2), MemoryReleases(MemoryStore()))


@pytest.fixture
def client(app: Starlette) -> Iterator[Client]:
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
    assert "recsys_degraded 0.0" in lines


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
    assert line["path"] == "/v1/users/ana/recommendations"
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


def test_the_openapi_document_describes_what_is_served(app: Starlette, client: Client) -> None:
    document = client.get("/openapi.json").json()
    served = {route.path.replace(":id", "") for route in app.routes}  # type: ignore[attr-defined]
    assert set(document["paths"]) == served
    for path, asked in (
        ("/v1/users/{user_id}/recommendations", "/v1/users/ana/recommendations"),
        ("/v1/items/{item_id}/similar", "/v1/items/tea/similar"),
        ("/v1/popular", "/v1/popular"),
    ):
        responses = document["paths"][path]["get"]["responses"]
        schema = responses["200"]["content"]["application/json"]["schema"]
        body = client.get(asked).json()
        assert set(body) == set(schema["required"]) == set(schema["properties"])
        assert body["source"] in schema["properties"]["source"]["enum"]
        assert set(body["items"][0]) == set(schema["properties"]["items"]["items"]["required"])
        error = client.get(f"{asked}?n=0").json()
        assert set(error) == set(
            responses["422"]["content"]["application/json"]["schema"]["required"]
        )
