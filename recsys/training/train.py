"""The whole of ``train``: prepare, launch, and turn checkpoints into models that later jobs read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date

import numpy as np
import pyarrow as pa
import structlog
from pyspark.sql import functions as F

from recsys.config import RecsysConfig
from recsys.contracts import ITEM_VECTORS
from recsys.errors import ContractError, CorruptArtifact, MissingInput
from recsys.lake import Lake, Written
from recsys.lake.as_of import numbers
from recsys.models.calibration import Calibration
from recsys.records import (
    ITEM_VECTORS_FILE,
    Answers,
    ModelManifest,
    RankingManifest,
    TrainingRecord,
    verify_model,
)
from recsys.training import checkpoint, model_folder
from recsys.training.following import following
from recsys.training.launch import launch
from recsys.training.preparation import LINEAR, RANKING, Preparation, prepare
from recsys.training.ranking_folder import calibration_of, write_answers, write_ranking_model
from recsys.training.spec import FitResult, TrainingSpec
from recsys.training.tracking import Run, tracked_run
from recsys.training.worker import PROGRESS

log = structlog.get_logger()

RANKING_ROLES = {
    f"{RANKING}_choosing": "choosing", f"{RANKING}_measuring": "measuring",
    f"{RANKING}_release": "release", f"{LINEAR}_measuring": LINEAR,
}  # fmt: skip
"""By fit, how the record names the ranking models. The fit that chose the logistic baseline's epochs has served."""
MEASURED_ROLES = ("measuring", LINEAR)


def train_models(
    lake: Lake,
    config: RecsysConfig,
    run_date: date,
    *,
    reason: str,
    live: ModelManifest | None = None,
) -> TrainingRecord:
    """Train one model per cut-off, and the live model's settings where they differ; record it last.

    A run that was killed continues from its checkpoints and gives the same models. Once the record is
    written it says that these fits are done, and the checkpoints of the nights before go.

    Raises:
        RecsysError: what a training process refused, or that one ended; checkpoints stay.
    """
    preparation = prepare(lake, config, run_date, live=live)
    record = trained_before(config, run_date, preparation.spec)
    if record is None:
        record = _train(lake, config, run_date, preparation, reason)
    else:
        log.info("trained_before", models=record.models)
        models = config.paths.models
        manifests = {name: ModelManifest.read(models / v) for name, v in record.models.items()}
        _write_item_vectors(lake, config, manifests)
    sweep_checkpoints(config, run_date, keep=set(record.fits.values()))
    return record


def trained_before(
    config: RecsysConfig, run_date: date, spec: TrainingSpec
) -> TrainingRecord | None:
    """The record of an earlier run of the same fits, if all that it made is whole."""
    try:
        record = TrainingRecord.read_if_there(config.paths, run_date)
        if record is None or record.fits != _names(spec):
            return None
        if {role: one.asked for role, one in record.answers.items()} != _asked(spec):
            log.info("asked_again", reason="the users to be measured are others; the weights stay")
            return None
        for version in record.models.values():
            verify_model(config.paths.models / version)
        for version in record.ranking.values():
            RankingManifest.verified(config.paths.models / version)
        for one in record.answers.values():
            one.verified(config.paths)
    except (MissingInput, ContractError, CorruptArtifact) as problem:
        log.warning("trained_again", problem=str(problem))
        return None
    return record


def sweep_checkpoints(config: RecsysConfig, run_date: date, *, keep: set[str]) -> None:
    """Remove the checkpoints of recorded nights before ``run_date``; its own stay: its MLflow run names them."""
    for day in TrainingRecord.run_dates(config.paths):
        if day >= run_date:
            continue
        try:
            fits = TrainingRecord.read(config.paths, day).fits
        except ContractError as problem:
            log.warning("checkpoints_left", problem=str(problem))
            continue
        for name in set(fits.values()) - keep:
            checkpoint.remove(config.paths.checkpoints / name)


def _train(
    lake: Lake, config: RecsysConfig, run_date: date, preparation: Preparation, reason: str
) -> TrainingRecord:
    spec = preparation.spec
    with tracked_run(config, run_date, preparation.table_versions) as run:
        with following(spec.work / PROGRESS, run):
            results = {result.name: result for result in launch(spec, config.training, lake.spark)}
        models = {
            fit.name: model_folder.write_model(config.paths, fit, results[fit.name])
            for fit in spec.fits
            if fit.ranking is None
        }
        ranking = _write_ranking_models(config, spec, results)
        answers = _write_answers(config, spec, run_date)
        _write_item_vectors(lake, config, models)
        _log_models(run, config, models, ranking)
    record = TrainingRecord(
        run_date=run_date,
        trained=True,
        reason=reason,
        models={name: manifest.model_version for name, manifest in models.items()},
        ranking={name: manifest.model_version for name, manifest in ranking.items()},
        answers=answers,
        fits=_names(spec),
        epochs=results["choosing"].best_epoch,
        validation_ndcg_at_10=results["choosing"].validation,
        mlflow_run_id=run.run_id,
    )
    if chosen := results.get(f"{RANKING}_choosing"):
        auc = {"ranking_epochs": chosen.best_epoch, "ranking_validation_auc": chosen.validation}
        record = record.model_copy(update=auc)
    record.write(config.paths)
    _say(results, record)
    return record


