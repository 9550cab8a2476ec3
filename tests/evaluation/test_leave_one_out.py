"""Leave-one-out: ranks over the whole catalogue, and nothing learned from what is measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.errors import Refused
from recsys.evaluation import finished_rows, leave_one_out
from recsys.evaluation.leave_one_out import NO_RANK, Asked, figures_of, ranks_of, result
from recsys.evaluation.leave_one_out_table import Row, table
from recsys.recommenders import Histories, Shop, Users, blend
from recsys.recommenders.popularity import Popularity
from recsys.recommenders.shop import Scores


def ranked(scores: list[list[float]], seen: list[list[bool]], targets: list[int]) -> list[int]:
    """Column 0 is put before each row."""
    scores_BN = np.array([[9.0, *row] for row in scores], dtype=np.float32)
    seen_BN = np.array([[True, *row] for row in seen])
    found: list[int] = ranks_of(scores_BN, seen_BN, np.array(targets, dtype=np.int32)).tolist()
    return found


def test_a_rank_counts_unseen_items_alone_and_ties_go_to_the_smaller_number() -> None:
    scores = [[0.5, 0.9, 0.5, 0.1]] * 3
    assert ranked(scores, [[False] * 4] * 3, [3, 1, 4]) == [3, 2, 4]
    assert ranked(scores, [[False, True, False, False]] * 3, [3, 1, 4]) == [2, 1, 3]


def test_a_target_that_the_user_had_is_in_no_list() -> None:
    assert ranked([[0.5, 0.9]], [[False, True]], [2]) == [NO_RANK]


@given(st.lists(st.integers(0, 3), min_size=2, max_size=12), st.data())
def test_ranks_are_places_in_the_sorted_list(scores: list[int], data: st.DataObject) -> None:
    seen = data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    target = data.draw(st.integers(1, len(scores)))
    order = sorted(
        (item for item in range(1, len(scores) + 1) if not seen[item - 1]),
        key=lambda item: (-scores[item - 1], item),
    )
    wanted = order.index(target) + 1 if target in order else NO_RANK
    assert ranked([list(map(float, scores))], [seen], [target]) == [wanted]


def test_figures_with_one_target_each() -> None:
    recall, ndcg = figures_of(np.array([1, 3, 6, NO_RANK]))
    assert recall == {5: 0.5, 10: 0.75}
    assert ndcg[5] == pytest.approx((1 + 0.5) / 4)
    assert ndcg[10] == pytest.approx((1 + 0.5 + 1 / math.log2(7)) / 4)


@contextmanager
def no_memory() -> Iterator[list[float]]:
    yield [1e6]


def chains(num_users: int = 300, num_items: int = 40) -> Shop:
    """Everybody goes from an item to the one after it; a fifth of the last steps go elsewhere."""
    draw = np.random.default_rng(3)
    starts, lengths = draw.integers(0, num_items, num_users), draw.integers(3, 8, num_users)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    places = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    nums = (np.repeat(starts, lengths) + places) % num_items + 1
    astray = offsets[1:][draw.random(num_users) < 0.2] - 1
    nums[astray] = draw.integers(1, num_items + 1, len(astray))
    return Shop(num_items, Histories(offsets, nums.astype(np.int32)))


def test_every_recommender_has_a_row_and_one_that_lacks_something_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blend, "PARTS", ("transitions", "popularity"))
    with capture_logs() as lines:
        rows = leave_one_out.one_seed(
            chains(), ("popularity", "trending", "transitions", "blend"), peak_memory=no_memory
        )
    assert [row.recommender for row in rows] == ["popularity", "transitions", "blend"]
    [refused] = [line for line in lines if line["event"] == "not_measured"]
    assert refused["recommender"] == "trending" and "days" in refused["reason"]
    by_name = {row.recommender: row for row in rows}
    assert by_name["transitions"].recall[5] > 0.7 > by_name["popularity"].recall[5] + 0.3
    assert by_name["blend"].recall[5] > 0.7
    assert by_name["blend"].seconds >= by_name["transitions"].seconds
    assert {row.num_users for row in rows} == {300}


def test_what_is_measured_teaches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody ends with an item that nobody had before: who ranks it first has seen it."""
    monkeypatch.setattr(blend, "PARTS", ("transitions", "popularity"))
    shop = chains()
    nums = shop.histories.item_nums.copy()
    nums[shop.histories.offsets[1:] - 1] = shop.num_items + 1
    ended = Shop(shop.num_items + 1, replace(shop.histories, item_nums=nums))
    rows = leave_one_out.one_seed(
        ended, ("transitions", "item_item", "blend"), peak_memory=no_memory
    )
    assert [row.recall[10] for row in rows] == [0, 0, 0]


