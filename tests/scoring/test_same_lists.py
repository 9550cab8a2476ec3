"""Lists that are the same, and what is said of those that are not."""

from __future__ import annotations

from recsys.scoring.same_lists import difference

TEA, CUP, POT = ("tea", 2.0, "model"), ("cup", 1.0, "model"), ("pot", 1.0, "model")
LIST = [TEA, CUP, POT]


def test_equal_scores_may_swap_and_take_each_others_last_place() -> None:
    assert difference(LIST, LIST) == ""
    assert difference(LIST, [TEA, POT, CUP]) == ""
    assert difference(LIST, [TEA, CUP, ("jam", 1.0, "model")]) == ""
    assert difference(LIST, [TEA, ("cup", 1.0 + 1e-7, "model"), POT]) == ""


def test_what_differs_first_is_said() -> None:
    assert difference(LIST, LIST[:2]) == "3 items, scored anew 2"
    assert difference(LIST, [("jam", 2.0, "model"), CUP, POT]) == (
        "rank 1 is 'tea' 2 model, scored anew 'jam' 2 model"
    )
    assert difference(LIST, [("tea", 2.1, "model"), CUP, POT]).startswith("rank 1 is 'tea' 2 model")
    assert difference(LIST, [TEA, ("cup", 1.0, "similar"), POT]).startswith("rank 2 is 'cup'")
    assert difference(LIST, [TEA, CUP, ("pot", 1.0, "popular")]).startswith("rank 3 is 'pot'")
    assert difference(None, LIST) == "has no list"
    assert difference(LIST, None) == "has a list, and is nobody to score"
