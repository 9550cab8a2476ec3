"""Whether the new recommender may be published: one verdict per rule, each with its reason; all must be ok.

What is not there or NaN is never ok, an exact tie is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from recsys.config.gate import GateConfig
from recsys.evaluation.intervals import Estimate, stretched
from recsys.evaluation.recommenders import BASELINES, BLEND, LIVE

OK, REFUSED = "ok", "refused"
MEGABYTE = 1_000_000
MOST_TOLD = 5


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
    other_ndcg: float
    """NDCG@10 of ``other`` over these users."""
    of_targets: bool = False
    """Of the targets, not of the users: each user counts with those targets alone."""


@dataclass(frozen=True)
class Candidate:
    """What the gate looks at; all on the measuring window, over all purchases."""

    num_users: int
    ndcg_at_10: dict[str, float]
    """By recommender; ``blend`` is what would be published, ``live`` what is."""
    coverage_at_10: float
    live_release: str = ""
    """Id of the live release; empty where there is none."""
    live_without: str = ""
    """What the live recipe was measured without, and why; empty where it was fitted again as it is."""
    slices: tuple[SliceGain, ...] = ()
    list_churn: float = math.nan
    """Share of the first 10 that changes against the live recipe, 0 to 1; NaN where none is live."""
    model_bytes: int = 0
    """On disk, as train wrote them: the model, and the ranking model where the blend re-ranks."""

    @property
    def ndcg(self) -> float:
        """What would be published."""
        return self.ndcg_at_10.get(BLEND, math.nan)


@dataclass(frozen=True)
class Verdict:
    """What one rule found and decided."""

    rule: str
    value: float
    wanted: str
    ok: bool
    reason: str
    beware: str = ""
    """What a rule that is ok does not vouch for; part of the reason too."""

    @property
    def verdict(self) -> str:
        return OK if self.ok else REFUSED


def judge(candidate: Candidate, config: GateConfig) -> list[Verdict]:
    """Every rule's verdict."""
    return [
        _floor("min_users", candidate.num_users, config.min_users, "users measured"),
        _floor("min_ndcg_at_10", candidate.ndcg, config.min_ndcg_at_10, "NDCG@10 of the blend"),
        _floor(
            "min_coverage_at_10", candidate.coverage_at_10, config.min_coverage_at_10,
            "share of the catalogue in somebody's first 10",
        ),
        _baselines_present(candidate),
        _best_baseline(candidate, config),
        _live_recipe(candidate, config),
        _slices(candidate, config),
        _list_churn(candidate, config),
        _model_size(candidate, config),
    ]  # fmt: skip


def reason_of(verdicts: list[Verdict]) -> str:
    """In one line: all passed, and what to beware of; or what refused and why."""
    refused = [verdict for verdict in verdicts if not verdict.ok]
    if not refused:
        passed = f"passed all {len(verdicts)} rules of the gate"
        return "; but ".join([passed, *(v.beware for v in verdicts if v.beware)])
    return "the gate refused: " + "; ".join(f"{v.rule} ({v.reason})" for v in refused)


def _floor(rule: str, value: float, least: float, what: str) -> Verdict:
    reason = f"{what}: {value:.5g}, floor {least:g}"
    return Verdict(rule, value, f">= {least:g}", value >= least, reason)


def _baselines_present(candidate: Candidate) -> Verdict:
    missing = [n for n in BASELINES if not math.isfinite(candidate.ndcg_at_10.get(n, math.nan))]
    found = len([name for name in BASELINES if name not in missing])
    reason = f"no figure for {', '.join(missing)}" if missing else "every baseline was measured"
    return Verdict("baselines_present", found, f"= {len(BASELINES)}", not missing, reason)


def _best_baseline(candidate: Candidate, config: GateConfig) -> Verdict:
    measured = {name: candidate.ndcg_at_10.get(name, math.nan) for name in BASELINES}
    finite = {name: value for name, value in measured.items() if math.isfinite(value)}
    if not finite:
        reason = "no baseline was measured"
        return Verdict("best_baseline", candidate.ndcg, "a baseline", False, reason)
    best = max(finite, key=lambda name: finite[name])
    return _not_below("best_baseline", candidate.ndcg, finite[best], config.tolerance, best)


