"""From tables to a training spec: which files, which numbers, and the users that validation asks about."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import structlog
import torch
from pydantic import ValidationError
from pyspark.sql import functions as F

from recsys.commit import checkout_commit
from recsys.config import RecsysConfig
from recsys.config.sections import TrainingConfig
from recsys.contracts import (
    EVENTS,
    HISTORIES,
    ITEM_FEATURES,
    ITEMS,
    TRAINING_EXAMPLES,
    USERS,
    VOCABULARIES,
    TableContract,
)
from recsys.data import example_files
from recsys.errors import MissingInput
from recsys.lake import Lake
from recsys.lake.as_of import numbers
from recsys.lake.schema import content_hash, content_hash_columns
from recsys.models.ranking_fields import FIELDS_VERSION
from recsys.records import ModelManifest, sha256_of
from recsys.training.attributes import write_attributes
from recsys.training.launch import world_size
from recsys.training.spec import Fit, TrainingSpec, recipe_settings
from recsys.training.validation import ValidationUsers, left_padded, read_users, write_users

log = structlog.get_logger()

RANKING, LINEAR = "ranking", "linear"
"""Fits of ranking models are called MODEL_CUTOFF."""

READ = (TRAINING_EXAMPLES, VOCABULARIES, HISTORIES, EVENTS)
READ_BY_RANKING = (ITEMS, USERS, ITEM_FEATURES)
"""Tables that the ranking model is made from beside ``READ``."""


@dataclass(frozen=True)
class Preparation:
    spec: TrainingSpec
    table_versions: dict[str, int]
    """What the run reads, for MLflow."""


def prepare(
    lake: Lake, config: RecsysConfig, run_date: date, *, live: ModelManifest | None = None
) -> Preparation:
    """Everything the training processes need, as files and one spec.

    The choosing run comes first: it finds the number of epochs that the others train. Where a live
    model was trained with other settings, they are fitted once more as of ``measuring``: the gate
    compares recipes fitted on the same events.

    Raises:
        ConfigError: the global batch does not divide over the processes.
        MissingInput: no examples, histories, vocabulary or, where ranking is enabled, item features for a cut-off;
            the message names the jobs.
    """
    cut_offs = config.evaluation.cut_offs(run_date)
    for pace in (config.training, *([config.ranking] if config.ranking.enabled else [])):
        pace.batch_size_of_each(world_size(config.training))
    work = config.paths.work / f"train-{run_date}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    read = READ + (READ_BY_RANKING if config.ranking.enabled else ())
    versions = {contract.name: lake.version(contract) for contract in read if lake.exists(contract)}
    made = (HISTORIES, TRAINING_EXAMPLES, *((ITEM_FEATURES,) if config.ranking.enabled else ()))
    _check_every_cut_off(lake, cut_offs.all(), made)
    validation = work / "validation.npz"
    write_validation_users(lake, config, run_date, validation)
    choosing = _fit(lake, config, "choosing", cut_offs.choosing, versions).model_copy(
        update={"validation": str(validation), "validation_hash": sha256_of(validation)}
    )
    measuring = _fit(lake, config, "measuring", cut_offs.measuring, versions)
    release = _fit(lake, config, "release", cut_offs.release, versions)
    like_chosen = {"epochs_of": "choosing", "validation_hash": choosing.validation_hash}
    fits = [
        choosing,
        measuring.model_copy(update=like_chosen),
        release.model_copy(update=like_chosen),
    ]
    if live is not None and (theirs := other_settings(config, live)):
        fits.append(
            measuring.model_copy(update={"name": "live", "training": theirs, "epochs": live.epochs})
        )
    if config.ranking.enabled:
        fits += _ranking_fits(lake, config, run_date, work, (choosing, measuring, release))
    spec = TrainingSpec(
        fits=tuple(fits),
        checkpoints=config.paths.checkpoints,
        work=work,
        world_size=world_size(config.training),
        threads_per_process=config.training.threads_per_process,
    )
    return Preparation(spec, versions)


def _ranking_fits(
    lake: Lake, config: RecsysConfig, run_date: date, work: Path, like: tuple[Fit, Fit, Fit]
) -> list[Fit]:
    """The ranking model at each cut-off, and the logistic baseline that it is measured beside."""
    measured = work / "measured.npz"
    cut_offs = config.evaluation.cut_offs(run_date)
    write_users_with_targets(lake, config, cut_offs.measuring, run_date, measured)
    linear = config.ranking.model_copy(update={"interaction": "linear"})
    fits = []
    for model, ranking in ((RANKING, config.ranking), (LINEAR, linear)):
        for fit in like[:2] if model == LINEAR else like:
            attributes = work / f"attributes-{fit.as_of}.npz"
            if not attributes.exists():
                write_attributes(
                    lake, fit.as_of, attributes, max_history=config.features.max_history
                )
            changes: dict[str, object] = {
                "name": f"{model}_{fit.name}", "ranking": ranking,
                "attributes": str(attributes), "attributes_hash": sha256_of(attributes),
                "fields_version": FIELDS_VERSION,
            }  # fmt: skip
            # The choosing fit's answers calibrate, those of the measuring one are measured.
            asked = {"choosing": fit.validation, "measuring": str(measured)}.get(fit.name)
            if asked:
                changes |= {"measured": asked, "measured_hash": sha256_of(Path(asked))}
            if fit.name != "choosing":
                changes |= {
                    "epochs_of": f"{model}_choosing",
                    "validation_hash": like[0].validation_hash,
                }
            fits.append(fit.model_copy(update=changes))
    return fits


def _check_every_cut_off(
    lake: Lake, cut_offs: tuple[date, ...], made: tuple[TableContract, ...]
) -> None:
    """Raises MissingInput where a night without training built what this one is about to read."""
    for contract in made:
        rows = lake.read_or_empty(contract, as_of=cut_offs).select("as_of").distinct().collect()
        if missing := sorted(set(cut_offs) - {row["as_of"] for row in rows}):
            raise MissingInput(
                f"{contract.name} has no rows as of {', '.join(map(str, missing))}: run build_features, "
                "build_candidates and build_training_set first, with --set training.when=always where training "
                "would not be due by itself"
            )


def other_settings(config: RecsysConfig, live: ModelManifest) -> TrainingConfig | None:
    """The live model's settings, where they would give other weights than today's; else None.

    None, too, where its recipe cannot be fitted again: settings of another version of the code,
    histories of another length than today's examples have, or a batch that does not divide over today's
    processes. The log says so; the gate then gives the live recipe today's model, and its verdict says so too.
    """
    theirs, why = _settings_of(live), why_not_fitted_again(config, live)
    if theirs is None or why:
        log.warning("live_recipe_not_fitted_again", model_version=live.model_version, reason=why)
        return None
    return None if recipe_settings(theirs) == recipe_settings(config.training) else theirs


def why_not_fitted_again(config: RecsysConfig, live: ModelManifest) -> str:
    """Why the live model's settings cannot be fitted on today's examples; empty where they can."""
    theirs, processes = _settings_of(live), world_size(config.training)
    if theirs is None:
        return "its settings are of another version of the code"
    if live.history_length != config.training_set.max_length:
        return f"it looks at {live.history_length} events, today's examples have {config.training_set.max_length}"
    if theirs.global_batch_size % processes:
        return f"its batch of {theirs.global_batch_size} does not divide over {processes} processes"
    return ""


def _settings_of(live: ModelManifest) -> TrainingConfig | None:
    try:
        return TrainingConfig.model_validate(live.training)
    except ValidationError:
        return None


def _fit(
    lake: Lake, config: RecsysConfig, name: str, as_of: date, versions: Mapping[str, int]
) -> Fit:
    version = versions[TRAINING_EXAMPLES.name]
    vocabulary = lake.vocabulary(as_of)
    known = vocabulary.agg(
        F.max(F.when(F.col("kind") == "item", F.col("num"))).alias("num_items"),
        F.max(F.when(F.col("kind") == "user", F.col("num"))).alias("num_users"),
        *content_hash_columns(VOCABULARIES),
    ).first()
    if known is None or known["num_items"] is None:
        raise MissingInput(f"no item vocabulary of {as_of}: run build_features first")
    return Fit(
        name=name,
        as_of=as_of,
        training=config.training,
        files=example_files(lake.path(TRAINING_EXAMPLES), version=version, as_of=as_of),
        examples_hash=lake.content_hash(TRAINING_EXAMPLES, version, as_of=as_of),
        num_items=int(known["num_items"]),
        num_users=int(known["num_users"] or 0),
        history_length=config.training_set.max_length,
        vocabulary_hash=content_hash(known["rows"], known["hash_sum"], known["hash_xor"]),
        code_version=checkout_commit(),
    )


def write_validation_users(lake: Lake, config: RecsysConfig, run_date: date, path: Path) -> int:
    """Users with a history before ``choosing`` and targets between it and ``measuring``; returns how many."""
    cut_offs = config.evaluation.cut_offs(run_date)
    found = write_users_with_targets(lake, config, cut_offs.choosing, cut_offs.measuring, path)
    if not found:
        raise MissingInput(
            f"no user with a history before {cut_offs.choosing} bought between it and {cut_offs.measuring}: "
            "the number of epochs cannot be chosen; ingest more days or lower evaluation.window_days"
        )
    users = read_users(path, history_length=config.training_set.max_length)
    if not users.target_item_nums_T.any():  # every epoch would be as good as the first
        raise MissingInput(
            f"none of the {found} users with a history before {cut_offs.choosing} bought an item between it and "
            f"{cut_offs.measuring} that was known before: the number of epochs cannot be chosen; ingest more days or "
            "lower evaluation.window_days"
        )
    log.info("validation_users", users=found)
    return found


def write_users_with_targets(
    lake: Lake, config: RecsysConfig, as_of: date, before: date, path: Path
) -> int:
    """Users with a history as of a day and targets from then on, ``before`` a later one; returns how many.

    At most ``training.validation_users``, chosen by hash, so this much comes to the driver.
    """
    length = config.training_set.max_length
    targets = (
        lake.read(EVENTS)
        .where(
            F.col("event_type").isin(*config.shop.event_types("target"))
            & (F.col("event_date") >= F.lit(as_of))
            & (F.col("event_date") < F.lit(before))
            & F.col("user_id").isNotNull()
            & F.col("item_id").isNotNull()
        )
        .groupBy("user_id")
        .agg(F.array_sort(F.collect_set("item_id")).alias("target_ids"))
    )
    vocabulary = lake.vocabulary(as_of)
    chosen = (
        lake.read(HISTORIES, as_of=as_of)
        .join(targets, "user_id")
        .orderBy(F.xxhash64("user_id", F.lit(config.training.seed)), "user_id")
        .limit(config.training.validation_users)
        .join(numbers(vocabulary, "user"), "user_id", "left")
    )
    target_nums = numbers(vocabulary, "item").select(
        F.col("item_id").alias("target_id"), F.col("item_num").alias("target_num")
    )
    by = ("user_id", "user_num", "item_nums", "ages_days")
    rows = (
        chosen.select(*by, F.explode("target_ids").alias("target_id"))
        .join(target_nums, "target_id", "left")
        .groupBy(*by)
        .agg(F.array_sort(F.collect_list(F.coalesce("target_num", F.lit(0)))).alias("targets"))
        .orderBy("user_id")
        .collect()
    )
    num_targets = [len(row["targets"]) for row in rows]
    write_users(
        path,
        ValidationUsers(
            torch.from_numpy(left_padded([row["item_nums"] for row in rows], length, np.int64)),
            torch.from_numpy(left_padded([row["ages_days"] for row in rows], length, np.float32)),
            torch.from_numpy(np.repeat(np.arange(len(rows)), num_targets)),
            torch.tensor([num for row in rows for num in row["targets"]], dtype=torch.int64),
            torch.tensor([row["user_num"] or 0 for row in rows], dtype=torch.int64),
        ),
    )
    return len(rows)
