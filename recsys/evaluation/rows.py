"""What was measured, as rows of the tables ``metrics`` and ``gate_verdicts``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from recsys.evaluation.gate import Verdict
from recsys.evaluation.intervals import Bootstrap, Estimate
from recsys.evaluation.measuring import KINDS
from recsys.evaluation.probabilities import Comparison
from recsys.evaluation.ranking import METRICS
from recsys.evaluation.recommenders import BASELINES

DIGITS = 12
"""Figures are rounded to this many decimals: a sum's last bits depend on the machine's BLAS."""

Row = dict[str, Any]


def best_baseline(bootstrap: Bootstrap, k: int) -> str:
    """The baseline with the highest NDCG@k over all purchases; ties to the earlier name."""
    measured = [name for name in BASELINES if name in bootstrap.names]
    return max(measured, key=lambda name: bootstrap.estimate(name, "all", "ndcg", k).value)


def metric_rows(
    bootstrap: Bootstrap,
    run_date: date,
    *,
    compared_with: tuple[str, ...],
    pairs: Mapping[str, str] | None = None,
) -> list[Row]:
    """Rows of ``metrics``: every figure, coverage, and paired NDCG differences to some recommenders.

    ``pairs``: a recommender that is compared with one more.
    """
    return list(_rows(bootstrap, run_date, compared_with, pairs or {}))


def _rows(
    bootstrap: Bootstrap, run_date: date, compared_with: tuple[str, ...], pairs: Mapping[str, str]
) -> Iterator[Row]:
    measured = bootstrap.measured
    for name in bootstrap.names:
        common = {
            "run_date": run_date, "window": measured.window, "as_of": measured.cut_off, "recommender": name,
        }  # fmt: skip
        for k in measured.ks:
            for kind in KINDS:
                for metric in METRICS:
                    found = bootstrap.estimate(name, kind, metric, k)
                    yield {**common, "targets": kind, "metric": metric, "k": k, **_figures(found)}
                for other in dict.fromkeys((*compared_with, pairs.get(name, name))):
                    if other != name:
                        gain = bootstrap.difference(name, other, kind, "ndcg", k)
                        metric = f"ndcg_above_{other}"
                        yield {
                            **common,
                            "targets": kind,
                            "metric": metric,
                            "k": k,
                            **_figures(gain),
                        }
            covered = Estimate(
                measured.coverage[name][k], math.nan, math.nan, measured.num_users("all")
            )
            yield {**common, "targets": "all", "metric": "coverage", "k": k, **_figures(covered)}


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


def verdict_rows(verdicts: list[Verdict], run_date: date) -> list[Row]:
    """Rows of ``gate_verdicts``."""
    return [
        {
            "run_date": run_date, "rule": v.rule, "value": _rounded(v.value), "wanted": v.wanted,
            "verdict": v.verdict, "reason": v.reason,
        }
        for v in verdicts
    ]  # fmt: skip


def figures(rows: list[Row]) -> dict[str, float]:
    """The rows' values by name, as a tracking server takes them: ``measuring.blend.all.ndcg_at_10``."""
    return {_name_of(row): row["value"] for row in rows if row["value"] is not None}


def _name_of(row: Row) -> str:
    cut_off = f"_at_{row['k']}" if row["k"] else ""
    return f"{row['window']}.{row['recommender']}.{row['targets']}.{row['metric']}{cut_off}"


def _figures(found: Estimate) -> Row:
    return {
        "value": _rounded(found.value), "low": _rounded(found.low), "high": _rounded(found.high),
        "num_users": found.num_users,
    }  # fmt: skip


def _rounded(value: float) -> float | None:
    """NaN is null in the tables."""
    return round(float(value), DIGITS) if math.isfinite(value) else None
