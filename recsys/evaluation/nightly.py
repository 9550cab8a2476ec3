"""A night's evaluation: choose on one window, measure on the next, judge, write, the record last."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import structlog

from recsys import contracts
from recsys.config import RecsysConfig
from recsys.config.sections import GATE_K
from recsys.errors import GateRefused, Refused
from recsys.evaluation.examples import examples
from recsys.evaluation.gate import Candidate, SliceGain, Verdict, judge, reason_of
from recsys.evaluation.item_facts import ItemFacts, item_facts
from recsys.evaluation.leaks import check_leaks
from recsys.evaluation.list_figures import COVERAGE
from recsys.evaluation.live_recipe import Live, refitted
from recsys.evaluation.measured import Measured
from recsys.evaluation.model_card import model_card
from recsys.evaluation.model_size import bytes_as_trained
from recsys.evaluation.night_report import NightReport
from recsys.evaluation.ranking_figures import ranking_rows
from recsys.evaluation.recommenders import BLEND, LIVE, RERANKED, WITHOUT_RANKING
from recsys.evaluation.report import REPORT_FILE, metrics_table, recipe_in_words
from recsys.evaluation.report_page import page
from recsys.evaluation.rows import (
    Row,
    best_baseline,
    figures,
    list_rows,
    metric_rows,
    slice_rows,
    verdict_rows,
)
from recsys.evaluation.search import Chosen
from recsys.evaluation.slices import OF_USERS, Sliced
from recsys.evaluation.windows import Window, choose, measure_everybody
from recsys.lake import Lake, local_rows, struct_type
from recsys.records import MODEL_CARD_FILE, EvaluationRecord, TrainingRecord, write_atomically
from recsys.training.tracking import log_evaluation

log = structlog.get_logger()


@dataclass(frozen=True)
class Found:
    """What was measured on the two windows, and of what."""

    chosen: Chosen
    choosing: Measured
    measuring: Measured
    items: ItemFacts
    """As of the measuring cut-off."""
    training: TrainingRecord
    live: Live | None
    live_without: str
    """What the live recipe was measured without."""

    @property
    def release(self) -> tuple[str, str]:
        """The models that would be released: the sequential one, and the ranking model or ''."""
        ranking = self.training.ranking["release"] if self.chosen.blend.re_ranks else ""
        return self.training.models["release"], ranking


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
    """Choose the blend, measure everyone, judge, and write metrics, slices, verdicts, report and record.

    A refused model is no failure while a release is live: the record says so and the night goes on.
    Where train made ranking models the blend may re-rank, and their probabilities are measured.

    Raises:
        CorruptArtifact: a model's file is not what its manifest says; nothing was written.
        MissingInput: a model or a table of a cut-off is not there; nothing was written.
        Refused: what was built as of a cut-off knows of later days, and nothing was written; or the gate refused and
            no release is live, and figures, verdicts, report and record are written.
    """
    # Of an earlier run, whatever comes of this one.
    EvaluationRecord.discard(config.paths, run_date)
    cut_offs = config.evaluation.cut_offs(run_date)
    for cut_off in (cut_offs.choosing, cut_offs.measuring):
        check_leaks(lake, config, cut_off)
    choosing = Window.at("choosing", lake, config, cut_offs.choosing)
    chosen, on_choosing = choose(choosing, training)
    log.info(
        "blend_chosen",
        weights=recipe_in_words(chosen.blend),
        ndcg_at_10=chosen.ndcg,
        tried=chosen.tried,
    )
    measuring = Window.at("measuring", lake, config, cut_offs.measuring)
    again = refitted(live, training, config) if live else None
    items = item_facts(lake, measuring.kit)
    entry = again.entry if again else None
    on_measuring = measure_everybody(measuring, chosen, training, entry, items)
    found = Found(
        chosen, on_choosing, on_measuring, items, training, live, again.without if again else ""
    )
    report = _report(found, config, run_date)
    _write(lake, config, report)
    log.info("gate_decided", passed=report.record.passed, reason=report.record.reason)
    evaluation = Evaluation(report.record, chosen, report.rows, report.verdicts)
    return _continue_or_refuse(evaluation, live)


def _report(found: Found, config: RecsysConfig, run_date: date) -> NightReport:
    """All figures, and what the gate says to them."""
    measured = found.measuring
    best = best_baseline(measured, GATE_K)
    other = LIVE if found.live else best
    least_users = config.evaluation.slice_users
    parts = slice_rows(
        measured, run_date,
        names=tuple(dict.fromkeys((BLEND, other, best))), other=other, least_users=least_users,
    )  # fmt: skip
    verdicts = judge(_candidate(found, config, other), config.gate)
    model_version, ranking_version = found.release
    return NightReport(
        shop=config.shop.name, window_days=config.evaluation.window_days, as_of=found.measuring.cut_off,
        live_release=found.live.release_id if found.live else "", other=other, slice_users=least_users,
        record=EvaluationRecord(
            run_date=run_date, passed=all(verdict.ok for verdict in verdicts), reason=reason_of(verdicts),
            recipe=found.chosen.blend, model_version=model_version, ranking_version=ranking_version,
        ),
        training=found.training, verdicts=tuple(verdicts),
        rows=tuple(_all_rows(found, config, run_date)), slice_rows=tuple(parts),
        examples=examples(measured.seen, found.items),
    )  # fmt: skip


def _all_rows(found: Found, config: RecsysConfig, run_date: date) -> list[Row]:
    """Of the table metrics: both windows, and the ranking model's probabilities where there is one."""
    rows = [*_rows(found.measuring, run_date), *_rows(found.choosing, run_date)]
    if "measuring" in found.training.ranking:
        _say_whether_stage_two_helps(found.measuring, found.chosen)
        rows += ranking_rows(config, run_date, found.measuring.cut_off, found.training)
    return rows


