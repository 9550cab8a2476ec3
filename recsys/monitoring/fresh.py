"""Lists made anew from what the release names, against those that were published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.sparse import csr_array, vstack

from recsys.config import RecsysConfig
from recsys.config.rules import MAX_PER, RETURNED, SEEN, RulesConfig
from recsys.contracts import RULES, TOP_N_LISTS
from recsys.lake import Lake
from recsys.monitoring.verdicts import Comparison, compared
from recsys.release import facts
from recsys.release.manifest import ReleaseManifest
from recsys.scoring.bundle import open_bundle
from recsys.scoring.changes import Used
from recsys.scoring.frozen import FrozenLake, rebuilt_users
from recsys.scoring.kit import Kit
from recsys.scoring.kit_tables import build_ruled_kit
from recsys.scoring.lists import SOURCES, Lists
from recsys.scoring.ranking_bundle import open_ranking
from recsys.scoring.same_lists import Place, difference, places
from recsys.scoring.scorer import Entry, Rules, Scorer
from recsys.scoring.spark import signals_of, users_to_score
from recsys.scoring.users import batch_from_arrow

GROUPS = ("category", "brand")
"""The order in which list rules are counted."""


@dataclass(frozen=True)
class ReleasedRules:
    """The rules that the lists were made under, as the table ``rules`` has them."""

    hidden: Mapping[str, tuple[str, ...]]
    """Segment ('' for everybody) -> items that its users are never shown."""
    returned_days: int
    rules: Rules


def compare_fresh(lake: Lake, config: RecsysConfig, manifest: ReleaseManifest) -> Comparison:
    """Score ``audit.fresh_users`` users, chosen by hash, with the release's tables, rules, recipe and models.

    Raises:
        MissingInput: a table of the day, or a model, is gone.
        CorruptArtifact: a model's file is damaged.
        PySparkException: a table cannot be read.
    """
    day = manifest.run_date
    released = released_lake(lake, config, manifest)
    rules = released_rules(released, config, manifest)
    published = released.read(TOP_N_LISTS, as_of=day).select(
        "user_id", "item_ids", "scores", "sources"
    )
    by_hash = (F.xxhash64("user_id", F.lit(str(day))), "user_id")
    chosen = published.orderBy(*by_hash).limit(config.audit.fresh_users).collect()
    ids = released.spark.createDataFrame(pa.table({"user_id": [row["user_id"] for row in chosen]}))
    users = _users(released, config, manifest, rules, ids).toArrow().combine_chunks()
    kit = _kit(released, config, manifest, rules)
    fresh = _score(config, manifest, kit, rules.rules, users)
    problems = [
        f"users {row['user_id']!r}: {problem}"
        for row in sorted(chosen, key=lambda row: str(row["user_id"]))
        if (problem := difference(places(row), fresh.get(row["user_id"])))
    ]
    changed = facts.config_hash(config) != manifest.config_hash
    return compared(
        "fresh scores", f"table {TOP_N_LISTS.name}", checked=len(chosen), differing=len(problems),
        examples=problems, reason="conf has changed since the release was made" if changed else "",
    )  # fmt: skip


def released_lake(lake: Lake, config: RecsysConfig, manifest: ReleaseManifest) -> FrozenLake:
    """The tables at the versions that the lists were computed from, or the release names; others as they are now."""
    versions = {name: table.version for name, table in manifest.tables.items()}
    if manifest.inputs:
        versions |= manifest.inputs.versions
    return FrozenLake(lake, config, versions)


def released_rules(lake: Lake, config: RecsysConfig, manifest: ReleaseManifest) -> ReleasedRules:
    """From the release's rows of ``rules``; a release from before there were any has conf's."""
    if RULES.name not in manifest.tables:
        limits = config.rules.limits
        return ReleasedRules(
            {}, config.rules.returned_days, Rules(config.shop.exclude_seen, limits)
        )
    rows = lake.read(RULES, as_of=manifest.run_date).collect()
    hidden: dict[str, tuple[str, ...]] = {}
    for row in rows:
        if row["item_ids"]:
            hidden[row["segment"]] = (*hidden.get(row["segment"], ()), *row["item_ids"])
    threshold = {row["rule"]: row["threshold"] for row in rows}
    limits = tuple(
        (name, int(threshold[MAX_PER + name])) for name in GROUPS if MAX_PER + name in threshold
    )
    returned = int(threshold.get(RETURNED) or 0)
    return ReleasedRules(hidden, returned, Rules(SEEN in threshold, limits))


def _users(
    lake: Lake,
    config: RecsysConfig,
    manifest: ReleaseManifest,
    rules: ReleasedRules,
    only: DataFrame,
) -> DataFrame:
    """Columns ``spark.INPUT`` of the users in ``only``, as those were who were scored."""
    numbered, as_of = bool(manifest.model.ranking_version), manifest.inputs_as_of
    if not manifest.is_increment:
        everybody = users_to_score(
            lake, as_of, exclude_seen=rules.rules.exclude_seen, numbered=numbered,
            returned_days=rules.returned_days,
        )  # fmt: skip
        return everybody.join(F.broadcast(only), "user_id")
    used = Used(manifest.events_version, manifest.run_date)
    then = config.rules.model_copy(update={"returned_days": rules.returned_days})
    shop = config.shop.model_copy(update={"exclude_seen": rules.rules.exclude_seen})
    config = config.model_copy(update={"rules": then, "shop": shop})
    return rebuilt_users(lake, config, as_of, used, numbered=numbered, only=only)


def _kit(lake: Lake, config: RecsysConfig, manifest: ReleaseManifest, rules: ReleasedRules) -> Kit:
    """As ``score_day`` builds it, with the masks that the table ``rules`` has."""
    models, model, recipe = config.paths.models, manifest.model, manifest.recipe
    if RULES.name not in manifest.tables:
        kit = build_ruled_kit(lake, config, manifest.inputs_as_of).kit
    else:
        no_rules = config.model_copy(update={"rules": RulesConfig(out_of_stock=False)})
        kit = under(build_ruled_kit(lake, no_rules, manifest.inputs_as_of).kit, rules.hidden)
    return replace(
        kit,
        bundles={model.version: open_bundle(models / model.version)} if recipe.model > 0 else {},
        rankings=(
            {model.ranking_version: open_ranking(models / model.ranking_version)}
            if model.ranking_version
            else {}
        ),
    )


def under(kit: Kit, hidden: Mapping[str, Sequence[str]]) -> Kit:
    """The kit with these items hidden, by segment, and no others."""
    known = {item_id: num for num, item_id in enumerate(kit.item_ids.to_pylist()) if item_id}
    segments = (*kit.segments, *sorted(set(hidden) - set(kit.segments)))
    more = csr_array((len(segments) - len(kit.segments), kit.width))
    allowed_SN = np.zeros((len(segments), kit.width), dtype=bool)
    allowed_SN[:, list(known.values())] = True
    for segment, item_ids in hidden.items():
        rows = slice(None) if segment == "" else [segments.index(segment)]
        nums = [known[item_id] for item_id in item_ids if item_id in known]
        allowed_SN[rows, nums] = False
    return replace(
        kit,
        segments=segments,
        buyers=csr_array(vstack([kit.buyers, more])) if more.shape[0] else kit.buyers,
        allowed=allowed_SN[0].copy(),
        segment_allowed=allowed_SN if set(hidden) - {""} else None,
    )


def _score(
    config: RecsysConfig, manifest: ReleaseManifest, kit: Kit, rules: Rules, users: pa.Table
) -> dict[str, list[Place]]:
    """Lists by user."""
    model = manifest.model
    entry = Entry(manifest.recipe, model.version, model.ranking_version)
    scorer = Scorer(kit, rules, batch_users=config.scoring.batch_users)
    found: dict[str, list[Place]] = {}
    for batch in users.to_batches(max_chunksize=config.scoring.batch_users):
        lists = scorer.lists(
            batch_from_arrow(batch, signals_of(config.shop), kit.segments), entry, config.scoring.n
        )
        found |= dict(zip(batch["user_id"].to_pylist(), _by_user(lists, kit), strict=True))
    return found


def _by_user(lists: Lists, kit: Kit) -> list[list[Place]]:
    ids = kit.item_ids.take(pa.array(lists.item_nums)).to_pylist()
    sources = [SOURCES[source] for source in lists.sources]
    found = list(zip(ids, lists.scores.tolist(), sources, strict=True))
    bounds = lists.offsets.tolist()
    return [found[start:end] for start, end in pairwise(bounds)]
