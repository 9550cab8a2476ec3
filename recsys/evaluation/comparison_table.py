"""What a comparison says: figures with intervals, paired differences to one of those compared, and what each cost.

The differences are several looks at the same users, so one of them may seem to be above by chance alone. Each interval
is that of 1 - 0.05 / (number of differences): then all of them hold together in 95 of 100 comparisons, however they
depend on each other (Bonferroni's inequality; Dunn, Journal of the American Statistical Association 56, 1961). Holm's
method decides a little more often, but it gives verdicts and no intervals.
"""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from recsys.config import RecsysConfig
from recsys.config.sections import GATE_K
from recsys.evaluation.comparison import Asked, AtCutOff, Comparison, Result
from recsys.evaluation.history_file import short_hash
from recsys.evaluation.intervals import ByUser, Estimate, Means, resampled_means, stretched
from recsys.evaluation.list_figures import COVERAGE, of_all_lists
from recsys.evaluation.ranking import METRICS
from recsys.records import write_atomically

log = structlog.get_logger()

SIMPLE = (
    "popularity", "popularity_by_segment", "trending", "last_purchases", "repeat_purchase", "transitions", "item_item",
    "item_item_classic",
)  # fmt: skip
"""What counts and does not train: a recommender has to be above the best of them to be worth its trouble."""

SHOWN = ("ndcg", "recall", "hit_rate", "mrr")
ALL_TARGETS, NEW_ITEMS = 0, 1
LONGEST_NAME = 80
"""Of a report's file, in characters."""

Json = dict[str, Any]


def summary(found: Comparison, asked: Asked, config: RecsysConfig) -> Json:
    """All figures at all cut-offs, as the last line and the .json have them; rounded to six decimals."""
    reference = reference_of(found, asked.reference)
    comparisons = sum(len(one.results) - 1 for one in found.cut_offs if reference in one.results)
    return {
        "comparison": config.shop.name,
        "run_date": str(found.run_date),
        "k": GATE_K,
        "exclude_seen": config.shop.exclude_seen,
        "sample": asked.sample,
        "reference": reference,
        "differences": comparisons,
        "cut_offs": [_at(one, reference, comparisons, config) for one in found.cut_offs],
    }


def reference_of(found: Comparison, asked: str) -> str:
    """``asked``, or the best simple baseline by NDCG over all cut-offs, or the first of all."""
    if asked:
        return asked
    first, *others = found.cut_offs
    everywhere = [name for name in first.results if all(name in one.results for one in others)]
    simple = [name for name in everywhere if name in SIMPLE]

    def ndcg(name: str) -> float:
        return float(np.mean([_ndcg(one.results[name]) for one in found.cut_offs]))

    return max(simple, key=ndcg) if simple else (everywhere or list(first.results))[0]


def table(told: Json) -> str:
    """For people: a table per cut-off, the best first."""
    reference = told["reference"]
    seen = "left out" if told["exclude_seen"] else "listed like the rest"
    sample = "" if told["sample"] == 1 else f", {told['sample']:.3g} of the users by hash"
    lines = [
        f"# {told['comparison']}: {len(told['cut_offs'])} cut-offs before {told['run_date']}",
        "",
        f"First {told['k']} of the full catalogue; what a user had before is {seen}{sample}. Intervals are of 95 %, "
        f"by a bootstrap over users, of coverage by a jackknife. The last of them is of NDCG less that of "
        f"`{reference}`, paired by user, and holds for all {told['differences']} differences together (Bonferroni).",
    ]  # fmt: skip
    for one in told["cut_offs"]:
        lines += ["", *_section(one, told["k"], reference)]
    return "\n".join(lines) + "\n"


def write_report(told: Json, asked: Asked, config: RecsysConfig) -> None:
    """The table and the figures, under ``reports/compare``; replaced after every cut-off."""
    report = config.paths.reports / "compare" / file_name(asked, told["run_date"])
    page = report.with_name(f"{report.name}.md")
    write_atomically(page, table(told).encode())
    write_atomically(report.with_name(f"{report.name}.json"), json.dumps(told).encode())
    log.info("report_written", page=str(page))


