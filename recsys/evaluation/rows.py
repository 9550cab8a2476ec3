"""What was measured, as rows of the tables ``metrics``, ``metric_slices`` and ``gate_verdicts``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from recsys.config.sections import GATE_K
from recsys.evaluation.block import KINDS
from recsys.evaluation.gate import Verdict
from recsys.evaluation.intervals import Estimate
from recsys.evaluation.measured import Measured
from recsys.evaluation.probabilities import Comparison
from recsys.evaluation.ranking import METRICS
from recsys.evaluation.recommenders import BASELINES, BLEND
from recsys.evaluation.slices import SLICED, Part, Sliced

DIGITS = 12
"""Figures are rounded to this many decimals: a sum's last bits depend on the machine's BLAS."""

Row = dict[str, Any]


def best_baseline(measured: Measured, k: int) -> str:
    """The baseline with the highest NDCG@k over all purchases; ties to the earlier name."""
    baselines = [name for name in BASELINES if name in measured.names]
    return max(baselines, key=lambda name: measured.estimate(name, "all", "ndcg", k).value)


def metric_rows(
    measured: Measured,
    run_date: date,
    *,
    compared_with: tuple[str, ...],
    pairs: Mapping[str, str] | None = None,
) -> list[Row]:
    """Rows of ``metrics``: every ranking metric, and paired NDCG differences to some recommenders.

    ``pairs``: a recommender that is compared with one more.
    """
    return list(_rows(measured, run_date, compared_with, pairs or {}))


def _rows(
    measured: Measured, run_date: date, compared_with: tuple[str, ...], pairs: Mapping[str, str]
) -> Iterator[Row]:
    for name in measured.names:
        common = {
            "run_date": run_date, "window": measured.window, "as_of": measured.cut_off, "recommender": name,
        }  # fmt: skip
        for k in measured.ks:
            for kind in KINDS:
                for metric in METRICS:
                    found = measured.estimate(name, kind, metric, k)
                    yield {**common, "targets": kind, "metric": metric, "k": k, **_figures(found)}
                for other in dict.fromkeys((*compared_with, pairs.get(name, name))):
                    if other != name:
                        gain = measured.difference(name, other, kind, "ndcg", k)
                        metric = f"ndcg_above_{other}"
                        yield {
                            **common,
                            "targets": kind,
                            "metric": metric,
                            "k": k,
                            **_figures(gain),
                        }


def list_rows(measured: Measured, run_date: date) -> list[Row]:
    """Rows of ``metrics``: what lists are like apart from being right."""
    common = {"run_date": run_date, "window": measured.window, "as_of": measured.cut_off}
    return [
        {
            **common, "recommender": one.recommender, "targets": "all", "metric": one.metric,
            "k": one.k, **_figures(one.estimate),
        }
        for one in measured.list_figures()
    ]  # fmt: skip


def slice_rows(
    measured: Measured, run_date: date, *, names: Sequence[str], other: str, least_users: int
) -> list[Row]:
    """Rows of ``metric_slices``: figures of ``names`` by part, and what the blend gains over ``other``.

    A part with fewer than ``least_users`` says how many they are, and no figures.
    """
    sliced = measured.sliced
    common = {"run_date": run_date, "window": measured.window, "k": GATE_K}
    return [
        {
            **common, "recommender": name, "slice": part.slice, "part": part.part, "metric": metric,
            **_figures(estimate, shown=estimate.num_users >= least_users),
            "num_targets": num_targets, "enough": estimate.num_users >= least_users,
        }
        for part, num_targets in zip(sliced.parts, sliced.num_targets, strict=True)
        for name, metric, estimate in _of_part(sliced, part, names, other)
    ]  # fmt: skip


def _of_part(
    sliced: Sliced, part: Part, names: Sequence[str], other: str
) -> Iterator[tuple[str, str, Estimate]]:
    for metric in SLICED:
        for name in names:
            yield name, metric, sliced.estimate(name, part, metric)
        yield BLEND, f"{metric}_above_{other}", sliced.gain(BLEND, other, part, metric)


def probability_rows(comparison: Comparison, common: Row) -> list[Row]:
    """Rows of ``metrics``: every model's figures, and the paired differences, which have no cut-off: k is 0.

    ``common`` has run_date, window and as_of.
    """
    named = [
        *((name, metric, found) for (name, metric), found in comparison.figures.items()),
        *(
            (name, f"{metric}_above_{other}", found)
            for (name, other, metric), found in comparison.differences.items()
        ),
    ]
    users = comparison.num_users
    return [
        {
            **common, "recommender": name, "targets": "all", "metric": metric, "k": 0,
            **_figures(Estimate(found.value, found.low, found.high, users)),
        }
        for name, metric, found in named
    ]  # fmt: skip


def verdict_rows(verdicts: Iterable[Verdict], run_date: date) -> list[Row]:
    """Rows of ``gate_verdicts``."""
    return [
        {
            "run_date": run_date, "rule": v.rule, "value": _rounded(v.value), "wanted": v.wanted,
            "verdict": v.verdict, "reason": v.reason,
        }
        for v in verdicts
    ]  # fmt: skip


def figures(rows: Iterable[Row]) -> dict[str, float]:
    """The rows' values by name, as a tracking server takes them: ``measuring.blend.all.ndcg_at_10``."""
    return {_name_of(row): row["value"] for row in rows if row["value"] is not None}


def _name_of(row: Row) -> str:
    cut_off = f"_at_{row['k']}" if row["k"] else ""
    return f"{row['window']}.{row['recommender']}.{row['targets']}.{row['metric']}{cut_off}"


def _figures(found: Estimate, *, shown: bool = True) -> Row:
    figures = {"value": found.value, "low": found.low, "high": found.high}
    return {
        **{name: _rounded(value) if shown else None for name, value in figures.items()},
        "num_users": found.num_users,
    }


def _rounded(value: float) -> float | None:
    """NaN is null in the tables."""
    return round(float(value), DIGITS) if math.isfinite(value) else None
