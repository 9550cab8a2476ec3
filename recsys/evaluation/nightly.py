"""A night's evaluation: choose on one window, measure on the next, judge, write, the record last."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import structlog
from pyspark.sql import DataFrame

from recsys import contracts
from recsys.config import RecsysConfig
from recsys.config.sections import GATE_K, CutOffs
from recsys.errors import Refused
from recsys.evaluation.gate import Candidate, Verdict, judge, reason_of
from recsys.evaluation.intervals import Bootstrap
from recsys.evaluation.measuring import Measured, measure
from recsys.evaluation.ranking_figures import ranking_rows
from recsys.evaluation.recommenders import BLEND, LIVE, RERANKED, WITHOUT_RANKING, recommenders
from recsys.evaluation.report import metrics_table, recipe_in_words, write_chart
from recsys.evaluation.rows import (
    Row,
    best_baseline,
    figures,
    metric_rows,
    verdict_rows,
)
from recsys.evaluation.search import BlendSearch, Chosen
from recsys.evaluation.targets import measured_users
from recsys.lake import Lake, local_rows, struct_type
from recsys.records import EvaluationRecord, Recipe, TrainingRecord
from recsys.scoring.bundle import open_bundle
from recsys.scoring.kit import Kit
from recsys.scoring.kit_tables import build_kit
from recsys.scoring.ranking_bundle import checked_ranking, open_ranking
from recsys.scoring.scorer import Entry, Rules, Scorer
from recsys.scoring.spark import scoring_task, signals_of
from recsys.training.tracking import log_evaluation

log = structlog.get_logger()


@dataclass(frozen=True)
class Live:
    """The live release, as the gate needs it."""

    release_id: str
    recipe: Recipe


@dataclass(frozen=True)
class Evaluation:
    """What a night's evaluation found."""

    record: EvaluationRecord
    chosen: Chosen | None = None
    rows: tuple[Row, ...] = ()
    verdicts: tuple[Verdict, ...] = ()

    @property
    def table(self) -> str:
        """The figures of the measuring window, for people."""
        return metrics_table(self.rows, self.record.recipe) if self.rows else self.record.reason


def without_a_new_model(
    config: RecsysConfig, run_date: date, why: str, live: Live | None
) -> Evaluation:
    """No model was due: the live one scores on.

    Raises:
        Refused: there is no live release either; the record is written.
    """
    record = EvaluationRecord(run_date=run_date, passed=False, reason=f"no new model: {why}")
    record.write(config.paths)
    return _continue_or_refuse(Evaluation(record), live)


def evaluate_models(
    lake: Lake, config: RecsysConfig, run_date: date, training: TrainingRecord, live: Live | None
) -> Evaluation:
    """Choose the blend, measure everyone, judge, and write metrics, verdicts, chart and record.

    A refused model is no failure while a release is live: the record says so and the night goes on.
    Where train made ranking models the blend may re-rank, and their probabilities are measured.

    Raises:
        CorruptArtifact: a model's file is not what its manifest says; nothing was written.
        MissingInput: a model or a table of a cut-off is not there; nothing was written.
        Refused: the gate refused and no release is live; figures, verdicts and record are written.
    """
    cut_offs = config.evaluation.cut_offs(run_date)
    models, rankings = training.models, training.ranking
    chosen, choosing = _choose(
        lake, config, cut_offs, models["choosing"], rankings.get("choosing", "")
    )
    log.info(
        "blend_chosen",
        weights=recipe_in_words(chosen.blend),
        ndcg_at_10=chosen.ndcg,
        tried=chosen.tried,
    )

    entries = _entries(chosen, models["measuring"], rankings.get("measuring", ""))
    if live is not None:
        entries.append(_live_entry(live, training))
    kit = build_kit(lake, config, cut_offs.measuring)
    users = measured_users(lake, config, cut_offs.measuring, numbered=bool(_rankings_of(entries)))
    measuring = _measure(
        users, lake, config, kit, entries, window="measuring", cut_off=cut_offs.measuring
    )

    bootstrap = _bootstrap(measuring, config)
    rows = _rows(bootstrap, run_date) + _rows(_bootstrap(choosing, config), run_date)
    if "measuring" in rankings:
        _say_whether_stage_two_helps(bootstrap, chosen)
        rows += ranking_rows(config, run_date, cut_offs.measuring, training)
    verdicts = judge(_candidate(bootstrap, live), config.gate)
    passed = all(verdict.ok for verdict in verdicts)
    record = EvaluationRecord(
        run_date=run_date, passed=passed, reason=reason_of(verdicts),
        recipe=chosen.blend, model_version=models["release"],
        ranking_version=rankings["release"] if chosen.blend.re_ranks else "",
    )  # fmt: skip
    _write(lake, contracts.METRICS, rows, run_date)
    _write(lake, contracts.GATE_VERDICTS, verdict_rows(verdicts, run_date), run_date)
    chart, _ = write_chart(rows, config.paths.reports / str(run_date))
    record.write(config.paths)
    if training.mlflow_run_id:
        log_evaluation(config, training.mlflow_run_id, figures(rows), chart.parent)
    log.info("gate_decided", passed=passed, reason=record.reason, chart=str(chart))
    return _continue_or_refuse(Evaluation(record, chosen, tuple(rows), tuple(verdicts)), live)


