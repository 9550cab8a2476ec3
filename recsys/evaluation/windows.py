"""The two windows of a night: the blend is chosen on the first, everybody is measured on both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys import contracts
from recsys.config import RecsysConfig
from recsys.evaluation.catalogue import Catalogue
from recsys.evaluation.measuring import Measured, measure
from recsys.evaluation.recommenders import recommenders
from recsys.evaluation.search import BlendSearch, Chosen, sampled
from recsys.evaluation.targets import measured_users
from recsys.lake import Lake
from recsys.records import TrainingRecord
from recsys.scoring.bundle import open_bundle
from recsys.scoring.kit import Kit
from recsys.scoring.kit_tables import build_kit
from recsys.scoring.ranking_bundle import checked_ranking, open_ranking
from recsys.scoring.scorer import Entry, Rules, Scorer
from recsys.scoring.spark import scoring_task, signals_of


@dataclass(frozen=True)
class Window:
    """What both windows need of the tables of their cut-off."""

    name: str
    """choosing or measuring: as roles of models are called."""
    lake: Lake
    config: RecsysConfig
    kit: Kit

    @classmethod
    def at(cls, name: str, lake: Lake, config: RecsysConfig, cut_off: date) -> Window:
        return cls(name, lake, config, build_kit(lake, config, cut_off))

    def measure(self, users: DataFrame, entries: list[Entry], *, vectors_of: str) -> Measured:
        """``users`` are ``measured_users``, and kept in memory: they are read twice.

        ``vectors_of`` is the model by whose vectors all lists are said to be diverse.
        """
        config = self.config
        versions = tuple(sorted({one.model_version for one in entries if one.recipe.model > 0}))
        for version in versions:
            open_bundle(config.paths.models / version)
        buyers = num_buyers(self.lake, self.kit.as_of)
        catalogue_of = partial(Catalogue.of, num_buyers=buyers, vectors_of=vectors_of)
        rankings = rankings_of(entries)
        for version in rankings:
            checked_ranking(config.paths.models / version)
        with scoring_task(self.lake.spark, config, self.kit, versions, rankings) as task:
            return measure(
                users, task, self.kit, tuple(entries), window=self.name, ks=config.evaluation.ks,
                catalogue_of=catalogue_of, partitions=config.scoring.partitions,
            )  # fmt: skip

    @contextmanager
    def users(self, *, numbered: bool) -> Iterator[DataFrame]:
        """``measured_users``, kept in memory."""
        users = measured_users(self.lake, self.config, self.kit.as_of, numbered=numbered).persist()
        try:
            yield users
        finally:
            users.unpersist()


def choose(window: Window, models: TrainingRecord) -> tuple[Chosen, Measured]:
    """Choose weights on a sample of the choosing window, then measure that window with them.

    Raises:
        Refused: nobody is there to choose on.
    """
    config, kit = window.config, window.kit
    model_version, ranking_version = models.models["choosing"], models.ranking.get("choosing", "")
    folder = config.paths.models
    bundles = {model_version: open_bundle(folder / model_version)}
    rankings = {v: open_ranking(folder / v) for v in (ranking_version,) if v}
    with window.users(numbered=bool(ranking_version)) as measured:
        users = sampled(
            measured, config.evaluation.search_users,
            cut_off=kit.as_of, window_days=config.evaluation.window_days,
        )  # fmt: skip
        scorer = Scorer(
            replace(kit, bundles=bundles, rankings=rankings),
            Rules(config.shop.exclude_seen, config.rules.limits),
            batch_users=config.scoring.batch_users,
        )
        signals = signals_of(config.shop)
        chosen = BlendSearch(scorer, users, signals, model_version, ranking_version).best()
        entries = entries_of(chosen, models, window.name)
        return chosen, window.measure(measured, entries, vectors_of=model_version)


def measure_everybody(
    window: Window, chosen: Chosen, training: TrainingRecord, live: Entry | None
) -> Measured:
    """The blend as it was chosen, everything it is compared with, and the live recipe where there is one."""
    entries = entries_of(chosen, training, window.name)
    if live is not None:
        entries.append(live)
    with window.users(numbered=bool(rankings_of(entries))) as users:
        return window.measure(users, entries, vectors_of=training.models[window.name])


def entries_of(chosen: Chosen, training: TrainingRecord, role: str) -> list[Entry]:
    """Everyone who is measured, with what was fitted at the cut-off of that role."""
    measured = recommenders(chosen.blend, chosen.last_purchases, chosen.other)
    model, ranking = training.models[role], training.ranking.get(role, "")
    return [Entry(recipe, model, ranking) for recipe in measured]


def rankings_of(entries: list[Entry]) -> tuple[str, ...]:
    """The ranking models that somebody uses."""
    return tuple(sorted({entry.ranking_version for entry in entries if entry.recipe.re_ranks}))


def num_buyers(lake: Lake, as_of: date) -> int:
    """Who bought anything in the popularity window: an item's buyers, by the share of all that they are."""
    popular = lake.read(contracts.POPULARITY, as_of=as_of, segment="").where("score > 0")
    found = popular.agg(F.max(F.col("num_users") / F.col("score")).alias("buyers")).first()
    return 0 if found is None or found["buyers"] is None else round(found["buyers"])
