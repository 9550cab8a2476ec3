"""Comparison: lists from scores, who is left out, whom the others are compared with, and what is told of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.errors import ConfigError, Conflict, MissingInput, Refused
from recsys.evaluation import comparison, contestants
from recsys.evaluation.comparison import (
    Asked,
    AtCutOff,
    Comparison,
    at_cut_off,
    best_items,
    compare,
)
from recsys.evaluation.comparison_table import file_name, reference_of, summary, table
from recsys.evaluation.contestants import openers
from recsys.evaluation.intervals import Estimate, stretched
from recsys.evaluation.splits import Targets, Window
from recsys.evaluation.temporal_shop import TemporalShop
from recsys.recommenders import Histories, Shop, Users, named
from tests.recommenders.worlds import histories

WINDOW = Window(date(2024, 6, 1), date(2024, 6, 8))


@contextmanager
def no_memory() -> Iterator[list[float]]:
    yield [2e9]


def nothing(users: int) -> Histories:
    return Histories(np.zeros(users + 1, dtype=np.int64), np.zeros(0, dtype=np.int32))


def world(**changes: Any) -> TemporalShop:
    """Everybody has had item u and takes u + 1, twice round a circle of ten; the first five have never had theirs."""
    num_items, num_users = 10, 30
    start = [u % num_items + 1 for u in range(num_users)]
    following = np.array([item % num_items + 1 for item in start], dtype=np.int32)
    known = histories([[item, item % num_items + 1] for item in start], [[-3.0, -2.0]] * num_users)
    known = known.where(known.rows < 15)  # of the rest nothing is learned
    one_each = np.arange(num_users + 1)
    new = np.minimum(one_each, 5)
    shop = Shop(num_items, known, as_of=0.0, **changes)
    return TemporalShop(
        window=WINDOW,
        item_ids=pa.array(["", *(f"i{num}" for num in range(1, num_items + 1))]),
        user_ids=pa.array([f"u{u:02}" for u in range(num_users)]),
        shop=shop,
        users=Users(histories([[item] for item in start], [[-1.0]] * num_users), one_each[1:]),
        targets=Targets(one_each, following, np.ones(num_users, dtype=np.int64)),
        first=Targets(new, following[:5], np.diff(new)),
        hidden=nothing(num_users),
        allowed_SN=np.array([[False] + [True] * num_items]),
    )


def compared(*names: str, must: bool = True, **changes: Any) -> AtCutOff:
    opened = openers(names, RecsysConfig())
    return at_cut_off(
        world(**changes), opened, must=set(names) if must else set(), peak_memory=no_memory
    )


def at_one(found: AtCutOff) -> Comparison:
    return Comparison(WINDOW.end, (found,))


@given(
    st.lists(st.lists(st.integers(-2, 2), min_size=6, max_size=6), min_size=1, max_size=3),
    st.lists(st.booleans(), min_size=6, max_size=6),
    st.integers(1, 8),
)
def test_lists_are_the_sorted_items_that_are_not_hidden(
    scores: list[list[int]], hidden: list[bool], k: int
) -> None:
    hidden[0] = True
    # -2 stands for what is in no list, whoever asks.
    given = np.array(
        [[-math.inf if s == -2 else s for s in row] for row in scores], dtype=np.float32
    )
    found = best_items(given, np.array([hidden] * len(scores)), k)
    for row, listed in zip(scores, found.tolist(), strict=True):
        may = [item for item in range(6) if not hidden[item] and row[item] != -2]
        wanted = sorted(may, key=lambda item: (-row[item], item))[:k]
        assert listed == wanted + [0] * (k - len(wanted))


def test_who_knows_what_follows_is_above_who_does_not_and_the_interval_says_so() -> None:
    found = compared("popularity", "transitions")
    told = summary(at_one(found), Asked(("popularity", "transitions")), RecsysConfig())
    models = told["cut_offs"][0]["models"]
    assert told["reference"] == "transitions"
    assert models["transitions"]["ndcg"]["value"] == 1
    assert models["popularity"]["ndcg_above_reference"]["high"] < 0
    assert "ndcg_above_reference" not in models["transitions"]
    assert models["transitions"]["coverage"]["value"] == 1
    assert models["transitions"]["peak_memory_gb"] == 2
    text = table(told)
    assert text.index("| `transitions` | 1.0000 [1.0000, 1.0000] |") < text.index("| `popularity`")
    assert "30 users; fitted on 30 events of 10 items. 0.0% of the targets" in text


def test_hidden_items_and_items_that_rules_keep_from_a_segment_are_in_no_list() -> None:
    seen = world()
    second = np.ones((2, 11), dtype=bool)
    second[:, 0] = False
    second[1, 4] = False
    ruled = TemporalShop(
        **{
            **vars(seen),
            "hidden": histories([[num % 10 + 1] for num in range(30)]),
            "allowed_SN": second,
            "users": Users(seen.users.histories, seen.users.user_nums, np.arange(30) % 2),
        }
    )
    found = at_cut_off(
        ruled, openers(["popularity"], RecsysConfig()), must=set(), peak_memory=no_memory
    )
    lists = found.results["popularity"].lists_UK
    had = (np.arange(30) % 10 + 1)[:, None]
    assert not (lists == had).any()
    assert not (lists[1::2] == 4).any() and (lists[::2] == 4).any()


def test_one_that_lacks_something_is_left_out_unless_it_was_asked_for_by_name() -> None:
    found = compared("popularity", "content", must=False)
    assert list(found.results) == ["popularity"]
    assert "no attributes" in found.left_out["content"]
    told = summary(at_one(found), Asked(("all",)), RecsysConfig())
    assert "not measured: `content`: content needs to know what items are" in table(told)
    assert found.errors == []
    [error] = compared("popularity", "content").errors
    assert isinstance(error, MissingInput) and "no attributes" in str(error)


class Broken:
    """Gives everybody the same score for so many items."""

    def __init__(self, value: float, width: int) -> None:
        self.value, self.width = value, width

    def fit(self, shop: Shop) -> Broken:
        return self

    def scores(self, users: Users) -> Any:
        return np.full((len(users), self.width), self.value, dtype=np.float32)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (Broken(math.nan, 11), "mine gave 30 of 30 users a score that is no number"),
        (Broken(0.0, 4), "shape (30, 4)"),
    ],
)
def test_scores_that_no_list_can_order_are_refused(broken: Broken, said: str) -> None:
    opened = {"mine": lambda _: broken, **openers(["popularity"], RecsysConfig())}

    found = at_cut_off(world(), opened, must=set(), peak_memory=no_memory)

    [error] = found.errors
    assert isinstance(error, Refused) and said in str(error)
    assert said in found.left_out["mine"] and list(found.results) == ["popularity"]


def test_what_the_others_came_to_is_told_before_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = without_a_lake(tmp_path, monkeypatch)
    monkeypatch.setattr(contestants, "recommender", lambda name: (
        Broken(math.nan, 11) if name == "my_shop:Broken" else named.recommender(name)
    ))  # fmt: skip
    asked = Asked(("my_shop:Broken", "popularity"))

    told = compare(None, config, asked, peak_memory=no_memory)  # type: ignore[arg-type]

    found = next(told)
    assert list(found.cut_offs[0].results) == ["popularity"]
    assert "not measured: `my_shop:Broken`: my_shop:Broken gave 30" in table(
        summary(found, asked, config)
    )
    with pytest.raises(Refused, match="a score that is no number"):
        next(told)


def test_scores_from_a_file_are_lists_and_what_they_lack_costs_places(tmp_path: Path) -> None:
    following = [(f"u{u:02}", f"i{(u + 1) % 10 + 1}") for u in range(0, 30, 2)]
    users, items = zip(*following, strict=True)
    path = tmp_path / "scores.parquet"
    pq.write_table(pa.table({"user_id": users, "item_id": items, "score": [1.0] * 15}), path)

    [found] = compared(str(path)).results.values()

    assert (found.lists_UK[::2, 0] > 0).all() and not found.lists_UK[1::2].any()
    assert not found.lists_UK[:, 1:].any()
    assert found.metrics_UTM[:, 0, 1].tolist() == [1.0, 0.0] * 15


def test_a_reference_that_is_not_compared_is_refused() -> None:
    asked = Asked(("popularity",), reference="blend")
    with pytest.raises(ConfigError, match="--reference blend is not among the models: popularity"):
        next(compare(None, RecsysConfig(), asked, peak_memory=no_memory))  # type: ignore[arg-type]


def without_a_lake(folder: Path, monkeypatch: pytest.MonkeyPatch) -> RecsysConfig:
    """``compare`` finds the ``world`` instead of a lake's events."""
    days = (date(2024, 1, 1), date(2024, 6, 7))
    monkeypatch.setattr(comparison, "days_of_events", lambda lake: days)
    monkeypatch.setattr(comparison, "temporal_shop", lambda *_, **given: world())
    return RecsysConfig(paths=PathsConfig(root=str(folder)))


