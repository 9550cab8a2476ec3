"""What the sections refuse and derive."""

from __future__ import annotations

from datetime import date

import pytest

from recsys.config import load_config
from recsys.config.sections import EvaluationConfig, TrainingConfig
from recsys.config.serving import POLLS_SECONDS
from recsys.config.shop import DEFAULT_SIGNALS, ShopConfig, Signal
from recsys.errors import ConfigError


def test_a_global_batch_that_does_not_divide_names_the_nearest_that_does() -> None:
    with pytest.raises(
        ConfigError, match="does not divide over 3 processes; nearest that does: 99"
    ):
        TrainingConfig(global_batch_size=100).batch_size_of_each(3)


def test_the_cut_offs_of_the_demo_are_those_of_the_issue() -> None:
    cut_offs = EvaluationConfig().cut_offs(date(2010, 12, 10))
    assert (cut_offs.choosing, cut_offs.measuring) == (date(2010, 10, 15), date(2010, 11, 12))
    assert cut_offs.release == date(2010, 12, 10)


def test_signals_that_are_not_named_keep_their_defaults() -> None:
    shop = ShopConfig(signals={"view": Signal(history=False)})
    assert "view" not in shop.event_types("history")
    assert shop.event_types("target") == ("purchase",)
    assert shop.signals["view"].seen_days == 0, "views never make an item seen"


@pytest.mark.parametrize("form", [Signal(seen_days=30), {"seen_days": 30}])
@pytest.mark.parametrize("name", ["view", "return", "purchase"])
def test_a_signal_named_in_part_keeps_the_rest_of_its_type(name: str, form: object) -> None:
    signal = ShopConfig.model_validate({"signals": {name: form}}).signals[name]
    assert signal == DEFAULT_SIGNALS[name].model_copy(update={"seen_days": 30})


def test_a_shop_without_a_target_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one event type must be a target"):
        ShopConfig(signals={"purchase": Signal(target=False)})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("evaluation.ks=[5,20]", r"ks must be ascending and contain 10, got \[5, 20\]"),
        ("evaluation.ks=[20,10]", "ks must be ascending"),
        ("training.num_heads=0", "training.num_heads.*greater than or equal to 1"),  # divides by it
        ("training.global_batch_size=0", "training.global_batch_size"),
        ("shop.signals.view.weight=-1", "shop.signals.view.weight"),
        ("training.patience=-1", "training.patience"),
        ("training.dropout=1", "training.dropout"),
        ("ingest.volume.floor=1.5", "ingest.volume.floor"),
        ("ingest.volume.ceiling=0.5", "ingest.volume.ceiling"),  # every usual day would be doubled
        ("gate.tolerance=-0.1", "gate.tolerance"),
        ("gate.min_ndcg_at_10=40", "gate.min_ndcg_at_10"),  # a percentage
        ("serving.port=70000", "serving.port"),
        (
            "serving.pull_seconds=6.5",
            r"pull_seconds=6.5 and blocked_poll_seconds=2 add up to 8.5 s; .* 10 s after it was blocked",
        ),
        ("serving.blocked_poll_seconds=6", "add up to 11 s.* at most 8, .*: lower one of them"),
        ("serving.pull_seconds=.inf", "add up to inf s"),
        ("serving.default_n=0", "serving.default_n"),
        ("scoring.partitions=0", "scoring.partitions"),
        ("generate_shop.closed_weekdays=[7]", "generate_shop.closed_weekdays"),
        (
            "generate_shop.closed_weekdays=[0,1,2,3,4,5,6]",
            "no open day in 120 days from 2024-01-01",
        ),
        ("generate_shop.dirty_shares={bad_timestamp: 2}", "generate_shop.dirty_shares"),
    ],
)
def test_nonsense_is_refused_when_it_is_read(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("local", [override])


def test_the_two_polls_may_take_eight_of_the_ten_seconds() -> None:
    serving = load_config("local", ["serving.pull_seconds=6"]).serving
    assert serving.pull_seconds + serving.blocked_poll_seconds == POLLS_SECONDS == 8


def test_a_generated_shop_that_is_closed_on_its_only_days_is_refused() -> None:
    sunday = ["generate_shop.first_day=2024-01-07", "generate_shop.days=1"]
    with pytest.raises(ConfigError, match=r"no open day in 1 days from 2024-01-07"):
        load_config("local", sunday)
