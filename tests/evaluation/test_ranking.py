"""Our metrics against two other libraries', and against figures worked out by hand."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

from recsys.evaluation.ranking import METRICS, hits, metrics_by_user

KS = (1, 3, 10)
DEEPEST = max(KS)


def values(
    lists: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], unknown: int = 0
) -> np.ndarray[Any, Any]:
    """[user, metric, k]; each user has ``unknown`` further targets that no list can hold."""
    padded = np.array([[*row, *[0] * (DEEPEST - len(row))] for row in lists], dtype=np.int32)
    offsets = np.cumsum([0, *(len(row) for row in targets)])
    flat = np.array([num for row in targets for num in sorted(row)], dtype=np.int32)
    counts = np.diff(offsets) + unknown
    return metrics_by_user(hits(padded.reshape(-1, DEEPEST), offsets, flat), counts, KS)


def test_one_hit_at_rank_two_of_two_targets() -> None:
    [[recall, ndcg, mrr]] = values([[5, 7, 9]], [[7, 8]])

    ideal = 1 + 1 / math.log2(3)
    assert recall.tolist() == [0, 0.5, 0.5]
    assert ndcg.tolist() == pytest.approx([0, 1 / math.log2(3) / ideal, 1 / math.log2(3) / ideal])
    assert mrr.tolist() == [0, 0.5, 0.5]


def test_targets_outside_the_vocabulary_stay_in_the_denominators() -> None:
    [[recall, ndcg, _]] = values([[7]], [[7]], unknown=3)

    assert recall.tolist() == [0.25] * 3
    assert ndcg[0] == 1  # k = 1: one hit is all that can be had
    assert ndcg[2] < 1


def test_a_user_without_targets_has_no_figures() -> None:
    assert np.isnan(values([[1, 2]], [[]])).all()


def test_empty_places_are_no_hits() -> None:
    assert values([[]], [[3]]).tolist() == [[[0, 0, 0]] * 3]


def test_targets_of_one_user_are_not_hits_of_another() -> None:
    [first, second] = values([[1], [2]], [[2], [1]])

    assert not first.any() and not second.any()


item = st.integers(1, 15)
users = st.lists(
    st.tuples(
        st.lists(item, max_size=DEEPEST, unique=True),
        st.lists(item, min_size=1, max_size=14, unique=True),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60)
@given(users)
def test_agrees_with_ir_measures(people: list[tuple[list[int], list[int]]]) -> None:
    """Degenerate lists (empty, all hits, shorter than k) come from the strategy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own
        import ir_measures
        from ir_measures import RR, R, nDCG

        names = {"recall": R, "ndcg": nDCG, "mrr": RR}
        measures = {
            names[metric] @ k: (m, place)
            for m, metric in enumerate(METRICS)
            for place, k in enumerate(KS)
        }
        qrels = [ir_measures.Qrel(str(u), f"i{i}", 1) for u, (_, t) in enumerate(people) for i in t]
        run = [
            ir_measures.ScoredDoc(str(u), f"i{i}", float(100 - rank))
            for u, (shown, _) in enumerate(people)
            for rank, i in enumerate(shown)
        ]
        found = list(ir_measures.iter_calc(list(measures), qrels, run)) if run else []
    ours = values([shown for shown, _ in people], [t for _, t in people])
    theirs = np.zeros_like(ours)  # ir-measures leaves out users with an empty list: 0
    for metric in found:
        theirs[int(metric.query_id), *measures[metric.measure]] = metric.value

    np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.mark.spark
def test_agrees_with_sparks_ranking_evaluator(spark: SparkSession) -> None:
    from pyspark.ml.evaluation import RankingEvaluator

    rng = np.random.default_rng(17)
    lists = [rng.permutation(15)[: rng.integers(0, DEEPEST + 1)] + 1 for _ in range(200)]
    targets = [rng.permutation(15)[: rng.integers(1, 14)] + 1 for _ in range(200)]
    rows = [
        ([float(i) for i in a], [float(i) for i in b]) for a, b in zip(lists, targets, strict=True)
    ]
    df = (
        spark.createDataFrame(rows, "prediction array<double>, label array<double>")
        .coalesce(1)
        .persist()
    )
    ours = values([a.tolist() for a in lists], [b.tolist() for b in targets]).mean(axis=0)

    same: dict[str, Literal["recallAtK", "ndcgAtK"]] = {"recall": "recallAtK", "ndcg": "ndcgAtK"}
    for metric, name in same.items():
        theirs = RankingEvaluator(metricName=name, k=10).evaluate(df)
        assert ours[METRICS.index(metric), KS.index(10)] == pytest.approx(theirs, abs=1e-9)
    df.unpersist()
