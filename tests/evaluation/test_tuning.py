"""The search's book-keeping, with an objective that is a formula: the budget, what a kill leaves, the one winner."""

from __future__ import annotations

import math
import subprocess
import sys
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from textwrap import dedent
from typing import Any

import optuna
import pytest

from recsys.config.sections import TrainingConfig
from recsys.config.tuning import Settings, TuningConfig, with_settings
from recsys.errors import ConfigError, Refused
from recsys.evaluation.tuning import Outcome, Searched, Study, Trial, why_to_stop

TODAY: Settings = {
    "dropout": 0.2, "embedding_dim": 16, "learning_rate": 5e-3, "num_blocks": 1, "num_negatives": 64,
}  # fmt: skip
LIVE: Settings = {**TODAY, "learning_rate": 0.05}
"""Its rate and today's width lie outside the space of conf."""


def hill(settings: Settings) -> Outcome:
    """Best at a learning rate of .004 without dropout."""
    ndcg = 0.5 - abs(math.log(settings["learning_rate"] / 0.004)) / 10 - settings["dropout"] / 10
    return Outcome(ndcg, {"epochs": 3})


def study(folder: Path, *, trials: int = 6, **config: float) -> Study:
    found = TuningConfig.model_validate({"trials": trials, **config})
    return Study(folder / "study.db", "a shop", found, [TODAY, LIVE])


def test_today_and_live_come_first_wherever_they_lie(tmp_path: Path) -> None:
    searched = study(tmp_path).run(hill)

    assert [trial.settings for trial in searched.trials[:2]] == [TODAY, LIVE]
    assert len({str(trial.settings) for trial in searched.trials}) == 6
    assert searched.stopped == "the budget of 6 trials is spent (tuning.trials)"
    assert all(trial.facts == {"epochs": 3} for trial in searched.trials)


def test_the_search_finds_more_than_it_began_with(tmp_path: Path) -> None:
    searched = study(tmp_path, trials=10).run(hill)

    assert searched.best is not None
    assert searched.best.ndcg > hill(TODAY).ndcg + 0.01
    assert searched.best.ndcg == max(trial.ndcg for trial in searched.trials)


def test_a_search_ends_with_its_minutes(tmp_path: Path) -> None:
    clock = count(0.0, 50.0)  # every trial takes 50 s

    searched = study(tmp_path, minutes=3).run(hill, clock=lambda: next(clock))

    # After three 150 of 180 s are spent, and a fourth would end after 200.
    assert [trial.seconds for trial in searched.trials] == [50.0] * 3
    assert searched.stopped == (
        "2.5 of 3 minutes are spent (tuning.minutes), and a trial takes up to 0.8"
    )
    assert "2.5 minutes" not in why_to_stop((), TuningConfig(minutes=0.001)), (
        "one trial is always tried"
    )


def test_what_is_refused_is_a_failed_trial_and_the_search_goes_on(tmp_path: Path) -> None:
    def picky(settings: Settings) -> Outcome:
        if settings == TODAY:
            raise Refused("training stopped, not finite: loss nan")
        return Outcome(math.nan, {}) if settings == LIVE else hill(settings)

    first, second, *others = study(tmp_path).run(picky).trials

    assert first.failed == "training stopped, not finite: loss nan"
    assert second.failed == "its NDCG is not a number"
    assert len(others) == 4 and not any(trial.failed for trial in others)


def test_where_every_trial_failed_nothing_is_best(tmp_path: Path) -> None:
    def fail(settings: Settings) -> Outcome:
        raise Refused("no")

    one = study(tmp_path, trials=2)

    assert one.run(fail).best is None
    assert one.winner() is None


