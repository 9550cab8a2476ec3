"""What the sections refuse and derive."""

from __future__ import annotations

from datetime import date

import pytest

from recsys.config.sections import EvaluationConfig, TrainingConfig
from recsys.config.shop import ShopConfig, Signal
from recsys.errors import ConfigError


def test_a_global_batch_that_does_not_divide_names_the_nearest_that_does() -> None:
    with pytest.raises(
        ConfigError, match="does not divide over 3 processes; nearest that does: 99"
    ):
        TrainingConfig(global_batch_size=100, num_processes=3).batch_size_per_process()


def test_the_cut_offs_of_the_demo_are_those_of_the_issue() -> None:
    cut_offs = EvaluationConfig().cut_offs(date(2010, 12, 10))
    assert (cut_offs.choosing, cut_offs.measuring) == (date(2010, 10, 15), date(2010, 11, 12))
    assert cut_offs.release == date(2010, 12, 10)


def test_signals_that_are_not_named_keep_their_defaults() -> None:
    shop = ShopConfig(signals={"view": Signal(history=False)})
    assert "view" not in shop.event_types("history")
    assert shop.event_types("target") == ("purchase",)
    assert shop.signals["view"].seen_days == 0, "views never make an item seen"


def test_a_shop_without_a_target_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one event type must be a target"):
        ShopConfig(signals={"purchase": Signal(target=False)})
