"""A search for better settings: trials kept on disk, a budget, one winner. Killed, it goes on where it was.

A study is a SQLite file of optuna's, which a process that is killed leaves as of its last transaction; the lines of
optuna's journal file may end in the middle. The sampler is the tree-structured Parzen estimator (Bergstra et al.,
NIPS 2011), seeded for each trial by its place: a study that was killed proposes what it would have proposed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import structlog
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState

from recsys.config.sections import TrainingConfig
from recsys.config.tuning import Between, Settings, TuningConfig
from recsys.errors import RecsysError

log = structlog.get_logger()

RANDOM_TRIALS = 4
"""Beside those to begin with: before so many are known the sampler has nothing to learn from."""
LONGEST_REASON = 500
SECONDS, FAILED, AGAIN = "seconds", "failed", "again"
"""What optuna keeps for us of a trial: ``AGAIN`` is the number of the trial that was killed."""
SHOWN, LOST = "shown", "lost_seconds"
"""And of the study: the winner's number, and what trials that were killed took, by number."""


@dataclass(frozen=True)
class Outcome:
    """What a trial came to."""

    ndcg: float
    facts: Mapping[str, Any]
    """What people want to see beside it; JSON takes it."""


@dataclass(frozen=True)
class Trial:
    number: int
    settings: Settings
    ndcg: float
    """NDCG@10 of the blend on the choosing window; NaN where the trial failed."""
    seconds: float
    facts: Mapping[str, Any]
    failed: str = ""
    """Why it came to nothing."""
    again: int | None = None
    """The trial with these settings whose process was killed."""


@dataclass(frozen=True)
class Searched:
    """The trials that are done, and why no more are begun."""

    trials: tuple[Trial, ...]
    stopped: str = ""
    """Empty where another one may begin."""
    lost_seconds: float = 0.0
    """What trials whose process was killed took."""

    @property
    def best(self) -> Trial | None:
        """The first of equals; None where every trial failed."""
        done = [trial for trial in self.trials if not trial.failed]
        return max(done, key=lambda trial: trial.ndcg, default=None)

    @property
    def seconds(self) -> float:
        return sum(trial.seconds for trial in self.trials) + self.lost_seconds


Objective = Callable[[Settings], Outcome]