def _write_ranking_models(
    config: RecsysConfig, spec: TrainingSpec, results: Mapping[str, FitResult]
) -> dict[str, RankingManifest]:
    """By role, as the record names them."""
    calibrations: dict[str, Calibration] = {}
    found = {}
    for fit in spec.fits:
        if fit.ranking is None:
            continue
        model, _, cut_off = fit.name.partition("_")
        if cut_off == "choosing":  # the first of each model's
            calibrations[model] = calibration_of(spec, fit)
        if role := RANKING_ROLES.get(fit.name):
            found[role] = write_ranking_model(
                config.paths, fit, results[fit.name], calibrations[model]
            )
    return found


def _write_answers(config: RecsysConfig, spec: TrainingSpec, run_date: date) -> dict[str, Answers]:
    return {
        role: write_answers(config.paths, spec, fit, run_date, role)
        for fit in spec.fits
        if (role := RANKING_ROLES.get(fit.name)) in MEASURED_ROLES
    }


def _asked(spec: TrainingSpec) -> dict[str, str]:
    """Whom the measured models are asked about."""
    return {
        role: fit.measured_hash
        for fit in spec.fits
        if (role := RANKING_ROLES.get(fit.name)) in MEASURED_ROLES
    }


def not_trained(config: RecsysConfig, run_date: date, reason: str) -> TrainingRecord:
    """Say that no model was due: the live one scores on."""
    record = TrainingRecord(run_date=run_date, trained=False, reason=reason)
    record.write(config.paths)
    log.info("not_trained", reason=reason)
    return record


def _names(spec: TrainingSpec) -> dict[str, str]:
    return {fit.name: spec.name_of(fit) for fit in spec.fits}


def _write_item_vectors(
    lake: Lake, config: RecsysConfig, models: Mapping[str, ModelManifest]
) -> None:
    for name, manifest in models.items():
        if name != "live":  # the same as_of as measuring; evaluate reads its folder
            write_item_vectors(lake, config, manifest)


def write_item_vectors(lake: Lake, config: RecsysConfig, manifest: ModelManifest) -> Written:
    """Replace ``item_vectors`` of the model's as_of; ids come from the vocabulary of that day."""
    path = config.paths.models / manifest.model_version / ITEM_VECTORS_FILE
    item_nums = numbers(lake.vocabulary(manifest.as_of), "item")
    vectors = item_nums.mapInArrow(
        _gather(str(path)), "item_id string, item_num int, vector array<float>"
    )
    rows = vectors.select(
        "item_id",
        F.lit(manifest.as_of).alias("as_of"),
        "item_num",
        "vector",
        F.lit(manifest.model_version).alias("model_version"),
    )
    return lake.replace(rows, ITEM_VECTORS, {"as_of": manifest.as_of})


Batches = Iterator[pa.RecordBatch]


def _gather(path: str):  # type: ignore[no-untyped-def]
    def gather(batches: Batches) -> Batches:
        table = np.load(path, mmap_mode="r", allow_pickle=False)
        for batch in batches:
            numbers = batch.column("item_num").to_numpy()
            rows = np.ascontiguousarray(table[numbers])
            offsets = np.arange(len(rows) + 1, dtype=np.int32) * np.int32(rows.shape[1])
            vector = pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.ravel()))
            yield pa.RecordBatch.from_arrays(
                [batch.column("item_id"), batch.column("item_num"), vector],
                ["item_id", "item_num", "vector"],
            )

    return gather


def _log_models(
    run: Run,
    config: RecsysConfig,
    models: Mapping[str, ModelManifest],
    ranking: Mapping[str, RankingManifest],
) -> None:
    named = {**models, **{f"{RANKING}_{role}": manifest for role, manifest in ranking.items()}}
    for name, manifest in named.items():
        folder = config.paths.models / manifest.model_version
        run.tag(**{f"model.{name}": manifest.model_version, f"model_folder.{name}": str(folder)})
        run.metric(f"{name}.epochs", manifest.epochs, 0)
    release = config.paths.models / models["release"].model_version
    run.folder(release, "model")


def _say(results: Mapping[str, FitResult], record: TrainingRecord) -> None:
    versions = {
        **record.models,
        **{
            fit: record.ranking[role]
            for fit, role in RANKING_ROLES.items()
            if role in record.ranking
        },
    }
    for name, result in results.items():
        version = {"model_version": versions[name]} if name in versions else {}
        log.info(
            "model_trained", fit=name, **version, epochs=result.best_epoch,
            seconds=round(result.seconds, 1), examples=result.num_examples,
        )  # fmt: skip
