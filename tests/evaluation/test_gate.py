from __future__ import annotations

import math
from typing import Any

import pytest

from recsys.config.gate import GateConfig
from recsys.evaluation.gate import Candidate, judge, reason_of

CONFIG = GateConfig()
BASELINES = {"popularity": 0.02, "last_purchases": 0.05, "transitions": 0.03, "item_item": 0.04}


def refused(
    config: GateConfig = CONFIG, *, live: float | None = 0.05, users: int = 500, coverage: float = 0.2,
    **ndcg: float,
) -> list[str]:  # fmt: skip
    figures = {**BASELINES, "blend": 0.06, **({} if live is None else {"live": live}), **ndcg}
    candidate = Candidate(users, figures, coverage, "" if live is None else "r1")
    return [verdict.rule for verdict in judge(candidate, config) if not verdict.ok]


def test_a_better_blend_passes_every_rule() -> None:
    assert refused() == []


def test_an_exact_tie_with_baseline_and_live_passes() -> None:
    assert refused(blend=0.05) == []


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ({"users": 99}, ["min_users"]),
        ({"coverage": 0.009}, ["min_coverage_at_10"]),
        ({"coverage": math.nan}, ["min_coverage_at_10"]),
        ({"blend": 0.0499}, ["best_baseline", "live_recipe"]),
        ({"live": 0.07}, ["live_recipe"]),
        ({"live": math.nan}, ["live_recipe"]),  # nothing to compare with is not a pass
        ({"blend": math.nan}, ["min_ndcg_at_10", "best_baseline", "live_recipe"]),
        ({"item_item": math.nan}, ["baselines_present"]),
        ({"live": None}, ["live_recipe"]),  # a first release needs --bootstrap
    ],
)
def test_each_rule_can_refuse(change: dict[str, Any], rules: list[str]) -> None:
    assert refused(**change) == rules


def test_a_floor_holds_where_everything_is_bad() -> None:
    low: dict[str, Any] = dict.fromkeys(BASELINES, 0.001)

    assert refused(blend=0.0049, live=0.001, **low) == ["min_ndcg_at_10"]
    assert refused(blend=0.005, live=0.001, **low) == []


def test_a_missing_baseline_blocks() -> None:
    figures = {name: value for name, value in BASELINES.items() if name != "popularity"}
    candidate = Candidate(500, {**figures, "blend": 0.06, "live": 0.05}, 0.2, "r1")

    verdicts = judge(candidate, GateConfig())

    assert reason_of(verdicts) == "the gate refused: baselines_present (no figure for popularity)"


def test_bootstrap_allows_a_first_release_and_nothing_else() -> None:
    assert refused(GateConfig(bootstrap=True), live=None) == []
    assert refused(GateConfig(bootstrap=True), live=None, blend=0.04) == ["best_baseline"]
    assert refused(GateConfig(bootstrap=True), live=0.07) == ["live_recipe"]


def test_tolerance_is_a_share_of_the_other_figure() -> None:
    config = GateConfig(tolerance=0.1)

    assert refused(config, blend=0.0451) == []
    assert refused(config, blend=0.0449) == ["best_baseline", "live_recipe"]


def test_the_reason_names_the_rule_and_the_figures() -> None:
    candidate = Candidate(500, {**BASELINES, "blend": 0.04, "live": 0.03}, 0.2, "r1")

    assert reason_of(judge(candidate, GateConfig())) == (
        "the gate refused: best_baseline (NDCG@10 of the blend 0.04000 is below last_purchases 0.05000)"
    )
