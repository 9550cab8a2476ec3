"""The report that the demo ends with, over a real night: every section says what the night made."""

from __future__ import annotations

import re

import pytest

from recsys.cli.demo_report import CUSTOMERS, SHOWN, demo_report
from recsys.config import RecsysConfig
from recsys.runner.pipeline import STEPS
from tests.integration.nights import Shop, ask

pytestmark = [
    pytest.mark.spark,
    pytest.mark.horovod,
    pytest.mark.timeout(1800),
]


def test_every_section_says_what_the_night_made(shop: Shop, first_night: RecsysConfig) -> None:
    titles = r"\n(What came in|How good it is|What customers are offered|Similar items|What it took|Next)\n-+\n"
    head, *parts = re.split(titles, demo_report(first_night))
    section = dict(zip(parts[::2], parts[1::2], strict=True))
    assert "generated, release " in head

    size = first_night.generate_shop
    raw = shop.planted["raw_rows"] + size.users + size.items
    assert section["What came in"].startswith(f"{raw:,} raw rows = ")
    assert all(name in section["How good it is"] for name in ("blend", "popularity", "transitions"))

    offered = section["What customers are offered"]
    customers = re.findall(r"^customer (\S+)$", offered, re.MULTILINE)
    assert len(customers) == CUSTOMERS
    for user in customers:
        [[title]] = ask(
            first_night.paths, f"select title from top_n where user_id = '{user}' and rank = 1"
        )
        assert title in offered
    assert len(section["Similar items"].strip().splitlines()) == 1 + SHOWN
    assert [line.split()[0] for line in section["What it took"].strip().splitlines()] == [
        *STEPS,
        "all",
    ]
    assert "--env generated_shop" in section["Next"]