def test_a_reference_that_lacks_something_is_refused_and_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ``all``, what lacks something is left out; the others are to be compared with this one."""
    config = without_a_lake(tmp_path, monkeypatch)
    monkeypatch.setattr(contestants, "SHIPPED", {"popularity": "", "content": ""})

    def first(reference: str) -> Comparison:
        asked = Asked(("all",), reference=reference)
        return next(compare(None, config, asked, peak_memory=no_memory))  # type: ignore[arg-type]

    assert list(first("").cut_offs[0].left_out) == ["content"]
    asked = Asked(("all",), reference="content")
    told = compare(None, config, asked, peak_memory=no_memory)  # type: ignore[arg-type]
    assert "content" not in next(told).cut_offs[0].results
    with pytest.raises(MissingInput, match="no attributes"):
        next(told)


def test_two_of_one_day_do_not_share_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the day was asked for or is that after the last event."""
    config = without_a_lake(tmp_path, monkeypatch)

    def running(run_date: date) -> Iterator[Comparison]:
        asked = Asked(("popularity",), run_date)
        return compare(None, config, asked, peak_memory=no_memory)  # type: ignore[arg-type]

    one, other, tomorrow = running(date.min), running(date(2024, 6, 8)), running(date(2024, 6, 9))
    next(one)
    with pytest.raises(Conflict, match="compare before 2024-06-08 is already running"):
        next(other)
    next(tomorrow)
    assert not list(one)
    next(running(date(2024, 6, 8)))


