"""compare with a class of one's own, as docs/add_a_model.md has it, kept outside this repository."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from jobs import benchmark_leave_one_out, compare
from recsys import contracts
from recsys.config import RecsysConfig
from recsys.errors import ConfigError, MissingInput, Refused
from recsys.evaluation.comparison import Asked
from recsys.lake import Lake, local_rows, struct_type
from recsys.records import ModelManifest, RankingManifest, Recipe, ScoringRecord
from tests.evaluation.shop import (
    FIRST_DAY,
    NUM_ITEMS,
    NUM_USERS,
    RUN_DATE,
    WINDOW_DAYS,
    with_windows,
    write_shop,
)
from tests.recommenders.contract import small_shop

DOC = Path(__file__).parents[2] / "docs/add_a_model.md"
OWN = "my_shop.models:Basket"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The document's class, written where the document says."""
    [code] = re.findall(
        r"^```python\n# my_shop/models\.py\n(.*?)^```", DOC.read_text(), re.M | re.S
    )
    module = tmp_path / "elsewhere" / "my_shop" / "models.py"
    module.parent.mkdir(parents=True)
    module.write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    for name in ("my_shop", "my_shop.models"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return OWN


def test_the_document_is_short_and_its_options_exist() -> None:
    text = DOC.read_text()
    assert len(text.splitlines()) < 60
    said = CliRunner().invoke(compare.app, ["--help"]).stdout
    assert set(re.findall(r"(?<= )--[a-z-]+", text)) <= set(re.findall(r"--[a-z-]+", said))


def test_the_documents_class_is_saved_and_loaded(own: str, tmp_path: Path) -> None:
    from recsys.recommenders.named import recommender

    shop = small_shop()
    made = recommender(own).fit(shop)
    (tmp_path / "saved").mkdir()
    made.save(tmp_path / "saved")
    again = type(made).load(tmp_path / "saved")
    np.testing.assert_array_equal(again.scores(shop.everyone()), made.scores(shop.everyone()))


@pytest.mark.spark
def test_a_class_of_ones_own_beside_shipped_ones(
    lake: Lake, config: RecsysConfig, own: str
) -> None:
    config = with_windows(config, bootstrap_rounds=100)
    write_shop(lake, config)
    before = {table: lake.version(table) for table in (contracts.EVENTS, contracts.VOCABULARIES)}

    told = compare.run(lake, config, Asked((own, "transitions", "popularity"), cut_offs=2))

    assert told["run_date"] == str(RUN_DATE)  # the day after the last event
    assert [one["cut_off"] for one in told["cut_offs"]] == ["2024-06-21", "2024-06-25"]
    assert (told["reference"], told["differences"]) == ("transitions", 4)
    for one in told["cut_offs"]:
        assert one["users"] == 40 and one["cold_targets"] == 0
        ndcg = {name: figures["ndcg"]["value"] for name, figures in one["models"].items()}
        # Everybody goes round a circle, and has had much of it: who knows the order is far above who does not.
        assert ndcg["transitions"] > ndcg[own] > 0
        assert one["models"][own]["ndcg_above_reference"]["high"] < 0

    assert {table: lake.version(table) for table in before} == before
    reports = config.paths.reports / "compare"
    name = f"{RUN_DATE}-my_shop.models_Basket-transitions-popularity-2_cut_offs"
    assert sorted(path.name for path in reports.iterdir()) == [f"{name}.json", f"{name}.md"]
    assert json.loads((reports / f"{name}.json").read_text()) == told
    assert f"`{own}`" in (reports / f"{name}.md").read_text()
    assert not (config.paths.work / "compare" / str(RUN_DATE)).exists()


@pytest.mark.spark
def test_what_a_night_listed_is_measured_on_the_days_after_it(
    lake: Lake, config: RecsysConfig
) -> None:
    """The shop's users go round a circle: lists with the next items first are right, on the night that made them."""
    config = with_windows(config, bootstrap_rounds=100)
    write_shop(lake, config)
    cut_off = RUN_DATE - timedelta(days=WINDOW_DAYS)
    days = (cut_off - FIRST_DAY).days
    lists = [
        (f"u{u:02}", cut_off, [f"i{(u + days + n) % NUM_ITEMS + 1}" for n in range(12)],
         [0.5] * 12, ["model"] * 12, "v")
        for u in range(NUM_USERS - 1)
    ]  # fmt: skip
    stale = ("u00", cut_off - timedelta(days=1), ["i1"], [0.5], ["model"], "v")
    df = local_rows(lake.spark, [*lists, stale], struct_type(contracts.TOP_N_LISTS))
    df.write.format("delta").save(lake.path(contracts.TOP_N_LISTS))

    told = compare.run(lake, config, Asked(("top_n_lists", "transitions")))

    [one] = told["cut_offs"]
    # Who had no list that night counts as a miss.
    assert one["models"]["top_n_lists"]["ndcg"]["value"] == pytest.approx(
        (NUM_USERS - 1) / NUM_USERS
    )
    assert told["reference"] == "transitions"

    with pytest.raises(
        MissingInput,
        match=r"no lists as of 2024-06-21,.* its days are 2024-06-24, 2024-06-25\..*--run-date 2024-06-29, which",
    ):
        compare.run(lake, config, Asked(("top_n_lists", "transitions"), cut_offs=2))


CUT_OFF = RUN_DATE - timedelta(days=WINDOW_DAYS)
LATER = CUT_OFF + timedelta(days=1)


def shop_with_lists(lake: Lake, config: RecsysConfig, users: list[str]) -> RecsysConfig:
    """Lists as of the cut-off, by the model ``v``."""
    config = with_windows(config, bootstrap_rounds=100)
    write_shop(lake, config)
    lists = [(user, CUT_OFF, ["i1"], [0.5], ["model"], "v") for user in users]
    df = local_rows(lake.spark, lists, struct_type(contracts.TOP_N_LISTS))
    df.write.format("delta").save(lake.path(contracts.TOP_N_LISTS))
    return config


def fitted(config: RecsysConfig, as_of: date, *, ranking: bool = False) -> None:
    """The folder of ``v``, or of the ranking model ``r``, as far as anybody asks when it was fitted."""
    made = dict(as_of=as_of, num_items=1, epochs=1, history_length=1)
    manifest = (
        RankingManifest.model_validate(made | {"model_version": "r"})
        if ranking
        else ModelManifest.model_validate(made | {"model_version": "v", "embedding_dim": 1})
    )
    manifest.write(config.paths.models / manifest.model_version)


def scored(config: RecsysConfig, model_version: str = "v", *, ranking_version: str = "") -> None:
    """The record of the night, whose model is of a later day."""
    ScoringRecord(
        run_date=CUT_OFF, model_version=model_version, model_as_of=LATER, model_age_days=-1, reason="",
        recipe=Recipe(name="popularity", popularity=1.0), ranking_version=ranking_version,
    ).write(config.paths)  # fmt: skip


def released(lake: Lake) -> None:
    """Two days after it was fitted; what was published before ages were written down says nothing."""
    at, day = datetime(2024, 7, 1, tzinfo=UTC), LATER + timedelta(days=2)
    rows = [
        ("1", day, "published", at, "v", 2, "", "{}"),
        ("2", day, "published", at, "v", None, "", "{}"),
    ]
    df = local_rows(lake.spark, rows, struct_type(contracts.RELEASES))
    df.write.format("delta").save(lake.path(contracts.RELEASES))


@pytest.mark.spark
@pytest.mark.parametrize("told_by", ["folder", "record", "releases", "ranking model"])
def test_lists_by_a_model_of_later_days_are_refused(
    lake: Lake, config: RecsysConfig, told_by: str
) -> None:
    config = shop_with_lists(lake, config, ["u00"])
    version = "v"
    match told_by:
        case "folder":
            fitted(config, LATER)
        case "record":
            scored(config)
        case "releases":
            released(lake)
        case _:
            version = "r"
            fitted(config, CUT_OFF)
            fitted(config, LATER, ranking=True)
            scored(config, ranking_version="r")

    first = LATER + timedelta(days=WINDOW_DAYS)
    said = rf"of {CUT_OFF} .* by model {version}, fitted as of {LATER}.*--run-date from {first} on"
    with pytest.raises(Refused, match=said):
        compare.run(lake, config, Asked(("top_n_lists",)))


@pytest.mark.spark
@pytest.mark.parametrize("told", [True, False])
def test_lists_by_a_model_of_their_day_or_of_an_unknown_one_are_measured(
    lake: Lake, config: RecsysConfig, told: bool
) -> None:
    config = shop_with_lists(lake, config, ["u00"])
    scored(config, "another")  # a record that is not of these lists
    if told:
        fitted(config, CUT_OFF)

    with capture_logs() as said:
        measured = compare.run(lake, config, Asked(("top_n_lists",)))

    assert "top_n_lists" in measured["cut_offs"][0]["models"]
    undated = [one["models"] for one in said if one["event"] == "models_of_lists_not_dated"]
    assert undated == ([] if told else [["v"]])


@pytest.mark.spark
def test_a_night_that_listed_nobody_who_is_measured_missed_everybody(
    lake: Lake, config: RecsysConfig
) -> None:
    config = shop_with_lists(lake, config, ["somebody else"])

    with capture_logs() as said:
        told = compare.run(lake, config, Asked(("top_n_lists",)))

    assert told["cut_offs"][0]["models"]["top_n_lists"]["ndcg"]["value"] == 0
    assert "no_measured_user_has_a_list" in {one["event"] for one in said}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--cut-offs", "0"], "--cut-offs must be at least 1, got 0"),
        (["--sample", "2"], "--sample must be above 0 and at most 1, got 2.0"),
        (["--reference", "blend"], "--reference blend is not among the models: popularity"),
        (["--models", "scores.parquet", "--cut-offs", "2"], "scores of one day, and --cut-offs 2"),
    ],
)
def test_a_dry_run_refuses_what_the_run_would(asked: list[str], said: str) -> None:
    found = CliRunner().invoke(compare.app, ["--models", "popularity", *asked, "--dry-run"])
    assert found.exit_code == 2
    assert said in found.stderr


