"""Which days and steps run_pipeline takes."""

from __future__ import annotations

from datetime import date
from typing import Any, NoReturn

import pytest

from recsys.config import RecsysConfig
from recsys.errors import ConfigError, Refused
from recsys.runner.pipeline import STEPS, days_of, run_steps, steps_from


def test_a_backfill_takes_both_ends_oldest_first_over_a_leap_day() -> None:
    assert days_of(None, "2024-02-28..2024-03-01") == [
        date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("run_date", "run_dates", "message"),
    [
        (None, None, "either --run-date"),
        ("2024-01-01", "2024-01-01..2024-01-02", "either --run-date"),
        (None, "2024-01-01", r"takes FIRST\.\.LAST"),
        (None, "2024-01-02..2024-01-01", "is before"),
        ("2024-02-30", None, "takes a day such as"),
        ("2024-1-1", None, "takes a day such as"),
    ],
)
def test_days_in_the_wrong_form_are_refused(
    run_date: str | None, run_dates: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        days_of(run_date, run_dates)


def test_from_takes_the_step_and_all_after_it() -> None:
    assert steps_from("score_top_n") == ("score_top_n", "publish")
    assert steps_from("ingest") == STEPS
    with pytest.raises(ConfigError, match="--from takes a step, got 'scoring'"):
        steps_from("scoring")


def test_a_step_that_fails_says_how_to_go_on_in_this_environment(
    config: RecsysConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> NoReturn:
        raise Refused("the day is short")

    monkeypatch.setattr("jobs.ingest.run", run)
    of_a_shop = config.model_copy(update={"env": "complete_journey"})
    lake: Any = None
    with pytest.raises(Refused) as error:
        run_steps(lake, of_a_shop, date(2018, 1, 1), ("ingest",))
    wanted = (
        "./spark-submit.sh run_pipeline --env complete_journey --run-date 2018-01-01 --from ingest"
    )
    assert str(error.value).endswith(wanted)