def _rows(measured: Measured, run_date: date) -> list[Row]:
    compared_with = dict.fromkeys(("popularity", best_baseline(measured, GATE_K)))
    pair = _stage_two_pair(measured)
    pairs = {} if pair is None else {pair[0]: pair[1]}
    return [
        *metric_rows(measured, run_date, compared_with=tuple(compared_with), pairs=pairs),
        *list_rows(measured, run_date),
    ]


def _stage_two_pair(measured: Measured) -> tuple[str, str] | None:
    """Who re-ranks, and who does the same without; None where there is no stage 2."""
    pairs = ((BLEND, WITHOUT_RANKING), (RERANKED, BLEND))
    return next((pair for pair in pairs if set(pair) <= set(measured.names)), None)


def _say_whether_stage_two_helps(measured: Measured, chosen: Chosen) -> None:
    if pair := _stage_two_pair(measured):
        gain = measured.difference(*pair, "all", "ndcg", GATE_K)
        log.info(
            "stage_two_measured", re_ranked=pair[0], without=pair[1], chosen=chosen.blend.re_ranks,
            ndcg_at_10_gain=round(gain.value, 5), low=round(gain.low, 5), high=round(gain.high, 5),
        )  # fmt: skip


def _candidate(found: Found, config: RecsysConfig, other: str) -> Candidate:
    """What the gate looks at: all of it on the measuring window."""
    measured, live = found.measuring, found.live
    return Candidate(
        num_users=measured.num_users,
        ndcg_at_10={
            name: measured.estimate(name, "all", "ndcg", GATE_K).value for name in measured.names
        },
        coverage_at_10=measured.of_shop(BLEND, COVERAGE, GATE_K).value,
        live_release="" if live is None else live.release_id,
        live_without=found.live_without,
        slices=slice_gains(measured.sliced, other),
        list_churn=math.nan if live is None else measured.churn[LIVE],
        model_bytes=bytes_as_trained(config.paths.models, *found.release),
    )


def slice_gains(sliced: Sliced, other: str) -> tuple[SliceGain, ...]:
    """What the blend gains over ``other``, by part."""
    gains = [(part, sliced.gain(BLEND, other, part)) for part in sliced.parts]
    return tuple(
        SliceGain(
            part.slice, part.part, other, gain.num_users, gain,
            sliced.estimate(other, part, "ndcg").value, of_targets=part.slice not in OF_USERS,
        )
        for part, gain in gains
    )  # fmt: skip


def _write(lake: Lake, config: RecsysConfig, report: NightReport) -> None:
    """Tables, then what people read, then the record that the next jobs go by."""
    day = report.run_date
    _replace(lake, contracts.METRICS, report.rows, day)
    _replace(lake, contracts.METRIC_SLICES, report.slice_rows, day)
    _replace(lake, contracts.GATE_VERDICTS, verdict_rows(report.verdicts, day), day)
    folder = config.paths.reports / str(day)
    write_atomically(folder / REPORT_FILE, page(report).encode())
    log.info("report_written", page=str(folder / REPORT_FILE))
    card = config.paths.models / report.record.model_version / MODEL_CARD_FILE
    write_atomically(card, model_card(report).encode())
    report.record.write(config.paths)
    if run_id := report.training.mlflow_run_id:
        log_evaluation(config, run_id, figures(report.rows), folder)


def _replace(
    lake: Lake, contract: contracts.TableContract, rows: Iterable[Row], run_date: date
) -> None:
    columns = [column.name for column in contract.columns]
    tuples = [tuple(row[name] for name in columns) for row in rows]
    df = local_rows(lake.spark, tuples, struct_type(contract))
    lake.replace(df, contract, {"run_date": run_date})


def _continue_or_refuse(evaluation: Evaluation, live: Live | None) -> Evaluation:
    if not evaluation.record.passed and live is None:
        if not evaluation.verdicts:
            raise Refused(
                f"{evaluation.record.reason}. No release is live to score with either: "
                "run train with training.when=always"
            )
        raise GateRefused(
            f"{evaluation.record.reason}. No release is live to fall back on, so there is nothing to score with: "
            "see the table gate_verdicts; for a first release run `evaluate --bootstrap`"
        )
    return evaluation