@pytest.mark.parametrize(
    ("asked", "exit_code", "said"),
    [
        (["--data", "{}/shop.txt", "--only", "blent"], 2, "no recommender is called 'blent'"),
        (["--data", "{}/none.txt"], 1, "no file "),
        (["--data", "{}/odd.txt"], 1, "line 1: 'tea' is no whole number"),
        (["--data", "{}/shop.txt", "--attributes", "{}/none.txt"], 1, "no file "),
        (["--data", "{}/shop.txt"], 0, "users   2, items 3"),
    ],
)
def test_a_dry_run_of_leave_one_out_looks_at_the_files(
    tmp_path: Path, asked: list[str], exit_code: int, said: str
) -> None:
    (tmp_path / "shop.txt").write_text("1 5 6\n2 6 7\n")
    (tmp_path / "odd.txt").write_text("1 tea\n")
    given = [argument.format(tmp_path) for argument in asked]
    found = CliRunner().invoke(benchmark_leave_one_out.app, [*given, "--dry-run"])
    assert found.exit_code == exit_code, found.output
    assert said in found.output


@pytest.mark.parametrize("asked", [{"cut_offs": 0}, {"sample": 0.0}, {"sample": 1.5}])
def test_numbers_out_of_range_are_refused(asked: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"--(cut-offs|sample) must be"):
        Asked(("popularity",), **asked)  # type: ignore[arg-type]
