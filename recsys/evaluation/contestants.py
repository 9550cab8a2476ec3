"""Who can be compared: shipped recommenders, classes of the user's own, models of MLflow runs, scores from a file,
what the nights listed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import structlog
from scipy.sparse import csr_array

from recsys.config import RecsysConfig
from recsys.contracts import TOP_N_LISTS
from recsys.errors import ConfigError, MissingInput, Refused
from recsys.evaluation.night_lists import listed_pairs, models_of_lists
from recsys.evaluation.splits import Window
from recsys.evaluation.temporal_shop import TemporalShop
from recsys.lake import Lake
from recsys.recommenders import Shop, Users
from recsys.recommenders.named import SHIPPED, recommender
from recsys.recommenders.scored_pairs import ScoredPairs, read_pairs
from recsys.recommenders.shop import Scores
from recsys.recommenders.tracked import TrackedModel, tracked_models

log = structlog.get_logger()

MLFLOW = "mlflow:"
PARQUET = ".parquet"
ALL = "all"


class Contestant(Protocol):
    """What is asked of each: of ``recsys.recommenders.Recommender`` the two things that a comparison needs."""

    def fit(self, shop: Shop) -> object:
        """Learn from ``shop`` alone, or refuse."""

    def scores(self, users: Users) -> Scores:
        """(B, N); minus infinity for an item that is to be in no list."""


Opener = Callable[[TemporalShop], Contestant]
"""Gives an unfitted one for the shop of a cut-off."""


def openers(names: Sequence[str], config: RecsysConfig, *, cut_offs: int = 1) -> dict[str, Opener]:
    """By name, each once. What can be said without the shop is said here: a name, a class, a run or a file is wrong.

    ``all`` stands for every shipped recommender.

    Raises:
        ConfigError: no names, a name that nothing is called, or scores of one day for several cut-offs.
        RecsysError: a run or a file is not there, or not what it should be.
    """
    asked = [one for name in names for one in (SHIPPED if name == ALL else [name]) if one]
    if not asked:
        raise ConfigError("nothing to compare: name recommenders, --models item_item,blend")
    return {name: _opener(name, config, cut_offs) for name in dict.fromkeys(asked)}


def _opener(name: str, config: RecsysConfig, cut_offs: int) -> Opener:
    if name.startswith(MLFLOW):
        return _of_run(name, config)
    if name.endswith(PARQUET):
        return _of_file(name, cut_offs)
    if name == TOP_N_LISTS.name:
        return _of_nights(config)
    recommender(name)
    return lambda _: recommender(name)


def _of_run(name: str, config: RecsysConfig) -> Opener:
    models = tracked_models(config, name.removeprefix(MLFLOW))

    def opened(world: TemporalShop) -> Contestant:
        cut_off = world.window.cut_off
        early = [model for model in models if model.as_of <= cut_off]
        if not early:
            days = ", ".join(str(model.as_of) for model in models)
            raise Refused(
                f"{name} was fitted as of {days}, and is to be measured from {cut_off} on: it has seen these days. "
                f"Compare with a run date from {models[0].as_of + timedelta(days=world.window.days)} on, or name a "
                "run that trained earlier"
            )
        return TrackedModel(early[-1], num_items=world.shop.num_items)

    return opened


def _of_file(name: str, cut_offs: int) -> Opener:
    if cut_offs > 1:
        raise ConfigError(
            f"{name} holds the scores of one day, and --cut-offs {cut_offs} asks for several: compare it at one"
        )
    pairs = read_pairs(Path(name))
    return lambda world: ScoredPairs.of(pairs, world.user_ids, world.item_ids)


def _of_nights(config: RecsysConfig) -> Opener:
    """The lists of the night as of the cut-off, as they were, unless a model of later days made them.

    A night that is run again long after, and trains no model that passes, takes the live release's.
    """

    def opened(world: TemporalShop) -> Contestant:
        if world.shop.spark is None:
            raise MissingInput(
                "the lists of the nights are in a table, and this shop comes without Spark"
            )
        cut_off = world.window.cut_off
        measured = world.user_ids.take(pa.array(world.users.user_nums - 1))
        lake = Lake(world.shop.spark, config.paths)
        pairs = listed_pairs(lake, cut_off, measured)
        _refuse_later(models_of_lists(lake, config.paths, cut_off), world.window)
        if not len(pairs):
            log.warning("no_measured_user_has_a_list", as_of=str(cut_off), users=len(measured))
            shape = (len(world.user_ids) + 1, len(world.item_ids))
            return ScoredPairs(csr_array(shape, dtype=np.float32))
        return ScoredPairs.of(pairs, world.user_ids, world.item_ids)

    return opened


def _refuse_later(fitted: Mapping[str, date | None], window: Window) -> None:
    if unknown := [version for version, as_of in fitted.items() if as_of is None]:
        log.warning("models_of_lists_not_dated", as_of=str(window.cut_off), models=unknown)
    later = {v: as_of for v, as_of in fitted.items() if as_of and as_of > window.cut_off}
    if later:
        made_by = ", ".join(f"{version}, fitted as of {as_of}" for version, as_of in later.items())
        first = max(later.values()) + timedelta(days=window.days)
        raise Refused(
            f"the lists of {window.cut_off} in {TOP_N_LISTS.name} were made by model {made_by}, and are to be measured "
            f"from {window.cut_off} on: it has seen these days. Leave {TOP_N_LISTS.name} out, or compare with a "
            f"--run-date from {first} on, whose night was listed by a model of its time"
        )