def _choose(
    lake: Lake, config: RecsysConfig, cut_offs: CutOffs, model_version: str, ranking_version: str
) -> tuple[Chosen, Measured]:
    """Choose weights on a sample of the choosing window, then measure that window with them."""
    models = config.paths.models
    kit = build_kit(lake, config, cut_offs.choosing)
    bundles = {model_version: open_bundle(models / model_version)}
    rankings = {v: open_ranking(models / v) for v in (ranking_version,) if v}
    measured = measured_users(
        lake, config, cut_offs.choosing, numbered=bool(ranking_version)
    ).persist()
    sample = measured.orderBy("sample_order", "user_id").limit(config.evaluation.search_users)
    [users] = sample.orderBy("user_id").toArrow().combine_chunks().to_batches() or [None]
    if users is None:
        raise Refused(
            f"nobody to choose on: no user has a history before {cut_offs.choosing} and a target in the "
            f"{config.evaluation.window_days} days after it. Nothing was written; check the run date and "
            "what ingest took in"
        )
    rules = Rules(config.shop.exclude_seen, config.rules.limits)
    scorer = Scorer(
        replace(kit, bundles=bundles, rankings=rankings),
        rules,
        batch_users=config.scoring.batch_users,
    )
    signals = signals_of(config.shop)
    chosen = BlendSearch(scorer, users, signals, model_version, ranking_version).best()
    entries = _entries(chosen, model_version, ranking_version)
    choosing = _measure(
        measured, lake, config, kit, entries, window="choosing", cut_off=cut_offs.choosing
    )
    measured.unpersist()
    return chosen, choosing


def _entries(chosen: Chosen, model_version: str, ranking_version: str) -> list[Entry]:
    measured = recommenders(chosen.blend, chosen.last_purchases, chosen.other)
    return [Entry(recipe, model_version, ranking_version) for recipe in measured]


def _live_entry(live: Live, training: TrainingRecord) -> Entry:
    """The live recipe with what was fitted at the measuring cut-off: its stage 2 is today's ranking model."""
    recipe = live.recipe.model_copy(update={"name": LIVE})
    ranking_version = training.ranking.get("measuring", "")
    if recipe.re_ranks and not ranking_version:
        log.warning(
            "live_recipe_without_stage_two", release=live.release_id,
            reason="its recipe re-ranks, and no ranking model was fitted at the measuring cut-off",
        )  # fmt: skip
        recipe = recipe.model_copy(update={"rerank": 0, "rerank_weight": 1.0})
    models = training.models
    return Entry(recipe, models.get("live", models["measuring"]), ranking_version)


def _rankings_of(entries: list[Entry]) -> tuple[str, ...]:
    """The ranking models that somebody uses."""
    return tuple(sorted({entry.ranking_version for entry in entries if entry.recipe.re_ranks}))


def _measure(
    users: DataFrame,
    lake: Lake,
    config: RecsysConfig,
    kit: Kit,
    entries: list[Entry],
    *,
    window: str,
    cut_off: date,
) -> Measured:
    versions = tuple(sorted({entry.model_version for entry in entries if entry.recipe.model > 0}))
    for version in versions:
        open_bundle(config.paths.models / version)
    rankings = _rankings_of(entries)
    for version in rankings:
        checked_ranking(config.paths.models / version)
    with scoring_task(lake.spark, config, kit, versions, rankings) as task:
        return measure(
            users, task, tuple(entries), window=window, cut_off=cut_off,
            ks=config.evaluation.ks, partitions=config.scoring.partitions,
        )  # fmt: skip


def _bootstrap(measured: Measured, config: RecsysConfig) -> Bootstrap:
    return Bootstrap.of(
        measured, rounds=config.evaluation.bootstrap_rounds, seed=config.evaluation.seed
    )


def _rows(bootstrap: Bootstrap, run_date: date) -> list[Row]:
    compared_with = dict.fromkeys(("popularity", best_baseline(bootstrap, GATE_K)))
    pair = _stage_two_pair(bootstrap)
    pairs = {} if pair is None else {pair[0]: pair[1]}
    return metric_rows(bootstrap, run_date, compared_with=tuple(compared_with), pairs=pairs)


def _stage_two_pair(bootstrap: Bootstrap) -> tuple[str, str] | None:
    """Who re-ranks, and who does the same without; None where there is no stage 2."""
    pairs = ((BLEND, WITHOUT_RANKING), (RERANKED, BLEND))
    return next((pair for pair in pairs if set(pair) <= set(bootstrap.names)), None)


def _say_whether_stage_two_helps(bootstrap: Bootstrap, chosen: Chosen) -> None:
    if pair := _stage_two_pair(bootstrap):
        gain = bootstrap.difference(*pair, "all", "ndcg", GATE_K)
        log.info(
            "stage_two_measured", re_ranked=pair[0], without=pair[1], chosen=chosen.blend.re_ranks,
            ndcg_at_10_gain=round(gain.value, 5), low=round(gain.low, 5), high=round(gain.high, 5),
        )  # fmt: skip


def _candidate(bootstrap: Bootstrap, live: Live | None) -> Candidate:
    return Candidate(
        num_users=bootstrap.measured.num_users("all"),
        ndcg_at_10={
            name: bootstrap.estimate(name, "all", "ndcg", GATE_K).value for name in bootstrap.names
        },
        coverage_at_10=bootstrap.measured.coverage[BLEND][GATE_K],
        live_release="" if live is None else live.release_id,
    )


def _write(lake: Lake, contract: contracts.TableContract, rows: list[Row], run_date: date) -> Any:
    columns = [column.name for column in contract.columns]
    tuples = [tuple(row[name] for name in columns) for row in rows]
    df = local_rows(lake.spark, tuples, struct_type(contract))
    return lake.replace(df, contract, {"run_date": run_date})


def _continue_or_refuse(evaluation: Evaluation, live: Live | None) -> Evaluation:
    if not evaluation.record.passed and live is None:
        raise Refused(
            f"{evaluation.record.reason}. No release is live to fall back on, so there is nothing to score with: "
            "see the table gate_verdicts; for a first release run `evaluate --bootstrap`"
        )
    return evaluation
