"""What every recommender promises; cases are in contract.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.errors import CorruptArtifact, RecsysError
from recsys.recommenders import Recommender, Shop, Users
from recsys.recommenders.named import SHIPPED, recommender_class
from recsys.recommenders.shop import Histories
from tests.recommenders.contract import (
    CASES,
    NETWORKS,
    NEVER_BOUGHT,
    NUM_ITEMS,
    Case,
    empty_like,
    frozen,
    nobody,
    parameters,
    small_shop,
    some,
    with_unknown_items,
)

Fit = Callable[[Shop], Recommender]

every_recommender = pytest.mark.parametrize("case", parameters(CASES))


@every_recommender
def test_it_says_in_a_line_what_it_does(case: Case) -> None:
    made = case.make()

    assert isinstance(made, Recommender)
    assert made.name and made.about and "\n" not in made.about


@every_recommender
def test_scores_are_finite_float32_for_every_user_and_item(fitted: Recommender) -> None:
    users = small_shop().everyone()

    scores = fitted.scores(users)

    assert scores.dtype == np.float32
    assert scores.shape == (len(users), NUM_ITEMS + 1)
    assert np.isfinite(scores).all()


@every_recommender
def test_nobody_asked_is_answered_with_no_rows(fitted: Recommender) -> None:
    assert fitted.scores(some(small_shop().everyone(), [])).shape == (0, NUM_ITEMS + 1)


@every_recommender
def test_two_fits_give_equal_scores(case: Case, fit: Fit, fitted: Recommender) -> None:
    users = small_shop().everyone()

    again = fit(small_shop())

    np.testing.assert_array_equal(again.scores(users), fitted.scores(users))


@every_recommender
def test_a_users_scores_do_not_depend_on_the_batch(fitted: Recommender) -> None:
    users = small_shop().everyone()
    together = fitted.scores(users)

    alone = np.concatenate([fitted.scores(some(users, [row])) for row in range(len(users))])
    backwards = fitted.scores(some(users, list(range(len(users)))[::-1]))[::-1]
    in_sevens = np.concatenate(
        [fitted.scores(users.slice(start, start + 7)) for start in range(0, len(users), 7)]
    )

    for other in (alone, backwards, in_sevens):
        np.testing.assert_array_equal(other, together)


@every_recommender
def test_a_user_without_history_gets_what_is_popular_or_no_preference(fitted: Recommender) -> None:
    bought = np.bincount(small_shop().histories.item_nums, minlength=NUM_ITEMS + 1)

    first, second = fitted.scores(nobody(2))[:, 1:]

    np.testing.assert_array_equal(first, second)
    is_constant = (first == first[0]).all()
    assert is_constant or bought[1 + first.argmax()] >= np.median(bought[1:])


@every_recommender
def test_a_user_whom_the_shop_does_not_know_is_scored_by_the_history_given(
    fitted: Recommender,
) -> None:
    known = small_shop().everyone()
    strangers = Users(known.histories, np.zeros(len(known), dtype=np.int64), known.segments)

    scores = fitted.scores(strangers)

    assert scores.shape == (len(known), NUM_ITEMS + 1)
    assert np.isfinite(scores).all()


@every_recommender
def test_events_of_unknown_items_are_as_if_they_were_not(
    case: Case, fit: Fit, fitted: Recommender
) -> None:
    shop = small_shop()
    users = shop.everyone()
    noisy = with_unknown_items(shop.histories)

    asked = fitted.scores(replace(users, histories=noisy))
    learned = fit(replace(shop, histories=noisy)).scores(users)

    np.testing.assert_array_equal(asked, fitted.scores(users))
    np.testing.assert_array_equal(learned, fitted.scores(users))


@every_recommender
def test_items_never_bought_are_not_first(case: Case, fitted: Recommender) -> None:
    users = small_shop().everyone()

    best = 1 + fitted.scores(users)[:, 1:].argmax(axis=1)

    assert case.cold or not np.isin(best, NEVER_BOUGHT).any()


@every_recommender
def test_items_that_nothing_tells_apart_tie(case: Case, fitted: Recommender) -> None:
    scores = fitted.scores(small_shop().everyone())
    one, other = scores[:, NEVER_BOUGHT[0]], scores[:, NEVER_BOUGHT[1]]

    if case.twins_tie:
        np.testing.assert_array_equal(one, other)
    else:
        spread = scores[:, 1:].std(axis=1)
        assert np.mean(np.abs(one - other) / spread) < 1.0


@every_recommender
def test_a_catalogue_of_one_item_is_scored(fit: Fit) -> None:
    shop = small_shop()
    one = np.minimum(shop.histories.item_nums, 1)
    attributes = None if shop.attributes is None else shop.attributes[:2]
    prices = None if shop.prices is None else shop.prices[:2]
    events = replace(shop.histories, item_nums=one)
    small = replace(shop, num_items=1, histories=events, attributes=attributes, prices=prices)

    scores = fit(small).scores(small.everyone())

    assert scores.shape == (len(shop.histories), 2)
    assert np.isfinite(scores).all()


@every_recommender
def test_a_shop_without_events_is_scored(fit: Fit) -> None:
    shop = small_shop()

    scores = fit(empty_like(shop)).scores(shop.everyone())

    assert scores.shape == (len(shop.histories), NUM_ITEMS + 1)
    assert np.isfinite(scores).all()


@every_recommender
def test_nothing_of_the_shop_or_the_users_is_changed(case: Case, fit: Fit) -> None:
    shop = frozen(small_shop())
    users = shop.everyone()

    fit(shop).scores(users)  # an array that is written to raises

    for name in ("offsets", "item_nums", "days"):
        before = getattr(small_shop().histories, name)
        np.testing.assert_array_equal(getattr(shop.histories, name), before)


@every_recommender
def test_what_is_loaded_scores_as_what_was_saved(
    case: Case, fitted: Recommender, tmp_path: Path
) -> None:
    users = small_shop().everyone()

    fitted.save(tmp_path)
    loaded = type(fitted).load(tmp_path)

    np.testing.assert_array_equal(loaded.scores(users), fitted.scores(users))
    assert not [path for path in tmp_path.rglob("*") if path.suffix in {".pkl", ".pickle"}]


@every_recommender
def test_a_missing_file_is_told(case: Case, fitted: Recommender, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    next(path for path in sorted(tmp_path.rglob("*")) if path.is_file()).unlink()

    with pytest.raises(CorruptArtifact, match=str(tmp_path)):
        type(fitted).load(tmp_path)


@every_recommender
def test_a_folder_of_another_recommender_is_refused(
    case: Case, fitted: Recommender, tmp_path: Path
) -> None:
    (tmp_path / "recommender.json").write_text(json.dumps({"recommender": "guesses"}))

    with pytest.raises(CorruptArtifact):
        type(fitted).load(tmp_path)


@every_recommender
def test_what_it_cannot_do_without_is_named(case: Case) -> None:
    if not case.needs:
        pytest.skip("needs histories alone")
    without: dict[str, Any] = {case.needs: None}
    shop = replace(small_shop(), **without)

    with pytest.raises(
        RecsysError, match="(?i)" + case.needs.replace("as_of", "days|as_of")
    ) as caught:
        case.make().fit(shop)
    assert case.make().name in str(caught.value)


def test_every_shipped_recommender_is_asked() -> None:
    assert {name for name in SHIPPED if name not in CASES} == set(NETWORKS)
    for name in CASES.keys() & SHIPPED.keys():
        assert type(CASES[name].make()) is recommender_class(SHIPPED[name])


def test_unknown_items_in_between_are_there_to_be_ignored() -> None:
    """The suite's shop has them; else half of the suite would say nothing."""
    events = small_shop().histories

    assert (events.item_nums == 0).any()
    assert isinstance(events, Histories)
    assert events.lengths.min() == 0
