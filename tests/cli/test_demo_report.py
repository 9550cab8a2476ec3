"""What the demo ends with, over a shop whose one customer has a name that SQL and a shell would read."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from recsys.cli.demo_report import demo_report
from recsys.config import RecsysConfig
from recsys.config.serving import ServingConfig
from recsys.contracts import DATA_QUALITY, HISTORIES, METRICS
from recsys.errors import MissingInput
from recsys.sql.duck import open_lake
from tests.release.making import make_release
from tests.release.shop import RUN_DATE, write_lists, write_shop, write_table

OBRIEN = "O'Brien $(x)"


@pytest.fixture
def published(config: RecsysConfig) -> RecsysConfig:
    root = Path(config.paths.lake_uri)
    write_shop(root)
    write_lists(root, {OBRIEN: (["pot", "tea"], [2.0, 1.0], ["model", "popular"])})
    history = dict(
        user_id=OBRIEN, segment="", item_ids=["cup"] * 20, item_nums=[2] * 20,
        event_types=["purchase"] * 20, ages_days=[1.0] * 20, is_capped=False,
    )  # fmt: skip
    write_table(root, HISTORIES, [history])
    write_table(root, METRICS, [])
    counted = {"raw": 9.0, "accepted": 4.0, "quarantined": 3.0, "duplicates": 2.0}
    rows = [
        dict(run_date=RUN_DATE, job="ingest", check="rows", subject=what, value=count)
        for what, count in counted.items()
    ]
    reason = dict(run_date=RUN_DATE, job="ingest", check="reason", subject="price_zero", value=3.0)
    write_table(root, DATA_QUALITY, [*rows, reason])
    make_release(config.paths, RUN_DATE)
    return config.model_copy(update={"env": "my_shop", "serving": ServingConfig(port=8123)})


def test_a_customer_with_a_quote_in_the_id_is_shown(published: RecsysConfig) -> None:
    report = demo_report(published)
    assert "9 raw rows = 4 accepted + 3 quarantined + 2 duplicates" in report
    assert f"customer {OBRIEN}\n" in report
    assert "TEAPOT, RED (model)" in report
    assert "beside WHITE CUP" not in report, "the best seller has no neighbours here"


def test_the_commands_to_go_on_with_are_of_this_shop_and_can_be_typed(
    published: RecsysConfig,
) -> None:
    serve, sql, releases = demo_report(published).rstrip().splitlines()[-3:]
    assert serve.startswith(".venv/bin/recsys serve --env my_shop ")
    assert "http://127.0.0.1:8123/v1/users/O%27Brien%20%24%28x%29/recommendations?n=3" in serve
    assert releases == ".venv/bin/recsys release list --env my_shop"
    query = shlex.split(sql)[-1].replace("\\$", "$")  # what bash would hand over
    with open_lake(published.paths) as lake:
        assert len(list(lake.query(query)[1])) == 2


def test_the_page_of_the_evaluation_is_named_where_there_is_one(published: RecsysConfig) -> None:
    page = published.paths.reports / str(RUN_DATE) / "evaluation_report.html"
    assert str(page) not in demo_report(published)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("")
    assert f"\n{page}    # to be opened" in demo_report(published)


def test_without_a_release_the_way_to_one_is_named(config: RecsysConfig) -> None:
    with pytest.raises(MissingInput, match="run `make demo`, or of another environment"):
        demo_report(config)