def test_a_defect_of_ours_ends_the_search(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        study(tmp_path).run(lambda settings: Outcome(1 / 0, {}))


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from tests.evaluation.test_tuning import hill, study

    calls = []

    def objective(settings):
        calls.append(settings)
        if len(calls) == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return hill(settings)

    study(Path(sys.argv[1])).run(objective)
"""


def killed_in_trial(folder: Path, number: int) -> None:
    """A process of its own that dies by SIGKILL while it works on its so manieth trial."""
    command = [sys.executable, "-c", dedent(KILLED), str(folder), str(number)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -9


def test_a_killed_search_goes_on_where_it_was(tmp_path: Path) -> None:
    """Finished trials are not repeated, the one under way is, and the end is as if nothing had happened."""
    undisturbed = study(tmp_path / "undisturbed").run(hill)
    killed_in_trial(tmp_path, 4)
    assert len(study(tmp_path).searched().trials) == 3

    tried: list[Settings] = []

    def counted(settings: Settings) -> Outcome:
        tried.append(settings)
        return hill(settings)

    searched = study(tmp_path).run(counted)

    assert tried == [trial.settings for trial in undisturbed.trials[3:]]
    assert [(t.settings, t.ndcg) for t in searched.trials] == [
        (t.settings, t.ndcg) for t in undisturbed.trials
    ]
    assert [trial.again for trial in searched.trials] == [None, None, None, 3, None, None]


def test_a_trial_that_is_killed_twice_has_failed(tmp_path: Path) -> None:
    killed_in_trial(tmp_path, 3)
    killed_in_trial(tmp_path, 1)

    searched = study(tmp_path).run(hill)

    assert [trial.number for trial in searched.trials if trial.failed] == [3]
    assert searched.trials[2].failed == "its process was killed, as that of trial 2 was"
    assert len(searched.trials) == 6, (
        "it counts: a trial that takes a process down is not tried for ever"
    )


def interrupted(folder: Path, *, at: int, minutes: float = 10.0) -> None:
    """A search whose process dies while it works on its so manieth trial; each takes 50 s."""
    calls = count(1)

    def objective(settings: Settings) -> Outcome:
        if next(calls) == at:
            raise KeyboardInterrupt
        return hill(settings)

    clock = count(0.0, 50.0)
    with pytest.raises(KeyboardInterrupt):
        study(folder, minutes=minutes).run(objective, clock=lambda: next(clock))


NEXT_MORNING = datetime.max


def test_what_a_killed_trial_took_is_spent(tmp_path: Path) -> None:
    interrupted(tmp_path, at=3, minutes=4)
    clock = count(0.0, 50.0)

    searched = study(tmp_path, minutes=4).run(
        hill, clock=lambda: next(clock), now=lambda: NEXT_MORNING
    )

    # Two done and one killed are 150 of 240 s; the one tried again makes it 200, and one more would end after 250.
    assert [trial.again for trial in searched.trials] == [None, None, 2]
    assert (searched.lost_seconds, searched.seconds) == (50, 200)
    assert searched.stopped.startswith("3.3 of 4 minutes are spent")


@pytest.mark.parametrize(
    ("after", "lost"),
    [
        (timedelta(seconds=7), 7),
        (timedelta(days=1), 60),  # its share of the budget, at most
        (timedelta(seconds=-7), 0),  # a clock that was set back
    ],
)
def test_a_first_trial_that_was_killed_took_what_passed_since_it_began(
    tmp_path: Path, after: timedelta, lost: float
) -> None:
    interrupted(tmp_path, at=1, minutes=6)
    [killed] = (
        trial
        for trial in optuna.load_study(study_name="a shop", storage=f"sqlite:///{tmp_path / 'study.db'}").trials
        if trial.datetime_start is not None
    )  # fmt: skip
    began = killed.datetime_start
    assert began is not None

    searched = study(tmp_path, minutes=6).run(hill, now=lambda: began + after)

    assert searched.lost_seconds == lost
    assert len(searched.trials) == 6


@pytest.mark.parametrize("killed_at", ["set_user_attr", "enqueue_trial", "tell"])
def test_a_trial_is_tried_again_wherever_the_next_process_dies(
    killed_at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after each of the three things that are written of it."""
    for after in (False, True):
        folder = tmp_path / str(after)
        interrupted(folder, at=3)
        written = getattr(optuna.Study, killed_at)

        def dies(*args: Any, after: bool = after, written: Any = written, **kwargs: Any) -> None:
            if after:
                written(*args, **kwargs)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(optuna.Study, killed_at, dies)
            study(folder).run(hill)

        searched = study(folder).run(hill)
        assert [t.again for t in searched.trials] == [None, None, 2, None, None, None]


def test_a_larger_budget_adds_trials_to_those_there_are(tmp_path: Path) -> None:
    few = study(tmp_path, trials=3).run(hill)
    more = study(tmp_path, trials=5).run(hill)

    assert more.trials[:3] == few.trials and len(more.trials) == 5
    assert study(tmp_path, trials=4).run(hill).trials == more.trials, (
        "none is lost to a smaller one"
    )


def test_the_gate_sees_one_winner_whatever_is_found_later(tmp_path: Path) -> None:
    early = study(tmp_path)
    early.run(hill)
    winner = early.winner()
    late = study(tmp_path, trials=12)
    searched = late.run(hill)

    assert searched.best is not None and winner is not None
    assert searched.best.ndcg > winner.ndcg, "there would be a better one"
    assert late.winner() == winner


def test_a_search_on_other_terms_shows_no_second_winner_of_a_window(tmp_path: Path) -> None:
    early = study(tmp_path)
    early.run(hill)
    winner = early.winner()
    other = Study(tmp_path / "study.db", "other events", early.config, [TODAY, LIVE])
    searched = other.run(hill)

    assert winner is not None and searched.best is not None and searched.best.settings != TODAY
    assert other.winner() is None
    assert study(tmp_path).winner() == winner


def test_nothing_wins_where_today_is_best(tmp_path: Path) -> None:
    one = study(tmp_path)
    one.run(lambda settings: Outcome(float(settings == TODAY), {}))

    assert one.winner() is None


def test_equal_trials_leave_today_as_it_is(tmp_path: Path) -> None:
    one = study(tmp_path)
    searched = one.run(lambda settings: Outcome(0.3, {}))

    assert searched.best is not None and searched.best.number == 0
    assert one.winner() is None


def test_settings_are_tried_once_however_often_they_are_proposed(tmp_path: Path) -> None:
    tried: list[Settings] = []

    def counted(settings: Settings) -> Outcome:
        tried.append(settings)
        if settings["num_blocks"] == 2:
            raise Refused("too deep")
        return hill(TODAY)

    config = TuningConfig.model_validate({"trials": 5, "space": {"num_blocks": [1, 2]}})
    searched = Study(tmp_path / "study.db", "a", config, [{"num_blocks": 1}]).run(counted)

    assert sorted(one["num_blocks"] for one in tried) == [1, 2]
    assert len(searched.trials) == 5
    assert {(t.settings["num_blocks"], t.failed) for t in searched.trials} == {
        (1, ""),
        (2, "too deep"),
    }


def test_who_listens_hears_of_every_trial(tmp_path: Path) -> None:
    heard: list[int] = []
    study(tmp_path, trials=3).run(hill, told=lambda searched: heard.append(len(searched.trials)))
    assert heard == [1, 2, 3]


def test_settings_are_a_section_of_training_or_refused() -> None:
    today = TrainingConfig(seed=5)

    assert with_settings(today, {"dropout": 0.4}) == today.model_copy(update={"dropout": 0.4})
    with pytest.raises(ConfigError, match=r"training does not take .*multiple of 8 x num_heads"):
        with_settings(today, {"embedding_dim": 32, "num_heads": 3})


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"dropout": [0.1, 1.5]}, "tuning.space.dropout holds 1.5, which training.dropout does not"),
        ({"learning_rate": {"low": 1.0, "high": 0.1}}, "low must be less than high"),
        ({"learning_rate": {"low": 0, "high": 1, "log": True}}, "and above 0"),
        ({"patience": [1]}, "Input should be 'learning_rate'"),
        ({"dropout": []}, "at least 1 item"),
    ],
)  # fmt: skip
def test_a_space_that_training_does_not_take_is_refused(space: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TuningConfig.model_validate({"space": space})


def test_whole_numbers_stay_whole(tmp_path: Path) -> None:
    config = TuningConfig.model_validate({"space": {"num_negatives": {"low": 64, "high": 512}}})

    searched = Study(tmp_path / "study.db", "a", config, [{"num_negatives": 100}]).run(
        lambda settings: Outcome(float(settings["num_negatives"]), {})
    )

    assert {type(trial.settings["num_negatives"]) for trial in searched.trials} == {int}


def test_the_best_is_the_first_of_equals_and_never_a_failed_one() -> None:
    trials = [
        Trial(0, TODAY, 0.3, 1.0, {}), Trial(1, LIVE, 0.5, 1.0, {}), Trial(2, TODAY, 0.5, 1.0, {}),
        Trial(3, TODAY, math.nan, 1.0, {}, failed="no"),
    ]  # fmt: skip
    best = Searched(tuple(trials)).best
    assert best is not None and best.number == 1
