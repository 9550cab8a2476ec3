"""What conf says of operation reaches the application as it is shipped."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from recsys.config.serving import ServingConfig
from recsys.serving.app import create_app
from tests.serving.client import running
from tests.serving.operations.shop import ShopReleases

KEY = "0123456789abcdef"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/popular",
        "/v1/users/13085/recommendations",
        "/openapi.json",
        "/metrics",
        "/nowhere",
        "/",
    ],
)
def test_with_a_key_nothing_is_told_without_it(path: str) -> None:
    settings = ServingConfig.model_validate({"api_key": KEY})
    with running(create_app(settings, ShopReleases())) as client:
        assert client.get(path).status_code == 401
        assert client.get(path, authorization=f"Bearer {KEY}").status_code in {200, 404}
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200


@pytest.mark.parametrize("path", ["/", "/page/customers/13085"])
def test_the_page_is_off_unless_conf_says_otherwise(path: str) -> None:
    with running(create_app(ServingConfig(), ShopReleases())) as client:
        assert client.get(path).status_code == 404
    with running(create_app(ServingConfig(page=True), ShopReleases())) as client:
        assert client.get(path).status_code == 200


def test_the_access_log_names_a_user_alike_in_a_path_and_in_a_body() -> None:
    settings = ServingConfig.model_validate({"access_log": True, "access_log_key": "k"})
    with running(create_app(settings, ShopReleases())) as client, capture_logs() as logs:
        client.get("/v1/users/13085/recommendations")
        client.post("/v1/recommendations", {"user_id": "13085", "recent": []})
    in_path, in_body = (line for line in logs if line["event"] == "request")
    assert (in_path["route"], in_body["route"]) == ("recommendations", "session")
    assert in_path["user"] == in_body["user"] is not None
    assert in_body["status"] == 200
    assert "13085" not in str(logs)


def test_a_body_above_the_limit_reaches_no_route() -> None:
    with running(create_app(ServingConfig(max_body_bytes=1024), ShopReleases())) as client:
        answer = client.post("/v1/recommendations:batch", b"x" * 1025)
        assert (answer.status_code, answer.json()["error"]) == (
            413,
            "the body is larger than 1024 bytes (serving.max_body_bytes)",
        )
        refused = 'recsys_refusals_total{reason="body_size"} 1.0'
        assert refused in client.get("/metrics").text.splitlines()