def file_name(asked: Asked, run_date: str) -> str:
    """Of a report, without its suffix: what asks for something else does not overwrite it, but for ``--set``."""
    names = "-".join(_word(name) for name in asked.models)
    if len(names) > LONGEST_NAME:
        names = sha256("\n".join(asked.models).encode()).hexdigest()[:12]
    words = [
        names,
        f"{asked.cut_offs}_cut_offs" if asked.cut_offs != 1 else "",
        f"sample_{asked.sample:g}" if asked.sample != 1 else "",
        f"above_{_word(asked.reference)}" if asked.reference else "",
    ]
    return "-".join([run_date, *filter(None, words)])


def _word(model: str) -> str:
    """A path by its last part, and a hash that tells it from files of that name in other folders."""
    _, slash, name = model.rpartition("/")
    word = re.sub(r"[^\w.]+", "_", name)
    return f"{word}_{short_hash(Path(model))}" if slash else word


def _at(one: AtCutOff, reference: str, comparisons: int, config: RecsysConfig) -> Json:
    by_user = {name: _by_user(result) for name, result in one.results.items()}
    means = resampled_means(
        by_user, rounds=config.evaluation.bootstrap_rounds, seed=config.evaluation.seed
    )
    models = {}
    for name, result in one.results.items():
        mine = means[name]
        figures = {metric: mine.at(ALL_TARGETS, METRICS.index(metric)) for metric in SHOWN}
        figures[COVERAGE] = dict(of_all_lists(result.lists_UK, one.allowed_N))[COVERAGE]
        figures["ndcg_of_new_items"] = _ndcg_at(mine, NEW_ITEMS)
        if name != reference and reference in means:
            gain = _ndcg_at(mine.less(means[reference]), ALL_TARGETS)
            figures["ndcg_above_reference"] = stretched(gain, of=max(comparisons, 1))
        models[name] = {metric: _json(found) for metric, found in figures.items()} | {
            "fit_seconds": round(result.cost.fit_seconds, 2),
            "score_seconds": round(result.cost.score_seconds, 2),
            "peak_memory_gb": round(result.cost.peak_memory_gb, 2),
        }
    return {
        "cut_off": str(one.window.cut_off), "end": str(one.window.end), "users": one.num_users,
        "items": one.num_items, "events": one.num_events, "cold_targets": round(one.cold_share, 6),
        "models": models, "left_out": one.left_out,
    }  # fmt: skip


def _by_user(result: Result) -> ByUser:
    present_UT = np.isfinite(result.metrics_UTM[:, :, 0])
    return ByUser(np.where(present_UT[:, :, None], result.metrics_UTM, 0.0), present_UT)


def _ndcg(result: Result) -> float:
    return float(result.metrics_UTM[:, ALL_TARGETS, METRICS.index("ndcg")].mean())


def _ndcg_at(means: Means, kind: int) -> Estimate:
    return means.at(kind, METRICS.index("ndcg"))


def _section(one: Json, k: int, reference: str) -> list[str]:
    lines = [
        f"## From {one['cut_off']} to before {one['end']}",
        "",
        f"{one['users']:,} users; fitted on {one['events']:,} events of {one['items']:,} items. "
        f"{one['cold_targets']:.1%} of the targets were not known by then, and count as misses.",
        "",
        f"| | NDCG@{k} | recall@{k} | hit rate | MRR | coverage | NDCG, new to the user | above {reference} | fit, s "
        "| score, s | peak, GB |",
        "|-" * 11 + "|",
    ]  # fmt: skip
    ranked = sorted(one["models"].items(), key=lambda model: -model[1]["ndcg"]["value"])
    for name, figures in ranked:
        cells = [
            _interval(figures.get(metric))
            for metric in (*SHOWN, "coverage", "ndcg_of_new_items", "ndcg_above_reference")
        ]
        costs = (
            f"{figures['fit_seconds']:.1f}",
            f"{figures['score_seconds']:.1f}",
            f"{figures['peak_memory_gb']:.1f}",
        )
        lines.append("| " + " | ".join([f"`{name}`", *cells, *costs]) + " |")
    return lines + [f"\nnot measured: `{name}`: {why}" for name, why in one["left_out"].items()]


def _interval(found: dict[str, float | None] | None) -> str:
    if found is None or found["value"] is None:
        return ""
    if found["low"] is None or found["high"] is None:
        return f"{found['value']:.4f}"
    return f"{found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}]"


def _json(found: Estimate) -> dict[str, float | None]:
    return {name: _rounded(getattr(found, name)) for name in ("value", "low", "high")}


def _rounded(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
