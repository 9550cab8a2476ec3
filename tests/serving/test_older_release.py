"""A service of this version over a release that an older one made."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import anyio

from recsys.config.places import PathsConfig
from recsys.config.serving import ServingConfig
from recsys.release.pins import roll_back
from recsys.release.pointer import release_folder
from recsys.serving.app import create_app
from recsys.serving.store import PublishedReleases
from tests.release.making import NOON, make_release, rewritten_as
from tests.serving.client import Client, running


def test_after_a_roll_back_to_a_release_without_also_bought_the_route_says_so(
    tmp_path: Path,
) -> None:
    paths = PathsConfig(root=str(tmp_path))
    older = make_release(paths, date(2024, 5, 31)).release_id
    rewritten_as(release_folder(paths, older), 2)
    make_release(paths)
    service = create_app(ServingConfig(poll_seconds=0.01), PublishedReleases(paths))
    with running(service) as client:
        assert client.get("/v1/items/tea/also-bought").json()["source"] == "also_bought"

        roll_back(paths, older, reason="a test", now=NOON)
        wait_for(client, older)

        for query in ("", "?n=5", "?exclude=cup"):
            gone = client.get(f"/v1/items/tea/also-bought{query}")
            assert (gone.status_code, gone.json()["error"]) == (
                404,
                f"release {older} has no lists of what is also bought: it was made before there were any, or nothing "
                "is known to be taken up after anything",
            )
        assert client.get("/v1/items/tea/similar").json()["source"] == "similar"
        assert client.get("/readyz").json()["degraded"] is False


def wait_for(client: Client, release_id: str) -> None:
    async def until_live() -> None:
        with anyio.fail_after(30):
            while (await client.http.get("/healthz")).json()["release"] != release_id:
                await anyio.sleep(0.01)

    client.portal.call(until_live)
