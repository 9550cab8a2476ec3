"""Recommenders side by side in time: fitted on the shop before a cut-off, measured on the days after it.

Shape suffixes: U users measured, B users of a block, N catalogue (num_items + 1), K list places, T kinds of targets,
M metrics.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

import numpy as np
import structlog
from numpy.typing import NDArray

from recsys.config import RecsysConfig
from recsys.config.sections import GATE_K
from recsys.contracts import TOP_N_LISTS
from recsys.errors import ConfigError, MissingInput, RecsysError, Refused
from recsys.evaluation.contestants import ALL, Contestant, Opener, openers
from recsys.evaluation.costs import PeakMemory, timed
from recsys.evaluation.night_lists import check_nights
from recsys.evaluation.ranking import hits, metrics_by_user
from recsys.evaluation.splits import Targets, Window, rolling_origin
from recsys.evaluation.temporal_shop import TemporalShop, days_of_events, temporal_shop
from recsys.lake import Lake
from recsys.locks import exclusive
from recsys.recommenders.blend import held_out, next_items
from recsys.recommenders.interface import Chooses
from recsys.recommenders.shop import BLOCK_USERS, ItemNums, Scores

log = structlog.get_logger()

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """What a person asked for."""

    models: tuple[str, ...]
    run_date: date = date.min
    """``date.min``: the day after the last event."""
    cut_offs: int = 1
    sample: float = 1.0
    """The part of the measured users."""
    reference: str = ""
    """Whom the others are compared with; empty: the best simple baseline among them."""

    def __post_init__(self) -> None:
        if self.cut_offs < 1:
            raise ConfigError(f"--cut-offs must be at least 1, got {self.cut_offs}")
        if not 0 < self.sample <= 1:
            raise ConfigError(f"--sample must be above 0 and at most 1, got {self.sample}")


@dataclass
class Cost:
    fit_seconds: float = 0.0
    score_seconds: float = 0.0
    peak_memory_gb: float = 0.0
    """Of this process and all that it started, the JVM too, while it was fitted and asked."""


@dataclass(frozen=True)
class Result:
    """One recommender at one cut-off."""

    lists_UK: ItemNums
    metrics_UTM: Floats
    """Of all targets, and of those that the user had never taken before, at ``GATE_K`` and in the order of
    ``ranking.METRICS``; NaN for a user without such targets."""
    cost: Cost


@dataclass(frozen=True)
class AtCutOff:
    """Everybody who was measured at one cut-off."""

    window: Window
    num_users: int
    num_items: int
    num_events: int
    cold_share: float
    """The part of the targets that were not known at the cut-off; they count as misses."""
    allowed_N: Bools
    """What somebody may be shown."""
    results: dict[str, Result] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    """Name -> why."""
    errors: list[RecsysError] = field(default_factory=list)
    """Of those left out that are refused, or had to be measured."""


@dataclass(frozen=True)
class Comparison:
    run_date: date
    """The last window ends before it."""
    cut_offs: tuple[AtCutOff, ...]
    """Oldest first."""


def opened(asked: Asked, config: RecsysConfig) -> dict[str, Opener]:
    """Who is compared, by name; what is wrong with ``asked`` is said before anything is read.

    Raises:
        RecsysError: as ``openers``; ConfigError too where the reference is not among them.
    """
    found = openers(asked.models, config, cut_offs=asked.cut_offs)
    if asked.reference and asked.reference not in found:
        raise ConfigError(
            f"--reference {asked.reference} is not among the models: {', '.join(found)}"
        )
    return found


def planned(asked: Asked, config: RecsysConfig) -> list[str]:
    """What a dry run says; raises as ``opened``."""
    return ["models  " + ", ".join(opened(asked, config))]


def compare(
    lake: Lake, config: RecsysConfig, asked: Asked, *, peak_memory: PeakMemory
) -> Iterator[Comparison]:
    """What was found so far, after each cut-off. Tables and the live release stay as they are.

    Raises:
        RecsysError: what was asked for is not there or lacks something (of ``all``, what lacks something is left out);
            a score is no number, or a model has seen the window. What the others came to at that cut-off is told first.
        Conflict: another one compares before the same day.
    """
    models = opened(asked, config)
    first_day, last_day = days_of_events(lake)
    run_date = last_day + timedelta(days=1) if asked.run_date == date.min else asked.run_date
    windows = rolling_origin(
        run_date, days=config.evaluation.window_days, cut_offs=asked.cut_offs, first_day=first_day
    )
    if TOP_N_LISTS.name in models:
        check_nights(lake, windows, last_day)
    must = set(asked.models) if ALL in asked.models else set(models)
    if asked.reference:
        must.add(asked.reference)
    work = config.paths.work / "compare" / f"{run_date}"
    found = Comparison(run_date, ())
    # The job's lock is of the day that was asked for, and none is; the folder is that of the day it comes to.
    lock = config.paths.locks / f"compare-{run_date}.lock"
    with exclusive(lock, wait=False, what=f"compare before {run_date}"):
        for window in windows:
            world = temporal_shop(lake, config, window, sample=asked.sample)
            world = replace(world, shop=replace(world.shop, work=work / f"{window.cut_off}"))
            one = at_cut_off(world, models, must=must, peak_memory=peak_memory)
            found = replace(found, cut_offs=(*found.cut_offs, one))
            if one.results:
                yield found
            if one.errors:
                raise one.errors[0]
        shutil.rmtree(work, ignore_errors=True)  # what a killed run left is used again


def at_cut_off(
    world: TemporalShop, opened: dict[str, Opener], *, must: set[str], peak_memory: PeakMemory
) -> AtCutOff:
    """Each is fitted, asked and let go, one after the other. One that lacks something or is refused is left out: an
    error, unless it lacks something and need not be measured.
    """
    found = AtCutOff(
        world.window, len(world.users), world.shop.num_items, len(world.shop.histories.item_nums),
        world.cold_share, world.allowed_SN.any(axis=0),
    )  # fmt: skip
    log.info(
        "cut_off", day=str(world.window.cut_off), end=str(world.window.end), users=found.num_users,
        items=found.num_items, events=found.num_events, cold_targets=round(found.cold_share, 4),
    )  # fmt: skip
    for name, opener in opened.items():
        cost = Cost()
        try:
            with peak_memory() as peak:
                contestant = _fitted(opener, world, cost)
                lists_UK = _lists(name, contestant, world, cost)
        except (MissingInput, Refused) as error:
            log.warning("not_measured", recommender=name, reason=str(error))
            found.left_out[name] = str(error)
            if name in must or isinstance(error, Refused):
                found.errors.append(error)
            continue
        cost.peak_memory_gb = peak[0] / 1e9
        kinds = [_metrics(lists_UK, targets) for targets in (world.targets, world.first)]
        found.results[name] = Result(lists_UK, np.stack(kinds, axis=1), cost)
        log.info(
            "measured", recommender=name, fit_seconds=round(cost.fit_seconds, 1),
            score_seconds=round(cost.score_seconds, 1),
        )  # fmt: skip
    return found


def _fitted(opener: Opener, world: TemporalShop, cost: Cost) -> Contestant:
    """What chooses something of its own (epochs) chooses on the last part of what was known."""
    with timed() as seconds:
        contestant = opener(world)
        if isinstance(contestant, Chooses):
            earlier, later = held_out(world.shop)
            contestant.choose(earlier, earlier.everyone(), next_items(later))
        contestant.fit(world.shop)
    cost.fit_seconds = seconds[0]
    return contestant


def _lists(name: str, contestant: Contestant, world: TemporalShop, cost: Cost) -> ItemNums:
    """(U, K)"""
    lists = []
    with timed() as seconds:
        for start in range(0, len(world.users), BLOCK_USERS):
            stop = min(start + BLOCK_USERS, len(world.users))
            users = world.users.slice(start, stop)
            scores_BN = _checked(name, contestant.scores(users), (len(users), world.shop.width))
            lists.append(best_items(scores_BN, world.hidden_mask(start, stop), GATE_K))
    cost.score_seconds = seconds[0]
    return np.concatenate(lists)


def _metrics(lists_UK: ItemNums, targets: Targets) -> Floats:
    """(U, M)"""
    found = hits(lists_UK, targets.offsets, targets.item_nums)
    return metrics_by_user(found, targets.counts, (GATE_K,))[:, :, 0]


def best_items(scores_BN: Scores, hidden_BN: Bools, k: int) -> ItemNums:
    """(B, k) item numbers, best first, equal scores by the smaller number; 0 where there is no item left.

    What is hidden, or scored minus infinity, is in no list.
    """
    shown_BN = np.where(hidden_BN, -np.inf, scores_BN)
    width = shown_BN.shape[1]
    place = width - min(k, width)
    least_B1 = np.partition(shown_BN, place, axis=1)[:, place : place + 1]
    rows, nums = np.nonzero((shown_BN >= least_B1) & (shown_BN > -np.inf))
    order = np.lexsort((nums, -shown_BN[rows, nums], rows))
    rows, nums = rows[order], nums[order]
    ranks = np.arange(len(rows)) - np.searchsorted(rows, rows)
    listed = ranks < k
    lists_BK = np.zeros((len(scores_BN), k), dtype=np.int32)
    lists_BK[rows[listed], ranks[listed]] = nums[listed]
    return lists_BK


def _checked(name: str, scores_BN: Scores, wanted: tuple[int, int]) -> Scores:
    if scores_BN.shape != wanted:
        raise Refused(
            f"{name} gave scores of the shape {scores_BN.shape} for {wanted[0]} users and {wanted[1]} places (item 0 "
            "is none): score the whole catalogue"
        )
    wrong_B = (np.isnan(scores_BN) | np.isposinf(scores_BN)).any(axis=1)
    if wrong_B.any():
        raise Refused(
            f"{name} gave {int(wrong_B.sum())} of {len(scores_BN)} users a score that is no number, or infinite, which "
            "no list can order: mend it"
        )
    return scores_BN
