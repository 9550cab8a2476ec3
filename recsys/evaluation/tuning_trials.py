"""What a trial of the search is: a model trained at the choosing cut-off, and the best blend with it.

Nothing later than the choosing window is looked at: what is measured and what is published are fitted when there is a
winner. A trial trains as ``train`` does, under the same names: settings that were trained before are taken from their
checkpoint, a trial that was killed goes on from its own, and the winner need not be trained at this cut-off again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Self

import pyarrow as pa

from recsys.config import RecsysConfig
from recsys.config.places import PathsConfig
from recsys.config.sections import TrainingConfig
from recsys.config.tuning import Settings, with_settings
from recsys.errors import ConfigError
from recsys.evaluation.report import recipe_in_words
from recsys.evaluation.search import BlendSearch, Chosen, sampled
from recsys.evaluation.targets import measured_users
from recsys.evaluation.tuning import Outcome, Searched, Study
from recsys.failpoints import failpoint
from recsys.lake import Lake
from recsys.locks import exclusive
from recsys.records import ModelManifest, TrainingRecord
from recsys.scoring.bundle import open_bundle
from recsys.scoring.kit import Kit
from recsys.scoring.kit_tables import build_kit
from recsys.scoring.scorer import Rules, Scorer
from recsys.scoring.spark import signals_of
from recsys.training import checkpoint
from recsys.training.following import following
from recsys.training.launch import launch
from recsys.training.model_folder import write_model
from recsys.training.preparation import Preparation, other_settings, prepare
from recsys.training.spec import Fit, FitResult, TrainingSpec
from recsys.training.tracking import Run, tracked_run
from recsys.training.worker import PROGRESS

FOLDER = "tuning"
Export = Callable[[Path], object]
"""Writes a model's ``model.onnx`` into its folder."""


def search_settings(
    lake: Lake, config: RecsysConfig, run_date: date, *, export: Export, live: ModelManifest | None = None
) -> Study:  # fmt: skip
    """Search ``tuning.space`` until its budget is spent; a search that was killed goes on.

    Today's settings come first, then those of the ``live`` model: what a search found last week is found at once.

    Raises:
        MissingInput: the tables of a cut-off are not there.
        Refused: nobody is measured in the choosing window.
    """
    alone = config.model_copy(
        update={"ranking": config.ranking.model_copy(update={"enabled": False})}
    )
    lock = config.paths.locks / f"run-train-{run_date}.lock"  # both write the same checkpoints
    with exclusive(lock, wait=False, what=f"train of {run_date}"):
        preparation = prepare(lake, alone, run_date)
        theirs = other_settings(config, live) if live else None
        starts = [searched_of(one, config) for one in (config.training, theirs) if one]
        file = config.paths.work / FOLDER / f"{run_date}.db"
        study = Study(file, _name(config, preparation, starts), config.tuning, starts)
        with tracked_run(config, run_date, preparation.table_versions, name="tune") as run:
            trials = ChoosingTrials.of(lake, alone, run_date, preparation, export=export, run=run)
            searched = study.run(trials, told=trials.sweep)
            if best := searched.best:
                run.metric("choosing.blend.ndcg_at_10", best.ndcg, 0)
                run.tag(best=json.dumps(best.settings), stopped=searched.stopped)
    return study


def searched_of(training: TrainingConfig, config: RecsysConfig) -> Settings:
    """The settings of a model that are searched."""
    return {name: getattr(training, name) for name in sorted(config.tuning.space)}


