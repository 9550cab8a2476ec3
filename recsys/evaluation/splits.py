"""What is known and what is to be foretold: splits by time for the whole shop, and by the last event of each user.

By time is the default: everything before a day is known, the days from it on hold the targets, for everybody alike.
Rolling origin (Tashman, International Journal of Forecasting 2000) does the same at several days. Leave-one-out is the
field's format for files without clock times; it lets a recommender know of one user what happens after another's
target, so it says less of a shop (Ji and others, A Critical Study on Data Leakage, TOIS 2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from recsys.errors import ConfigError
from recsys.recommenders.shop import Histories, Ints, ItemNums


@dataclass(frozen=True)
class Window:
    """The days of targets: from ``cut_off`` to the day before ``end``. Everything before ``cut_off`` is known."""

    cut_off: date
    end: date

    def __post_init__(self) -> None:
        if self.end <= self.cut_off:
            raise ConfigError(
                f"a window of targets from {self.cut_off} to before {self.end} has no day"
            )

    @property
    def days(self) -> int:
        return (self.end - self.cut_off).days

    def is_known(self, day: date) -> bool:
        return day < self.cut_off

    def is_target(self, day: date) -> bool:
        return self.cut_off <= day < self.end


@dataclass(frozen=True)
class Targets:
    """What each user is measured on, as ``recsys.evaluation.ranking`` takes it."""

    offsets: Ints
    """(U + 1,)"""
    item_nums: ItemNums
    """Distinct items that the shop knows, ascending within a user."""
    counts: Ints
    """(U,) distinct targets, those that the shop does not know too: each of their events counts as an item."""


@dataclass(frozen=True)
class Split:
    """The same users twice: what was known of them, and what they went on to have. No event is in both."""

    known: Histories
    later: Histories

    def targets(self) -> Targets:
        """The distinct items of ``later``; an item that the user had before is one as well."""
        rows, nums = self.later.rows, self.later.item_nums
        unknown = np.bincount(rows[nums == 0], minlength=len(self.later))
        keys = np.unique((rows[nums > 0] << 32) + nums[nums > 0])
        lengths = np.bincount(keys >> 32, minlength=len(self.later))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        item_nums = (keys & ((1 << 32) - 1)).astype(np.int32)
        return Targets(offsets, item_nums, (lengths + unknown).astype(np.int64))


def rolling_origin(
    run_date: date,
    *,
    days: int,
    cut_offs: int,
    step_days: int | None = None,
    first_day: date | None = None,
) -> tuple[Window, ...]:
    """``cut_offs`` windows of ``days`` days, oldest first; the last one ends before ``run_date``.

    ``step_days`` lie between cut-offs, as many as ``days`` by default; with fewer, windows share days and their
    figures are not independent. ``first_day`` is the first of the data: every window must have a day before it.

    Raises:
        ConfigError: a number is less than 1, or the data do not reach back that far.
    """
    step = days if step_days is None else step_days
    for name, value in (("days", days), ("cut_offs", cut_offs), ("step_days", step)):
        if value < 1:
            raise ConfigError(f"rolling origin: {name} must be at least 1, got {value}")
    last = run_date - timedelta(days=days)
    starts = [last - timedelta(days=step * back) for back in reversed(range(cut_offs))]
    if first_day is not None and starts[0] <= first_day:
        most = max(((last - first_day).days - 1) // step + 1, 0)
        raise ConfigError(
            f"rolling origin: {cut_offs} cut-offs of {days} days before {run_date} begin on {starts[0]}, and the "
            f"data begin on {first_day}: nothing is known by then; at most {most} cut-offs fit"
        )
    return tuple(Window(start, start + timedelta(days=days)) for start in starts)


def leave_one_out(histories: Histories, *, newer: int = 0) -> Split:
    """Later is one event of every user: the newest but ``newer``; known is what came before it.

    ``newer=0`` splits off the last items to measure on, ``newer=1`` those before them to choose on; the ``newer``
    newest events are then in neither. A user with too few events has no later one, and one whose first event it is
    has it with nothing known.
    """
    if newer < 0:
        raise ConfigError(f"leave-one-out: newer must be at least 0, got {newer}")
    known = histories.without_newest(newer + 1)
    return Split(known, histories.where(histories.places_to_newest == newer))
