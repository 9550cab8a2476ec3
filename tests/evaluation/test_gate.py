"""Each rule of the gate: where it refuses, where it just does not, and what it says.

tests/evaluation/test_gate_mutants.py runs these tests against a gate that decides otherwise at one place.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from recsys.config.gate import GateConfig
from recsys.evaluation.gate import Candidate, SliceGain, Verdict, judge, reason_of
from recsys.evaluation.intervals import Estimate

BASELINES = {
    "popularity": 0.02,
    "last_purchases": 0.05,
    "repeat_purchase": 0.03,
    "transitions": 0.03,
    "item_item": 0.04,
}
RULES = (
    "min_users", "min_ndcg_at_10", "min_coverage_at_10", "baselines_present", "best_baseline",
    "live_recipe", "slice_regressions", "list_churn", "model_size",
)  # fmt: skip


def a_slice(
    value: float, low: float, high: float, *, part: str = "1-2", users: int = 200, other: str = "live",
    had: float = 0.05, of_targets: bool = False,
) -> SliceGain:  # fmt: skip
    """``had`` is what the other has there."""
    gain = Estimate(value, low, high, users)
    return SliceGain("history_length", part, other, users, gain, had, of_targets)


UNCHANGED = a_slice(0.001, -0.001, 0.003)
GOOD = Candidate(
    num_users=500, ndcg_at_10={**BASELINES, "blend": 0.06, "live": 0.05}, coverage_at_10=0.2, live_release="r1",
    slices=(UNCHANGED,), list_churn=0.3, model_bytes=5_000_000,
)  # fmt: skip
FIRST = replace(GOOD, ndcg_at_10={**BASELINES, "blend": 0.06}, live_release="", list_churn=math.nan)


def of(candidate: Candidate, **ndcg: float) -> Candidate:
    return replace(candidate, ndcg_at_10={**candidate.ndcg_at_10, **ndcg})


def judged(candidate: Candidate, **config: Any) -> list[Verdict]:
    shares = {"slice_tolerance": 0.05, "target_slice_tolerance": 0.2, "slice_allowance": 0.0}
    return judge(candidate, GateConfig(**{**shares, **config}))


def verdict(candidate: Candidate, rule: str, **config: Any) -> Verdict:
    [found] = [one for one in judged(candidate, **config) if one.rule == rule]
    return found


def refused(candidate: Candidate, **config: Any) -> list[str]:
    return [one.rule for one in judged(candidate, **config) if not one.ok]


def test_a_better_blend_passes_every_rule() -> None:
    verdicts = judge(GOOD, GateConfig())

    assert tuple(one.rule for one in verdicts) == RULES
    assert {one.verdict for one in verdicts} == {"ok"}
    assert reason_of(verdicts) == "passed all 9 rules of the gate"


def test_an_exact_tie_with_baseline_and_live_passes() -> None:
    assert refused(of(GOOD, blend=0.05)) == []


def without(name: str) -> Candidate:
    return replace(GOOD, ndcg_at_10={k: v for k, v in GOOD.ndcg_at_10.items() if k != name})


@pytest.mark.parametrize(
    ("candidate", "rules"),
    [
        (replace(GOOD, num_users=99), ["min_users"]),
        (replace(GOOD, coverage_at_10=0.009), ["min_coverage_at_10"]),
        (replace(GOOD, coverage_at_10=math.nan), ["min_coverage_at_10"]),
        (of(GOOD, blend=0.0499), ["best_baseline", "live_recipe"]),
        (of(GOOD, live=0.07), ["live_recipe"]),
        (of(GOOD, item_item=0.07), ["best_baseline"]),
        (of(GOOD, blend=math.nan), ["min_ndcg_at_10", "best_baseline", "live_recipe"]),
        (without("blend"), ["min_ndcg_at_10", "best_baseline", "live_recipe"]),
        (of(GOOD, item_item=math.nan), ["baselines_present"]),
        (without("popularity"), ["baselines_present"]),
        (of(GOOD, live=math.nan), ["live_recipe"]),  # nothing to compare with is not a pass
        (FIRST, ["live_recipe"]),  # it needs --bootstrap
        (replace(GOOD, slices=()), ["slice_regressions"]),
        (replace(GOOD, list_churn=0.91), ["list_churn"]),
        (replace(GOOD, list_churn=math.nan), ["list_churn"]),
        (replace(GOOD, model_bytes=2_000_000_001), ["model_size"]),
        (replace(GOOD, model_bytes=0), ["model_size"]),
    ],
)  # fmt: skip
def test_each_rule_can_refuse(candidate: Candidate, rules: list[str]) -> None:
    first = candidate is FIRST
    slices = tuple(replace(one, other="popularity") for one in candidate.slices)
    assert refused(replace(candidate, slices=slices) if first else candidate) == rules


@pytest.mark.parametrize(
    "candidate",
    [
        replace(GOOD, num_users=100), replace(GOOD, coverage_at_10=0.01),
        replace(GOOD, list_churn=0.9), replace(GOOD, model_bytes=2_000_000_000),
        replace(GOOD, model_bytes=1),
    ],
)  # fmt: skip
def test_what_just_reaches_a_limit_passes(candidate: Candidate) -> None:
    assert refused(candidate) == []


def test_a_floor_holds_where_everything_is_bad() -> None:
    low: dict[str, Any] = dict.fromkeys((*BASELINES, "live"), 0.001)

    assert refused(of(GOOD, blend=0.0049, **low), slice_tolerance=1) == ["min_ndcg_at_10"]
    assert refused(of(GOOD, blend=0.005, **low), slice_tolerance=1) == []


def test_where_no_baseline_was_measured_none_is_best() -> None:
    nothing = replace(GOOD, ndcg_at_10={"blend": 0.06, "live": 0.05})

    assert refused(nothing) == ["baselines_present", "best_baseline"]
    assert verdict(nothing, "best_baseline").reason == "no baseline was measured"
    assert verdict(nothing, "baselines_present").value == 0


def test_a_missing_baseline_is_named_and_counted() -> None:
    found = verdict(of(GOOD, popularity=math.nan), "baselines_present")

    assert (found.value, found.wanted) == (4, "= 5")
    assert found.reason == "no figure for popularity"
    assert verdict(GOOD, "baselines_present").value == 5


def test_bootstrap_allows_a_first_release_and_nothing_else() -> None:
    first = replace(FIRST, slices=(replace(UNCHANGED, other="popularity"),))

    assert refused(first, bootstrap=True) == []
    assert refused(of(first, blend=0.04), bootstrap=True) == ["best_baseline"]
    assert refused(of(GOOD, live=0.07), bootstrap=True) == ["live_recipe"]
    assert "allowed by --bootstrap" in verdict(first, "live_recipe", bootstrap=True).reason
    assert "a first release needs --bootstrap" in verdict(first, "live_recipe").reason
    assert verdict(first, "list_churn").reason == "no release is live to change"


def test_tolerance_is_a_share_of_the_other_figure() -> None:
    assert refused(of(GOOD, blend=0.0451), tolerance=0.1) == []
    assert refused(of(GOOD, blend=0.0449), tolerance=0.1) == ["best_baseline", "live_recipe"]


@pytest.mark.parametrize(
    ("blend", "reason"),
    [
        (0.05, "NDCG@10 of the blend 0.05000 is not below last_purchases 0.05000"),
        (0.04, "NDCG@10 of the blend 0.04000 is below last_purchases 0.05000"),
        (math.nan, "NDCG@10 of the blend nan is not shown to reach last_purchases 0.05000"),
    ],
)
def test_the_reason_has_the_figures_of_both(blend: float, reason: str) -> None:
    found = verdict(of(GOOD, blend=blend), "best_baseline")

    assert (found.reason, found.wanted) == (reason, ">= 0.05")
    unknown = verdict(of(GOOD, live=math.nan), "live_recipe")
    assert "is not shown to reach the recipe of r1" in unknown.reason


def test_the_whole_reason_names_what_refused_and_nothing_else() -> None:
    verdicts = judge(of(GOOD, live=0.07), GateConfig(tolerance=0.1))

    assert reason_of(verdicts) == (
        "the gate refused: live_recipe (NDCG@10 of the blend 0.06000 is below the recipe of r1, fitted at the "
        "same cut-off, 0.07000 less 10.0%)"
    )


@pytest.mark.parametrize(
    ("gain", "ok"),
    [
        # 5 % of the .05 that the live recipe has there is .0025.
        (a_slice(-0.004, -0.005, -0.003), False),
        (a_slice(-0.004, -0.0055, -0.0025), True),  # the interval reaches the tolerance
        (a_slice(-0.030, -0.061, 0.001), True),  # much worse by chance, perhaps
        (a_slice(0.0, 0.0, 0.0), True),  # the same lists
        (a_slice(-0.004, -0.005, -0.003, users=100), False),
        (a_slice(-0.004, -0.005, -0.003, users=99), True),  # too few to be judged
        (a_slice(math.nan, math.nan, math.nan), False),
        (a_slice(-0.004, -0.005, -0.003, had=0.2), True),  # there .01 is
        (
            a_slice(-0.002, -0.002, -0.002, had=0.002),
            False,
        ),  # it has lost everything, however little that was
        (a_slice(-0.009, -0.012, -0.009, of_targets=True), True),  # of targets .01 is: 20 %
        (a_slice(-0.012, -0.013, -0.011, of_targets=True), False),
        (a_slice(0.004, 0.003, 0.005, had=math.nan), False),  # nobody knows what 5 % are of
    ],
)
def test_a_slice_that_is_shown_to_lose_refuses(gain: SliceGain, ok: bool) -> None:
    assert verdict(replace(GOOD, slices=(gain,)), "slice_regressions").ok is ok


def test_a_first_release_may_lose_a_part_of_the_targets_to_a_baseline() -> None:
    of_targets, of_users = (
        a_slice(-0.03, -0.031, -0.029, other="last_purchases", of_targets=which) for which in (True, False)
    )  # fmt: skip

    assert refused(replace(FIRST, slices=(of_targets,)), bootstrap=True) == []
    assert refused(replace(FIRST, slices=(of_users,)), bootstrap=True) == ["slice_regressions"]
    assert refused(replace(GOOD, slices=(of_targets,))) == ["slice_regressions"]


def test_what_a_slice_may_lose_is_never_less_than_the_allowance() -> None:
    lost = replace(GOOD, slices=(a_slice(-0.002, -0.002, -0.002, had=0.002),))

    assert refused(lost, slice_allowance=0.002) == []
    assert refused(lost, slice_allowance=0.0019) == ["slice_regressions"]
    much = replace(GOOD, slices=(a_slice(-0.004, -0.005, -0.003),))
    assert refused(much, slice_allowance=0.002) == ["slice_regressions"]
    assert verdict(much, "slice_regressions", slice_allowance=0.002).wanted == (
        "no slice that loses more than 5.0% of the other's NDCG@10 there, of targets 20.0%, or 0.002"
    )


def test_a_live_recipe_that_is_not_what_it_was_is_told() -> None:
    stands_in = replace(GOOD, live_without="stage 2 (no ranking model)")

    found = verdict(stands_in, "live_recipe")
    assert found.ok and found.reason == (
        "NDCG@10 of the blend 0.06000 is not below the recipe of r1, fitted at the same cut-off without stage 2 "
        "(no ranking model), 0.05000"
    )
    assert reason_of(judged(stands_in)) == (
        "passed all 9 rules of the gate; but the live recipe was measured without stage 2 (no ranking model)"
    )
    assert refused(of(stands_in, live=0.07)) == ["live_recipe"]
    strict = verdict(stands_in, "live_recipe", accept_live_stand_in=False)
    assert not strict.ok and strict.reason == f"{found.reason}; gate.accept_live_stand_in is false"
    assert refused(GOOD, accept_live_stand_in=False) == []


def test_without_a_tolerance_the_same_lists_still_pass() -> None:
    same, lost = a_slice(0.0, 0.0, 0.0), a_slice(-0.001, -0.002, -0.0001)

    assert refused(replace(GOOD, slices=(same,)), slice_tolerance=0) == []
    assert refused(replace(GOOD, slices=(lost,)), slice_tolerance=0) == ["slice_regressions"]


def test_the_slice_that_lost_is_named_the_worst_first() -> None:
    gains = (
        UNCHANGED,
        a_slice(-0.02, -0.021, -0.019, part="3-9"),
        a_slice(-0.03, -0.031, -0.029, part="10+"),
    )

    found = verdict(replace(GOOD, slices=gains), "slice_regressions")

    assert found.value == -0.03
    assert found.reason == (
        "worse for 2 of 3 slices: history_length 10+: -0.0300 [-0.0310, -0.0290] against live, 200 users; "
        "history_length 3-9: -0.0200 [-0.0210, -0.0190] against live, 200 users"
    )


def test_slices_that_lose_nothing_are_told_by_the_least_gain() -> None:
    few = a_slice(-1.0, -1.0, -1.0, users=1)
    more = a_slice(0.5, 0.4, 0.6)

    found = verdict(replace(GOOD, slices=(more, few, UNCHANGED)), "slice_regressions")

    assert (found.ok, found.value) == (True, UNCHANGED.gain.value)
    assert "none of 2 slices is shown to lose more; least gain history_length 1-2" in found.reason
    only_few = verdict(replace(GOOD, slices=(few,)), "slice_regressions")
    assert (only_few.ok, only_few.reason) == (True, "no slice was judged: none has 100 users")
    assert reason_of(judged(replace(GOOD, slices=(few,)))) == (
        "passed all 9 rules of the gate; but no slice was judged: none has 100 users"
    )
    assert verdict(replace(GOOD, slices=()), "slice_regressions").reason == "no slice was measured"


def test_one_slice_among_many_needs_a_clearer_loss() -> None:
    lost = a_slice(-0.0040, -0.0050, -0.0030)
    alone = replace(GOOD, slices=(lost,))
    among = replace(GOOD, slices=(lost, *[UNCHANGED] * 19))

    assert not verdict(alone, "slice_regressions").ok
    assert verdict(among, "slice_regressions").ok
    assert not verdict(among, "slice_regressions", slice_tolerance=0.04).ok


def test_churn_and_size_say_what_was_found() -> None:
    assert verdict(GOOD, "list_churn").reason == (
        "30.0% of the first 10 change against the live recipe, limit 90.0%"
    )
    assert verdict(GOOD, "model_size").reason == "the model has 5 MB on disk, limit 2000"
    assert verdict(replace(GOOD, model_bytes=0), "model_size").reason == (
        "the model's files were not found"
    )
