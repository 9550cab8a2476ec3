"""The two windows of a night: the blend is chosen on the first, everybody is measured on both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys import contracts
from recsys.config import RecsysConfig
from recsys.evaluation.catalogue import Catalogue
from recsys.evaluation.item_facts import ItemFacts
from recsys.evaluation.list_figures import GROUPS
from recsys.evaluation.measured import Measured
from recsys.evaluation.measuring import measure
from recsys.evaluation.recommenders import BASELINES, BLEND, LIVE, recommenders
from recsys.evaluation.search import BlendSearch, Chosen, sampled
from recsys.evaluation.slices import MOST_SEGMENTS, Slicing
from recsys.evaluation.tally import LOST_BITS, Plan
from recsys.evaluation.targets import measured_users, smallest
from recsys.lake import Lake
from recsys.records import TrainingRecord
from recsys.scoring.bundle import open_bundle
from recsys.scoring.kit import Kit
from recsys.scoring.kit_tables import build_kit
from recsys.scoring.ranking_bundle import checked_ranking, open_ranking
from recsys.scoring.scorer import Entry, Rules, Scorer
from recsys.scoring.spark import scoring_task, signals_of

USERS_PER_PARTITION = 10_000
"""What a worker adds up goes through a shuffle, 14 MB of it with ten recommenders, however few its users."""
QUANTILE_ACCURACY = 1_000_000
"""Of a place among the users: groups differ in size by a user, or by a millionth of all."""
SLICED_FOR = (BLEND, LIVE, *BASELINES)
"""Who may be told by parts: the blend, and whom it is compared with."""


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

    def measure(
        self, users: DataFrame, entries: list[Entry], *, vectors_of: str, items: ItemFacts | None = None
    ) -> Measured:  # fmt: skip
        """``users`` are ``measured_users``.

        ``vectors_of`` is the model by whose vectors all lists are said to be diverse. With ``items`` the parts are
        measured too.
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
        spread = Spread.of(users)
        asked = config.evaluation
        plan = Plan(asked.ks, asked.bootstrap_rounds, asked.seed, group_ends=spread.group_ends)
        if items is not None:
            sliced = tuple(e.recipe.name for e in entries if e.recipe.name in SLICED_FOR)
            slicing = Slicing.of(most_segments(users), items)
            plan = replace(plan, slicing=slicing, sliced=sliced)
        partitions = min(config.scoring.partitions, -(-spread.num_users // USERS_PER_PARTITION))
        with scoring_task(self.lake.spark, config, self.kit, versions, rankings) as task:
            return measure(
                users, task, self.kit, tuple(entries), plan,
                window=self.name, catalogue_of=catalogue_of, partitions=max(partitions, 1),
            )  # fmt: skip

    @contextmanager
    def users(self, *, numbered: bool) -> Iterator[DataFrame]:
        """``measured_users``, at most ``evaluation.max_users``.

        All who may be measured are kept, in memory or on disk: they are read more than once.
        """
        users = measured_users(self.lake, self.config, self.kit.as_of, numbered=numbered).persist()
        try:
            yield smallest(users, self.config.evaluation.max_users)
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
    window: Window, chosen: Chosen, training: TrainingRecord, live: Entry | None, items: ItemFacts
) -> Measured:
    """The blend as it was chosen, everything it is compared with, and the live recipe where there is one; by parts."""
    entries = entries_of(chosen, training, window.name)
    if live is not None:
        entries.append(live)
    with window.users(numbered=bool(rankings_of(entries))) as users:
        vectors_of = training.models[window.name]
        return window.measure(users, entries, vectors_of=vectors_of, items=items)


def entries_of(chosen: Chosen, training: TrainingRecord, role: str) -> list[Entry]:
    """Everyone who is measured, with what was fitted at the cut-off of that role."""
    measured = recommenders(chosen.blend, chosen.last_purchases, chosen.other)
    model, ranking = training.models[role], training.ranking.get(role, "")
    return [Entry(recipe, model, ranking) for recipe in measured]


def rankings_of(entries: list[Entry]) -> tuple[str, ...]:
    """The ranking models that somebody uses."""
    return tuple(sorted({entry.ranking_version for entry in entries if entry.recipe.re_ranks}))


class Spread(NamedTuple):
    """How many users are measured, and what parts them into the groups of the jackknife (``Plan.group_ends``)."""

    num_users: int
    group_ends: tuple[int, ...]

    @classmethod
    def of(cls, users: DataFrame) -> Spread:
        shares = [group / GROUPS for group in range(1, GROUPS)]
        order = F.shiftright("sample_order", LOST_BITS)
        ends = F.percentile_approx(order, shares, QUANTILE_ACCURACY)
        row = users.agg(F.count(F.lit(1)).alias("users"), ends.alias("ends")).first()
        return cls(row["users"], tuple(row["ends"] or ())) if row else cls(0, ())


def most_segments(users: DataFrame) -> tuple[str, ...]:
    """Those with most users, '' for none."""
    segment = F.coalesce("segment", F.lit("")).alias("segment")
    found = users.groupBy(segment).count().orderBy(F.desc("count"), "segment").limit(MOST_SEGMENTS)
    return tuple(row["segment"] for row in found.collect())


def num_buyers(lake: Lake, as_of: date) -> int:
    """Who bought anything in the popularity window: an item's buyers, by the share of all that they are."""
    popular = lake.read(contracts.POPULARITY, as_of=as_of, segment="").where("score > 0")
    found = popular.agg(F.max(F.col("num_users") / F.col("score")).alias("buyers")).first()
    return 0 if found is None or found["buyers"] is None else round(found["buyers"])
