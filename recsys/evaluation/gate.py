"""Whether the new recommender may be published: floors, the best baseline, the live recipe."""

from __future__ import annotations

import math
from dataclasses import dataclass

from recsys.config.sections import GateConfig
from recsys.evaluation.intervals import Estimate
from recsys.evaluation.recommenders import BASELINES, BLEND, LIVE

OK, REFUSED = "ok", "refused"


@dataclass(frozen=True)
class SliceGain:
    """What the blend gains over another recommender for a part of the users."""

    slice: str
    """How users are told apart: ``history_length``, ``segment``, …"""
    part: str
    other: str
    num_users: int
    gain: Estimate
    """NDCG@10 of the blend less that of ``other``, paired by user, over these users."""


@dataclass(frozen=True)
class Candidate:
    """What the gate looks at; all on the measuring window, over all purchases."""

    num_users: int
    ndcg_at_10: dict[str, float]
    """By recommender; ``blend`` is what would be published, ``live`` what is."""
    coverage_at_10: float
    live_release: str = ""
    """Id of the live release; empty where there is none."""
    slices: tuple[SliceGain, ...] = ()
    list_churn: float = math.nan
    """Share of the first 10 that changes against the live recipe, 0 to 1; NaN where none is live."""
    model_bytes: int = 0
    """On disk: the model's folder, and the ranking model's where the blend re-ranks."""


@dataclass(frozen=True)
class Verdict:
    """What one rule found and decided."""

    rule: str
    value: float
    wanted: str
    ok: bool
    reason: str

    @property
    def verdict(self) -> str:
        return OK if self.ok else REFUSED


def judge(candidate: Candidate, config: GateConfig) -> list[Verdict]:
    """Every rule's verdict; all must be ok. NaN is never ok, an exact tie is."""
    ndcg = candidate.ndcg_at_10.get(BLEND, math.nan)
    return [
        _floor("min_users", candidate.num_users, config.min_users, "users measured"),
        _floor("min_ndcg_at_10", ndcg, config.min_ndcg_at_10, "NDCG@10 of the blend"),
        _floor(
            "min_coverage_at_10", candidate.coverage_at_10, config.min_coverage_at_10,
            "share of the catalogue in somebody's first 10",
        ),
        _baselines_present(candidate),
        _best_baseline(candidate, ndcg, config.tolerance),
        _live(candidate, ndcg, config),
    ]  # fmt: skip


def reason_of(verdicts: list[Verdict]) -> str:
    """In one line: all passed, or what refused and why."""
    refused = [verdict for verdict in verdicts if not verdict.ok]
    if not refused:
        return f"passed all {len(verdicts)} rules of the gate"
    return "the gate refused: " + "; ".join(f"{v.rule} ({v.reason})" for v in refused)


def _floor(rule: str, value: float, least: float, what: str) -> Verdict:
    return Verdict(
        rule, value, f">= {least:g}", value >= least, f"{what}: {value:.5g}, floor {least:g}"
    )


def _baselines_present(candidate: Candidate) -> Verdict:
    missing = [n for n in BASELINES if not math.isfinite(candidate.ndcg_at_10.get(n, math.nan))]
    reason = f"no figure for {', '.join(missing)}" if missing else "every baseline was measured"
    return Verdict(
        "baselines_present",
        len(BASELINES) - len(missing),
        f"= {len(BASELINES)}",
        not missing,
        reason,
    )


def _best_baseline(candidate: Candidate, ndcg: float, tolerance: float) -> Verdict:
    found = {name: candidate.ndcg_at_10.get(name, math.nan) for name in BASELINES}
    finite = {name: value for name, value in found.items() if math.isfinite(value)}
    if not finite:
        return Verdict("best_baseline", ndcg, "a baseline", False, "no baseline was measured")
    best = max(finite, key=lambda name: finite[name])
    return _not_below("best_baseline", ndcg, finite[best], tolerance, best)


def _live(candidate: Candidate, ndcg: float, config: GateConfig) -> Verdict:
    if not candidate.live_release:
        reason = (
            "first release, allowed by --bootstrap"
            if config.bootstrap
            else "no release is live to compare with; a first release needs --bootstrap"
        )
        return Verdict(
            "live_recipe", ndcg, "a live release, or --bootstrap", config.bootstrap, reason
        )
    live = candidate.ndcg_at_10.get(LIVE, math.nan)
    what = f"the recipe of {candidate.live_release}, fitted at the same cut-off,"
    return _not_below("live_recipe", ndcg, live, config.tolerance, what)


def _not_below(rule: str, ndcg: float, other: float, tolerance: float, name: str) -> Verdict:
    least = other * (1 - tolerance)
    ok = ndcg >= least  # False for NaN on either side
    relation = (
        "is not below"
        if ok
        else "is not shown to reach"
        if math.isnan(ndcg + other)
        else "is below"
    )
    return Verdict(
        rule, ndcg, f">= {least:.6g}", ok,
        f"NDCG@10 of the blend {ndcg:.5f} {relation} {name} {other:.5f}"
        + (f" less {tolerance:.1%}" if tolerance else ""),
    )  # fmt: skip
