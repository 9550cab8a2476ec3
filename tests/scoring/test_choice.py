"""Which model scores a night whose own did not pass, when the live one is older, of the same day, or newer."""

from __future__ import annotations

import re
from datetime import date

import pytest

from recsys.errors import Refused
from recsys.records import EvaluationRecord, ModelManifest, Recipe
from recsys.scoring.choice import Choice, LiveModel, choose_model, proven

RUN_DATE = date(2024, 6, 8)
RECIPE = Recipe(name="blend", model=1.0)
REFUSED = EvaluationRecord(run_date=RUN_DATE, passed=False, reason="the gate refused it")


def live(as_of: date) -> LiveModel:
    return LiveModel("m1", as_of, RECIPE)


@pytest.mark.parametrize(
    ("as_of", "days"),
    [
        (date(2024, 6, 1), "7 days old"),
        (RUN_DATE, "0 days old"),  # the same night again: it has seen nothing from that day on
    ],
)
def test_a_live_model_of_that_day_or_before_scores_on(as_of: date, days: str) -> None:
    choice = choose_model(REFUSED, live(as_of), RUN_DATE)
    assert (choice.model_version, choice.is_new) == ("m1", False)
    assert choice.reason == f"the live model of {as_of} ({days}) scores on: the gate refused it"


def test_a_live_model_that_has_seen_later_days_does_not_score_an_earlier_one() -> None:
    tomorrows = live(date(2024, 6, 9))
    says = (
        "and the live model m1 is as of 2024-06-09: it has seen what came after. Nothing was written. Train for that "
        "day (run_pipeline --run-date 2024-06-08 --train always) a model that passes the gate, or serve a release of "
        "an older model (recsys release roll-back --to RELEASE)"
    )
    with pytest.raises(Refused, match=re.escape(f"the gate refused it, {says}")):
        choose_model(REFUSED, tomorrows, RUN_DATE)
    with pytest.raises(Refused, match=re.escape(f"no evaluation of this run date, {says}")):
        choose_model(None, tomorrows, RUN_DATE)

    new = Choice("m0", RECIPE, "passed", is_new=True, live=tomorrows)
    manifest = ModelManifest(
        model_version="m0", as_of=RUN_DATE, num_items=1, epochs=1, files={}, embedding_dim=8, history_length=8
    )  # fmt: skip
    with pytest.raises(Refused, match=r"model m0 passed the gate.*and the live model m1 is as of"):
        proven(new, manifest, RUN_DATE)


def test_a_model_that_passed_for_the_earlier_day_scores_it_whatever_is_live() -> None:
    passed = EvaluationRecord(
        run_date=RUN_DATE, passed=True, reason="ok", recipe=RECIPE, model_version="m0"
    )
    assert choose_model(passed, live(date(2024, 7, 1)), RUN_DATE).model_version == "m0"