def _live_recipe(candidate: Candidate, config: GateConfig) -> Verdict:
    if not candidate.live_release:
        reason = (
            "first release, allowed by --bootstrap"
            if config.bootstrap
            else "no release is live to compare with; a first release needs --bootstrap"
        )
        wanted = "a live release, or --bootstrap"
        return Verdict("live_recipe", candidate.ndcg, wanted, config.bootstrap, reason)
    live = candidate.ndcg_at_10.get(LIVE, math.nan)
    fitted, without = "fitted at the same cut-off", candidate.live_without
    if without:
        fitted = f"{fitted} without {without}"
    what = f"the recipe of {candidate.live_release}, {fitted},"
    found = _not_below("live_recipe", candidate.ndcg, live, config.tolerance, what)
    if not without:
        return found
    if not config.accept_live_stand_in:
        reason = f"{found.reason}; gate.accept_live_stand_in is false"
        return replace(found, ok=False, reason=reason)
    return replace(found, beware=f"the live recipe was measured without {without}")


def _not_below(rule: str, ndcg: float, other: float, tolerance: float, name: str) -> Verdict:
    least = other * (1 - tolerance)
    ok = ndcg >= least  # False for NaN on either side
    relation = "is not below" if ok else "is below"
    if math.isnan(ndcg) or math.isnan(other):
        relation = "is not shown to reach"
    less = f" less {tolerance:.1%}" if tolerance else ""
    reason = f"NDCG@10 of the blend {ndcg:.5f} {relation} {name} {other:.5f}{less}"
    return Verdict(rule, ndcg, f">= {least:.6g}", ok, reason)


def _slices(candidate: Candidate, config: GateConfig) -> Verdict:
    """No slice with enough users is shown to lose more than the tolerance, of what the other has in that slice.

    Many slices are looked at, so each is asked for more certainty (Bonferroni; Dunn, JASA 56, 1961): at 95 % each, one
    of 20 slices that lose nothing would refuse. Holm's procedure, which is less strict with the slices after the
    first, refuses in the same cases: its first step is this one.
    """
    rule = "slice_regressions"
    # Beside a baseline a first release is held to parts of the users alone: ten places that serve everybody better
    # than best sellers or last purchases do still give up what each of these does best.
    asked = [one for one in candidate.slices if candidate.live_release or not one.of_targets]
    enough = [one for one in asked if one.num_users >= config.min_slice_users]
    judged = sorted(enough, key=lambda one: one.gain.value)
    wanted = (
        f"no slice that loses more than {config.slice_tolerance:.1%} of the other's NDCG@10 there, of targets "
        f"{config.target_slice_tolerance:.1%}, or {config.slice_allowance:g}"
    )
    if not judged:
        reason = f"no slice was judged: none has {config.min_slice_users} users"
        if not candidate.slices:
            reason = "no slice was measured"
        return Verdict(rule, math.nan, wanted, bool(candidate.slices), reason, beware=reason)
    lost = [one for one in judged if not _holds(one, config, of=len(judged))]
    if not lost:
        reason = (
            f"none of {len(judged)} slices is shown to lose more; least gain {_in_words(judged[0])}"
        )
        return Verdict(rule, judged[0].gain.value, wanted, True, reason)
    told = "; ".join(_in_words(one) for one in lost[:MOST_TOLD])
    reason = f"worse for {len(lost)} of {len(judged)} slices: {told}"
    return Verdict(rule, lost[0].gain.value, wanted, False, reason)


def _holds(one: SliceGain, config: GateConfig, *, of: int) -> bool:
    """Whether the slice may have lost no more than the tolerance; False for NaN anywhere."""
    share = config.target_slice_tolerance if one.of_targets else config.slice_tolerance
    least = min(-share * one.other_ndcg, -config.slice_allowance)  # NaN comes first, and stays
    return stretched(one.gain, of=of).high >= least


def _in_words(one: SliceGain) -> str:
    gain = f"{one.gain.value:+.4f} [{one.gain.low:+.4f}, {one.gain.high:+.4f}]"
    return f"{one.slice} {one.part}: {gain} against {one.other}, {one.num_users} users"


def _list_churn(candidate: Candidate, config: GateConfig) -> Verdict:
    rule, most = "list_churn", config.max_list_churn
    if not candidate.live_release:
        return Verdict(rule, math.nan, f"<= {most:g}", True, "no release is live to change")
    reason = f"{candidate.list_churn:.1%} of the first 10 change against the live recipe, limit {most:.1%}"
    return Verdict(
        rule, candidate.list_churn, f"<= {most:g}", candidate.list_churn <= most, reason
    )  # fmt: skip


def _model_size(candidate: Candidate, config: GateConfig) -> Verdict:
    megabytes, most = candidate.model_bytes / MEGABYTE, config.max_model_megabytes
    reason = f"the model has {megabytes:.4g} MB on disk, limit {most:g}"
    if not candidate.model_bytes:
        reason = "the model's files were not found"
    return Verdict("model_size", megabytes, f"<= {most:g} MB", 0 < megabytes <= most, reason)
