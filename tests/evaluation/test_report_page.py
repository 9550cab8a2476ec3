"""The page and the card of a night, as text and in the browser that people read them in."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterator

import pytest

from recsys.evaluation.model_card import model_card
from recsys.evaluation.night_report import NightReport
from recsys.evaluation.report_page import page
from tests.evaluation.night import HOSTILE, NUM_USERS, night_report
from tests.serving.operations.chromium import WIDTH, Browser, chromium
from tests.setup.conftest import CHECKOUT

SCREENSHOT = CHECKOUT / "docs" / "images" / "evaluation_report.png"
HEIGHT = 1500
SEEN = "[...document.images].every((image) => image.complete && image.naturalWidth > 0)"


@pytest.fixture(scope="module")
def report() -> NightReport:
    return night_report()


@pytest.fixture(scope="module")
def html(report: NightReport) -> str:
    return page(report)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, html: str) -> Iterator[Browser]:
    file = tmp_path_factory.mktemp("report") / "evaluation_report.html"
    file.write_text(html)
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        browser.open(file.as_uri())
        browser.until("document.readyState === 'complete'")
        yield browser


def test_the_page_needs_neither_script_nor_network(html: str) -> None:
    assert "<script" not in html
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', html)
    assert len(sources) == 4  # the icon and three charts
    assert all(source.startswith("data:") for source in sources)


def test_it_says_what_the_gate_decided_and_why() -> None:
    passed, refused = page(night_report()), page(night_report(min_ndcg_at_10=0.99))

    assert 'class="decision" id="decision">passed all' in passed
    assert 'class="decision refused" id="decision">the gate refused: min_ndcg_at_10' in refused
    assert "floor 0.99" in refused


def test_parts_with_too_few_users_say_so(html: str) -> None:
    [cyprus] = re.findall(r"<tr><td>segment Cyprus</td>.*?</tr>", html)

    assert cyprus.startswith("<tr><td>segment Cyprus</td><td>5</td>")
    assert cyprus.count("too few users") == 1


def test_what_the_shop_says_is_shown_and_not_run(browser: Browser, html: str) -> None:
    assert HOSTILE not in html
    assert HOSTILE in browser.evaluate("document.body.innerText")
    assert browser.evaluate("document.title") == "Evaluation of gift shop, 2024-06-29"


def test_users_are_numbered_and_nothing_of_their_ids_is_told(
    report: NightReport, html: str
) -> None:
    assert len(report.examples) == 6
    assert [one.ndcg for one in report.examples[:3]] == sorted(
        (one.ndcg for one in report.examples[:3]), reverse=True
    )
    assert max(one.ndcg for one in report.examples[3:]) < min(
        one.ndcg for one in report.examples[:3]
    )
    assert re.findall(r"User (\w+):", html) == list("123456")
    ids = [f"u{user}" for user in range(NUM_USERS)]
    told = set(re.findall(r"\w+", re.sub(r'src="[^"]*"', "", html)))
    hashes = {hashlib.sha256(one.encode()).hexdigest()[:8] for one in ids}
    assert not told & {*ids, *hashes}
    assert html.count("Each interval is for itself") == 2


def test_a_browser_has_nothing_to_complain_about(browser: Browser) -> None:
    browser.until(SEEN)
    assert browser.evaluate("document.images.length") == 3
    assert browser.complaints == []


def test_charts_show_the_figures_that_the_tables_do(html: str) -> None:
    pictures = [
        base64.b64decode(data).decode() for data in re.findall(r"svg\+xml;base64,([^\"]+)", html)
    ]

    assert all(name in pictures[0] for name in ("blend", "popularity", "all purchases"))
    assert "France" in pictures[1] and "Cyprus" not in pictures[1]
    assert "epoch" in pictures[2]


def test_the_card_tells_the_same_in_markdown(report: NightReport) -> None:
    card = model_card(report)

    assert card.startswith("# Model 0123456789abcdef of gift shop\n")
    assert "- The gate: passed all" in card
    assert "\n| blend | ." in card and "\n| segment France, " in card
    assert "- Fewer than 25 users, so not measured: " in card
    assert "30 of the targets were new to the shop" in card
    assert "segment Cyprus" in card
    assert "Infinity" not in card and "nan" not in card


@pytest.mark.golden
def test_the_documentation_shows_the_page(browser: Browser) -> None:
    """Fonts differ between machines, so the picture is not compared; `make regold` takes it anew."""
    browser.until(SEEN)
    taken = browser.screenshot(height=HEIGHT)
    if os.environ.get("REGOLD"):
        SCREENSHOT.write_bytes(taken)
    assert size_of(taken) == size_of(SCREENSHOT.read_bytes()) == (WIDTH, HEIGHT)
    assert f"images/{SCREENSHOT.name}" in (CHECKOUT / "docs" / "evaluation.md").read_text()


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG")
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
