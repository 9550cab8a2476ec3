"""Our metrics against two other libraries', and against figures worked out by hand."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

from recsys.errors import ContractError
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


def figures(lists: list[int], targets: list[int], unknown: int = 0) -> dict[str, list[float]]:
    """By metric, of one user, at every k."""
    [found] = values([lists], [targets], unknown)
    return dict(zip(METRICS, found.tolist(), strict=True))


def test_one_hit_at_rank_two_of_two_targets() -> None:
    found = figures([5, 7, 9], [7, 8])

    ideal = 1 + 1 / math.log2(3)
    assert found["recall"] == [0, 0.5, 0.5]
    assert found["ndcg"] == pytest.approx([0, 1 / math.log2(3) / ideal, 1 / math.log2(3) / ideal])
    assert found["mrr"] == [0, 0.5, 0.5]
    assert found["precision"] == pytest.approx([0, 1 / 3, 1 / 10])
    assert found["f1"] == pytest.approx([0, 2 * (1 / 3) * 0.5 / (1 / 3 + 0.5), 1 / 6])
    assert found["hit_rate"] == [0, 1, 1]
    assert found["map"] == [
        0,
        0.25,
        0.25,
    ]  # half of what there is, found with half of the places wasted


def test_hits_at_one_and_three_of_four_targets() -> None:
    found = figures([1, 5, 2], [1, 2, 3, 4])

    assert found["map"] == pytest.approx([1, (1 + 2 / 3) / 3, (1 + 2 / 3) / 4])
    assert found["precision"] == pytest.approx([1, 2 / 3, 2 / 10])


def test_a_list_of_hits_alone_has_one_in_all_but_recall() -> None:
    """k = 1 and 3 of four targets: what MAP is divided by is what could be had."""
    found = figures([1, 2, 3, 4], [1, 2, 3, 4])

    for metric in ("ndcg", "mrr", "precision", "hit_rate", "map"):
        assert found[metric][:2] == [1, 1], metric
    assert found["recall"] == [0.25, 0.75, 1]


def test_targets_outside_the_vocabulary_stay_in_the_denominators() -> None:
    found = figures([7], [7], unknown=3)

    assert found["recall"] == [0.25] * 3
    assert found["ndcg"][0] == found["map"][0] == 1  # k = 1: one hit is all that can be had
    assert found["ndcg"][2] < 1
    assert found["map"][2] == 0.25


def test_a_k_beyond_the_lists_finds_no_more() -> None:
    lists = np.array([[3, 1]], dtype=np.int32)
    found = hits(lists, np.array([0, 1]), np.array([1], dtype=np.int32))

    [short] = metrics_by_user(found, np.array([1]), (2, 50))

    at = {metric: short[place].tolist() for place, metric in enumerate(METRICS)}
    assert at["recall"] == at["hit_rate"] == [1, 1]
    assert at["mrr"] == at["map"] == [0.5, 0.5]
    assert at["precision"] == [1 / 2, 1 / 50]


@pytest.mark.parametrize(
    ("lists", "targets", "said"),
    [
        ([4, 2, 9, 2], [1], "the list in row 0 holds item 2 more than once"),
        ([1], [8, 8], "the targets of row 0 hold item 8 more than once"),
    ],
)
def test_nothing_is_counted_twice(lists: list[int], targets: list[int], said: str) -> None:
    with pytest.raises(ContractError, match=said):
        values([lists], [targets])


def test_more_hits_than_targets_are_refused() -> None:
    with pytest.raises(ContractError, match="the list in row 1 has 2 hits and its user 1 targets"):
        metrics_by_user(np.array([[True], [True]]) * np.ones((2, 2), bool), np.array([2, 1]), (2,))


def test_targets_in_any_order_are_the_same_targets() -> None:
    lists, offsets = np.array([[1, 2, 3]], dtype=np.int32), np.array([0, 2])

    for targets in ([3, 1], [1, 3]):
        found = hits(lists, offsets, np.array(targets, dtype=np.int32))
        assert found.tolist() == [[True, False, True]]


def test_a_user_without_targets_has_no_figures() -> None:
    assert np.isnan(values([[1, 2]], [[]])).all()


def test_empty_places_are_no_hits() -> None:
    assert not values([[]], [[3]]).any()


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


def random_people(users: int) -> tuple[list[list[int]], list[list[int]]]:
    """Lists of 0 to 10 of 15 items, and 0 to 14 targets: some have no list, some no target, some neither."""
    rng = np.random.default_rng(17)
    lists = [rng.permutation(15)[: rng.integers(0, DEEPEST + 1)] + 1 for _ in range(users)]
    targets = [rng.permutation(15)[: rng.integers(0, 15)] + 1 for _ in range(users)]
    return [row.tolist() for row in lists], [row.tolist() for row in targets]


@settings(max_examples=60)
@given(users)
def test_agrees_with_ir_measures(people: list[tuple[list[int], list[int]]]) -> None:
    """Degenerate lists (empty, all hits, shorter than k) come from the strategy."""
    agree_with_ir_measures([shown for shown, _ in people], [t for _, t in people])


def test_agrees_with_ir_measures_on_many_at_random() -> None:
    agree_with_ir_measures(*random_people(300))


def agree_with_ir_measures(lists: list[list[int]], targets: list[list[int]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own
        import ir_measures
        from ir_measures import AP, RR, P, R, Success, nDCG

        names = {
            "recall": R,
            "ndcg": nDCG,
            "mrr": RR,
            "precision": P,
            "hit_rate": Success,
            "map": AP,
        }
        measures = {
            names[metric] @ k: (METRICS.index(metric), place)
            for metric in names
            for place, k in enumerate(KS)
        }
        qrels = [ir_measures.Qrel(str(u), f"i{i}", 1) for u, row in enumerate(targets) for i in row]
        run = [
            ir_measures.ScoredDoc(str(u), f"i{i}", float(100 - rank))
            for u, row in enumerate(lists)
            for rank, i in enumerate(row)
        ]
        found = list(ir_measures.iter_calc(list(measures), qrels, run)) if run and qrels else []
    ours = np.nan_to_num(values(lists, targets))
    theirs = np.zeros_like(
        ours
    )  # ir-measures leaves out users with an empty list or without a target: 0
    for metric in found:
        theirs[int(metric.query_id), *measures[metric.measure]] = metric.value
    # trec_eval divides the average precision by the targets, we by as many of them as fit in k
    counts = np.array([max(len(row), 1) for row in targets])[:, None]
    theirs[:, METRICS.index("map")] *= counts / np.minimum(counts, KS)
    recall, precision = (theirs[:, METRICS.index(name)] for name in ("recall", "precision"))
    both = np.where(recall + precision > 0, recall + precision, 1)
    theirs[:, METRICS.index("f1")] = 2 * recall * precision / both  # they have none with a cut-off

    np.testing.assert_allclose(ours, theirs, atol=1e-9)


SPARKS = {
    "recall": "recallAtK",
    "ndcg": "ndcgAtK",
    "precision": "precisionAtK",
    "map": "meanAveragePrecisionAtK",
}


@pytest.mark.spark
def test_agrees_with_sparks_ranking_evaluator(spark: SparkSession) -> None:
    from pyspark.ml.evaluation import RankingEvaluator

    lists, targets = random_people(200)
    rows = [
        ([float(i) for i in a], [float(i) for i in b]) for a, b in zip(lists, targets, strict=True)
    ]
    df = (
        spark.createDataFrame(rows, "prediction array<double>, label array<double>")
        .coalesce(1)
        .persist()
    )
    # Of a user without targets Spark makes 0 and a warning; we leave them out of the mean.
    ours = np.nan_to_num(values(lists, targets)).mean(axis=0)

    for metric, name in SPARKS.items():
        for place, k in enumerate(KS):
            theirs = RankingEvaluator(metricName=name, k=k).evaluate(df)  # type: ignore[arg-type]
            assert ours[METRICS.index(metric), place] == pytest.approx(theirs, abs=1e-9), (
                metric,
                k,
            )
    df.unpersist()