class Study:
    """The trials of one search. Nobody else may work on it: whoever runs it holds a lock."""

    def __init__(
        self, file: Path, name: str, config: TuningConfig, starts: Sequence[Settings]
    ) -> None:
        """``starts`` are tried first and lie in the space whatever it says; the first one is what is used today.

        ``name`` stands for all that trials are compared on: its trials are taken up from ``file``. One file is for one
        measured window, of which all its studies together may show one winner.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.config, self.starts = config, starts
        self._space: dict[str, BaseDistribution] = {
            name: _distribution(name, searched, [start[name] for start in starts if name in start])
            for name, searched in sorted(config.space.items())
        }
        self._storage = f"sqlite:///{file}"
        self._study = optuna.create_study(
            storage=self._storage, study_name=name, direction="maximize", load_if_exists=True
        )

    def run(
        self,
        objective: Objective,
        *,
        told: Callable[[Searched], None] = lambda searched: None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = datetime.now,
    ) -> Searched:
        """Try settings until the budget is spent; ``told`` hears of each trial that is done.

        What an objective refuses, or fails in as it may, is a failed trial; a defect ends the search. ``now`` is of
        the machine's time zone, as optuna's times are.
        """
        if not self._study.trials:
            for start in self.starts:
                self._study.enqueue_trial(dict(start), skip_if_exists=True)
        self._try_killed_again(now())
        while not (searched := self.searched()).stopped:
            self._study.sampler = TPESampler(
                seed=self.config.seed + len(searched.trials),
                n_startup_trials=len(self.starts) + RANDOM_TRIALS,
            )
            self._try_one(objective, searched.trials, clock)
            told(searched := self.searched())
            _say(searched)
        return searched

    def searched(self) -> Searched:
        """The trials that count so far: one that was killed and is tried again does not."""
        trials = self._study.get_trials(deepcopy=False)
        done = tuple(_trial(trial) for trial in trials if _counts(trial))
        lost = sum(self._study.user_attrs.get(LOST, {}).values())
        return Searched(done, why_to_stop(done, self.config, lost_seconds=lost), lost)

    @property
    def today(self) -> Settings:
        """What is used today."""
        return self.starts[0]

    def winner(self) -> Trial | None:
        """The one trial that may be shown to the gate: what is best when this is first asked, for good.

        None where nothing is better than what is used today, or where another study of the file has shown one. A
        search that goes on later, or one on other terms, may find another winner; the gate must not see it: the best of
        many looks at the measured window is better by chance.
        """
        searched, number = self.searched(), self._study.user_attrs.get(SHOWN)
        if number is not None:
            return next(trial for trial in searched.trials if trial.number == number)
        studies = optuna.get_all_study_summaries(storage=self._storage, include_best_trial=False)
        if shown := [one.study_name for one in studies if SHOWN in one.user_attrs]:
            log.warning("winner_shown_before", study=self._study.study_name, by=shown[0])
            return None
        best = searched.best
        if best is None or best.settings == self.today:
            return None
        self._study.set_user_attr(SHOWN, best.number)
        return best

    def _try_one(
        self, objective: Objective, done: Sequence[Trial], clock: Callable[[], float]
    ) -> None:
        """Settings that were tried before, as a sampler proposes in a small space, come to the same for nothing."""
        trial = self._study.ask(self._space)
        log.info("trial_started", trial=trial.number, **trial.params)
        started = clock()
        outcome = _known(done, trial.params) or _tried(objective, dict(trial.params))
        trial.set_user_attr(SECONDS, clock() - started)
        for name, fact in outcome.facts.items():
            trial.set_user_attr(name, fact)
        if FAILED in outcome.facts:
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, outcome.ndcg)

    def _try_killed_again(self, now: datetime) -> None:
        """A trial that runs while nobody runs it was killed: failed, and tried once more with the same settings.

        It is told to have failed last: a kill on the way leaves it running, to be found again.
        """
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            log.warning("trial_was_killed", trial=trial.number, **trial.params)
            lost = self._study.user_attrs.get(LOST, {})
            if str(trial.number) not in lost:
                seconds = self._seconds_of_killed(trial, now)
                self._study.set_user_attr(LOST, {**lost, str(trial.number): seconds})
            tried_again = [
                one.user_attrs.get(AGAIN) for one in self._study.get_trials(deepcopy=False)
            ]
            if AGAIN not in trial.user_attrs and trial.number not in tried_again:
                self._study.enqueue_trial(trial.params, user_attrs={AGAIN: trial.number})
            self._study.tell(trial.number, state=TrialState.FAIL)

    def _seconds_of_killed(self, trial: FrozenTrial, now: datetime) -> float:
        """From its start until now, at most: nobody saw it die.

        No longer than the longest trial so far, or, where it is the first, than its share of the budget: a search that
        is gone on with in the morning has not searched all night.
        """
        done = [one.seconds for one in self.searched().trials]
        longest = max(done, default=60 * self.config.minutes / self.config.trials)
        if trial.datetime_start is None:
            return longest
        seconds = (now - trial.datetime_start).total_seconds()
        return min(max(seconds, 0.0), longest)  # a clock may have been set back


def why_to_stop(done: Sequence[Trial], config: TuningConfig, *, lost_seconds: float = 0.0) -> str:
    """In words; empty where another trial may begin."""
    if len(done) >= config.trials:
        return f"the budget of {config.trials} trials is spent (tuning.trials)"
    seconds = [trial.seconds for trial in done]
    spent, longest = sum(seconds) + lost_seconds, max(seconds, default=0.0)
    if spent + longest > 60 * config.minutes:
        return (
            f"{spent / 60:.1f} of {config.minutes:g} minutes are spent (tuning.minutes), and a trial takes up to "
            f"{longest / 60:.1f}"
        )
    return ""


def _known(done: Sequence[Trial], settings: Settings) -> Outcome | None:
    same = [trial for trial in done if trial.settings == settings]
    if not same:
        return None
    failed = {FAILED: same[0].failed} if same[0].failed else {}
    return Outcome(same[0].ndcg, {**same[0].facts, **failed})


def _tried(objective: Objective, settings: Settings) -> Outcome:
    """What came of it; ``FAILED`` among the facts says why nothing did."""
    try:
        outcome = objective(settings)
    except RecsysError as error:
        return Outcome(math.nan, {FAILED: str(error)[:LONGEST_REASON]})
    if math.isnan(outcome.ndcg):
        return Outcome(math.nan, {FAILED: "its NDCG is not a number"})
    return outcome


def _distribution(
    name: str, searched: Between | tuple[int | float, ...], known: Sequence[int | float]
) -> BaseDistribution:
    """What is searched, made wide enough for the values that are ``known``."""
    if not isinstance(searched, Between):
        return CategoricalDistribution(sorted({*searched, *known}))
    low, high = min(searched.low, *known), max(searched.high, *known)
    if TrainingConfig.model_fields[name].annotation is int:
        return IntDistribution(int(low), int(high), log=searched.log)
    return FloatDistribution(low, high, log=searched.log)


def _counts(trial: FrozenTrial) -> bool:
    if trial.state is TrialState.COMPLETE:
        return True
    attributes = trial.user_attrs
    return trial.state is TrialState.FAIL and (FAILED in attributes or AGAIN in attributes)


def _trial(trial: FrozenTrial) -> Trial:
    facts = dict(trial.user_attrs)
    seconds, again = facts.pop(SECONDS, 0.0), facts.pop(AGAIN, None)
    failed = facts.pop(FAILED, "")
    if trial.state is TrialState.FAIL and not failed:
        failed = f"its process was killed, as that of trial {again} was"
    ndcg = math.nan if trial.value is None else trial.value
    return Trial(trial.number, dict(trial.params), ndcg, seconds, facts, failed, again)


def _say(searched: Searched) -> None:
    trial, best = searched.trials[-1], searched.best
    log.info(
        "trial_done", trial=trial.number, ndcg_at_10=round(trial.ndcg, 5), seconds=round(trial.seconds, 1),
        failed=trial.failed, best=best.number if best else None,
        best_ndcg_at_10=round(best.ndcg, 5) if best else None, minutes_spent=round(searched.seconds / 60, 1),
    )  # fmt: skip
