"""The page for people, in the browser they would use."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.serving.operations.chromium import Browser, chromium
from tests.serving.operations.servers import Server, shop_server
from tests.serving.operations.shop import BOUGHT, HOSTILE, RELEASE
from tests.setup.conftest import CHECKOUT

SCREENSHOT = CHECKOUT / "docs" / "images" / "lookup_page.png"
KEY = "0123456789abcdef"
SHOWN = "!document.getElementById('lists').hidden"
SAID = "document.getElementById('status').className === 'wrong'"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def browser(tab: Browser) -> Browser:
    tab.complaints.clear()
    return tab


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with shop_server(page=True, drain_seconds=1) as server:
        yield server


def test_a_customer_is_typed_and_shown(browser: Browser, server: Server) -> None:
    browser.open(server.address)
    browser.until("document.activeElement.id === 'customer'")
    browser.type("13085", into="#customer")
    browser.press_enter()
    browser.until(SHOWN)

    bought, offered = browser.rows("bought"), browser.rows("offered")
    assert browser.text("release") == RELEASE
    assert bought[0] == [
        "2024-05-30",
        "purchase",
        "Regency cakestand, 3 tiers\n22423 · kitchen · 12.75",
    ]
    assert bought[-2:] == [
        ["2024-05-12", "purchase", "Postage\nPOST"],  # neither category nor price
        ["2024-04-02", "purchase", "nowhere"],  # no longer in the catalogue
    ]
    assert len(bought) == len(BOUGHT["13085"])
    assert offered[0] == [
        "1", "Roses Regency teacup and saucer\n22699 · kitchen · 2.95", "model", "3.250"
    ]  # fmt: skip
    assert [row[2] for row in offered] == ["model", "similar", "repeat", "model", "popular"]
    assert (browser.text("source"), browser.text("status")) == (
        "personal",
        "Offered is a list of this customer's own.",
    )
    assert browser.evaluate("document.getElementById('key-field').offsetParent === null")
    assert all("422" in complaint for complaint in browser.complaints), browser.complaints


def test_somebody_unknown_is_offered_what_is_popular(browser: Browser, server: Server) -> None:
    browser.open(f"{server.address}/#nobody-we-know")
    browser.until(SHOWN)
    assert browser.rows("bought") == [["Nothing that this release knows of."]]
    assert [row[2] for row in browser.rows("offered")] == ["popular", "popular"]
    assert "we have no list for this customer" in browser.text("status")


def test_one_customer_after_another(browser: Browser, server: Server) -> None:
    browser.open(f"{server.address}/#13085")
    browser.until(SHOWN)
    browser.type("zed", into="#customer")
    browser.press_enter()
    browser.until("document.getElementById('source').textContent === 'popular'")
    assert browser.evaluate("location.hash") == "#zed"
    browser.evaluate("history.back()")
    browser.until("document.getElementById('source').textContent === 'personal'")
    assert browser.evaluate("document.getElementById('customer').value") == "13085"


def test_what_a_title_or_a_name_holds_is_shown_and_not_run(
    browser: Browser, server: Server
) -> None:
    browser.open(f"{server.address}/#{quote(HOSTILE, safe='')}")
    browser.until(SHOWN)
    [row] = browser.rows("bought")
    assert HOSTILE in row[2]
    assert browser.evaluate("document.title") == "Recommendations"
    assert browser.evaluate("document.images.length") == 0


def test_the_policy_stops_what_would_be_run_all_the_same(browser: Browser, server: Server) -> None:
    browser.open(server.address)
    browser.until("document.getElementById('ask')")
    inject = f"document.body.insertAdjacentHTML('beforeend', {json.dumps(HOSTILE)})"
    browser.evaluate(inject)
    text = "{textContent: 'document.title = 1'}"
    script = f"document.body.append(Object.assign(document.createElement('script'), {text}))"
    browser.evaluate(script)
    browser.evaluate("fetch('http://127.0.0.1:1/').catch(() => 0)")
    assert browser.evaluate("document.title") == "Recommendations"
    violated = " ".join(browser.complaints)
    assert "script-src" in violated and "img-src" in violated and "connect-src" in violated


def test_with_a_key_the_page_asks_for_it(browser: Browser) -> None:
    with shop_server(page=True, api_key=KEY, drain_seconds=1) as server:
        assert server.get("/page/customers/13085").status_code == 401
        browser.open(f"{server.address}/#13085")
        browser.until(SAID)
        assert browser.text("status") == "This service wants its API key."
        browser.type("a wrong one", into="#key")
        browser.press_enter()
        browser.until("document.getElementById('status').textContent.includes('not the service')")
        browser.type(KEY, into="#key")
        browser.press_enter()
        browser.until(SHOWN)
        assert len(browser.rows("bought")) == len(BOUGHT["13085"])


def test_a_service_that_is_gone_is_said(browser: Browser) -> None:
    with shop_server(page=True, drain_seconds=1) as server:
        browser.open(server.address)
        browser.until("document.getElementById('ask')")
    browser.type("13085", into="#customer")
    browser.press_enter()
    browser.until(SAID)
    assert browser.text("status") == "The service cannot be reached."


def test_facts_are_given_for_what_was_bought_and_what_is_asked_for(server: Server) -> None:
    answer = server.get("/page/customers/13085?item=47566&item=nowhere&item=")
    body = answer.json()
    assert (body["release"], answer.headers["cache-control"]) == (RELEASE, "no-store")
    assert body["facts"]["47566"] == {"title": "Party bunting", "category": "home", "price": 4.95}
    assert set(body["facts"]) == {"47566", *(item for item, _, _ in BOUGHT["13085"])} - {"nowhere"}


@pytest.mark.golden
def test_the_documentation_shows_the_page(browser: Browser, server: Server) -> None:
    """Fonts differ between machines, so the picture is not compared; `make regold` takes it anew."""
    browser.open(f"{server.address}/#13085")
    browser.until(SHOWN)
    browser.evaluate("document.activeElement.blur()")
    taken = browser.screenshot()
    if os.environ.get("REGOLD"):
        SCREENSHOT.parent.mkdir(exist_ok=True)
        SCREENSHOT.write_bytes(taken)
    assert size_of(taken) == size_of(SCREENSHOT.read_bytes())
    assert f"images/{SCREENSHOT.name}" in (CHECKOUT / "docs" / "api.md").read_text()


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG")
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