class Greedy(Popularity):
    """Takes memory when it is asked, and none before."""

    name = "greedy"

    def scores(self, users: Users) -> Scores:
        taken[-1][0] = 7e9
        return super().scores(users)


taken: list[list[float]] = []


@contextmanager
def watched() -> Iterator[list[float]]:
    taken.append([1e6])
    yield taken[-1]


def test_the_memory_that_scoring_takes_counts_and_is_that_of_who_took_it() -> None:
    greedy = f"{__name__}:Greedy"
    rows = leave_one_out.one_seed(
        chains(), ("popularity", greedy, "transitions"), peak_memory=watched
    )
    assert {row.recommender: row.peak_memory_mb for row in rows} == {
        "popularity": 1, greedy: 7000, "transitions": 1,
    }  # fmt: skip


def test_a_score_that_is_no_number_is_not_first_but_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(Refused, match="no number"):
        ranked([[0.5, math.nan, 0.7]], [[False] * 3], [2])

    monkeypatch.setattr(blend, "PARTS", ("transitions", "popularity"))
    summed = blend.Blend.summed
    monkeypatch.setattr(
        blend.Blend, "summed", lambda self, *given: summed(self, *given) * np.float32(math.nan)
    )
    with pytest.raises(Refused, match="blend gave a score that is not finite to 300 users"):
        leave_one_out.one_seed(chains(), ("blend",), peak_memory=no_memory)


def test_a_killed_benchmark_goes_on_after_the_last_seed_that_it_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "shop.txt"
    data.write_text("1 5 6 7\n2 6 7 5\n3 7 5 6\n")
    asked, names = Asked(data, None, 2), ("popularity", "trending", "transitions")
    config = RecsysConfig(paths=PathsConfig(root=str(tmp_path / "var")))
    seeds: list[int] = []
    one_seed, commit, dies = leave_one_out.one_seed, "", False

    def counted(shop: Shop, of: Sequence[str], **given: Any) -> list[Row]:
        if dies and seeds:
            raise KeyboardInterrupt
        seeds.append(shop.seed)
        return one_seed(shop, of, **given)

    def run() -> list[Row]:
        seeds.clear()
        return leave_one_out.benchmark(asked, names, config, None, peak_memory=no_memory)  # type: ignore[arg-type]

    monkeypatch.setattr(finished_rows, "checkout_commit", lambda: commit)
    monkeypatch.setattr(leave_one_out, "one_seed", counted)
    for then, measured in (("abc", [2]), ("def", [1, 2]), ("abc-dirty", [1, 2])):
        commit, dies = "abc", True
        with pytest.raises(KeyboardInterrupt):
            run()
        assert seeds == [1]
        commit, dies = then, False
        rows = run()
        assert seeds == measured
        assert [(row.seed, row.recommender) for row in rows] == [
            (seed, name) for seed in (1, 2) for name in ("popularity", "transitions")
        ]
        assert rows[0].figures == rows[2].figures
        run()
        assert seeds == [1, 2], "what came to its end is measured again"


def test_reports_of_what_was_asked_otherwise_have_other_names() -> None:
    asked = Asked(Path("/data/one/shop.txt"), None, 3)
    others = [
        replace(asked, num_seeds=1),
        replace(asked, data=Path("/data/two/shop.txt")),
        replace(asked, only=("blend",)),
        replace(asked, attributes=Path("/data/one/items.tsv")),
        replace(asked, attributes=Path("/data/two/items.tsv")),
    ]
    assert len({one.report for one in (asked, *others)}) == 6
    assert asked.report.startswith("shop.txt-") and "-1_seeds" in others[0].report


def test_the_table_says_mean_and_spread_and_the_result_is_the_blends() -> None:
    asked = Asked(Path("shop.txt"), None, 2)
    rows = [
        Row("blend", 1, 9, {5: 0.1, 10: 0.2}, {5: 0.05, 10: 0.1}, 10.0, 100),
        Row("popularity", 1, 9, {5: 0.0, 10: 0.1}, {5: 0.0, 10: 0.05}, 1.0, 50),
        Row("blend", 2, 9, {5: 0.2, 10: 0.4}, {5: 0.05, 10: 0.3}, 30.0, 200),
        Row("popularity", 2, 9, {5: 0.0, 10: 0.1}, {5: 0.0, 10: 0.05}, 1.0, 50),
    ]
    text = table(rows, file=asked.data.name, of_seeds=asked.num_seeds)
    assert "mean of 2 of 2 seeds" in text
    assert (
        "| blend | 0.1500 (0.1000) | 0.0500 (0.0000) | 0.3000 (0.2000) | 0.2000 (0.2000) | 20 | 0.2 |"
        in text
    )
    found = result(rows, asked)
    assert (found["recommender"], found["R@10"], found["N@10"]) == ("blend", 0.3, 0.2)
    assert result(rows[1::2], asked)["recommender"] == "popularity"