@dataclass(frozen=True)
class ChoosingTrials:
    """What all trials share: examples, catalogue, sampled users. Called with settings it is the objective."""

    lake: Lake
    config: RecsysConfig
    run_date: date
    spec: TrainingSpec
    """Of today's settings, with the fit of the choosing cut-off alone."""
    table_versions: dict[str, int]
    kit: Kit
    users: pa.RecordBatch
    export: Export
    run: Run
    """The search's; every trial has a run nested in it."""

    @classmethod
    def of(
        cls, lake: Lake, config: RecsysConfig, run_date: date, preparation: Preparation, *, export: Export, run: Run
    ) -> Self:  # fmt: skip
        cut_off = config.evaluation.cut_offs(run_date).choosing
        choosing = preparation.spec.fits[0]
        users = sampled(
            measured_users(lake, config, cut_off), config.evaluation.search_users,
            cut_off=cut_off, window_days=config.evaluation.window_days,
        )  # fmt: skip
        spec = preparation.spec.model_copy(update={"fits": (choosing,)})
        kit = build_kit(lake, config, cut_off)
        return cls(
            lake, config, run_date, spec, preparation.table_versions, kit, users, export, run
        )

    def __call__(self, settings: Settings) -> Outcome:
        """Train, search the blend, and leave nothing but the checkpoint and the MLflow run."""
        fit = self.fit_of(settings)
        config = self.config.model_copy(update={"training": fit.training})
        fit.training.batch_size_of_each(self.spec.world_size)
        nested = tracked_run(
            config, self.run_date, self.table_versions, name="trial", parent=self.run
        )
        with self._work(fit) as work, nested as run:
            spec = self.spec.model_copy(update={"fits": (fit,), "work": work})
            with following(work / PROGRESS, run):
                [result] = launch(spec, fit.training, self.lake.spark)
            failpoint("tune:trained")
            chosen = self._best_blend(PathsConfig(root=str(work)), fit, result)
            run.metric("choosing.blend.ndcg_at_10", chosen.ndcg, 0)
        facts = {
            "epochs": result.best_epoch,
            "model_ndcg_at_10": max(result.validation),
            "blend": recipe_in_words(chosen.blend),
        }
        return Outcome(chosen.ndcg, facts)

    def fit_of(self, settings: Settings) -> Fit:
        [choosing] = self.spec.fits
        training = with_settings(choosing.training, settings)
        return choosing.model_copy(update={"training": training})

    def sweep(self, searched: Searched) -> None:
        """Remove the checkpoints of trials that cannot win any more; those that the night's record names stay."""
        record = TrainingRecord.read_if_there(self.config.paths, self.run_date)
        kept = set(record.fits.values()) if record else set()
        if searched.best:
            kept.add(self.spec.name_of(self.fit_of(searched.best.settings)))
        for trial in searched.trials:
            with suppress(
                ConfigError
            ):  # with settings that training does not take none was written
                name = self.spec.name_of(self.fit_of(trial.settings))
                if name not in kept:
                    checkpoint.remove(self.config.paths.checkpoints / name)

    def _best_blend(self, paths: PathsConfig, fit: Fit, result: FitResult) -> Chosen:
        """With the trained model, whose folder lies in ``paths``."""
        version = write_model(paths, fit, result).model_version
        self.export(paths.models / version)
        kit = replace(self.kit, bundles={version: open_bundle(paths.models / version)})
        rules = Rules(self.config.shop.exclude_seen, self.config.rules.limits)
        scorer = Scorer(kit, rules, batch_users=self.config.scoring.batch_users)
        return BlendSearch(scorer, self.users, signals_of(self.config.shop), version).best()

    @contextmanager
    def _work(self, fit: Fit) -> Iterator[Path]:
        """An empty scratch folder, gone afterwards; a trial that was killed has left one."""
        work = self.config.paths.work / FOLDER / fit.key
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        yield work
        shutil.rmtree(work)


def _name(config: RecsysConfig, preparation: Preparation, starts: Sequence[Settings]) -> str:
    """Of the study: whatever figures of trials are compared on, and what may be tried."""
    parts = {
        "fit": preparation.spec.fits[0].key,
        "world_size": preparation.spec.world_size,
        "tuning": config.tuning.model_dump(mode="json", include={"space", "seed"}),
        "users": config.evaluation.model_dump(include={"search_users", "max_users", "seed"}),
        **config.model_dump(mode="json", include={"shop", "rules", "features", "candidates"}),
        "starts": starts,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