def test_the_reference_is_the_best_simple_baseline_at_all_cut_offs() -> None:
    both = compared("item_item", "popularity", "transitions"), compared("popularity", "item_item")
    assert reference_of(Comparison(WINDOW.end, both), "") == "item_item"
    assert reference_of(Comparison(WINDOW.end, both), "popularity") == "popularity"


@pytest.mark.parametrize(
    ("comparisons", "arm"), [(1, 0.02), (5, 0.02 * norm.isf(0.005) / norm.isf(0.025))]
)
def test_an_interval_for_one_of_several_is_longer(comparisons: int, arm: float) -> None:
    found = stretched(Estimate(0.1, 0.08, 0.13, 9), of=comparisons)
    assert found.low == pytest.approx(0.1 - arm)
    assert found.high == pytest.approx(0.1 + 1.5 * arm)


def test_all_stands_for_every_shipped_recommender_and_each_is_there_once() -> None:
    assert list(openers(["blend", "all"], RecsysConfig()))[:2] == ["blend", "popularity"]
    assert len(openers(["all", "all"], RecsysConfig())) == 16


@pytest.mark.parametrize(
    ("names", "cut_offs", "said"),
    [
        ([""], 1, "nothing to compare"),
        (["nobody"], 1, "no recommender is called 'nobody'"),
        (["scores.parquet"], 2, "scores of one day, and --cut-offs 2"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_read(
    names: list[str], cut_offs: int, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        openers(names, RecsysConfig(), cut_offs=cut_offs)


def test_reports_of_what_was_asked_otherwise_have_other_names() -> None:
    assert file_name(Asked(("my.models:Own", "mlflow:1")), "d") == "d-my.models_Own-mlflow_1"
    whole = Asked(("blend", "popularity"), cut_offs=3, sample=0.2, reference="blend")
    assert file_name(whole, "d") == "d-blend-popularity-3_cut_offs-sample_0.2-above_blend"
    here, there = (
        file_name(Asked((f"/{folder}/s.parquet",)), "d") for folder in ("monday", "tuesday")
    )
    assert here != there and here.startswith("d-s.parquet_")
    long = ("recommender",) * 9
    assert file_name(Asked(long), "d") != file_name(Asked(long[1:]), "d")
    assert len(file_name(Asked(long), "d")) < 20
